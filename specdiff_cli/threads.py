"""Work in independent pieces, shared out among threads; and work that is not."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
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


@contextmanager
def one_thread() -> Iterator[None]:
    """Every operation on one core, for work in many small ones: sharing these out takes longer than they do."""
    import torch

    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)
