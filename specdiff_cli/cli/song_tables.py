"""The readable form of ``specdiff inspect-midi``: tables on standard output."""

import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import typer

from specdiff_cli.cli.progress import one_line, print_tables
from specdiff_cli.cli.tables import facts, grid, screen_width, table
from specdiff_cli.constants import MAX_TOKENS, WINDOW_S
from specdiff_cli.wording import count, exact_clock

if TYPE_CHECKING:
    from rich.console import RenderableType

N_CHANGES_SHOWN = 8
MAX_COUNTS_PER_LINE = 12
MAX_TOKEN_LINE_WIDTH = 78


def print_song(report: dict[str, Any]) -> None:
    """Print the report of one song, made by ``inspect_midi.describe_song``, as tables of at most the screen's width."""
    width = screen_width()
    print_tables(*_parts(report, width))
    if "tokens" in report["windows"][0]:
        for line in _token_lines(report["windows"], min(MAX_TOKEN_LINE_WIDTH, max(20, width - 2))):
            typer.echo(line)


def _parts(report: dict[str, Any], width: int) -> "Iterator[RenderableType]":
    from rich.text import Text

    yield Text(one_line(report["file"]), style="bold", overflow="fold")
    yield facts(width, _facts(report))
    yield ""
    yield table(
        width,
        ("Track", "Ch", "<Program", "<Played as", "Notes", "Pitches", "At once"),
        (
            (
                item["track"],
                item["channel"],
                f"{item['program']} {item['name']}" if not item["is_drum"] else item["name"],
                item["model_class"],
                item["n_notes"],
                f"{item['lowest_pitch']}-{item['highest_pitch']}",
                item["polyphony"],
            )
            for item in report["instruments"]
        ),
    )
    yield ""
    yield table(
        width,
        ("Track", "<Name", "<Channels", "Messages", "Notes"),
        (
            (
                track["track"],
                one_line(track["name"]) or "-",
                ", ".join(map(str, track["channels"])) or "-",
                track["n_messages"],
                track["n_notes"],
            )
            for track in report["tracks"]
        ),
    )
    yield Text(f"\nTokens per window of {WINDOW_S} s (at most {MAX_TOKENS}, end-of-sequence included)")
    yield grid(_token_counts(report["windows"], min(MAX_COUNTS_PER_LINE, max(1, (width - 14) // 5))))
    remarks = list(_remarks(report))
    if remarks:
        yield Text("\nWorth knowing")
        yield grid(("-", remark) for remark in remarks)


def _facts(report: dict[str, Any]) -> Iterator[tuple[str, str]]:
    from specdiff_cli.midi.summary import pitch_name

    n_windows = report["n_windows"]
    yield "Length", f"{exact_clock(report['duration_s'])} ({count(n_windows, 'window')})"
    if report["ticks_per_beat"] is not None:
        clock = f"{report['ticks_per_beat']} ticks per beat"
    else:
        clock = f"{report['ticks_per_second']:g} ticks per second (SMPTE)"
    yield "Format", f"type {report['format']}, {count(report['n_tracks'], 'track')}, {clock}"
    yield "Tempo", _tempo(report)
    if report["n_bars"] is not None:
        yield "Bars", _bars(report)
    yield "Channels", ", ".join(map(str, report["channels"]))
    notes = str(report["n_notes"])
    if report["n_drum_notes"]:
        notes += f", of them {report['n_drum_notes']} drums"
    yield "Notes", f"{notes}; at most {report['polyphony']} at once"
    low, high = report["lowest_pitch"], report["highest_pitch"]
    if low is not None:
        yield "Pitches", f"{low}-{high} ({pitch_name(low)} to {pitch_name(high)}, drums apart)"


def _tempo(report: dict[str, Any]) -> str:
    changes = report["tempo_map"]
    if not changes:
        return "fixed by the SMPTE clock"
    if len(changes) == 1:
        return f"{changes[0]['beats_per_minute']:.5g} bpm throughout"
    return _first_few([f"{item['beats_per_minute']:.5g} bpm at {exact_clock(item['start_s'])}" for item in changes])


def _bars(report: dict[str, Any]) -> str:
    changes = report["time_signatures"]
    names = [f"{item['numerator']}/{item['denominator']}" for item in changes]
    if len(changes) == 1:
        return f"{report['n_bars']} in {names[0]}"
    shown = [names[0], *(f"{name} from bar {item['bar']}" for name, item in zip(names[1:], changes[1:], strict=True))]
    return f"{report['n_bars']} in {_first_few(shown)}"


def _first_few(changes: list[str]) -> str:
    if len(changes) > N_CHANGES_SHOWN:
        rest = f"and {len(changes) - N_CHANGES_SHOWN} more changes (--json lists them)"
        changes = [*changes[:N_CHANGES_SHOWN], rest]
    return ", ".join(changes)


def _token_counts(windows: Sequence[dict[str, Any]], n_per_line: int) -> Iterator[tuple[str, str]]:
    for first in range(0, len(windows), n_per_line):
        line = windows[first : first + n_per_line]
        yield exact_clock(line[0]["start_s"]), " ".join(f"{window['n_tokens']:4d}" for window in line)


def _remarks(report: dict[str, Any]) -> Iterator[str]:
    kinds = sorted(report["ignored"].items(), key=lambda item: (-item[1], item[0]))
    if kinds:
        yield "the models ignore " + ", ".join(f"{name} ({number})" for name, number in kinds)
    if {"channel volume", "expression"} & report["ignored"].keys():
        yield "voices that know loud from soft, as the bundled one, follow volume and expression at note starts"
    if "pan" in report["ignored"]:
        yield "render --stereo places each instrument where its pan says; pan changes nothing else"
    for remark in report["remarks"]:
        yield remark["text"]
    for window in report["windows"]:
        if window["n_dropped_events"]:
            dropped = count(window["n_dropped_events"], "note event")
            yield f"the window at {exact_clock(window['start_s'])} is too full: its last {dropped} will be left out"
    if any(track > 1 for track in report["tempo_tracks"]):
        tracks = ", ".join(map(str, report["tempo_tracks"]))
        yield f"tempo changes stand on track {tracks}; some programs read track 1 only and play another tempo"


def _token_lines(windows: Sequence[dict[str, Any]], width: int) -> Iterator[str]:
    """Token names, one line for each moment."""
    from specdiff_cli.midi.vocabulary import Vocabulary

    vocabulary = Vocabulary()
    for window in windows:
        yield ""
        yield f"Window at {exact_clock(window['start_s'])}: {count(window['n_tokens'], 'token')}"
        moment: list[str] = []
        for token in window["tokens"]:
            name = vocabulary.describe(token)
            if moment and (name.startswith("shift") and not moment[-1].startswith("shift") or name == "end"):
                yield from _wrap(moment, width)
                moment = []
            moment.append(name)
        yield from _wrap(moment, width)


def _wrap(names: Sequence[str], width: int) -> list[str]:
    # Names hold a space ("pitch 60"); a break there would be hard to read.
    text = ", ".join(name.replace(" ", "\0") for name in names)
    lines = textwrap.wrap(text, width, initial_indent="  ", subsequent_indent="    ")
    return [line.replace("\0", " ") for line in lines]
