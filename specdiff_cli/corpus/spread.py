"""How independent items are shared out: to processes of this machine here, to a cluster in ``specdiff_cli.cluster``."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any, Protocol, TypeAlias

from specdiff_cli.errors import DeviceError, Option


class Work(Protocol):
    """What a process keeps between items."""

    def one(self, item: Any) -> Any:
        """What becomes of an item; what goes wrong with it is a SpecdiffError that is returned."""


#: (make, arguments, items): every process makes its work by ``make(*arguments)``. Yields a result for each item.
Spread: TypeAlias = Callable[[Callable[..., Work], tuple[Any, ...], Sequence[Any]], Generator[Any, None, None]]

_work: Work | None = None
_failure: Exception | None = None


class _Context(SpawnContext):
    """Knows the processes it started: an executor would wait for the items that they have begun."""

    def __init__(self) -> None:
        super().__init__()
        self.started: list[SpawnProcess] = []

    def Process(self, *args: Any, **kwargs: Any) -> SpawnProcess:  # type: ignore[override]
        self.started.append(SpawnProcess(*args, **kwargs))
        return self.started[-1]

    def terminate(self) -> None:
        for process in self.started:
            if process.is_alive():
                process.terminate()


def by_processes(n: int) -> Spread:
    """Share items out to ``n`` processes; results come in the order of the items.

    Raises DeviceError when a process dies, at its start or with an item.
    """

    def spread(
        make: Callable[..., Work], arguments: tuple[Any, ...], items: Sequence[Any]
    ) -> Generator[Any, None, None]:
        context, n_done = _Context(), 0
        executor = ProcessPoolExecutor(n, mp_context=context, initializer=_start, initargs=(make, arguments))
        try:
            for result in executor.map(_do, items):
                yield result
                n_done += 1
        except BrokenProcessPool:
            raise DeviceError(
                f"a worker process died ({n_done} of {len(items)} items were done); if memory ran out, use fewer ",
                Option("workers"),
                ", and run it again: what is finished is kept",
            ) from None
        finally:
            if n_done < len(items):
                context.terminate()
            executor.shutdown(cancel_futures=True)

    return spread


def shared_out(workers: "int | Spread") -> Spread:
    """A number means so many processes here."""
    return by_processes(workers) if isinstance(workers, int) else workers


def _start(make: Callable[..., Work], arguments: tuple[Any, ...]) -> None:
    global _work, _failure
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the maker hears it, and stops its workers
    threading.Thread(target=_end_with_maker, daemon=True).start()
    try:
        _work = make(*arguments)
    except Exception as error:  # told by the first item: of a start that fails the maker hears no reason
        _failure = error


def _end_with_maker() -> None:
    """Workers that wait for items do not notice that their maker was killed."""
    maker = multiprocessing.parent_process()
    if maker is not None:
        maker.join()
        os._exit(1)


def _do(item: Any) -> Any:
    if _failure is not None:
        raise _failure
    if _work is None:
        raise RuntimeError("the process has not started")
    return _work.one(item)
