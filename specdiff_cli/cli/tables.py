"""Tables that can be read on any screen: columns where there is room for them, else sentences."""

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType

MIN_TABLE_WIDTH = 64
MIN_VALUE_WIDTH = 24


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
