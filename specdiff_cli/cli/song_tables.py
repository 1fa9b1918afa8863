"""The readable form of ``specdiff inspect-midi``: tables on standard output."""

import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import typer

from specdiff_cli.cli.console import one_line
from specdiff_cli.constants import MAX_TOKENS, WINDOW_S

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

N_CHANGES_SHOWN = 8
MAX_COUNTS_PER_LINE = 12
MAX_TOKEN_LINE_WIDTH = 78
MIN_TABLE_WIDTH = 64  # on narrower screens rows are written as text


def print_song(report: dict[str, Any]) -> None:
    """Print the report of one song, made by ``inspect_midi.describe_song``, as tables of at most the screen's width."""
    from rich.console import Console

    console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
    # Rendered first and written afterwards: a reader that has left (`| head`) is then an ordinary BrokenPipeError.
    with console.capture() as captured:
        for part in _parts(report, console):
            console.print(part)
    _write("".join(line.rstrip() + "\n" for line in captured.get().splitlines()))
    if "tokens" in report["windows"][0]:
        for line in _token_lines(report["windows"], min(MAX_TOKEN_LINE_WIDTH, max(20, console.width - 2))):
            _write(line + "\n")


def _write(text: str) -> None:
    encoding = sys.stdout.encoding or "utf-8"
    typer.echo(text.encode(encoding, errors="replace").decode(encoding), nl=False)


def _parts(report: dict[str, Any], console: "Console") -> "Iterator[RenderableType]":
    from rich.text import Text

    yield Text(one_line(report["file"]), style="bold", overflow="fold")
    yield _grid(_facts(report))
    yield ""
    yield _table(
        console.width,
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
    yield _table(
        console.width,
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
    yield _grid(_token_counts(report["windows"], min(MAX_COUNTS_PER_LINE, max(1, (console.width - 14) // 5))))
    remarks = list(_remarks(report))
    if remarks:
        yield Text("\nWorth knowing")
        yield _grid(("-", remark) for remark in remarks)


def _grid(rows: Iterable[tuple[str, str]]) -> "RenderableType":
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2), pad_edge=True)
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for row in rows:
        grid.add_row(*(Text(cell) for cell in row))
    return grid


def _table(width: int, headers: Sequence[str], rows: Iterable[Sequence[object]]) -> "RenderableType":
    """Columns are aligned right, those whose header begins with ``<`` left; long text wraps inside its column.

    Where ``width`` is too small for columns, a row is a sentence.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    if width < MIN_TABLE_WIDTH:
        names = [header.removeprefix("<") for header in headers]
        return _grid(("-", ", ".join(f"{name} {cell}" for name, cell in zip(names, row, strict=True))) for row in rows)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for header in headers:
        is_left = header.startswith("<")
        table.add_column(
            header.removeprefix("<"), justify="left" if is_left else "right", no_wrap=not is_left, overflow="fold"
        )
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    return table


def _facts(report: dict[str, Any]) -> Iterator[tuple[str, str]]:
    from specdiff_cli.midi.summary import pitch_name

    n_windows = report["n_windows"]
    yield "Length", f"{_time(report['duration_s'])} ({_count(n_windows, 'window')})"
    if report["ticks_per_beat"] is not None:
        clock = f"{report['ticks_per_beat']} ticks per beat"
    else:
        clock = f"{report['ticks_per_second']:g} ticks per second (SMPTE)"
    yield "Format", f"type {report['format']}, {_count(report['n_tracks'], 'track')}, {clock}"
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
    return _first_few([f"{item['beats_per_minute']:.5g} bpm at {_time(item['start_s'])}" for item in changes])


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
        yield _time(line[0]["start_s"]), " ".join(f"{window['n_tokens']:4d}" for window in line)


def _remarks(report: dict[str, Any]) -> Iterator[str]:
    kinds = sorted(report["ignored"].items(), key=lambda item: (-item[1], item[0]))
    if kinds:
        yield "the models ignore " + ", ".join(f"{name} ({count})" for name, count in kinds)
    if {"channel volume", "expression"} & report["ignored"].keys():
        yield "voices that know loud from soft, as the bundled one, follow volume and expression at note starts"
    if "pan" in report["ignored"]:
        yield "render --stereo places each instrument where its pan says; pan changes nothing else"
    if report["n_unclosed_notes"]:
        yield f"{_count(report['n_unclosed_notes'], 'note')} never closed: ended with their track"
    if report["n_zero_length_notes"]:
        yield f"{_count(report['n_zero_length_notes'], 'note')} of no length: left out"
    for window in report["windows"]:
        if window["n_dropped_events"]:
            dropped = _count(window["n_dropped_events"], "note event")
            yield f"the window at {_time(window['start_s'])} is too full: its last {dropped} will be left out"
    if any(track > 1 for track in report["tempo_tracks"]):
        tracks = ", ".join(map(str, report["tempo_tracks"]))
        yield f"tempo changes stand on track {tracks}; some programs read track 1 only and play another tempo"


def _token_lines(windows: Sequence[dict[str, Any]], width: int) -> Iterator[str]:
    """Token names, one line for each moment."""
    from specdiff_cli.midi.vocabulary import Vocabulary

    vocabulary = Vocabulary()
    for window in windows:
        yield ""
        yield f"Window at {_time(window['start_s'])}: {_count(window['n_tokens'], 'token')}"
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


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _time(seconds: float) -> str:
    """m:ss.cc or h:mm:ss.cc."""
    hundredths = round(seconds * 100)
    minutes, rest = divmod(hundredths, 6000)
    hours, minutes = divmod(minutes, 60)
    clock = f"{minutes}:{rest / 100:05.2f}"
    return f"{hours}:{minutes:02d}:{rest / 100:05.2f}" if hours else clock
