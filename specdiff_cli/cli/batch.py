"""Many songs, one after the other: what is done, skipped and failed, and how it is told."""

import contextlib
import json
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from specdiff_cli.cli.console import clock, count, fail, one_line, say, stderr_console
from specdiff_cli.cli.estimate import remember
from specdiff_cli.cli.guard import Terminated, explain
from specdiff_cli.cli.plan import Job
from specdiff_cli.cli.render_job import Engine, Rendered, RenderOptions, prepare, render_song
from specdiff_cli.errors import ExitCode, SpecdiffError

if TYPE_CHECKING:
    from rich.table import Table

MAX_ROWS = 40  # of a larger batch the table shows the failures, and counts the rest


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one job ended."""

    job: Job
    status: str  # done, skipped, failed; of a dry run also planned
    duration_s: float | None = None
    elapsed_s: float | None = None
    realtime_factor: float | None = None
    error: SpecdiffError | None = None
    reason: str | None = None
    n_windows: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The line that ``--json`` prints."""
        return {
            "status": self.status,
            "input": str(self.job.source),
            "output": None if self.job.target is None else str(self.job.target),
            "duration_s": _rounded(self.duration_s),
            "windows": self.n_windows,
            "seconds": _rounded(self.elapsed_s),
            "realtime_factor": _rounded(self.realtime_factor),
            "reason": self.reason,
            "error": None if self.error is None else str(self.error),
            "exit_code": int(ExitCode.OK if self.error is None else self.error.exit_code),
        }


@dataclass(frozen=True, slots=True)
class Reporting:
    """How outcomes are told while the batch runs."""

    as_json: bool = False
    fail_fast: bool = False
    debug: bool = False


def run_batch(jobs: Sequence[Job], engine: Engine, options: RenderOptions, reporting: Reporting) -> None:
    """Render every job; a failed one is reported and the rest go on.

    Raises:
        UsageError, WeightsError, DeviceError: the voice cannot be loaded; it would fail every song.
        typer.Exit: something failed.
        KeyboardInterrupt, Terminated: after the table of what was done until then.
    """
    outcomes: list[Outcome] = []
    try:
        for job in jobs:
            outcome = _attempt(job, engine, options, reporting.debug)
            outcomes.append(outcome)
            tell_outcome(outcome, options, reporting)
            if outcome.error is not None and reporting.fail_fast:
                break
    except (KeyboardInterrupt, Terminated):
        if len(jobs) > 1:
            _tell_summary(outcomes, len(jobs), options)
        if options.resume:
            options.tell("finished windows are kept; the same command goes on after them")
        raise
    _remember_speed(outcomes, engine, options)
    if len(jobs) > 1:
        _tell_summary(outcomes, len(jobs), options)
    code = exit_code(outcomes, len(jobs))
    if code:
        raise typer.Exit(code)


def _attempt(job: Job, engine: Engine, options: RenderOptions, debug: bool) -> Outcome:
    """Render one job; what it can do wrong is its outcome."""
    try:
        prepared = prepare(job, engine.voice, options)
    except Exception as error:
        return _failed(job, error, debug)
    if prepared is None:
        return Outcome(job, "skipped", reason="complete, of the same input, voice and options")
    _ = engine.synthesizer  # outside of what follows: if it cannot be loaded, no song can be rendered
    start_s = time.perf_counter()
    try:
        rendered: Rendered = render_song(job, prepared, engine, options)
    except BrokenPipeError:
        raise
    except Exception as error:
        return _failed(job, error, debug)
    return Outcome(
        job,
        "done",
        duration_s=rendered.duration_s,
        elapsed_s=time.perf_counter() - start_s,
        realtime_factor=rendered.realtime_factor,
        reason=prepared.why,
        n_windows=prepared.n_windows,
    )


def _failed(job: Job, error: Exception, debug: bool) -> Outcome:
    if debug:
        traceback.print_exc()
    return Outcome(job, "failed", error=explain(error))


def tell_outcome(outcome: Outcome, options: RenderOptions, reporting: Reporting) -> None:
    """Say at once how a job ended; done ones have said so themselves."""
    if outcome.error is not None:
        fail(str(outcome.error))
    elif outcome.status == "skipped":
        options.tell(f"{outcome.job.target}: skipped: {outcome.reason}")
    if reporting.as_json:
        typer.echo(json.dumps(outcome.to_json()))
        sys.stdout.flush()  # one line per file as it finishes, whoever reads


def exit_code(outcomes: Sequence[Outcome], n_jobs: int) -> int:
    """0; the failure's own code for a single job; 1 where some of several failed."""
    failed = [outcome.error for outcome in outcomes if outcome.error is not None]
    if not failed:
        return ExitCode.OK
    return failed[0].exit_code if n_jobs == 1 else ExitCode.FAILURE


def _remember_speed(outcomes: Sequence[Outcome], engine: Engine, options: RenderOptions) -> None:
    """The speed of the longest song, where start-up costs tell least."""
    done = [item for item in outcomes if item.status == "done" and item.realtime_factor and item.n_windows]
    if not done:
        return
    longest = max(done, key=lambda item: item.n_windows or 0)
    if longest.duration_s and longest.realtime_factor and longest.n_windows:
        elapsed_s = longest.duration_s / longest.realtime_factor
        remember(engine.voice, options.sound, options.threads, elapsed_s / longest.n_windows)


def _tell_summary(outcomes: Sequence[Outcome], n_jobs: int, options: RenderOptions) -> None:
    """The table of a batch, and the line that counts it up."""
    shown = [item for item in outcomes if item.error is not None] if n_jobs > MAX_ROWS else outcomes
    if shown and not options.quiet:
        headers = ("Result", "Input", "Length", "Time", "Speed", "Output or reason")
        with contextlib.suppress(OSError):  # nobody reads it any more
            stderr_console().print(outcome_table(shown, _cells, headers), soft_wrap=False)
    counts = {status: sum(item.status == status for item in outcomes) for status in ("done", "skipped", "failed")}
    n_left = n_jobs - len(outcomes)
    if counts["failed"] or not options.quiet:
        parts = [f"{number} {status}" for status, number in counts.items() if number or status == "done"]
        if n_left:
            parts.append(f"{n_left} not rendered")
        say(f"{count(n_jobs, 'input')}: {', '.join(parts)}")


def _cells(item: Outcome) -> tuple[str, ...]:
    return (
        item.status,
        str(item.job.source),
        "" if item.duration_s is None else clock(item.duration_s),
        "" if item.elapsed_s is None else f"{item.elapsed_s:.1f} s",
        "" if item.realtime_factor is None else f"{item.realtime_factor:.1f} ×",
        str(item.error or (item.reason if item.status == "skipped" else item.job.target) or ""),
    )


def outcome_table(
    outcomes: Sequence[Outcome], cells: Callable[[Outcome], Sequence[str]], headers: Sequence[str]
) -> "Table":
    """A table of outcomes; names and reasons wrap inside their columns."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    styles = {"done": "green", "skipped": "cyan", "failed": "bold red", "planned": "green"}
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for header in headers:
        is_number = header in ("Length", "Windows", "Time", "Speed")
        table.add_column(header, justify="right" if is_number else "left", no_wrap=is_number, overflow="fold")
    for item in outcomes:
        first, *rest = cells(item)
        table.add_row(Text(first, style=styles[item.status]), *(Text(one_line(cell)) for cell in rest))
    return table


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 3)
