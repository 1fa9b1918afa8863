"""The readable form of ``specdiff evaluate``: one table on standard output."""

import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import typer

from specdiff_cli.cli.progress import one_line

if TYPE_CHECKING:
    from rich.table import Table

COLUMNS = {
    "log_mel_l1": "L1",
    "log_mel_l1_of_ceiling": "×ceil",
    "spectral_convergence": "conv",
    "log_spectrum": "spec",
    "loudness_db": "dB",
    "loudness_error_db": "max dB",
    "zimtohrli": "Zimt",
    "visqol": "ViSQ",
    "frechet_distance": "FAD",
    "onset_precision": "prec",
    "onset_recall": "rec",
    "onset_f1": "F1",
    "onset_f1_of_reference": "F1/ref",
    "boundary_jump": "jump",
    "x_realtime": "×rt",
}
OPTIONAL = ("zimtohrli", "visqol", "frechet_distance")  # shown where they were asked for
MIN_WIDTH = 130  # a table cut to a narrow pipe would lose its numbers
LEGEND = (
    "L1: log-mel difference, nepers; ×ceil: over the vocoder's own; conv, spec: multi-resolution STFT; dB: loudness "
    "above\nthe reference's; max dB: of the piece farthest off; prec, rec, F1: onsets; F1/ref: over the reference's "
    "own;\njump: at window boundaries over elsewhere; ×rt: × realtime"
)
OPINION_LEGEND = "Zimt, ViSQ: opinion scores (5 and 4.75 are equal); FAD: Fréchet distance of features, all pieces"


def print_report(report: Mapping[str, Any]) -> None:
    """Print every piece, then all of them together and which targets are met."""
    from rich.console import Console

    width = max(MIN_WIDTH, Console(file=sys.stdout).width)
    console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False, width=width)
    with console.capture() as captured:
        console.print(_table(report))
    lines = [line.rstrip() for line in captured.get().splitlines()]
    legends = [LEGEND, OPINION_LEGEND] if set(OPTIONAL) & set(_measures(report)) else [LEGEND]
    text = "\n".join([*lines, "", *legends, *_verdicts(report)]) + "\n"
    encoding = sys.stdout.encoding or "utf-8"
    typer.echo(text.encode(encoding, errors="replace").decode(encoding), nl=False)


def _table(report: Mapping[str, Any]) -> "Table":
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from specdiff_cli.evaluation.page import cell

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("", overflow="fold")
    recordings = report["recordings"]
    measures = _measures(report)
    for measure in measures:
        table.add_column(COLUMNS[measure], justify="right", no_wrap=True)
    groups = [(piece["name"], [item["pieces"][i] for item in recordings]) for i, piece in enumerate(report["pieces"])]
    groups.append(("all pieces", [item["mean"] for item in recordings]))
    for name, rows in groups:
        table.add_row(Text(one_line(name), style="bold"))
        for item, row in zip(recordings, rows, strict=True):
            table.add_row(Text(f"  {one_line(item['label'])}"), *(cell(measure, row) for measure in measures))
    return table


def _measures(report: Mapping[str, Any]) -> list[str]:
    means = [item["mean"] for item in report["recordings"]]
    return [name for name in COLUMNS if name not in OPTIONAL or any(mean[name] is not None for mean in means)]


def _verdicts(report: Mapping[str, Any]) -> Iterator[str]:
    for item in report["recordings"]:
        missed = [COLUMNS[name] for name, is_met in item.get("meets", {}).items() if is_met is False]
        if item["kind"] == "render":
            yield one_line(
                f"{item['label']}: {'misses the target of ' + ', '.join(missed) if missed else 'no target missed'}"
            )
