"""Make the next item while the last one is still being used."""

import threading
from collections.abc import Callable, Generator, Iterator
from queue import Queue
from typing import TypeVar

Item = TypeVar("Item")


class Stopped(Exception):
    """Raised inside the making of an item that nobody waits for any more."""


def running_ahead(make: Callable[[threading.Event], Iterator[Item]]) -> Generator[Item, None, None]:
    """Yield the items of an iterator that runs on a thread of its own, one item ahead; errors are passed on.

    Args:
        make: gets an event and returns the iterator. When the event is set, the iterator may raise :class:`Stopped`
            to end early; closing this generator sets it and waits for the thread.
    """
    stop = threading.Event()
    # The one slot is the item that waits; None in place of an item is the end, an exception is its cause.
    slot: Queue[tuple[Item] | BaseException | None] = Queue(maxsize=1)

    def work() -> None:
        end: BaseException | None = None
        try:
            for item in make(stop):
                slot.put((item,))
                if stop.is_set():
                    break
        except Stopped:
            pass
        except BaseException as error:
            end = error
        slot.put(end)

    worker = threading.Thread(target=work, name="sampling", daemon=True)
    worker.start()
    try:
        while (given := slot.get()) is not None:
            if isinstance(given, BaseException):
                raise given
            yield given[0]
    finally:
        stop.set()
        while worker.is_alive():  # it may be waiting for the slot
            if not slot.empty():
                slot.get()
            worker.join(timeout=0.02)
