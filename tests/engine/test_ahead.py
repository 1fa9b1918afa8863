import threading
from collections.abc import Iterator

import pytest

from specdiff_cli.engine.ahead import Stopped, running_ahead


def test_items_come_in_order_from_another_thread() -> None:
    threads: set[int] = set()

    def make(_stop: threading.Event) -> Iterator[int]:
        for i in range(20):
            threads.add(threading.get_ident())
            yield i

    assert list(running_ahead(make)) == list(range(20))
    assert threading.get_ident() not in threads


def test_it_runs_one_item_ahead_and_no_further() -> None:
    made: list[int] = []
    may_go_on = threading.Semaphore(0)

    def make(_stop: threading.Event) -> Iterator[int]:
        for i in range(10):
            made.append(i)
            if i == 3:
                may_go_on.release()
            yield i

    items = running_ahead(make)
    assert next(items) == 0
    assert next(items) == 1  # taken; 2 waits in the slot, 3 waits for the slot
    assert may_go_on.acquire(timeout=10)
    assert made == [0, 1, 2, 3]
    items.close()


def test_errors_arrive_where_the_items_are_used() -> None:
    def make(_stop: threading.Event) -> Iterator[int]:
        yield 1
        raise ZeroDivisionError("in the thread")

    items = running_ahead(make)
    assert next(items) == 1
    with pytest.raises(ZeroDivisionError, match="in the thread"):
        next(items)


def test_closing_ends_the_thread() -> None:
    ended = threading.Event()

    def make(stop: threading.Event) -> Iterator[int]:
        try:
            yield 0
            stop.wait(10)
            raise Stopped
        finally:
            ended.set()

    items = running_ahead(make)
    assert next(items) == 0
    items.close()
    assert ended.is_set()
