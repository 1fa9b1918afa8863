"""The readable form of ``specdiff evaluate --sounds``: every program and drum key beside the soundfont's."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer

from specdiff_cli.cli.progress import one_line

if TYPE_CHECKING:
    from specdiff_cli.corpus.soundfont import FluidSynth
    from specdiff_cli.evaluation.evaluate import Subject
    from specdiff_cli.evaluation.sounds import SoundRow

WIDTH = 100
HEADINGS = ("level dB", "attack ms", "its", "centroid Hz", "its", "before dB", "its")
LEGEND = (
    "level: RMS above the soundfont's, of the note farthest off; attack: from the written onset to half of\nthe peak; "
    "before: the loudest of the 20 ms before the onset, below the peak; its: the soundfont's own;\n!: beyond 1.5 dB or "
    "5 ms"
)


def sound_table(subject: "Subject", teacher: "FluidSynth") -> "list[SoundRow]":
    """A row for each probe, of the voice with its first number of steps."""
    import numpy as np

    from specdiff_cli.evaluation.sounds import Probe, compare_sounds, probes

    synthesizer, sampling = subject.synthesizer, subject.samplings[0]

    def voice(probe: Probe) -> np.typing.NDArray[np.float32]:
        notes, _ = synthesizer.playable(probe.song().notes)
        if not notes:  # a voice without drums
            return np.zeros(0, np.float32)
        return np.concatenate(list(synthesizer.stream(notes, probe.duration_s, sampling)))

    return list(compare_sounds(probes(), lambda probe: teacher.render(probe.midi()), voice))


def print_sounds(tables: "Mapping[str, Sequence[SoundRow]]", as_json: bool) -> None:
    """A table for each voice on standard output, or all of them as JSON."""
    if as_json:
        typer.echo(json.dumps({label: _described(rows) for label, rows in tables.items()}, allow_nan=False))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False, width=WIDTH)
    for label, rows in tables.items():
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
        table.add_column(Text(one_line(label)), overflow="fold")
        for heading in HEADINGS:
            table.add_column(heading, justify="right", no_wrap=True)
        for row in rows:
            table.add_row(*_cells(row))
        console.print(table)
        typer.echo(_summary(rows))
    typer.echo(LEGEND)


def _described(rows: "Sequence[SoundRow]") -> dict[str, Any]:
    return {
        "sounds": [asdict(row) | {"meets": {"level": row.is_level_met, "attack": row.is_attack_met}} for row in rows],
        "n_level_met": sum(row.is_level_met for row in rows),
        "n_attack_met": sum(row.is_attack_met for row in rows),
    }


def _cells(row: "SoundRow") -> list[str]:
    def text(value: float | None, form: str) -> str:
        return "–" if value is None else format(value, form)

    return [
        one_line(row.name),
        f"{row.level_db:+.1f}{' ' if row.is_level_met else '!'}",
        f"{text(row.attack_ms, '.1f')}{' ' if row.is_attack_met else '!'}",
        text(row.teacher_attack_ms, ".1f"),
        text(row.centroid_hz, ".0f"),
        text(row.teacher_centroid_hz, ".0f"),
        text(row.before_db, ".0f"),
        text(row.teacher_before_db, ".0f"),
    ]


def _summary(rows: "Sequence[SoundRow]") -> str:
    from specdiff_cli.evaluation.sounds import ATTACK_TARGET_MS, LEVEL_TARGET_DB

    n_level, n_attack = sum(row.is_level_met for row in rows), sum(row.is_attack_met for row in rows)
    return (
        f"\n{n_level} of {len(rows)} within {LEVEL_TARGET_DB:g} dB, {n_attack} within {ATTACK_TARGET_MS:g} ms of the "
        "soundfont's attack\n"
    )
