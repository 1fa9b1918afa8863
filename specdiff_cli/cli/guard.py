"""The one place where errors become a line and an exit code."""

import functools
import os
import signal
import sys
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn, TypeVar

import typer

from specdiff_cli.cli.console import fail, say
from specdiff_cli.errors import ExitCode, SpecdiffError

Command = TypeVar("Command", bound=Callable[..., None])
DEBUG_VARIABLE = "SPECDIFF_DEBUG"


class Terminated(BaseException):
    """SIGTERM or SIGHUP, as an exception, so that ``with`` blocks clean up behind it."""


def guarded(command: Command) -> Command:
    """Wrap a command: expected errors give one line, interruptions 130 or 143, bugs a line that asks for --debug.

    A command with a ``debug`` parameter shows tracebacks when it is set; so does SPECDIFF_DEBUG=1 for all of them.
    """

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        debug = bool(kwargs.get("debug")) or bool(os.environ.get(DEBUG_VARIABLE))
        try:
            signal.signal(signal.SIGTERM, _terminate)
            if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup ignores it
                signal.signal(signal.SIGHUP, _terminate)
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


def report(error: BaseException) -> int:
    """Say on standard error what went wrong, in one line; returns the exit code."""
    if isinstance(error, SpecdiffError):
        fail(str(error))
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):
        say("interrupted")
        return ExitCode.INTERRUPTED
    if isinstance(error, Terminated):
        say("terminated")
        return ExitCode.TERMINATED
    if isinstance(error, BrokenPipeError):
        # Whoever read our output has seen enough. Python would complain when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK
    if isinstance(error, MemoryError) or _is_out_of_memory(error):
        fail("out of memory; use --dtype bfloat16, a smaller model, or a machine with more memory")
        return ExitCode.DEVICE
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else ExitCode.FAILURE
    fail(f"internal error ({type(error).__name__}: {error}); please report it with the output of --debug")
    return ExitCode.FAILURE


def _is_out_of_memory(error: BaseException) -> bool:
    text = str(error)
    return type(error).__name__ == "OutOfMemoryError" or (
        isinstance(error, RuntimeError) and ("can't allocate memory" in text or "not enough memory" in text)
    )


def _terminate(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise Terminated
