"""``render_files`` by many workers: the same jobs, the same files, the same events."""

import contextlib
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from specdiff_cli.cluster.actor import Making
from specdiff_cli.cluster.connect import Cluster, ClusterOptions, Node, connected, fitting, threads_for
from specdiff_cli.cluster.place import Place, go_to, shared_place
from specdiff_cli.cluster.pool import Finished, GivenUp, Lost, Pool, Ready, Shape
from specdiff_cli.cluster.shipping import Delivery, Parcel, pack, render_parcels, unpack
from specdiff_cli.errors import DeviceError, Option, UsageError, WeightsError, explain
from specdiff_cli.files import sweep
from specdiff_cli.rendering.batch import BATCH_ON_CUDA, COMPLETE, POOL_PER_PLACE, render_files
from specdiff_cli.rendering.events import Done, Event, Failed, Loaded, Loading, Skipped, Told
from specdiff_cli.rendering.jobs import STDOUT, Job
from specdiff_cli.rendering.prepare import prepare
from specdiff_cli.rendering.record import Settled, settle
from specdiff_cli.rendering.request import Request
from specdiff_cli.weights.voices import VoiceCard, find_voice
from specdiff_cli.wording import count

if TYPE_CHECKING:
    from specdiff_cli.engine.synthesizer import Synthesizer


#: A worker that is ended may need so long to be gone, and its locks with it.
DYING_S = 1.0


@dataclass(frozen=True, slots=True)
class Crew:
    """How many workers are at work, of how many that were asked for. ``newest``: machine and process of one."""

    n_ready: int
    n_workers: int
    n_threads: int
    newest: str


ClusterEvent: TypeAlias = Event | Crew


def check_request(request: Request, options: ClusterOptions) -> None:
    """Raises UsageError for what a single process alone can do."""
    output = request.output
    alone = {"save_mel": output.save_mel, "snapshots": output.snapshots or None}
    for name in (name for name, value in alone.items() if value is not None):
        raise _not_with(name, options, "; it is for a single input")
    if output.output == STDOUT:
        raise _not_with("output", options, ", whose workers write files", STDOUT)
    kept = {"resume": request.batching.resume or None, "plot": output.plot}
    for name in (name for name, value in kept.items() if options.ship and value is not None):
        raise UsageError(
            Option(name), ": does not go with ", Option("ship"), ", whose workers keep no files", option=name
        )
    if ":" in request.machine.device:
        raise UsageError.of("device", request.machine.device, "each worker is given its GPU; say cuda")


def _not_with(name: str, options: ClusterOptions, why: str, value: object = None) -> UsageError:
    by = "ray" if options.address is not None else "workers"
    return UsageError(Option(name, value), ": does not go with ", Option(by), why, option=name)


def render_on_cluster(
    jobs: Iterable[Job], settled: Settled, options: ClusterOptions
) -> Generator[ClusterEvent, None, None]:
    """Render every job into its file, by the workers that ``options`` ask for; a failed one is told, the rest go on.

    Each worker loads the voice once. A file whose worker dies, or that takes too long, is tried by another one, three
    times in all. Closing the generator ends the workers, and nothing unfinished stays behind.

    Args:
        jobs: may be a generator, of any length; only some are held at a time.

    Yields:
        Events, as :func:`render_files` does but for those about steps; besides :class:`Crew`. They come in the order
        in which files are finished.

    Raises:
        UsageError: Ray is not installed, or the request is for a single process.
        DeviceError: no Ray at the address, other versions on the workers, or no worker could be started.
        WeightsError, OutputError: a worker lacks the voice, or does not see the output folder.
    """
    check_request(settled.request, options)
    return _Run(settled, options).events(jobs)


class _Run:
    """One call of :func:`render_on_cluster`."""

    def __init__(self, settled: Settled, options: ClusterOptions) -> None:
        self._settled = settled
        self._request = settled.request
        self._options = options
        self._told: set[str] = set()
        self._lost_in: set[Path] = set()  # folders in which a dead worker may have left an unfinished file
        self._n_ready = 0
        self._events: deque[ClusterEvent] = deque()
        self._again: dict[Job, tuple[bool, str | None]] = {}  # shipped: may it replace a file, and why it does

    def events(self, jobs: Iterable[Job]) -> Generator[ClusterEvent, None, None]:
        yield Loading(self._request.model)
        try:
            with connected(self._options) as cluster, self._shared_place() as place:
                yield from self._run(jobs, cluster, place)
        finally:
            self._sweep()

    def _run(self, jobs: Iterable[Job], cluster: Cluster, place: Place) -> Generator[ClusterEvent, None, None]:
        shape, n_threads = self._shape(cluster.nodes)
        request = _for_workers(self._request, n_threads)
        pool: Pool[Job, Any] = Pool(
            Making(make_render_work, (request, self._weights, place), n_threads),
            shape,
            item_timeout_s=self._options.file_timeout_s,
            side_by_side=self._side_by_side(shape),
            pack=pack if self._options.ship else None,
            check=cluster.check,
        )
        try:
            with closing(pool.run(self._items(jobs))) as news:
                for new in news:
                    self._events.extend(self._about(new, shape, n_threads))
                    while self._events:
                        event = self._events.popleft()
                        yield event
                        if isinstance(event, Failed) and self._request.batching.fail_fast:
                            return
        finally:
            for job in pool.cut_off:
                self._remember(job)

    def _sweep(self) -> None:
        """Remove what dead workers left. Those that still live see the same folders, and sweep each but once."""
        if self._lost_in:
            time.sleep(DYING_S)
            sweep.cache_clear()
            for folder in self._lost_in:
                sweep(Path(os.path.realpath(folder)))

    @cached_property
    def _weights(self) -> dict[str, str]:
        return self._settled.voice.weights_sha256

    @contextlib.contextmanager
    def _shared_place(self) -> Iterator[Place]:
        """The output folder with a token in it; nowhere, where bytes are shipped."""
        if self._options.ship:
            yield Place(None, None, None)
            return
        output = self._request.output.output
        folder = Path() if output is None else Path(output)
        is_file = not os.path.isdir(folder) and folder.suffix != "" and os.path.isdir(folder.parent)
        with shared_place(folder.parent if is_file else folder) as place:
            yield place

    def _shape(self, nodes: Sequence[Node]) -> tuple[Shape, int]:
        """The workers and the threads of each. Raises DeviceError: no GPU where one was asked for."""
        machine, n_workers = self._request.machine, self._options.workers
        n_gpus = sum(node.gpus for node in nodes) if machine.device in ("auto", "cuda") else 0
        if machine.device == "cuda" and not n_gpus:
            raise DeviceError.of("device", "cuda", "no machine of the cluster has a GPU; use ", Option("device", "cpu"))
        if n_gpus:
            n_workers = n_workers or n_gpus
            cpus = max(1, min(node.cpus * n_gpus // max(node.gpus * n_workers, 1) for node in nodes if node.gpus))
            per_gpu = -(-n_workers // n_gpus)
            return Shape(n_workers, 1, 1 / per_gpu), machine.threads or cpus
        if n_workers is None:
            n_workers, n_threads = fitting(list(nodes), self._settled.voice.n_bytes, machine.threads)
        else:
            n_threads = machine.threads or threads_for(n_workers, [node.cpus for node in nodes])
        is_ours = self._options.address is None  # with as many cores as there are workers, whatever the machine has
        return Shape(n_workers, 1 if is_ours else n_threads), n_threads

    def _side_by_side(self, shape: Shape) -> int:
        if self._settled.sound.by_stems:
            return 1
        batch = self._request.machine.batch or (BATCH_ON_CUDA if shape.gpus else 1)
        return batch if batch == 1 else batch * POOL_PER_PLACE

    def _items(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, float] | None]:
        """Jobs with their sizes; None where there was something to tell instead.

        A file's bytes stand for its length, which would have to be read.
        """
        for job in jobs:
            if self._options.ship and (end := self._before_shipping(job)) is not None:
                self._events.append(end)
                yield None
                continue
            try:
                size = float(job.source.stat().st_size)
            except OSError:
                size = 0.0  # whoever reads it will say what is wrong
            yield job, size

    def _before_shipping(self, job: Job) -> Skipped | Failed | None:
        """What becomes of a file whose output is there, which the workers cannot see; None: it is to be rendered."""
        if job.target is None or not os.path.exists(job.target):
            self._again[job] = (self._request.output.overwrite, None)
            return None
        try:
            prepared = prepare(job, self._settled)
        except Exception as error:
            return Failed(job, explain(error))
        if prepared is None:
            return Skipped(job, COMPLETE)
        self._again[job] = (prepared.overwrite, prepared.why)
        return None

    def _about(self, new: Any, shape: Shape, n_threads: int) -> Iterator[ClusterEvent]:
        if isinstance(new, Ready):
            self._n_ready = new.n_ready
            if not self._told:
                yield Loaded(new.facts.description, 1)
            for line in ("", *new.facts.messages):
                if line not in self._told:
                    self._told.add(line)
                    if line:
                        yield Told(line)
            if shape.gpus and "cuda" not in new.facts.description and self._request.machine.device == "auto":
                yield Told(f"worker {new.facts.name} was given a GPU, but PyTorch finds none: it uses the processor")
            yield Crew(self._n_ready, shape.n_workers, n_threads, new.facts.name)
        elif isinstance(new, Lost):
            for job in new.items:
                self._remember(job)
            again = f"; {count(new.n_again, 'file')} will be tried again" if new.n_again else ""
            yield Told(f"{new.host} was lost: {new.why}{again}")
        elif isinstance(new, GivenUp):
            self._again.pop(new.item, None)
            yield Failed(new.item, DeviceError(f"{new.item.source}: given up after three workers: {new.why}"))
        elif isinstance(new, Finished):
            yield from self._received(new.item, new.result)

    def _received(self, job: Job, result: list[Event] | Delivery) -> Iterator[Event]:
        if not isinstance(result, Delivery):
            yield from result
            return
        overwrite, why = self._again.pop(job)
        if why is not None:
            yield Told(f"{job.target}: rendered again: {why}", job)
        yield from unpack(result, job, overwrite=overwrite, why=why)

    def _remember(self, job: Job) -> None:
        if job.target is not None and not self._options.ship:
            self._lost_in.add(job.target.parent)


class RenderWork:
    """Renders files with a voice that is loaded once."""

    def __init__(self, request: Request, voice: VoiceCard, synthesizer: "Synthesizer") -> None:
        self._request = request
        self._voice = voice
        self._synthesizer = synthesizer
        self.description = synthesizer.describe()
        self.messages = tuple(synthesizer.voice.messages)

    def do(self, items: Sequence[tuple[Job | Parcel, int]], stopped: Callable[[], bool]) -> list[Any]:
        """The events of each file, the last of which says how it ended; of parcels what is to be delivered."""
        parcels = [item for item, _ in items if isinstance(item, Parcel)]
        if parcels:
            return list(render_parcels(parcels, lambda jobs: self._render(jobs, stopped)))
        lost = {item for item, n_losses in items if n_losses and isinstance(item, Job)}
        jobs = [item for item, _ in items if isinstance(item, Job)]
        found = {job: done for job in lost if (done := self._complete(job)) is not None}
        events = self._render([job for job in jobs if job not in found], stopped)
        return [[found[job]] if job in found else events[job] for job in jobs]

    def _render(self, jobs: Sequence[Job], stopped: Callable[[], bool]) -> dict[Job, list[Event]]:
        kept: dict[Job, list[Event]] = {job: [] for job in jobs}
        with closing(render_files(jobs, self._voice, self._request, synthesizer=self._synthesizer)) as events:
            for event in events:
                if stopped():
                    break
                if isinstance(event, Told):
                    kept[event.job or jobs[0]].append(event)
                elif isinstance(event, Done | Skipped | Failed):
                    kept[event.job].append(event)
        return kept

    def _complete(self, job: Job) -> Done | None:
        """A file that a worker finished before it died, without a word; None: there is none."""
        batching = replace(self._request.batching, skip_existing=True)
        settled = settle(replace(self._request, batching=batching), self._voice)
        with contextlib.suppress(Exception):  # whoever renders it will say what is wrong
            if job.target is None or not os.path.exists(job.target) or prepare(job, settled) is not None:
                return None
            output = replace(self._request.output, overwrite=True)
            again = prepare(job, settle(replace(self._request, output=output), self._voice))
            if again is not None:
                stems = tuple(map(str, again.stem_targets(self._request.output.format) if settled.sound.stems else ()))
                return Done(
                    job,
                    duration_s=again.duration_s,
                    elapsed_s=0.0,
                    realtime_factor=0.0,
                    n_windows=again.n_windows * again.n_parts,
                    how=f"{self.description} · {settled.sound.how}",
                    reason="finished by a worker that was lost afterwards",
                    stems=stems,
                )
        return None


def make_render_work(request: Request, weights: dict[str, str], place: Place) -> RenderWork:
    """Runs on the worker. Raises what :func:`render_on_cluster` does for workers."""
    go_to(place)
    voice = find_voice(request.model)
    if voice.weights_sha256 != weights:
        raise WeightsError(f"the voice {voice.name} has other weights than here; copy them, or download them again")
    from specdiff_cli.engine.loading import load_synthesizer

    machine = request.machine
    sound = settle(request, voice).sound
    synthesizer = load_synthesizer(
        voice.model, vocoder=sound.vocoder, device=machine.device, dtype=machine.dtype, threads=machine.threads
    )
    return RenderWork(request, voice, synthesizer)


def _for_workers(request: Request, n_threads: int) -> Request:
    """The request as a worker needs it: without the inputs, which may be many."""
    return replace(request, inputs=type(request.inputs)(), machine=replace(request.machine, threads=n_threads))
