"""Help: short and full for a command with many options, what other programs call things, and the versions.

Written as plain text: it fits any screen from 40 columns on, and nothing of it is cut.
"""

import os
import platform
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from specdiff_cli import __version__
from specdiff_cli.choices import STEMS_BY
from specdiff_cli.help_pages import OTHERS, about, beginning, by_panel, entry, option_lines, panels, wrapped

#: What most people need of ``specdiff render``.
COMMON = (
    "output", "file_format", "model", "preset", "steps", "seed", "start", "end", "swap", "stereo",
    "sample_rate", "recursive", "skip_existing", "overwrite",
)  # fmt: skip
MIN_COLUMNS, MAX_COLUMNS = 40, 100
FULL = "specdiff.full_help"  # key in a context's meta


class PlainHelpCommand(TyperCommand):
    """A command whose help is plain text."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help to standard output."""
        typer.echo("\n".join(self.lines(ctx, _width())))

    def lines(self, ctx: Any, width: int) -> Iterator[str]:
        """The help, line by line, none longer than ``width``."""
        params = self.get_params(ctx)
        yield from beginning(self, ctx, width)
        yield from panels(params, width, with_variables=False)


class ShortHelpCommand(PlainHelpCommand):
    """A command whose ``--help`` shows the common options and names the panels of the others."""

    def lines(self, ctx: Any, width: int) -> Iterator[str]:
        """The help, line by line, none longer than ``width``; all of it where ``--help-all`` asked for it."""
        params = self.get_params(ctx)
        yield from beginning(self, ctx, width)
        if ctx.meta.get(FULL):
            yield from panels(params, width, with_variables=True)
            return
        by_name = {param.name: param for param in params}
        yield from ("", "Common options:")
        for name in (*COMMON, "help_all", "help"):
            yield from option_lines(by_name[name], width, False)
        yield ""
        titles = ", ".join(title for title in by_panel(params) if title != OTHERS)
        yield from wrapped(f"More with --help-all: {titles}.", width)


class PlainHelpGroup(TyperGroup):
    """Several commands under one name, whose help is plain text."""

    format_help = PlainHelpCommand.format_help

    def lines(self, ctx: Any, width: int) -> Iterator[str]:
        """The help, line by line, none longer than ``width``."""
        yield from beginning(self, ctx, width)
        yield from ("", "Commands:")
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                yield from entry(f"  {name}", about(command).split("\n\n")[0].strip(), width)
        yield from panels(self.get_params(ctx), width, with_variables=False)


def in_plain_words(app: typer.Typer) -> None:
    """Give every command and group of an application plain help, unless it has a class of its own."""
    app.info.cls = PlainHelpGroup
    for command in app.registered_commands:
        if command.cls in (None, TyperCommand):
            command.cls = PlainHelpCommand
    for group in app.registered_groups:
        if group.typer_instance is not None:
            group.cls = PlainHelpGroup
            in_plain_words(group.typer_instance)


def show_all(context: typer.Context, value: bool) -> None:
    """The callback of ``--help-all``."""
    if value and not context.resilient_parsing:
        context.meta[FULL] = True
        context.get_help()
        raise typer.Exit


def _width() -> int:
    return max(MIN_COLUMNS, min(MAX_COLUMNS, _screen_columns()))


def _screen_columns() -> int:
    asked = os.environ.get("COLUMNS", "")
    return int(asked) if asked.isdigit() and int(asked) > 0 else shutil.get_terminal_size().columns


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
    "--bpm": "--tempo-scale makes it faster or slower",
    "--channel": "--only ch2 picks a channel",
    "--voice": "--model chooses the voice",
    "--out": "-o or --output names the result",
    "--cpu": "it is --device cpu",
    "--gpu": "it is --device cuda",
    "--force": "-f or --overwrite replaces files",
}


def hint_for(error: Exception) -> str | None:
    """A remedy for a command line that could not be parsed; None where there is none to tell."""
    option = str(getattr(error, "option_name", None))
    context = getattr(error, "ctx", None)
    if option in ("-o", "--output", "--out") and context is not None and context.info_name == "compose":
        return "the folder comes without an option: specdiff compose FOLDER"
    if option in OPTION_HINTS:
        return OPTION_HINTS[option]
    from specdiff_cli.rendering.inputs import MIDI_SUFFIXES

    unknown = re.match(r"No such command '([^']+)'", str(getattr(error, "message", "")))
    if unknown is not None and unknown[1].lower().endswith(MIDI_SUFFIXES):
        return f"specdiff render {shlex.quote(unknown[1])} renders it"
    if context is not None and context.info_name == "models" and unknown is not None:
        is_list = unknown[1] in ("list", "ls", "all")
        return "specdiff models lists them" if is_list else f"specdiff models show {unknown[1]} tells about one voice"
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
