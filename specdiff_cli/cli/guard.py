"""The one place where errors become a line and an exit code."""

import functools
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any, TypeVar

import typer

from specdiff_cli.cli.progress import fail, flag_of, say
from specdiff_cli.errors import ExitCode, Option, SpecdiffError, explain
from specdiff_cli.files import check_current_folder
from specdiff_cli.signals import Terminated, catch_signals
from specdiff_cli.streams import close_stdout

Command = TypeVar("Command", bound=Callable[..., None])
DEBUG_VARIABLE = "SPECDIFF_DEBUG"
_settings: typer.Context | None = None  # of the running command: which of its options come from elsewhere


def guarded(command: Command) -> Command:
    """Wrap a command: expected errors give one line, interruptions 130 or 143, bugs a line that asks for --debug.

    A command with a ``debug`` parameter shows tracebacks when it is set; so does SPECDIFF_DEBUG=1 for all of them.
    Errors about an option that a command with a ``context`` parameter took from elsewhere say from where.
    """

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        global _settings
        _settings = kwargs.get("context")
        debug = wants_tracebacks(bool(kwargs.get("debug")))
        try:
            catch_signals()
            check_current_folder()
            command(*args, **kwargs)
            if sys.stdout is not None:  # closed by the caller, as daemons do
                sys.stdout.flush()
        except typer.Exit:
            raise
        except BaseException as error:
            if debug and not isinstance(error, SystemExit):
                traceback.print_exc()
            raise typer.Exit(report(error)) from None

    return run  # type: ignore[return-value]


def wants_tracebacks(debug: bool) -> bool:
    """``--debug``, or its variable."""
    return debug or bool(os.environ.get(DEBUG_VARIABLE))


def report(error: BaseException) -> int:
    """Say on standard error what went wrong, in one line; returns the exit code."""
    if isinstance(error, BrokenPipeError):
        # Whoever read our output has seen enough.
        close_stdout()
        return ExitCode.OK
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else ExitCode.FAILURE
    if isinstance(error, KeyboardInterrupt):
        say("interrupted")
        return ExitCode.INTERRUPTED
    if isinstance(error, Terminated):
        say("terminated")
        return ExitCode.TERMINATED
    expected = explain(error)
    if isinstance(error, OSError) and error.filename is None:
        close_stdout()  # what is still buffered cannot be written either
    fail(shown(expected))
    return expected.exit_code


def origins(context: typer.Context) -> dict[str, str]:
    """Option -> where it was set, of every option that the environment or the user file decides."""
    from specdiff_cli.rendering.defaults import config_path

    found = {}
    for parameter in context.command.params:
        source = context.get_parameter_source(str(parameter.name))
        if source is not None and source.name in ("ENVIRONMENT", "DEFAULT_MAP"):
            name = parameter.opts[0].lstrip("-").replace("-", "_")
            found[name] = str(parameter.envvar if source.name == "ENVIRONMENT" else config_path())
    return found


def settings_from_elsewhere(context: typer.Context) -> dict[str, str]:
    """``--option value`` -> where it was set, of the same options."""
    values = {parameter.opts[0]: context.params[str(parameter.name)] for parameter in context.command.params}
    return {f"{flag_of(name)} {values[flag_of(name)]}": origin for name, origin in origins(context).items()}


def shown(error: SpecdiffError) -> str:
    """The error's line, with flags for options. Where the option to blame was set elsewhere, the line says so."""
    line = error.line(flag_of)
    if error.option is None or _settings is None:
        return line
    blamed = Option(error.option, error.value).shown_as(flag_of(error.option))
    origin = origins(_settings).get(error.option)
    return line if origin is None or origin in line else f"{line}; {blamed} is from {origin}"
