"""Items shared out to processes: in order, and with a word when a process dies."""

import multiprocessing
import os
import signal
import time
from contextlib import closing

import pytest

from specdiff_cli.corpus.spread import by_processes
from specdiff_cli.errors import DeviceError, ExitCode, UsageError


class Work:
    """Doubles numbers; dies at 13, and sleeps at 60."""

    def one(self, item: int) -> int:
        if item == 13:
            os.kill(os.getpid(), signal.SIGKILL)
        if item == 60:
            time.sleep(60)
        return 2 * item


def dying() -> Work:
    os._exit(1)


def refusing() -> Work:
    raise UsageError("no such soundfont")


def test_results_come_in_order_and_the_processes_go() -> None:
    assert list(by_processes(2)(Work, (), [3, 1, 2])) == [6, 2, 4]
    with closing(by_processes(1)(Work, (), [1, 60])) as results:
        assert next(results) == 2
        begun_s = time.monotonic()
    assert time.monotonic() - begun_s < 10
    assert not multiprocessing.active_children()


@pytest.mark.parametrize(("make", "items", "n_done"), [(dying, [1, 2], 0), (Work, [1, 13, 2], 1)])
def test_a_process_that_dies_is_told(make: type[Work], items: list[int], n_done: int) -> None:
    with pytest.raises(DeviceError, match=rf"a worker process died \({n_done} of {len(items)} items") as told:
        list(by_processes(1)(make, (), items))
    assert told.value.exit_code == ExitCode.DEVICE
    assert not multiprocessing.active_children()


def test_why_a_start_failed_is_told() -> None:
    with pytest.raises(UsageError, match="no such soundfont"):
        list(by_processes(1)(refusing, (), [1]))
