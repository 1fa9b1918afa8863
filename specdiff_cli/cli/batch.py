"""Songs to audio: one after the other or several at once. What goes wrong with one of them stops no other."""

import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from functools import partial
from itertools import chain, islice
from itertools import count as numbers
from typing import TYPE_CHECKING, Any

import typer

from specdiff_cli.cli.batch_display import BatchDisplay, batch_display
from specdiff_cli.cli.console import RenderDisplay, clock, render_display
from specdiff_cli.cli.engine import Engine
from specdiff_cli.cli.estimate import remember
from specdiff_cli.cli.guard import Terminated, explain
from specdiff_cli.cli.outcomes import Outcome, Reporting, exit_code, tell_outcome, tell_summary
from specdiff_cli.cli.plan import Job
from specdiff_cli.cli.prepare import Prepared, RenderOptions, prepare
from specdiff_cli.cli.song_output import SongOutput
from specdiff_cli.lengths import hop_s
from specdiff_cli.wording import count

if TYPE_CHECKING:
    from specdiff_cli.engine.synthesizer import Piece, Progress, Song

    Part = tuple[int, int]  # number of a song, and of a part of it

#: For each place in a batch so many songs are read ahead, so that the longest of them can go first.
POOL_PER_PLACE = 4


def run_batch(jobs: Sequence[Job], engine: Engine, options: RenderOptions, reporting: Reporting) -> None:
    """Render every job; a failed one is reported and the rest go on.

    Raises:
        UsageError, WeightsError, DeviceError: the voice cannot be loaded; it would fail every song.
        typer.Exit: something failed.
        KeyboardInterrupt, Terminated: after the table of what was done until then.
    """
    run = _Run(jobs, engine, options, reporting)
    start_s = time.perf_counter()
    try:
        run.render_all()
    except (KeyboardInterrupt, Terminated):
        run.tell_summary(time.perf_counter() - start_s)
        if options.resume:
            options.tell("finished windows are kept; the same command goes on after them")
        raise
    run.remember_speed()
    run.tell_summary(time.perf_counter() - start_s)
    code = exit_code(run.outcomes, len(jobs))
    if code:
        raise typer.Exit(code)


class _OpenSong:
    """A song on its way: its output is open until the block ends."""

    def __init__(self, number: int, prepared: Prepared, output: SongOutput) -> None:
        self.number = number
        self.prepared = prepared
        self.output = output
        self.n_parts_left = prepared.n_parts
        self.n_dropped_events = 0
        self.n_kept = 0  # windows of an earlier run
        self.display: RenderDisplay | None = None
        self.stack = ExitStack()

    def keys(self) -> "list[Part]":
        return [(self.number, part) for part in range(self.prepared.n_parts)]


class _Run:
    """One call of ``render``: the jobs, and how they ended so far."""

    def __init__(self, jobs: Sequence[Job], engine: Engine, options: RenderOptions, reporting: Reporting) -> None:
        self.outcomes: list[Outcome] = []
        self._jobs = jobs
        self._engine = engine
        self._options = options
        self._reporting = reporting
        self._numbers = numbers()
        self._open: dict[int, _OpenSong] = {}
        self._given_up: set[Part] = set()
        self._beside: BatchDisplay | None = None  # where songs that go side by side report to
        self._is_over = False  # a failure with --fail-fast

    def render_all(self) -> None:
        """Render every job, or all up to the first failure with ``--fail-fast``."""
        ready = self._prepare_all(iter(self._jobs))
        first = next(ready, None)
        if first is None:
            return  # nothing to do, and no need to load anything
        queue: Iterator[Prepared] = chain([first], ready)
        if self._options.sound.by_stems:
            for prepared in queue:
                self._render(iter([prepared]), prepared.n_parts)
            return
        batch = min(self._engine.batch, len(self._jobs))
        with ExitStack() as stack:
            if batch > 1:
                queue = _longest_first(queue, batch * POOL_PER_PLACE)
                self._beside = stack.enter_context(batch_display(len(self._jobs), batch, self._options.quiet))
            while (suspects := self._render(queue, batch)) is not None:
                for prepared in suspects:
                    self._render(iter([prepared]), 1)

    def _prepare_all(self, jobs: Iterator[Job]) -> Iterator[Prepared]:
        """Songs that are to be rendered; how the others end is told here."""
        for job in jobs:
            if self._is_over:
                return
            try:
                prepared = prepare(job, self._engine.voice, self._options)
            except Exception as error:
                self._fail(job, error)
                continue
            if prepared is None:
                self._end(Outcome(job, "skipped", reason="complete, of the same input, voice and options"))
            else:
                yield prepared

    def _render(self, queue: Iterator[Prepared], batch: int) -> list[Prepared] | None:
        """Render up to ``batch`` songs at once; None once the queue is empty.

        A failure of the network ends all that were on their way. A single one has failed; of several it cannot be told
        which is to blame, and they are returned, to be rendered one by one.
        """
        synthesizer, sampling = self._engine.synthesizer, self._engine.sampling
        pieces = synthesizer.stream_many(
            self._songs(queue), sampling, batch=batch, on_message=self._options.tell, given_up=self._given_up
        )
        try:
            # However this ends: it may be sampling ahead on a thread of its own.
            with closing(pieces):
                for piece in pieces:
                    self._take(piece)
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
            return []
        self._close_all(GeneratorExit())  # none is open but after --fail-fast
        return None

    def _songs(self, queue: Iterable[Prepared]) -> "Iterator[Song[Part]]":
        """The parts of the songs whose turn it is."""
        from specdiff_cli.engine.synthesizer import Song

        for prepared in queue:
            if self._is_over:
                return
            try:
                song = self._open_song(prepared)
            except Exception as error:
                self._fail(prepared.job, error)
                continue
            output, extra = song.output, self._extra(song)
            parts = [prepared.notes] if prepared.stems is None else [stem.notes for stem in prepared.stems]
            for part, notes in enumerate(parts):
                yield Song(
                    (song.number, part),
                    notes,
                    prepared.duration_s,
                    self._engine.sampling.seed,
                    on_progress=self._reporter(song) if part == 0 else None,
                    on_mel=partial(output.add_mel, part) if output.wants_mel else None,
                    **extra,
                )

    def _open_song(self, prepared: Prepared) -> _OpenSong:
        job, tell = prepared.job, self._options.tell
        if prepared.why is not None:
            tell(f"{job.target}: rendered again: {prepared.why}")
        song = _OpenSong(next(self._numbers), prepared, SongOutput(prepared, self._engine.synthesizer, self._options))
        song.stack.enter_context(song.output)
        if (sidecar := song.output.sidecar) is not None:
            song.n_kept = sidecar.n_finished
            if sidecar.why_from_start is not None:
                tell(f"{job.source.name}: begun anew: {sidecar.why_from_start}")
            elif song.n_kept:
                tell(f"{job.source.name}: {count(song.n_kept, 'window')} of {prepared.n_windows} done earlier")
        if self._beside is None:
            by_stems = "" if prepared.stems is None else f", {count(prepared.n_parts, 'instrument')}"
            display = render_display(
                f"{job.source.name}{by_stems}",
                prepared.n_windows,
                self._engine.sampling.steps,
                self._options.quiet,
                first_window=song.n_kept,
                step_name="frame" if self._engine.voice.kind == "autoregressive" else "step",
            )
            song.display = song.stack.enter_context(display)
        self._open[song.number] = song
        return song

    def _extra(self, song: _OpenSong) -> dict[str, Any]:
        extra: dict[str, Any] = {}
        if (sidecar := song.output.sidecar) is not None:
            extra |= {"finished": sidecar.finished(), "on_window": sidecar.add}
        if song.output.snapshots is not None:
            extra["on_step"] = song.output.snapshots
        return extra

    def _reporter(self, song: _OpenSong) -> "Callable[[Progress], None]":
        window_s = hop_s(self._options.sound.overlap_frames)
        duration_s = song.prepared.duration_s

        def report(at: "Progress") -> None:
            done_s = min((at.window + at.step / at.n_steps) * window_s, duration_s)
            if song.display is not None:
                now_s = done_s - song.n_kept * window_s
                song.display.step(at.window, at.n_windows, at.step, at.n_steps, now_s)
            elif self._beside is not None:
                self._beside.advance(song.number, done_s / duration_s, duration_s)

        return report

    def _take(self, piece: "Piece[Part]") -> None:
        number, part = piece.key
        song = self._open.get(number)
        if song is None:
            return
        try:
            if piece.error is not None:
                raise piece.error
            if len(piece.audio):
                song.output.write(part, piece.audio)
            if piece.is_last:
                song.n_dropped_events += piece.n_dropped_events
                song.n_parts_left -= 1
                if song.n_parts_left == 0:
                    self._finish(song)
        except BrokenPipeError:
            raise
        except Exception as error:
            self._given_up.update(song.keys())
            self._close(song, error)
            self._fail(song.prepared.job, error)

    def _close(self, song: _OpenSong, error: BaseException) -> None:
        """End a song that is not finished: nothing of it appears."""
        self._open.pop(song.number, None)
        song.stack.__exit__(type(error), error, error.__traceback__)

    def _close_all(self, error: BaseException) -> None:
        for song in list(self._open.values()):
            self._close(song, error)

    def _finish(self, song: _OpenSong) -> None:
        prepared, output = song.prepared, song.output
        song.stack.close()
        del self._open[song.number]
        elapsed_s = time.perf_counter() - output.start_s
        rendered_s = max(0.0, prepared.duration_s - song.n_kept * hop_s(self._options.sound.overlap_frames))
        outcome = Outcome(
            prepared.job,
            "done",
            duration_s=prepared.duration_s,
            elapsed_s=elapsed_s,
            realtime_factor=rendered_s / max(elapsed_s, 1e-9),
            reason=prepared.why,
            n_windows=prepared.n_windows * prepared.n_parts,
            stems=tuple(str(path) for path in output.stem_paths),
        )
        self._tell_about(song, outcome)
        self._end(outcome)

    def _tell_about(self, song: _OpenSong, outcome: Outcome) -> None:
        from specdiff_cli.midi.adapt import describe_oddities

        prepared, output, job = song.prepared, song.output, song.prepared.job
        synthesizer, sampling = self._engine.synthesizer, self._engine.sampling
        messages = [*describe_oddities(prepared.song), *prepared.messages]
        if song.n_dropped_events:
            dropped = count(song.n_dropped_events, "note event")
            messages.append(f"{dropped} did not fit into their windows and were dropped")
        if output.message is not None:
            messages.append(output.message)
        if output.n_clipped:
            messages.append(f"{count(output.n_clipped, 'sample')} clipped; --subtype float or --normalize keeps them")
        if output.stem_paths:
            messages.append(f"{count(len(output.stem_paths), 'stem')} in {output.stem_paths[0].parent}")
        for message in messages:
            self._options.tell(f"{job.source.name}: {message}")
        if self._engine.voice.kind == "autoregressive":
            how = "frame by frame"
        elif self._engine.voice.kind == "templates":
            how = "from note templates"
        else:
            guidance = "" if sampling.guidance == 1 else f", guidance {sampling.guidance:g}"
            how = f"{count(sampling.steps, f'{sampling.sampler} step')}, {sampling.schedule}{guidance}"
        took = f"{outcome.elapsed_s or 0.0:.1f} s"
        if self._beside is None:
            took += f", {outcome.realtime_factor or 0.0:.1f} × realtime"
        self._options.tell(
            f"{job.target or 'stdout'}: {clock(prepared.duration_s)} of audio in {took}"
            f" · {synthesizer.describe()} · {how} · seed {sampling.seed}"
        )

    def _fail(self, job: Job, error: Exception) -> None:
        if self._reporting.debug:
            traceback.print_exception(error)
        self._is_over = self._reporting.fail_fast
        self._end(Outcome(job, "failed", error=explain(error)))

    def _end(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        tell_outcome(outcome, self._options, self._reporting)

    def tell_summary(self, elapsed_s: float) -> None:
        """The table of several songs, in the order of the inputs."""
        if len(self._jobs) > 1:
            order = {job: index for index, job in enumerate(self._jobs)}
            outcomes = sorted(self.outcomes, key=lambda outcome: order[outcome.job])
            tell_summary(outcomes, len(self._jobs), elapsed_s, self._options)

    def remember_speed(self) -> None:
        """Keep the speed of the longest song for estimates; start-up costs tell least in it."""
        done = [item for item in self.outcomes if item.status == "done" and item.realtime_factor and item.n_windows]
        if not done or self._beside is not None:  # a song's time says nothing where others went beside it
            return
        longest = max(done, key=lambda item: item.n_windows or 0)
        if longest.duration_s and longest.realtime_factor and longest.n_windows:
            window_s = longest.duration_s / longest.realtime_factor / longest.n_windows
            remember(self._engine.voice, self._options.sound, self._options.threads, window_s)


def _longest_first(songs: Iterator[Prepared], n_ahead: int) -> Iterator[Prepared]:
    """The longest of the next ``n_ahead`` songs each time: short ones are kept for the end, where they fill gaps."""
    pool = list(islice(songs, n_ahead))
    while pool:
        longest = max(range(len(pool)), key=lambda index: pool[index].duration_s)
        yield pool.pop(longest)
        pool += islice(songs, 1)
