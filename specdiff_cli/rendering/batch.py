"""Songs to files: one after the other or several at once. What goes wrong with one of them stops no other."""

import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sized
from contextlib import closing
from functools import partial
from itertools import chain, islice
from itertools import count as numbers
from typing import TYPE_CHECKING, Any

from specdiff_cli.errors import Message, OutputError, explain
from specdiff_cli.lengths import hop_s
from specdiff_cli.rendering.beside import Beside
from specdiff_cli.rendering.events import Done, Event, Failed, Heard, Loaded, Loading, Opened, Skipped, Step, Told
from specdiff_cli.rendering.jobs import Job
from specdiff_cli.rendering.output import SongOutput
from specdiff_cli.rendering.prepare import Prepared, prepare
from specdiff_cli.rendering.record import Settled, settle
from specdiff_cli.rendering.request import Request
from specdiff_cli.rendering.running_song import Reported, RunningSong
from specdiff_cli.weights.voices import VoiceCard

if TYPE_CHECKING:
    from specdiff_cli.engine.synthesizer import Piece, Song, Synthesizer
    from specdiff_cli.rendering.beside import Part

#: Songs rendered at once where nothing is said: a GPU is far from full with one.
BATCH_ON_CUDA = 16
#: For each place in a batch so many songs are read ahead, so that the longest of them can go first.
POOL_PER_PLACE = 4
COMPLETE = "complete, of the same input, voice and options"


def render_files(
    jobs: Iterable[Job],
    voice: VoiceCard,
    request: Request,
    *,
    synthesizer: "Synthesizer | None" = None,
    with_audio: bool = False,
) -> Generator[Event, None, None]:
    """Render every job into its file; a failed one is told and the rest go on.

    Songs are opened, read and written by whoever asks for the next event; only the sampling runs on a thread of its
    own. Closing the generator ends all: unfinished songs leave nothing (with ``resume`` their finished windows), and
    the thread has ended when ``close`` returns.

    Args:
        jobs: may be a generator, of any length; a job is taken when its turn comes.
        voice: what :func:`find_voice` found; it is loaded when the first song needs it.
        request: how to render.
        synthesizer: the voice, ready; for those who keep it loaded from call to call.
        with_audio: also yield :class:`Heard`, the samples as they are made.

    Yields:
        Events, as they happen. Each job ends with one of ``Done``, ``Skipped`` and ``Failed``, unless an earlier
        failure ended it all (``fail_fast``).

    Raises:
        UsageError, WeightsError, DeviceError: the voice cannot be loaded; it would fail every song.
        BrokenPipeError: the reader of standard output has ended.
    """
    return _Batch(settle(request, voice), synthesizer, with_audio).render(jobs)


class _Batch:
    """One call of ``render_files``: what is open, and what has happened."""

    def __init__(self, settled: Settled, synthesizer: "Synthesizer | None", with_audio: bool) -> None:
        self._settled = settled
        self._request = settled.request
        self._synthesizer = synthesizer
        self._with_audio = with_audio
        self._window_s = hop_s(settled.sound.overlap_frames)
        self._events: deque[Event] = deque()
        self._numbers = numbers()
        self._open: dict[int, RunningSong] = {}
        self._given_up: set[Part] = set()
        self._is_over = False  # a failure with fail_fast

    def render(self, jobs: Iterable[Job]) -> Generator[Event, None, None]:
        n_jobs = len(jobs) if isinstance(jobs, Sized) else None
        ready = self._prepare_all(iter(jobs))
        first = None
        for first in ready:
            yield from self._happened()
            if first is not None:
                break
        if first is None:
            return  # nothing to do, and no need to load anything
        queue: Iterator[Prepared | None] = chain([first], ready)
        synthesizer = yield from self._load()
        if self._settled.sound.by_stems:
            yield Loaded(synthesizer.describe(), 1)
            for prepared in queue:
                if prepared is not None:
                    yield from self._render(synthesizer, iter([prepared]), prepared.n_parts)
                yield from self._happened()
            return
        batch = self._request.machine.batch or (BATCH_ON_CUDA if synthesizer.device.type == "cuda" else 1)
        batch = batch if n_jobs is None else min(batch, n_jobs)
        yield Loaded(synthesizer.describe(), batch)
        if batch > 1:
            queue = _longest_first(queue, batch * POOL_PER_PLACE)
        while (suspects := (yield from self._render(synthesizer, queue, batch))) is not None:
            for prepared in suspects:
                yield from self._render(synthesizer, iter([prepared]), 1)
        yield from self._happened()

    def _load(self) -> "Generator[Event, None, Synthesizer]":
        if self._synthesizer is None:
            yield Loading(self._request.model)
            from specdiff_cli.engine.devices import remark_on_precision
            from specdiff_cli.engine.loading import load_synthesizer

            machine = self._request.machine
            self._synthesizer = load_synthesizer(
                self._settled.voice.model,
                vocoder=self._settled.sound.vocoder,
                device=machine.device,
                dtype=machine.dtype,
                threads=machine.threads,
                sample_rate_hz=self._settled.sound.made_rate_hz,
                n_channels=self._settled.sound.made_channels,
            )
            for line in self._synthesizer.voice.messages:
                yield Told(line)
            remark = remark_on_precision(machine.dtype, self._synthesizer.device)
            if remark is not None:
                yield Told(remark)
        else:
            sound = self._settled.sound
            self._synthesizer = self._synthesizer.giving(sound.vocoder, sound.made_rate_hz, sound.made_channels)
        return self._synthesizer

    def _happened(self) -> Iterator[Event]:
        while self._events:
            yield self._events.popleft()

    def _tell(self, line: str, job: Job | None = None) -> None:
        self._events.append(Told(line, job))

    def _prepare_all(self, jobs: Iterator[Job]) -> Iterator[Prepared | None]:
        """Songs that are to be rendered; None for each of the others, after it was told how it ended."""
        for job in jobs:
            if self._is_over:
                return
            try:
                prepared = prepare(job, self._settled)
            except Exception as error:
                self._fail(job, error)
                yield None
                continue
            if prepared is None:
                self._events.append(Skipped(job, COMPLETE))
            yield prepared

    def _render(
        self, synthesizer: "Synthesizer", queue: Iterator[Prepared | None], batch: int
    ) -> Generator[Event, None, list[Prepared] | None]:
        """Render up to ``batch`` songs at once; None once the queue is empty.

        A failure of the network ends all that were on their way. A single one has failed; of several it cannot be told
        which is to blame, and they are returned, to be rendered one by one.
        """
        beside = Beside()
        stream = partial(self._stream, synthesizer, batch, beside)
        try:
            # However this ends: the sampling is on a thread of its own.
            with closing(beside.run(stream, self._songs(synthesizer, queue, beside))) as items:
                for item in items:
                    self._take(item)
                    yield from self._happened()
                    if self._is_over:
                        break
        except BaseException as error:
            ended = [song.prepared for song in self._open.values()]
            self._close_all(error)
            if not isinstance(error, Exception) or isinstance(error, BrokenPipeError) or not ended:
                raise
            if len(ended) > 1:
                return ended
            self._fail(ended[0].job, error)
            yield from self._happened()
            return []
        self._close_all(GeneratorExit())  # none is open but after fail_fast
        return None

    def _stream(
        self, synthesizer: "Synthesizer", batch: int, beside: Beside, songs: "Iterator[Song[Part]]", stop: Any
    ) -> "Generator[Piece[Part], None, None]":
        return synthesizer.stream_many(
            songs,
            self._settled.sound.sampling,
            batch=batch,
            on_message=lambda line: beside.report(Told(line)),
            given_up=self._given_up,
            stop=stop,
        )

    def _songs(
        self, synthesizer: "Synthesizer", queue: Iterable[Prepared | None], beside: Beside
    ) -> "Iterator[Song[Part] | None]":
        """The parts of the songs whose turn it is; None where there was something to tell instead."""
        for prepared in queue:
            if self._is_over:
                return
            if prepared is None:
                yield None
                continue
            try:
                song = self._open_song(prepared, synthesizer)
            except BrokenPipeError:  # before the first sample: of the header
                raise
            except Exception as error:
                self._fail(prepared.job, error)
                yield None
                continue
            for part in range(prepared.n_parts):
                yield song.part(part, self._settled.sound.seed, beside.report)

    def _open_song(self, prepared: Prepared, synthesizer: "Synthesizer") -> RunningSong:
        job = prepared.job
        if prepared.why is not None:
            self._tell(f"{job.target}: rendered again: {prepared.why}", job)
        song = RunningSong(next(self._numbers), prepared, SongOutput(prepared, synthesizer, self._settled))
        if (resumed := song.resumed()) is not None:
            self._tell(f"{job.source.name}: {resumed}", job)
        self._open[song.number] = song
        n_steps = self._settled.sound.steps
        self._events.append(
            Opened(job, prepared.duration_s, prepared.n_windows, prepared.n_parts, song.n_kept, n_steps)
        )
        return song

    def _take(self, item: object) -> None:
        """Do with a piece or a report what is to be done with it."""
        if isinstance(item, Told):
            self._events.append(item)
            return
        key: Part | None = getattr(item, "key", None)
        song = None if key is None else self._open.get(key[0])
        if key is None or song is None:
            return
        try:
            if isinstance(item, Reported):
                self._note(song, key[1], item)
            else:
                self._take_piece(song, key[1], item)
        except BrokenPipeError:
            raise
        except Exception as error:
            self._given_up.update(song.keys())
            self._close(song, error)
            self._fail(song.prepared.job, error)

    def _note(self, song: RunningSong, part: int, told: Reported) -> None:
        if told.window is not None and song.output.sidecar is not None:
            song.output.sidecar.add(told.window)
        if told.mel is not None:
            song.output.add_mel(part, told.mel)
        if (at := told.progress) is not None:
            job, duration_s = song.prepared.job, song.prepared.duration_s
            done_s = min((at.window + at.step / at.n_steps) * self._window_s, duration_s)
            self._events.append(Step(job, at.window, at.n_windows, at.step, at.n_steps, done_s, duration_s))

    def _take_piece(self, song: RunningSong, part: int, piece: Any) -> None:
        if piece.error is not None:
            raise piece.error
        if len(piece.audio):
            written = song.output.write(part, piece.audio)
            if self._with_audio and len(written):
                rate_hz = self._settled.sound.sample_rate_hz
                self._events.append(Heard(song.prepared.job, written, rate_hz))
        if piece.is_last:
            song.n_dropped_events += piece.n_dropped_events
            song.n_parts_left -= 1
            if song.n_parts_left == 0:
                self._finish(song)

    def _close(self, song: RunningSong, error: BaseException) -> None:
        """End a song that is not finished: nothing of it appears."""
        self._open.pop(song.number, None)
        song.stack.__exit__(type(error), error, error.__traceback__)

    def _close_all(self, error: BaseException) -> None:
        for song in list(self._open.values()):
            self._close(song, error)

    def _finish(self, song: RunningSong) -> None:
        prepared, output = song.prepared, song.output
        song.stack.close()
        del self._open[song.number]
        elapsed_s = time.perf_counter() - output.start_s
        rendered_s = max(0.0, prepared.duration_s - song.n_kept * self._window_s)
        for line in song.remarks():
            self._tell(Message(f"{prepared.job.source.name}: ", line), prepared.job)
        assert self._synthesizer is not None  # noqa: S101 - a song was rendered with it
        self._events.append(
            Done(
                prepared.job,
                duration_s=prepared.duration_s,
                elapsed_s=elapsed_s,
                realtime_factor=rendered_s / max(elapsed_s, 1e-9),
                n_windows=prepared.n_windows * prepared.n_parts,
                how=f"{self._synthesizer.describe()} · {self._settled.sound.how}",
                reason=prepared.why,
                stems=tuple(str(path) for path in output.stem_paths),
                remarks=prepared.remarks,
                n_clipped=output.n_clipped,
            )
        )

    def _fail(self, job: Job, error: Exception) -> None:
        if isinstance(error, OutputError) and self._was_made_meanwhile(job):
            self._events.append(Skipped(job, COMPLETE))
            return
        self._is_over = self._request.batching.fail_fast
        explained = explain(error)
        self._events.append(Failed(job, explained, None if explained is error else error))

    def _was_made_meanwhile(self, job: Job) -> bool:
        """Has another process, with ``skip_existing`` over the same inputs, been faster?"""
        if not self._request.batching.skip_existing or job.target is None:
            return False
        try:
            return prepare(job, self._settled) is None
        except Exception:  # what is there is something else, and the first error says more
            return False


def _longest_first(jobs: Iterator[Prepared | None], n_ahead: int) -> Iterator[Prepared]:
    """The longest of the next ``n_ahead`` songs each time: short ones are kept for the end, where they fill gaps."""
    songs = (prepared for prepared in jobs if prepared is not None)
    pool = list(islice(songs, n_ahead))
    while pool:
        longest = max(range(len(pool)), key=lambda index: pool[index].duration_s)
        yield pool.pop(longest)
        pool += islice(songs, 1)
