"""Other work than rendering on the same pool: pieces of a corpus, presets of an atlas, pieces of an evaluation."""

import os
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from specdiff_cli.cluster.actor import Making
from specdiff_cli.cluster.connect import ClusterOptions, Node, connected, fitting, threads_for
from specdiff_cli.cluster.place import Place, go_to, shared_place
from specdiff_cli.cluster.pool import Finished, GivenUp, Lost, Pool, Ready, Shape
from specdiff_cli.corpus.spread import Spread, Work
from specdiff_cli.errors import DeviceError
from specdiff_cli.evaluation.request import EvaluationRequest
from specdiff_cli.wording import count

if TYPE_CHECKING:
    from specdiff_cli.evaluation.evaluate import Evaluation, EventCallback
    from specdiff_cli.evaluation.report import ReportFolder

#: What is told while it runs.
Tell = Callable[[str], None]


def by_cluster(
    options: ClusterOptions, folder: Path | None, tell: Tell, *, threads: int | None = 1, n_bytes: int = 0
) -> Spread:
    """Share items out to the workers that ``options`` ask for; results come as they are ready.

    An item whose worker dies is tried by another one, three times in all; what is given up is told at the end, when all
    others are done.

    Args:
        folder: where workers write; each checks that it sees this very one. None: they write nothing.
        tell: hears of workers that are lost.
        threads: of each worker; None: as many as there is room for.
        n_bytes: of weights that a worker holds.

    Raises (while it runs):
        UsageError: Ray is not installed.
        DeviceError: no Ray at the address, other versions on the workers, none could be started; items were given up.
        SpecdiffError: what a worker said that could not start.
    """

    def spread(
        make: Callable[..., Work], arguments: tuple[Any, ...], items: Sequence[Any]
    ) -> Generator[Any, None, None]:
        with ExitStack() as stack:
            cluster = stack.enter_context(connected(options))
            place = Place(os.getcwd(), None, None) if folder is None else stack.enter_context(shared_place(folder))
            shape, n_threads = _shape(cluster.nodes, options, threads, n_bytes)
            making = Making(make_item_work, (place, make, arguments), n_threads)
            pool: Pool[int, Any] = Pool(
                making, shape, item_timeout_s=options.file_timeout_s, pack=items.__getitem__, check=cluster.check
            )
            numbers = ((number, 0.0) for number in range(len(items)))
            yield from _results(stack.enter_context(closing(pool.run(numbers))), shape, tell)

    return spread


def _results(news: Generator[Any, None, None], shape: Shape, tell: Tell) -> Generator[Any, None, None]:
    given_up: list[GivenUp[int]] = []
    is_met = False
    for new in news:
        if isinstance(new, Finished):
            yield new.result
        elif isinstance(new, Ready) and not is_met:
            is_met = True
            tell(f"{count(shape.n_workers, 'worker')}, the first of them {new.facts.name}")
        elif isinstance(new, Lost):
            again = f"; {count(new.n_again, 'item')} will be tried again" if new.n_again else ""
            tell(f"{new.host} was lost: {new.why}{again}")
        elif isinstance(new, GivenUp):
            given_up.append(new)
    if given_up:
        first = given_up[0]
        raise DeviceError(
            f"{count(len(given_up), 'item')} given up after three workers each, number {first.item + 1} first: "
            f"{first.why}; all others are done, and the same call tries these again"
        )


def _shape(nodes: Sequence[Node], options: ClusterOptions, threads: int | None, n_bytes: int) -> tuple[Shape, int]:
    if options.workers is None:
        n_workers, n_threads = fitting(list(nodes), n_bytes, threads)
    else:
        n_workers = options.workers
        n_threads = threads or threads_for(n_workers, [node.cpus for node in nodes])
    is_ours = options.address is None
    return Shape(n_workers, 1 if is_ours else n_threads), n_threads


class ItemWork:
    """One item after the other, on a worker."""

    description = ""
    messages: tuple[str, ...] = ()

    def __init__(self, work: Work) -> None:
        self._work = work

    def do(self, items: Sequence[tuple[Any, int]], stopped: Callable[[], bool]) -> list[Any]:
        """A result for each item."""
        results = []
        for item, _ in items:
            if stopped():
                break
            results.append(self._work.one(item))
        return results


def make_item_work(place: Place, make: Callable[..., Work], arguments: tuple[Any, ...]) -> ItemWork:
    """Runs on the worker. Raises OutputError: it does not see the folder; and what ``make`` raises."""
    go_to(place)
    return ItemWork(make(*arguments))


def here_or_there(workers: int | None, address: str | None, folder: Path, tell: Tell) -> int | Spread:
    """Processes here, as many as there are cores unless ``workers`` says otherwise; or the cluster at an address.

    Raises UsageError for an address that is none.
    """
    if address is None:
        from specdiff_cli.engine.devices import usable_cpus

        return workers or usable_cpus()
    return by_cluster(ClusterOptions(workers, address), folder, tell)


def evaluator(
    request: EvaluationRequest, workers: int | None, address: str | None, tell: Tell
) -> tuple["Callable[[Evaluation, EvaluationRequest, EventCallback, ReportFolder | None], None]", EvaluationRequest]:
    """What runs an evaluation, here or by workers, and the request as it is then: workers have a thread each.

    Raises UsageError for workers or an address that cannot be.
    """
    if workers is None and address is None:
        return lambda evaluation, _, on_event, folder: evaluation.run(
            on_event, None if folder is None else folder.keep
        ), request
    options = ClusterOptions(workers, address)

    def run(
        evaluation: "Evaluation", request: EvaluationRequest, on_event: "EventCallback", folder: "ReportFolder | None"
    ) -> None:
        from specdiff_cli.evaluation.sharing import run_shared

        spread = by_cluster(options, None, tell, threads=request.threads)
        run_shared(evaluation, request, spread, on_event, None if folder is None else folder.keep)

    return run, replace(request, threads=request.threads or 1)
