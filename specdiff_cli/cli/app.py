"""The ``specdiff`` command."""

import os
import sys
from typing import Annotated

import typer

from specdiff_cli import __version__
from specdiff_cli.cli.console import fail
from specdiff_cli.cli.download_weights import download_weights
from specdiff_cli.cli.guard import guarded
from specdiff_cli.cli.inspect_midi import inspect_midi
from specdiff_cli.cli.render import render
from specdiff_cli.errors import ExitCode

app = typer.Typer(
    name="specdiff",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"specdiff {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Render MIDI files to audio with spectrogram diffusion.

    A small voice ships with the program: `specdiff render song.mid` works offline, on any CPU.

    \b
    Exit codes: 0 done, 1 several inputs failed or a bug, 2 usage, 3 bad MIDI,
    4 weights, 5 output, 6 device or memory, 130 interrupted, 143 terminated.
    """


app.command("render")(guarded(render))
app.command("inspect-midi")(guarded(inspect_midi))
app.command("download-weights")(guarded(download_weights))


def run() -> None:
    """Entry point of the console script; leaves through SystemExit with a documented exit code."""
    if sys.stderr is None:  # closed by the caller; messages must not end up anywhere else, least of all in the audio
        sys.stderr = open(os.devnull, "w")
    try:
        code = app(standalone_mode=False)
    except typer.Abort:
        sys.exit(ExitCode.INTERRUPTED)
    except Exception as error:
        sys.exit(_usage_failure(error))
    sys.exit(code if isinstance(code, int) else ExitCode.OK)


def _usage_failure(error: Exception) -> int:
    """One line for a command line that could not be parsed. Its exceptions moved between typer's releases."""
    message = getattr(error, "format_message", None)
    if message is None:
        raise error
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()  # type: ignore[attr-defined]
        return ExitCode.USAGE
    context = getattr(error, "ctx", None)
    fail(f"{message().rstrip('.')}; see {context.command_path if context else 'specdiff'} --help")
    return ExitCode.USAGE
