"""Work in independent pieces, shared out among threads."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def each(function: Callable[[Item], Result], items: Iterable[Item], n_threads: int) -> list[Result]:
    """``function`` of each item, in their order. Its own errors are raised; the other items may have been done then.

    The threads end with the call: a process that forks afterwards waits for none that it has not.
    """
    waiting = list(items)
    n_threads = min(n_threads, len(waiting))
    if n_threads < 2:
        return [function(item) for item in waiting]
    with ThreadPoolExecutor(n_threads) as pool:
        return list(pool.map(function, waiting))
