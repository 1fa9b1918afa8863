"""How the songs of a batch ended, and how that is told."""

import contextlib
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from specdiff_cli.cli.console import clock, fail, one_line, say, stderr_console
from specdiff_cli.cli.guard import shown as shown_error
from specdiff_cli.cli.plan import Job
from specdiff_cli.cli.prepare import RenderOptions
from specdiff_cli.cli.tables import table
from specdiff_cli.errors import ExitCode, SpecdiffError
from specdiff_cli.wording import count

if TYPE_CHECKING:
    from rich.console import RenderableType

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
    stems: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The line that ``--json`` prints."""
        told = {
            "status": self.status,
            "input": str(self.job.source),
            "output": None if self.job.target is None else str(self.job.target),
            "duration_s": _rounded(self.duration_s),
            "windows": self.n_windows,
            "seconds": _rounded(self.elapsed_s),
            "realtime_factor": _rounded(self.realtime_factor),
            "reason": self.reason,
            "error": None if self.error is None else shown_error(self.error),
            "exit_code": int(ExitCode.OK if self.error is None else self.error.exit_code),
        }
        return {**told, "stems": list(self.stems)} if self.stems else told


@dataclass(frozen=True, slots=True)
class Reporting:
    """How outcomes are told while the batch runs."""

    as_json: bool = False
    fail_fast: bool = False
    debug: bool = False


def tell_outcome(outcome: Outcome, options: RenderOptions, reporting: Reporting) -> None:
    """Say at once how a job ended; done ones have said so themselves."""
    if outcome.error is not None:
        fail(shown_error(outcome.error))
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


def tell_summary(outcomes: Sequence[Outcome], n_jobs: int, elapsed_s: float, options: RenderOptions) -> None:
    """The table of a batch, and the line that counts it up."""
    shown = [item for item in outcomes if item.error is not None] if n_jobs > MAX_ROWS else outcomes
    if shown and not options.quiet:
        headers = ("<Result", "<Input", "Length", "Time", "Speed", "<Output or reason")
        console = stderr_console()
        with contextlib.suppress(OSError):  # nobody reads it any more
            console.print(outcome_table(console.width, shown, _cells, headers), soft_wrap=False)
    counts = {status: sum(item.status == status for item in outcomes) for status in ("done", "skipped", "failed")}
    n_left = n_jobs - len(outcomes)
    if counts["failed"] or not options.quiet:
        parts = [f"{number} {status}" for status, number in counts.items() if number or status == "done"]
        if n_left:
            parts.append(f"{n_left} not rendered")
        say(f"{count(n_jobs, 'input')}: {', '.join(parts)}{_speed(outcomes, elapsed_s)}")


def _speed(outcomes: Sequence[Outcome], elapsed_s: float) -> str:
    duration_s = sum(item.duration_s or 0.0 for item in outcomes if item.status == "done")
    if not duration_s:
        return ""
    return f"; {clock(duration_s)} of audio in {elapsed_s:.1f} s, {duration_s / elapsed_s:.1f} × realtime"


def _cells(item: Outcome) -> tuple[str, ...]:
    return (
        item.status,
        str(item.job.source),
        "" if item.duration_s is None else clock(item.duration_s),
        "" if item.elapsed_s is None else f"{item.elapsed_s:.1f} s",
        "" if item.realtime_factor is None else f"{item.realtime_factor:.1f} ×",
        shown_error(item.error)
        if item.error
        else str((item.reason if item.status == "skipped" else item.job.target) or ""),
    )


def outcome_table(
    width: int, outcomes: Sequence[Outcome], cells: Callable[[Outcome], Sequence[str]], headers: Sequence[str]
) -> "RenderableType":
    """A table of outcomes, as :func:`~specdiff_cli.cli.tables.table` makes it."""
    styles = {"done": "green", "skipped": "cyan", "failed": "bold red", "planned": "green"}
    rows = [[one_line(cell) for cell in cells(item)] for item in outcomes]
    return table(width, headers, rows, [styles[item.status] for item in outcomes])


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 3)
