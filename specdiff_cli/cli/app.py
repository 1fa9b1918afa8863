"""The ``specdiff`` command."""

import os
import sys
from typing import Annotated

import typer

from specdiff_cli.cli.compose import ComposeCommand, compose
from specdiff_cli.cli.evaluate import benchmark, evaluate, evaluate_music
from specdiff_cli.cli.guard import guarded, report
from specdiff_cli.cli.help import RenderCommand, hint_for, in_plain_words, show_version
from specdiff_cli.cli.inspect import inspect_midi, inspect_wav
from specdiff_cli.cli.listen import play, vocode, web
from specdiff_cli.cli.progress import fail
from specdiff_cli.cli.render import render
from specdiff_cli.cli.shared_options import option
from specdiff_cli.cli.train import train_app
from specdiff_cli.cli.weights import convert, download_weights, models_app
from specdiff_cli.errors import ExitCode, Option, SpecdiffError, UsageError
from specdiff_cli.streams import replace_closed
from specdiff_cli.wording import plain_refusal

app = typer.Typer(
    name="specdiff",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def _main(
    context: typer.Context,
    version: Annotated[bool, option("Show the versions of specdiff and PyTorch, and exit.", "--version")] = False,
    verbose: Annotated[bool, option("With --version: also which device would be used.", "--verbose", "-v")] = False,
) -> None:
    """Render MIDI files to audio with spectrogram diffusion.

    \b
    Type this first:
      specdiff render song.mid        writes song.wav, offline, on any CPU
      specdiff play song.mid          plays it while it renders
      specdiff inspect-midi song.mid  what is in the file

    \b
    Exit codes: 0 done, 1 several inputs failed or a bug, 2 usage, 3 bad MIDI,
    4 weights, 5 output, 6 device or memory, 130 interrupted, 143 terminated.
    """
    if version:
        show_version(verbose=verbose)
        raise typer.Exit
    if context.invoked_subcommand is None:
        raise UsageError.of("verbose", None, "goes with ", Option("version"), ", or after a command")
    if context.invoked_subcommand == "render":
        from specdiff_cli.rendering.defaults import read_defaults

        try:
            defaults = read_defaults()
            context.default_map = {"render": defaults | {"file_format": defaults.get("format")}}
        except UsageError as error:
            context.obj = error  # raised by the command itself, so that its --help works all the same


app.command("render", cls=RenderCommand)(guarded(render))
app.command("play")(guarded(play))
app.command("inspect-midi")(guarded(inspect_midi))
app.command("inspect-wav")(guarded(inspect_wav))
app.command("download-weights")(guarded(download_weights))
app.command("convert")(guarded(convert))
app.command("vocode")(guarded(vocode))
app.command("web")(guarded(web))
app.command("evaluate")(guarded(evaluate))
app.command("evaluate-music")(guarded(evaluate_music))
app.command("benchmark")(guarded(benchmark))
app.command("compose", cls=ComposeCommand)(guarded(compose))
app.add_typer(models_app)
app.add_typer(train_app)
in_plain_words(app)


def run() -> None:
    """Entry point of the console script; leaves through SystemExit with a documented exit code."""
    replace_closed()
    if os.environ.get("COLUMNS", "").strip() == "0":  # some terminals say so before they know; nothing would be shown
        del os.environ["COLUMNS"]
    try:
        code = app(standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()  # Python would do so at exit, and complain in its own words
    except typer.Abort:
        sys.exit(ExitCode.INTERRUPTED)
    except (SpecdiffError, OSError) as error:
        sys.exit(report(error))
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
    hint = hint_for(error)
    said = plain_refusal(message().rstrip("."), os.environ)
    if hint is not None:  # the parser's own guess is farther off
        said = said.partition(" (Possible")[0].partition(" Did you mean")[0].rstrip(".")
    path = context.command_path if context else "specdiff"
    fail(f"{said}; {hint or f'see {path} --help'}")
    return ExitCode.USAGE
