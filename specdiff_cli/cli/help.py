"""Help: short and full for a command with many options, what other programs call things, and the versions.

Written as plain text: it fits any screen from 40 columns on, and nothing of it is cut.
"""

import os
import platform
import re
import shutil
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import typer
from typer.core import TyperCommand

from specdiff_cli import __version__
from specdiff_cli.choices import STEMS_BY

#: What most people need of ``specdiff render``.
COMMON = (
    "output", "file_format", "model", "preset", "steps", "seed", "start", "end", "swap", "stereo",
    "sample_rate", "recursive", "skip_existing", "overwrite",
)  # fmt: skip
MIN_COLUMNS, MAX_COLUMNS, NAME_COLUMNS = 40, 100, 30
OTHERS = "Options"
FULL = "specdiff.full_help"  # key in a context's meta


class ShortHelpCommand(TyperCommand):
    """A command whose ``--help`` shows the common options and names the panels of the others."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help to standard output."""
        width = max(MIN_COLUMNS, min(MAX_COLUMNS, _screen_columns()))
        is_full = bool(ctx.meta.get(FULL))
        typer.echo("\n".join(self.lines(ctx, width, is_full)))

    def lines(self, ctx: Any, width: int, is_full: bool) -> Iterator[str]:
        """The help, line by line, none longer than ``width``."""
        yield f"Usage: {ctx.command_path} [OPTIONS] [INPUT]..."
        yield ""
        yield from _paragraphs(self.help or "", width)
        panels: dict[str, list[Any]] = {}
        for param in self.get_params(ctx):
            if param.param_type_name == "option":
                panels.setdefault(getattr(param, "rich_help_panel", None) or OTHERS, []).append(param)
        if is_full:
            for title, params in panels.items():
                yield from ("", f"{title}:")
                for param in params:
                    yield from _option(param, width, is_full)
            return
        yield from ("", "Common options:")
        by_name = {param.name: param for params in panels.values() for param in params}
        for name in (*COMMON, "help_all", "help"):
            yield from _option(by_name[name], width, is_full)
        yield ""
        titles = ", ".join(title for title in panels if title != OTHERS)
        yield from _wrap(f"More with --help-all: {titles}.", width)


def show_all(context: typer.Context, value: bool) -> None:
    """The callback of ``--help-all``."""
    if value and not context.resilient_parsing:
        context.meta[FULL] = True
        context.get_help()
        raise typer.Exit


def _screen_columns() -> int:
    asked = os.environ.get("COLUMNS", "")
    return int(asked) if asked.isdigit() and int(asked) > 0 else shutil.get_terminal_size().columns


def _paragraphs(text: str, width: int) -> Iterator[str]:
    """A docstring: paragraphs filled, those behind a backspace kept line by line."""
    for number, paragraph in enumerate(text.strip().split("\n\n")):
        if number:
            yield ""
        lines = paragraph.strip("\n").splitlines()
        if lines and lines[0].strip() == "\b":
            for line in lines[1:]:
                indent = " " * (len(line) - len(line.lstrip()) + 4)
                yield from _wrap(line, width, subsequent_indent=indent) or [""]
        else:
            yield from _wrap(" ".join(line.strip() for line in lines), width)


def _option(param: Any, width: int, is_full: bool) -> Iterator[str]:
    """``-o, --output FILE``, and beside or below it what it does."""
    names = ", ".join(sorted(param.opts, key=len))
    metavar = "" if param.is_flag else f" {param.metavar or param.name.upper()}"
    told = param.help or ""
    default = param.show_default if isinstance(param.show_default, str) else param.default
    if not param.is_flag and default not in (None, ()) and not callable(default):
        told = f"{told.rstrip('.')} ({default})."
    if is_full and param.envvar:
        told += f" Variable: {param.envvar}."
    head = f"  {names}{metavar}"
    beside = NAME_COLUMNS + 2
    if width < 2 * NAME_COLUMNS:
        yield from _wrap(head, width, subsequent_indent="      ")
        yield from _wrap(told, width, initial_indent="      ", subsequent_indent="      ")
        return
    lines = _wrap(told, width - beside) or [""]
    if len(head) > NAME_COLUMNS:
        yield head
    else:
        yield f"{head:<{beside}}{lines.pop(0)}"
    yield from (" " * beside + line for line in lines)


def _wrap(text: str, width: int, **options: str) -> list[str]:
    return textwrap.wrap(text, width, break_on_hyphens=False, **options)  # type: ignore[arg-type]


_LEVEL = "--normalize sets the level of the result, as -16LUFS"
_PLAYS = "--program piano:trumpet changes an instrument, --only violin picks one, --model chooses the voice"
_PLAIN = "specdiff adds no effects; give the audio to an editor or to sox"
#: Option of other programs -> what does that here.
OPTION_HINTS: Mapping[str, str] = {
    "--gain": _LEVEL,
    "--volume": _LEVEL,
    "--loudness": _LEVEL,
    "--normalise": "it is spelt --normalize",
    "--instrument": _PLAYS,
    "--patch": _PLAYS,
    "--soundfont": "voices take the place of soundfonts: --model chooses one, specdiff models lists them",
    "--reverb": _PLAIN,
    "--chorus": _PLAIN,
    "--rate": "--sample-rate is the rate of the result",
    "--speed": "--tempo-scale makes it faster or slower",
    "--tempo": "--tempo-scale makes it faster or slower",
    "--voice": "--model chooses the voice",
    "--out": "-o or --output names the result",
    "--cpu": "it is --device cpu",
    "--gpu": "it is --device cuda",
    "--force": "-f or --overwrite replaces files",
}


def hint_for(error: Exception) -> str | None:
    """A remedy for a command line that could not be parsed; None where there is none to tell."""
    option = str(getattr(error, "option_name", None))
    if option in OPTION_HINTS:
        return OPTION_HINTS[option]
    context = getattr(error, "ctx", None)
    unknown = re.match(r"No such command '([^']+)'", str(getattr(error, "message", "")))
    if context is not None and context.info_name == "models" and unknown is not None:
        return f"specdiff models show {unknown[1]} tells about one voice"
    return None


class RenderCommand(ShortHelpCommand):
    """``render``, whose ``--stems`` may be followed by what a stem is: ``--stems tracks``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse, with ``--stems tracks`` and ``--stems=tracks`` taken for ``--stems --stems-by tracks``."""
        return super().parse_args(ctx, _with_plain_stems(args))


def _with_plain_stems(args: list[str]) -> list[str]:
    plain: list[str] = []
    for index, argument in enumerate(args):
        if argument == "--":
            return plain + args[index:]
        if argument in STEMS_BY and plain and plain[-1] == "--stems":
            plain += ["--stems-by", argument]
        elif argument.startswith("--stems="):
            plain += ["--stems", "--stems-by", argument.removeprefix("--stems=")]
        else:
            plain.append(argument)
    return plain


def show_version(*, verbose: bool) -> None:
    """Print the versions, one per line; the first line never changes its form."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        torch_version = version("torch")
    except PackageNotFoundError:
        torch_version = "not installed"
    typer.echo(f"specdiff {__version__}")
    typer.echo(f"torch {torch_version}, Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    if verbose:
        from specdiff_cli.engine.devices import describe_default

        typer.echo(describe_default())
