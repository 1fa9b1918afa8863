"""The ``specdiff`` command."""

from typing import Annotated

import typer

from specdiff_cli import __version__
from specdiff_cli.cli.download_weights import download_weights
from specdiff_cli.cli.guard import guarded
from specdiff_cli.cli.inspect_midi import inspect_midi
from specdiff_cli.cli.render import render

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
    """Entry point of the console script."""
    app()
