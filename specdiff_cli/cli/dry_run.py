"""``render --dry-run``: what would be rendered, and about how long it would take. Loads no PyTorch."""

import json
from collections.abc import Sequence

import typer

from specdiff_cli.cli.console import clock, fail, one_line, print_tables
from specdiff_cli.cli.estimate import Estimate, estimate
from specdiff_cli.cli.guard import explain, shown
from specdiff_cli.cli.outcomes import Outcome, Reporting, exit_code, outcome_table
from specdiff_cli.cli.plan import Job
from specdiff_cli.cli.prepare import RenderOptions, prepare
from specdiff_cli.cli.tables import screen_width
from specdiff_cli.weights.voices import VoiceCard
from specdiff_cli.wording import count


def dry_run(jobs: Sequence[Job], voice: VoiceCard, options: RenderOptions, reporting: Reporting) -> None:
    """List what a render would do. Raises typer.Exit when some input or output cannot be used."""
    speed = estimate(voice, options.sound, options.threads)
    outcomes = []
    for job in jobs:
        outcome = _look(job, voice, options)
        outcomes.append(outcome)
        if reporting.as_json:
            seconds = None if outcome.n_windows is None else round(outcome.n_windows * speed.window_s, 1)
            typer.echo(json.dumps({**outcome.to_json(), "estimated_seconds": seconds, "measured": speed.is_measured}))
        if outcome.error is not None:
            fail(shown(outcome.error))
    if not reporting.as_json:
        _print_plan(outcomes, speed)
    code = exit_code(outcomes, len(jobs))
    if code:
        raise typer.Exit(code)


def _look(job: Job, voice: VoiceCard, options: RenderOptions) -> Outcome:
    try:
        prepared = prepare(job, voice, options)
    except Exception as error:
        return Outcome(job, "failed", error=explain(error))
    if prepared is None:
        return Outcome(job, "skipped", reason="complete, of the same input, voice and options")
    n_windows = prepared.n_windows * prepared.n_parts
    return Outcome(job, "planned", duration_s=prepared.duration_s, n_windows=n_windows, reason=prepared.why)


def _print_plan(outcomes: Sequence[Outcome], speed: Estimate) -> None:
    def cells(item: Outcome) -> tuple[str, ...]:
        where = shown(item.error) if item.error else str(item.job.target or "standard output")
        return (
            {"planned": "render", "skipped": "skip", "failed": "failed"}[item.status],
            str(item.job.source),
            "" if item.duration_s is None else clock(item.duration_s),
            "" if item.n_windows is None else str(item.n_windows),
            "" if item.n_windows is None else about(item.n_windows * speed.window_s),
            f"{where} (again: {item.reason})" if item.status == "planned" and item.reason else where,
        )

    headers = ("<Plan", "<Input", "Length", "Windows", "Time", "<Output or reason")
    print_tables(outcome_table(screen_width(), outcomes, cells, headers))
    planned = [item for item in outcomes if item.status == "planned"]
    if not planned:
        typer.echo("nothing to render")
        return
    n_windows = sum(item.n_windows or 0 for item in planned)
    length = clock(sum(item.duration_s or 0.0 for item in planned))
    typer.echo(
        one_line(
            f"{count(len(planned), 'render')}, {length} of audio in {count(n_windows, 'window')}: "
            f"about {about(n_windows * speed.window_s)} and some seconds to load the voice ({speed.describe()})"
        )
    )


def about(seconds: float) -> str:
    """A rough time: 5 s, 3 min, 2.5 h."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
