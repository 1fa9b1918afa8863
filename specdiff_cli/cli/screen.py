"""What a render shows: its events as lines, bars, JSON and a table; and what a dry run would do."""

import contextlib
import json
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from specdiff_cli.choices import RECOMMENDED_LOUDNESS
from specdiff_cli.cli.guard import shown
from specdiff_cli.cli.progress import (
    FilesDisplay,
    RenderDisplay,
    fail,
    files_display,
    render_display,
    say,
    stderr_console,
    working,
)
from specdiff_cli.cli.tables import print_tables, screen_width, table
from specdiff_cli.errors import ExitCode, Message, Option
from specdiff_cli.rendering.events import Done, End, Event, Failed, Loaded, Loading, Opened, Skipped, Step, Told
from specdiff_cli.rendering.jobs import Job
from specdiff_cli.rendering.outcome import Outcome, Tally, foresee, guessed_window_s
from specdiff_cli.rendering.remaining import Remaining
from specdiff_cli.streams import JsonLines
from specdiff_cli.wording import about, clock, count, one_line

if TYPE_CHECKING:
    from rich.console import RenderableType

    from specdiff_cli.cluster.rendering import Crew
    from specdiff_cli.rendering.record import Settled

MAX_ROWS = 40  # of a larger batch the table shows the failures, and counts the rest
#: Failures beyond these are counted, and were told when they came.
MAX_FAILURES = 1000
STYLES = {"done": "green", "skipped": "cyan", "failed": "bold red", "planned": "green"}


@dataclass(frozen=True, slots=True)
class Showing:
    """How much is shown, and how."""

    as_json: bool = False
    quiet: bool = False
    debug: bool = False


class RenderScreen:
    """Shows the events of one render; a context manager, since bars are drawn meanwhile.

    Of many files it keeps the failures, and counts the rest. ``n_jobs``: where the jobs come one by one.
    """

    def __init__(self, jobs: Sequence[Job], settled: "Settled", showing: Showing, n_jobs: int | None = None) -> None:
        self.tally = Tally(len(jobs) if n_jobs is None else n_jobs)
        self._outcomes: list[Outcome] = []
        self._places = {job: place for place, job in enumerate(jobs, 1)}
        self._settled = settled
        self._showing = showing
        self._start_s = time.perf_counter()
        self._stack = ExitStack()
        self._loading = ExitStack()
        self._song = ExitStack()  # the bar of a song that is rendered alone
        self._bar: RenderDisplay | None = None
        self._files: FilesDisplay | None = None  # the bar of several songs at once
        self._crew = ""  # who renders them, where these are several processes
        self._remaining = Remaining(jobs, self.tally.n_jobs)
        self._lines = JsonLines(fail)

    def __enter__(self) -> "RenderScreen":
        return self

    def __exit__(self, *error: object) -> None:
        for stack in (self._song, self._loading, self._stack):
            stack.close()

    def show(self, event: Event) -> None:
        """Show what has happened."""
        self._remaining.see(event)
        if isinstance(event, Loading):
            self._loading.enter_context(working(f"loading {event.model}", self._showing.quiet))
        elif isinstance(event, Loaded):
            self._loading.close()
            if event.batch > 1:
                self._draw_files("songs", f"{count(self.tally.n_jobs, 'song')}, {event.batch} at once")
        elif isinstance(event, Opened):
            self._open(event)
        elif isinstance(event, Step):
            self._step(event)
        elif isinstance(event, Told):
            self.tell(event.line)
        elif isinstance(event, Done | Skipped | Failed):
            self._end(event)

    def meet(self, crew: "Crew") -> None:
        """Show how many workers there are by now."""
        threads = f", {count(crew.n_threads, 'thread')} each" if crew.n_threads > 1 else ""
        if self._files is None:
            n_files, n_workers = count(self.tally.n_jobs, "file"), count(crew.n_workers, "worker")
            self._draw_files("files", f"{n_files} by {n_workers}{threads}")
        self._crew = f"{crew.n_ready}/{crew.n_workers} workers"
        self._update_files()

    def tell(self, line: str) -> None:
        """Say something that ``--quiet`` silences."""
        if not self._showing.quiet:
            say(line)

    def _open(self, event: Opened) -> None:
        if self._files is not None:
            return
        place = f"{self._places[event.job]} of {self.tally.n_jobs}: " if self.tally.n_jobs > 1 else ""
        by_stems = f", {count(event.n_parts, 'instrument')}" if self._settled.sound.by_stems else ""
        display = render_display(
            f"{place}{event.job.source.name}{by_stems}",
            event,
            self._remaining,
            self._showing.quiet,
            is_alone=self.tally.n_jobs == 1,
            step_name="frame" if self._settled.voice.kind == "autoregressive" else "step",
        )
        self._bar = self._song.enter_context(display)

    def _step(self, event: Step) -> None:
        self._update_files()
        if self._bar is not None:
            self._bar.step(event.window, event.step)

    def _draw_files(self, noun: str, opening: str) -> None:
        display = files_display(self.tally.n_jobs, noun, opening, self._showing.quiet, self._remaining)
        self._files = self._stack.enter_context(display)

    def _update_files(self) -> None:
        if self._files is not None:
            self._files.update(self.tally.n_ended, self._crew, self._each())

    def _each(self) -> str:
        """How fast a worker is, while it works."""
        if not self._crew or not self.tally.work_s:
            return ""
        return f"{self.tally.audio_s / self.tally.work_s:.1f} × each"

    def _end(self, end: End) -> None:
        self._song.close()
        self._bar = None
        outcome = Outcome.of(end)
        self.tally.add(outcome)
        if isinstance(end, Done):
            took = f"{end.elapsed_s:.1f} s"
            if self._files is None or self._crew:
                took += f", {end.realtime_factor:.1f} × realtime"
            self.tell(f"{end.job.target or 'stdout'}: {clock(end.duration_s)} of audio in {took} · {end.how}")
        elif isinstance(end, Skipped):
            self.tell(f"{end.job.target}: skipped: {end.reason}")
        else:
            if self._showing.debug:
                traceback.print_exception(end.cause or end.error)
            fail(shown(end.error))
        if self._showing.as_json:
            self._lines.write(outcome.to_json(shown))
        is_failure = outcome.status == "failed" and self.tally.counts["failed"] <= MAX_FAILURES
        if self.tally.n_jobs <= MAX_ROWS or is_failure:
            self._outcomes.append(outcome)
        self._update_files()

    def sum_up(self) -> int:
        """The table of several songs in the order of the inputs, and the line that counts them; the exit code."""
        self._stack.close()
        if self.tally.n_jobs > 1:
            self._print_table(sorted(self._outcomes, key=lambda outcome: self._places.get(outcome.job, 0)))
            if not self._showing.quiet or self.tally.counts["failed"]:
                each = f" ({self._each()})" if self._each() else ""
                say(self.tally.sentence(time.perf_counter() - self._start_s, each))
            if self.tally.n_clipped:
                level = Option("normalize", RECOMMENDED_LOUDNESS)
                clipped = f"{count(self.tally.n_clipped, 'file')} clipped: "
                self.tell(Message(clipped, level, " leaves room, and makes all songs equally loud"))
        return self.tally.exit_code or (ExitCode.OUTPUT if self._lines.is_unread else ExitCode.OK)

    def _print_table(self, outcomes: Sequence[Outcome]) -> None:
        if outcomes and not self._showing.quiet:
            headers = ("<Result", "<Input", "Length", "Time", "Speed", "<Output or reason")
            console = stderr_console()
            with contextlib.suppress(OSError):  # nobody reads it any more
                console.print(_outcome_table(console.width, outcomes, _cells, headers), soft_wrap=False)


def print_line(text: str) -> None:
    """One line to standard output at once. Raises OSError where nobody reads it, or there is no room."""
    typer.echo(text)
    sys.stdout.flush()


def dry_run(jobs: Sequence[Job], settled: "Settled", showing: Showing) -> int:
    """List what a render would do, and about how long it would take; the exit code. Loads no PyTorch."""
    window_s = guessed_window_s(settled)
    tally, outcomes = Tally(len(jobs)), []
    for job in jobs:
        outcome = foresee(job, settled)
        tally.add(outcome)
        outcomes.append(outcome)
        if showing.as_json:
            seconds = None if outcome.n_windows is None else round(outcome.n_windows * window_s, 1)
            print_line(json.dumps({**outcome.to_json(shown), "estimated_seconds": seconds}))
        if outcome.error is not None:
            fail(shown(outcome.error))
    if not showing.as_json:
        _print_plan(outcomes, window_s)
    return tally.exit_code


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
    listed = list(outcomes)
    rows = [[one_line(cell) for cell in cells(item)] for item in listed]
    return table(width, headers, rows, [STYLES[item.status] for item in listed])
