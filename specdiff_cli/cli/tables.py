"""Tables that can be read on any screen: columns where there is room for them, else sentences."""

import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

from specdiff_cli.cli.progress import worded
from specdiff_cli.constants import MAX_TOKENS, WINDOW_S
from specdiff_cli.wording import count, exact_clock, one_line

if TYPE_CHECKING:
    from rich.console import RenderableType

    from specdiff_cli.evaluation.sounds import SoundRow

MIN_TABLE_WIDTH = 64
MIN_VALUE_WIDTH = 24
LABEL_WIDTH = 17
MAX_COUNTS_PER_LINE = 12
MAX_TOKEN_LINE_WIDTH = 78
#: A table of measures that is cut to a narrow pipe would lose its numbers.
REPORT_WIDTH, SOUNDS_WIDTH = 130, 100


def print_tables(*parts: "RenderableType", width: int | None = None) -> None:
    """Print to standard output what rich can draw; characters that it cannot show are replaced."""
    from rich.console import Console

    console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False, width=width)
    # Rendered first and written afterwards: a reader that has left (`| head`) is then an ordinary BrokenPipeError.
    with console.capture() as captured:
        for part in parts:
            console.print(part, soft_wrap=isinstance(part, str))
    text = "".join(line.rstrip() + "\n" for line in captured.get().splitlines())
    encoding = sys.stdout.encoding or "utf-8"
    typer.echo(text.encode(encoding, errors="replace").decode(encoding), nl=False)


def print_facts(rows: "Iterable[tuple[str, str]]") -> None:
    """Names and what they stand for, folded behind them as the screen allows; to standard output."""
    width = shutil.get_terminal_size().columns
    for label, text in rows:
        typer.echo(_folded(label, text, width))


def print_columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on standard output, its columns as wide as what is in them; on a screen too narrow a list of facts."""
    table = [header, *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(header))]
    n_columns = shutil.get_terminal_size().columns
    if sys.stdout.isatty() and sum(widths) + 2 * (len(widths) - 1) > n_columns:
        for row in rows:
            print_facts(zip(header, row, strict=True))
            typer.echo()
        return
    for row in table:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _folded(label: str, text: str, width: int) -> str:
    """One fact, folded behind its label."""
    lines = textwrap.wrap(
        one_line(text), max(20, width - LABEL_WIDTH - 1), break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(f"{label if i == 0 else '':{LABEL_WIDTH}}{line}" for i, line in enumerate(lines or [""]))


def screen_width() -> int:
    """Columns of the screen that standard output goes to; 80 where there is none."""
    from rich.console import Console

    return Console(file=sys.stdout).width


def grid(rows: Iterable[tuple[str, str]]) -> "RenderableType":
    """Two columns, of which the second wraps."""
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2), pad_edge=True)
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for row in rows:
        grid.add_row(*(Text(cell) for cell in row))
    return grid


def facts(width: int, rows: Iterable[tuple[str, str]]) -> "RenderableType":
    """Names and what they stand for, beside each other as far as ``width`` allows it."""
    rows = list(rows)
    widest = max((len(name) for name, _ in rows), default=0)
    return grid(rows) if width - widest >= MIN_VALUE_WIDTH else _sentences(f"{name}: {value}" for name, value in rows)


def table(
    width: int, headers: Sequence[str], rows: Iterable[Sequence[object]], styles: Sequence[str] = ()
) -> "RenderableType":
    """Columns are aligned right, those whose header begins with ``<`` left; long text wraps inside its column.

    Where ``width`` is too small for columns, a row is a sentence. ``styles``: of the first cell of each row, if any.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    if width < MIN_TABLE_WIDTH:
        names = [header.removeprefix("<") for header in headers]
        return _sentences(
            ", ".join(f"{name} {cell}" for name, cell in zip(names, row, strict=True) if cell != "") for row in rows
        )
    columns = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for header in headers:
        is_left = header.startswith("<")
        columns.add_column(
            header.removeprefix("<"), justify="left" if is_left else "right", no_wrap=not is_left, overflow="fold"
        )
    for index, row in enumerate(rows):
        first, *rest = map(str, row)
        columns.add_row(Text(first, style=styles[index] if styles else ""), *map(Text, rest))
    return columns


def _sentences(lines: Iterable[str]) -> "RenderableType":
    return grid(("-", line) for line in lines)


# --- songs -----------------------------------------------------------------------------------------------------------


def print_song(report: dict[str, Any]) -> None:
    """Print the report of one song, of :func:`~specdiff_cli.midi.description.describe_song`, as tables."""
    width = screen_width()
    print_tables(*_parts(report, width))
    if "tokens" in report["windows"][0]:
        for line in _token_lines(report["windows"], min(MAX_TOKEN_LINE_WIDTH, max(20, width - 2))):
            typer.echo(line)


def _parts(report: dict[str, Any], width: int) -> "Iterator[RenderableType]":
    from rich.text import Text

    from specdiff_cli.midi.description import facts_of, remarks_on

    yield Text(one_line(report["file"]), style="bold", overflow="fold")
    yield facts(width, facts_of(report))
    yield ""
    yield table(
        width,
        ("Track", "Ch", "<Program", "<Played as", "Notes", "Pitches", "At once"),
        (
            (
                item["track"],
                item["channel"],
                f"{item['program']} {item['name']}" if not item["is_drum"] else item["name"],
                item["model_class"] + (" (stand-in)" if item["stands_in"] else ""),
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
    remarks = [worded(remark) for remark in remarks_on(report)]
    if remarks:
        yield Text("\nWorth knowing")
        yield grid(("-", remark) for remark in remarks)


def _token_counts(windows: Sequence[dict[str, Any]], n_per_line: int) -> Iterator[tuple[str, str]]:
    for first in range(0, len(windows), n_per_line):
        line = windows[first : first + n_per_line]
        yield exact_clock(line[0]["start_s"]), " ".join(f"{window['n_tokens']:4d}" for window in line)


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


# --- evaluations -----------------------------------------------------------------------------------------------------


def print_report(report: Mapping[str, Any]) -> None:
    """Print every piece, then all of them together and which targets are met."""
    from specdiff_cli.evaluation.table import legend_of, table_of

    width = max(REPORT_WIDTH, screen_width())
    (first, *headings), rows = table_of(report)
    styles = ["bold" if len(row) == 1 else "" for row in rows]
    print_tables(table(width, (f"<{first}", *headings), rows, styles), width=width)
    print_tables("", *legend_of(report), width=width)


def print_sounds(tables: "Mapping[str, Sequence[SoundRow]]") -> None:
    """A table for each voice on standard output."""
    from specdiff_cli.evaluation.sounds import HEADINGS, LEGEND, cells_of, summary_of

    for label, rows in tables.items():
        headings = (f"<{one_line(label)}", *HEADINGS)
        print_tables(table(SOUNDS_WIDTH, headings, map(cells_of, rows)), width=SOUNDS_WIDTH)
        typer.echo(f"\n{summary_of(rows)}\n")
    typer.echo(LEGEND)
