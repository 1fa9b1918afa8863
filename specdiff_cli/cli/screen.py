"""What a render shows: its events as lines, bars, JSON and a table; and what a dry run would do."""

import contextlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import typer

from specdiff_cli.choices import RECOMMENDED_LOUDNESS
from specdiff_cli.cli.guard import DEBUG_VARIABLE, close_stdout, shown, worded
from specdiff_cli.cli.progress import (
    RenderDisplay,
    SongsDisplay,
    clock,
    fail,
    one_line,
    print_tables,
    render_display,
    say,
    songs_display,
    stderr_console,
    working,
)
from specdiff_cli.cli.tables import screen_width, table
from specdiff_cli.constants import WINDOW_S
from specdiff_cli.errors import ExitCode, SpecdiffError, explain
from specdiff_cli.files import reason
from specdiff_cli.rendering.events import Done, Event, Failed, Loaded, Loading, Opened, Skipped, Step, Told
from specdiff_cli.rendering.jobs import Job
from specdiff_cli.wording import count

if TYPE_CHECKING:
    from rich.console import RenderableType

    from specdiff_cli.midi.remarks import Remark
    from specdiff_cli.rendering.record import Settled

MAX_ROWS = 40  # of a larger batch the table shows the failures, and counts the rest
#: Of a voice of note templates, with the vocoder that knows the notes: CPU time on one core, of a full band at 44.1 kHz
#: in stereo; 16 kHz mono takes nine tenths of it.
TEMPLATES_S_PER_WINDOW = 0.5
#: Seconds per window and denoising step for each byte of weights: a guess, for two CPU cores.
GUESSED_S_PER_BYTE = WINDOW_S / 39 / 2 / 37e6


@dataclass(frozen=True, slots=True)
class Showing:
    """How much is shown, and how."""

    as_json: bool = False
    quiet: bool = False
    debug: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one job ended, or of a dry run what would become of it."""

    job: Job
    status: str  # done, skipped, failed; of a dry run also planned
    duration_s: float | None = None
    elapsed_s: float | None = None
    realtime_factor: float | None = None
    error: SpecdiffError | None = None
    reason: str | None = None
    n_windows: int | None = None
    stems: tuple[str, ...] = ()
    remarks: "tuple[Remark, ...]" = ()
    n_clipped: int = 0

    @classmethod
    def of(cls, end: Done | Skipped | Failed) -> "Outcome":
        """From the event that ends a job."""
        if isinstance(end, Failed):
            return cls(end.job, "failed", error=end.error)
        if isinstance(end, Skipped):
            return cls(end.job, "skipped", reason=end.reason)
        return cls(
            end.job,
            "done",
            duration_s=end.duration_s,
            elapsed_s=end.elapsed_s,
            realtime_factor=end.realtime_factor,
            reason=end.reason,
            n_windows=end.n_windows,
            stems=end.stems,
            remarks=end.remarks,
            n_clipped=end.n_clipped,
        )

    def to_json(self) -> dict[str, Any]:
        """The line that ``--json`` prints."""
        told: dict[str, Any] = {
            "status": self.status,
            "input": str(self.job.source),
            "output": None if self.job.target is None else str(self.job.target),
            "duration_s": _rounded(self.duration_s),
            "windows": self.n_windows,
            "seconds": _rounded(self.elapsed_s),
            "realtime_factor": _rounded(self.realtime_factor),
            "reason": self.reason,
            "error": None if self.error is None else shown(self.error),
            "exit_code": int(ExitCode.OK if self.error is None else self.error.exit_code),
        }
        if self.status in ("done", "planned"):
            told["remarks"] = [asdict(remark) for remark in self.remarks]
        if self.status == "done":
            told["clipped_samples"] = self.n_clipped
        return {**told, "stems": list(self.stems)} if self.stems else told


class RenderScreen:
    """Shows the events of one render; a context manager, since bars are drawn meanwhile."""

    def __init__(self, jobs: Sequence[Job], settled: "Settled", showing: Showing) -> None:
        self.outcomes: list[Outcome] = []
        self._jobs = jobs
        self._places = {job: place for place, job in enumerate(jobs, 1)}
        self._settled = settled
        self._showing = showing
        self._start_s = time.perf_counter()
        self._stack = ExitStack()
        self._loading = ExitStack()
        self._song = ExitStack()  # the bar of a song that is rendered alone
        self._bar: RenderDisplay | None = None
        self._songs: SongsDisplay | None = None  # the bar of several songs at once
        self._kept_s: dict[Job, float] = {}
        self._is_unread = False  # whoever read --json is gone

    def __enter__(self) -> "RenderScreen":
        return self

    def __exit__(self, *error: object) -> None:
        for stack in (self._song, self._loading, self._stack):
            stack.close()

    def show(self, event: Event) -> None:
        """Show what has happened."""
        if isinstance(event, Loading):
            self._loading.enter_context(working(f"loading {event.model}", self._showing.quiet))
        elif isinstance(event, Loaded):
            self._loading.close()
            if event.batch > 1:
                display = songs_display(len(self._jobs), event.batch, self._showing.quiet)
                self._songs = self._stack.enter_context(display)
        elif isinstance(event, Opened):
            self._open(event)
        elif isinstance(event, Step):
            self._step(event)
        elif isinstance(event, Told):
            self.tell(worded(event.line))
        elif isinstance(event, Done | Skipped | Failed):
            self._end(event)

    def tell(self, line: str) -> None:
        """Say something that ``--quiet`` silences."""
        if not self._showing.quiet:
            say(line)

    def _open(self, event: Opened) -> None:
        self._kept_s[event.job] = event.n_kept * event.duration_s / max(event.n_windows, 1)
        if self._songs is not None:
            return
        place = f"{self._places[event.job]} of {len(self._jobs)}: " if len(self._jobs) > 1 else ""
        by_stems = f", {count(event.n_parts, 'instrument')}" if self._settled.sound.by_stems else ""
        display = render_display(
            f"{place}{event.job.source.name}{by_stems}",
            event.n_windows,
            event.n_steps,
            self._showing.quiet,
            first_window=event.n_kept,
            step_name="frame" if self._settled.voice.kind == "autoregressive" else "step",
        )
        self._bar = self._song.enter_context(display)

    def _step(self, event: Step) -> None:
        if self._songs is not None:
            self._songs.advance(str(event.job.source), event.done_s / max(event.duration_s, 1e-9), event.duration_s)
        elif self._bar is not None:
            done_now_s = event.done_s - self._kept_s.get(event.job, 0.0)
            self._bar.step(event.window, event.n_windows, event.step, event.n_steps, done_now_s)

    def _end(self, end: Done | Skipped | Failed) -> None:
        self._song.close()
        self._bar = None
        outcome = Outcome.of(end)
        self.outcomes.append(outcome)
        if isinstance(end, Done):
            took = f"{end.elapsed_s:.1f} s"
            if self._songs is None:
                took += f", {end.realtime_factor:.1f} × realtime"
            self.tell(f"{end.job.target or 'stdout'}: {clock(end.duration_s)} of audio in {took} · {end.how}")
        elif isinstance(end, Skipped):
            self.tell(f"{end.job.target}: skipped: {end.reason}")
        else:
            if self._showing.debug:
                traceback.print_exception(end.cause or end.error)
            fail(shown(end.error))
        if self._showing.as_json:
            self._print_json(outcome)

    def _print_json(self, outcome: Outcome) -> None:
        """A line for the program that reads. Once it is gone, the songs are still rendered, and the exit code tells."""
        if self._is_unread:
            return
        try:
            print_line(json.dumps(outcome.to_json()))
        except OSError as error:
            self._is_unread = True
            close_stdout()
            why = "its reader is gone" if isinstance(error, BrokenPipeError) else reason(error)
            fail(f"cannot write to standard output: {why}; the rest is rendered all the same")

    def sum_up(self) -> int:
        """The table of several songs in the order of the inputs, and the line that counts them; the exit code."""
        n_jobs = len(self._jobs)
        if n_jobs > 1:
            outcomes = sorted(self.outcomes, key=lambda outcome: self._places[outcome.job])
            self._print_table([item for item in outcomes if item.error is not None] if n_jobs > MAX_ROWS else outcomes)
            self._print_counts(outcomes, n_jobs)
        return exit_code(self.outcomes, n_jobs) or self._code_unread()

    def _code_unread(self) -> int:
        """Of results that nobody has seen, though all else went well."""
        return ExitCode.OUTPUT if self._is_unread else ExitCode.OK

    def _print_table(self, outcomes: Sequence[Outcome]) -> None:
        if outcomes and not self._showing.quiet:
            headers = ("<Result", "<Input", "Length", "Time", "Speed", "<Output or reason")
            console = stderr_console()
            with contextlib.suppress(OSError):  # nobody reads it any more
                console.print(_outcome_table(console.width, outcomes, _cells, headers), soft_wrap=False)

    def _print_counts(self, outcomes: Sequence[Outcome], n_jobs: int) -> None:
        counts = {status: sum(item.status == status for item in outcomes) for status in ("done", "skipped", "failed")}
        if self._showing.quiet and not counts["failed"]:
            return
        parts = [f"{number} {status}" for status, number in counts.items() if number or status == "done"]
        if n_left := n_jobs - len(outcomes):
            parts.append(f"{n_left} not rendered")
        elapsed_s = time.perf_counter() - self._start_s
        duration_s = sum(item.duration_s or 0.0 for item in outcomes if item.status == "done")
        speed = ""
        if duration_s:
            speed = f"; {clock(duration_s)} of audio in {elapsed_s:.1f} s, {duration_s / elapsed_s:.1f} × realtime"
        say(f"{count(n_jobs, 'input')}: {', '.join(parts)}{speed}")
        n_loud = sum(item.n_clipped > 0 for item in outcomes)
        if n_loud and not self._showing.quiet:
            remedy = f"--normalize {RECOMMENDED_LOUDNESS} leaves room, and makes all songs equally loud"
            self.tell(f"{count(n_loud, 'file')} clipped: {remedy}")


def wants_tracebacks(debug: bool) -> bool:
    """``--debug``, or its variable."""
    return debug or bool(os.environ.get(DEBUG_VARIABLE))


def print_line(text: str) -> None:
    """One line to standard output at once. Raises OSError where nobody reads it, or there is no room."""
    typer.echo(text)
    sys.stdout.flush()


def exit_code(outcomes: Sequence[Outcome], n_jobs: int) -> int:
    """0; the failure's own code for a single job; 1 where some of several failed."""
    failed = [outcome.error for outcome in outcomes if outcome.error is not None]
    if not failed:
        return ExitCode.OK
    return failed[0].exit_code if n_jobs == 1 else ExitCode.FAILURE


def dry_run(jobs: Sequence[Job], settled: "Settled", showing: Showing) -> int:
    """List what a render would do, and about how long it would take; the exit code. Loads no PyTorch."""
    sound = settled.sound
    if settled.voice.kind == "templates":
        window_s = TEMPLATES_S_PER_WINDOW
    else:
        window_s = settled.voice.n_bytes * sound.steps * (1 if sound.guidance == 1 else 2) * GUESSED_S_PER_BYTE
    outcomes = []
    for job in jobs:
        outcome = _look(job, settled)
        outcomes.append(outcome)
        if showing.as_json:
            seconds = None if outcome.n_windows is None else round(outcome.n_windows * window_s, 1)
            print_line(json.dumps({**outcome.to_json(), "estimated_seconds": seconds}))
        if outcome.error is not None:
            fail(shown(outcome.error))
    if not showing.as_json:
        _print_plan(outcomes, window_s)
    return exit_code(outcomes, len(jobs))


def _look(job: Job, settled: "Settled") -> Outcome:
    from specdiff_cli.rendering.batch import COMPLETE
    from specdiff_cli.rendering.prepare import prepare

    try:
        prepared = prepare(job, settled)
    except Exception as error:
        return Outcome(job, "failed", error=explain(error))
    if prepared is None:
        return Outcome(job, "skipped", reason=COMPLETE)
    n_windows = prepared.n_windows * prepared.n_parts
    return Outcome(
        job,
        "planned",
        duration_s=prepared.duration_s,
        n_windows=n_windows,
        reason=prepared.why,
        remarks=prepared.remarks,
    )


def _print_plan(outcomes: Sequence[Outcome], window_s: float) -> None:
    def cells(item: Outcome) -> tuple[str, ...]:
        where = shown(item.error) if item.error is not None else str(item.job.target or "standard output")
        return (
            {"planned": "render", "skipped": "skip", "failed": "failed"}[item.status],
            str(item.job.source),
            "" if item.duration_s is None else clock(item.duration_s),
            "" if item.n_windows is None else str(item.n_windows),
            "" if item.n_windows is None else about(item.n_windows * window_s),
            f"{where} (again: {item.reason})" if item.status == "planned" and item.reason else where,
        )

    headers = ("<Plan", "<Input", "Length", "Windows", "Time", "<Output or reason")
    print_tables(_outcome_table(screen_width(), outcomes, cells, headers))
    planned = [item for item in outcomes if item.status == "planned"]
    if not planned:
        typer.echo("nothing to render")
        return
    n_windows = sum(item.n_windows or 0 for item in planned)
    length = clock(sum(item.duration_s or 0.0 for item in planned))
    typer.echo(
        one_line(
            f"{count(len(planned), 'render')}, {length} of audio in {count(n_windows, 'window')}: about "
            f"{about(n_windows * window_s)} and some seconds to load the voice (a guess for two CPU cores from the "
            "size of the voice)"
        )
    )


def about(seconds: float) -> str:
    """A rough time: 5 s, 3 min, 2.5 h."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _cells(item: Outcome) -> tuple[str, ...]:
    reason = item.reason if item.status == "skipped" else item.job.target
    return (
        item.status,
        str(item.job.source),
        "" if item.duration_s is None else clock(item.duration_s),
        "" if item.elapsed_s is None else f"{item.elapsed_s:.1f} s",
        "" if item.realtime_factor is None else f"{item.realtime_factor:.1f} ×",
        shown(item.error) if item.error is not None else str(reason or ""),
    )


def _outcome_table(
    width: int, outcomes: Iterable[Outcome], cells: Callable[[Outcome], Sequence[str]], headers: Sequence[str]
) -> "RenderableType":
    styles = {"done": "green", "skipped": "cyan", "failed": "bold red", "planned": "green"}
    shown_outcomes = list(outcomes)
    rows = [[one_line(cell) for cell in cells(item)] for item in shown_outcomes]
    return table(width, headers, rows, [styles[item.status] for item in shown_outcomes])


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 3)
