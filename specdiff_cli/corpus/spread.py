"""How independent items are shared out: to processes of this machine here, to a cluster in ``specdiff_cli.cluster``."""

import multiprocessing
import signal
from collections.abc import Callable, Generator, Sequence
from typing import Any, Protocol, TypeAlias


class Work(Protocol):
    """What a process keeps between items."""

    def one(self, item: Any) -> Any:
        """What becomes of an item; what goes wrong with it is a SpecdiffError that is returned."""


#: (make, arguments, items): every process makes its work by ``make(*arguments)``. Yields a result for each item.
Spread: TypeAlias = Callable[[Callable[..., Work], tuple[Any, ...], Sequence[Any]], Generator[Any, None, None]]

_work: Work | None = None


def by_processes(n: int) -> Spread:
    """Share items out to ``n`` processes; results come in the order of the items."""

    def spread(
        make: Callable[..., Work], arguments: tuple[Any, ...], items: Sequence[Any]
    ) -> Generator[Any, None, None]:
        with multiprocessing.get_context("spawn").Pool(n, _start, (make, arguments)) as pool:
            yield from pool.imap(_do, items)

    return spread


def shared_out(workers: "int | Spread") -> Spread:
    """A number means so many processes here."""
    return by_processes(workers) if isinstance(workers, int) else workers


def _start(make: Callable[..., Work], arguments: tuple[Any, ...]) -> None:
    global _work
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the maker hears it, and stops its workers
    _work = make(*arguments)


def _do(item: Any) -> Any:
    if _work is None:
        raise RuntimeError("the process has not started")
    return _work.one(item)
