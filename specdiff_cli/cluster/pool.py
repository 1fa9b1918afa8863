"""Workers that take tasks as they become free, and what happens when they die. Knows Ray, and nothing of music.

The driver holds a bounded number of items, so that a million of them need no more memory than a thousand, and gives
the largest of those it holds to the next free worker: small ones are kept for the end, where they fill gaps.
"""

import heapq
import math
import pickle
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Generic, TypeAlias, TypeVar

from specdiff_cli.cluster.actor import Actor, Facts, Making, versions
from specdiff_cli.errors import DeviceError, SpecdiffError

Item = TypeVar("Item")
Result = TypeVar("Result")

#: How often an item that lost its worker is given to another one.
MAX_RETRIES = 2
#: For each worker so many items are held, so that the largest can go first.
HELD_PER_WORKER = 64
LEAST_HELD = 64
#: What the driver spends on a task (measured: 0.4 to 0.7 ms); with thousands of short items for many workers it would
#: be the bottleneck, so such items go several to a task, until it is busy for at most this share of the time.
DRIVER_S_PER_TASK = 0.001
DRIVER_SHARE = 0.2
MAX_ITEMS_PER_TASK = 64
#: So many items are looked at in one go; those that need no worker must not keep the news of the others waiting.
MAX_LOOKS = 2000
#: How long to wait for news before looking at the clocks.
TICK_S = 0.5
#: What a worker may need until it is ready; a pool without any worker for so long gives up.
START_TIMEOUT_S = 300.0
#: Workers that are told to stop have so long to leave no unfinished files behind.
GRACE_S = 5.0


@dataclass(frozen=True, slots=True)
class Shape:
    """How many workers, and what each of them has."""

    n_workers: int
    cpus: float = 1.0
    gpus: float = 0.0


@dataclass(frozen=True, slots=True)
class Ready:
    """A worker has started."""

    facts: Facts
    n_ready: int


@dataclass(frozen=True, slots=True)
class Lost(Generic[Item]):
    """A worker has died, or was ended because its task took too long; ``n_again`` of its items go to others."""

    why: str
    host: str
    items: tuple[Item, ...]
    n_again: int


@dataclass(frozen=True, slots=True)
class Finished(Generic[Item, Result]):
    """What became of an item."""

    item: Item
    result: Result


@dataclass(frozen=True, slots=True)
class GivenUp(Generic[Item]):
    """An item that took one worker after the other with it."""

    item: Item
    why: str


@dataclass(frozen=True, slots=True)
class Looked:
    """There was nothing to do but to look at items."""


News: TypeAlias = Ready | Lost[Item] | Looked | Finished[Item, Result] | GivenUp[Item]


@dataclass(slots=True)
class _Held(Generic[Item]):
    """An item on its way. ``n_losses``: workers that it has lost."""

    item: Item
    size: float
    n_losses: int = 0


@dataclass(slots=True)
class _Worker(Generic[Item]):
    actor: Any
    began_s: float
    facts: Facts | None = None
    task: list[_Held[Item]] = field(default_factory=list)

    @property
    def host(self) -> str:
        return "a worker" if self.facts is None else f"worker {self.facts.name}"


class Backlog(Generic[Item]):
    """The next items, lazily: never more than ``limit`` of them are held. What lost its worker comes first."""

    def __init__(self, items: Iterable[tuple[Item, float] | None], limit: int) -> None:
        self._items = iter(items)
        self._limit = limit
        self._heap: list[tuple[float, int, _Held[Item]]] = []
        self._again: deque[_Held[Item]] = deque()
        self._numbers = count()
        self.is_exhausted = False

    def __len__(self) -> int:
        return len(self._heap) + len(self._again)

    def fill(self) -> None:
        """Take items until there is no more room, or there are no more; but look at ``MAX_LOOKS`` at most."""
        for _ in range(MAX_LOOKS):
            if self.is_exhausted or len(self._heap) >= self._limit:
                return
            try:
                found = next(self._items)
            except StopIteration:
                self.is_exhausted = True
                return
            if found is None:
                continue
            item, size = found
            heapq.heappush(self._heap, (-size, next(self._numbers), _Held(item, size)))

    def take(self, most: int) -> list[_Held[Item]]:
        """Up to ``most`` items, the largest first. One that has lost a worker is alone: it may be to blame."""
        if self._again:
            return [self._again.popleft()]
        self.fill()
        return [heapq.heappop(self._heap)[2] for _ in range(min(most, len(self._heap)))]

    def put_back(self, held: _Held[Item]) -> None:
        """An item is to be tried once more."""
        self._again.append(held)


def items_per_task(n_workers: int, mean_item_s: float | None, n_held: int, least: int) -> int:
    """How many items make up a task.

    Few, so that none waits for others while workers are idle; but so many that the driver keeps up with all workers.

    Args:
        mean_item_s: what an item takes; None: not known yet.
        n_held: items that are there to be given out.
        least: what a worker can do side by side.
    """
    wanted = least
    if mean_item_s is not None:
        wanted = max(least, math.ceil(n_workers * DRIVER_S_PER_TASK / DRIVER_SHARE / max(mean_item_s, 1e-6)))
    return max(1, min(wanted, max(MAX_ITEMS_PER_TASK, least), n_held // n_workers))


class Pool(Generic[Item, Result]):
    """One run: items in, news out.

    Args:
        making: makes what a worker works with, there.
        shape: how many workers.
        item_timeout_s: a task that takes longer than this for each of its items is ended with its worker.
        side_by_side: items that a worker does better together, as a GPU does.
        pack: makes of an item what is sent to the worker, when it is its turn; by default that is the item.
        check: called twice a second or more often; what it raises ends the run.
    """

    def __init__(
        self,
        making: Making,
        shape: Shape,
        *,
        item_timeout_s: float | None = None,
        side_by_side: int = 1,
        pack: Callable[[Item], Any] | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self._making = making
        self._shape = shape
        self._item_timeout_s = item_timeout_s
        self._side_by_side = side_by_side
        self._pack = pack
        self._check = check
        #: Items whose workers were killed when the run was closed, after their time to end by themselves.
        self.cut_off: list[Item] = []
        self._pending: dict[Any, _Worker[Item]] = {}  # what a worker is to answer -> the worker
        self._idle: list[_Worker[Item]] = []
        self._n_ready = 0
        self._n_failed_starts = 0
        self._mean_item_s: float | None = None
        self._last_ready_s = time.monotonic()

    def run(self, items: Iterable[tuple[Item, float] | None]) -> "Generator[News[Item, Result], None, None]":
        """Do all items, each with its size; every one ends as ``Finished`` or ``GivenUp``.

        Where ``items`` yields None, an item needed no worker. ``Looked`` comes out now and then, if only such come.

        Closing the generator ends all workers: they are told to stop, and after some seconds they are killed.

        Raises:
            SpecdiffError: what a worker said that could not start.
            DeviceError: workers die before they are ready, or none could be started.
        """
        backlog = Backlog(items, max(LEAST_HELD, HELD_PER_WORKER * self._shape.n_workers))
        try:
            while True:
                self._check()
                backlog.fill()
                self._staff(backlog)
                self._give_out(backlog)
                if any(worker.task for worker in self._pending.values()) or len(backlog):
                    yield from self._listen(backlog)
                else:
                    yield Looked()
                    if backlog.is_exhausted:
                        return
        finally:
            self._end_all()

    def _staff(self, backlog: Backlog[Item]) -> None:
        """Start workers, as many as there are items for."""
        n_waiting = len(self._idle) + sum(not worker.task for worker in self._pending.values())
        n_alive = len(self._idle) + len(self._pending)
        for _ in range(min(self._shape.n_workers - n_alive, len(backlog) - n_waiting)):
            self._start_worker()

    def _start_worker(self) -> None:
        import ray

        shape = self._shape
        actor: Any = (
            ray.remote(Actor)
            .options(
                num_cpus=shape.cpus,
                num_gpus=shape.gpus,
                max_restarts=0,  # the pool replaces workers itself, and knows what they were at
                max_concurrency=2,  # stop() is heard while do() is busy
                scheduling_strategy="SPREAD",
            )
            .remote()
        )
        worker: _Worker[Item] = _Worker(actor, time.monotonic())
        answer = actor.start.remote(versions(), self._making.threads, pickle.dumps(self._making))
        self._pending[answer] = worker

    def _give_out(self, backlog: Backlog[Item]) -> None:
        while self._idle:
            most = items_per_task(self._shape.n_workers, self._mean_item_s, len(backlog), self._side_by_side)
            task = backlog.take(most)
            if not task:
                return
            worker = self._idle.pop()
            worker.task, worker.began_s = task, time.monotonic()
            pack = self._pack or (lambda item: item)
            told = [(pack(held.item), held.n_losses) for held in task]
            self._pending[worker.actor.do.remote(told)] = worker
            backlog.fill()

    def _listen(self, backlog: Backlog[Item]) -> "Iterator[News[Item, Result]]":
        """Wait for news, but not for long: there are clocks to look at."""
        import ray

        refs = list(self._pending)
        answered, _ = ray.wait(refs, num_returns=1, timeout=TICK_S, fetch_local=False)
        if answered and len(refs) > 1:  # whatever else is there by now
            answered, _ = ray.wait(refs, num_returns=len(refs), timeout=0, fetch_local=False)
        for ref in answered:
            worker = self._pending.pop(ref)
            try:
                answer = ray.get(ref)
            except ray.exceptions.RayActorError as error:
                if "creation task" in str(error):  # it cannot even be imported there
                    raise DeviceError(
                        f"a worker could not start: {_words(error)}; is specdiff installed there?"
                    ) from None
                yield from self._lose(worker, _words(error), backlog)
            except ray.exceptions.RayError as error:
                yield from self._fail(worker, error, backlog)
            else:
                yield from self._hear(worker, answer)
        yield from self._look_at_clocks(backlog)

    def _hear(self, worker: _Worker[Item], answer: Any) -> "Iterator[News[Item, Result]]":
        if isinstance(answer, SpecdiffError):  # of a start; it would be the same for all
            raise answer
        if isinstance(answer, Facts):
            worker.facts = answer
            self._n_ready += 1
            self._n_failed_starts = 0
            self._last_ready_s = time.monotonic()
            yield Ready(answer, self._n_ready)
        else:
            item_s = (time.monotonic() - worker.began_s) / len(worker.task)
            self._mean_item_s = item_s if self._mean_item_s is None else 0.9 * self._mean_item_s + 0.1 * item_s
            for held, result in zip(worker.task, answer, strict=True):
                yield Finished(held.item, result)
        worker.task = []
        self._idle.append(worker)

    def _fail(self, worker: _Worker[Item], error: Exception, backlog: Backlog[Item]) -> "Iterator[News[Item, Result]]":
        """The worker lives, and could not even answer: what it lacks, the others lack, too; or the answer was lost."""
        if worker.facts is None:
            raise DeviceError(f"a worker could not start: {_words(error)}")
        yield from self._lose(worker, _words(error), backlog)

    def _lose(self, worker: _Worker[Item], why: str, backlog: Backlog[Item]) -> "Iterator[News[Item, Result]]":
        """A worker is gone: its items go to others, those that have cost too many are given up."""
        import ray

        ray.kill(worker.actor, no_restart=True)  # it may only be out of reach
        if worker.facts is None:
            self._n_failed_starts += 1
            if self._n_failed_starts > 3 + self._shape.n_workers:
                raise DeviceError(f"workers die before they are ready: {why}; is there enough memory?")
        else:
            self._n_ready -= 1
        again = []
        for held in worker.task:
            # A task of several says nothing about any of them.
            held.n_losses += 1
            if held.n_losses > MAX_RETRIES:
                yield GivenUp(held.item, why)
            else:
                again.append(held)
        yield Lost(why, worker.host, tuple(held.item for held in worker.task), len(again))
        for held in again:
            backlog.put_back(held)

    def _look_at_clocks(self, backlog: Backlog[Item]) -> "Iterator[News[Item, Result]]":
        now_s = time.monotonic()
        if self._item_timeout_s is not None:
            for ref, worker in list(self._pending.items()):
                if worker.task and now_s - worker.began_s > self._item_timeout_s * len(worker.task):
                    del self._pending[ref]
                    yield from self._lose(worker, f"took longer than {self._item_timeout_s:g} s", backlog)
        if self._n_ready > 0:
            self._last_ready_s = now_s
        elif now_s - self._last_ready_s > START_TIMEOUT_S:
            raise DeviceError(f"no worker was ready within {START_TIMEOUT_S:g} s; is there room in the cluster?")

    def _end_all(self) -> None:
        """Ask the workers to stop, wait a little for those that are busy, and end them."""
        import ray

        if not ray.is_initialized():
            return
        busy = [ref for ref, worker in self._pending.items() if worker.task]
        workers = [*self._pending.values(), *self._idle]
        if busy:
            for worker in workers:
                worker.actor.stop.remote()
            _, left = ray.wait(busy, num_returns=len(busy), timeout=GRACE_S, fetch_local=False)
            self.cut_off = [held.item for ref in left for held in self._pending[ref].task]
        for worker in workers:
            ray.kill(worker.actor, no_restart=True)
        self._pending.clear()
        self._idle.clear()


def _words(error: Exception) -> str:
    """What Ray says of a dead worker, as one short phrase."""
    text = str(error)
    for sign, phrase in (
        ("node died", "its machine was lost"),
        ("node has died", "its machine was lost"),
        ("node was terminated", "its machine was lost"),
        ("out of memory", "it ran out of memory"),
        ("OutOfMemory", "it ran out of memory"),
        ("worker process has died", "its process died"),
        ("unavailable", "it cannot be reached"),
    ):
        if sign in text:
            return phrase
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
