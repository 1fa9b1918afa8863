"""The one place where errors become a line and an exit code."""

import contextlib
import errno
import functools
import os
import signal
import sys
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn, TypeVar

import typer

from specdiff_cli.audio.pending import discard_all
from specdiff_cli.cli.console import fail, say
from specdiff_cli.errors import DeviceError, ExitCode, OutputError, SpecdiffError

Command = TypeVar("Command", bound=Callable[..., None])
DEBUG_VARIABLE = "SPECDIFF_DEBUG"
_OUTPUT_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


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
            _catch_signals()
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
    fail(str(expected))
    return expected.exit_code


def explain(error: BaseException) -> SpecdiffError:
    """The error as one with a line for the user and an exit code. What nobody foresaw is called a bug."""
    if isinstance(error, SpecdiffError):
        return error
    if isinstance(error, MemoryError) or _is_out_of_memory(error):
        return DeviceError("out of memory; use --dtype bfloat16, a smaller model, or a machine with more memory")
    if isinstance(error, OSError) and error.errno in _OUTPUT_ERRNOS:
        # Our own files are written by code that names them, so without a name it is standard output.
        return OutputError(f"cannot write {error.filename or 'to standard output'}: {error.strerror}")
    return SpecdiffError(
        f"internal error ({type(error).__name__}: {error}); please report it with the output of --debug"
    )


def close_stdout() -> None:
    """Point standard output at nothing: Python would complain when it flushes a broken one at exit."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _is_out_of_memory(error: BaseException) -> bool:
    text = str(error)
    return type(error).__name__ == "OutOfMemoryError" or (
        isinstance(error, RuntimeError) and ("can't allocate memory" in text or "not enough memory" in text)
    )


def _catch_signals() -> None:
    """The first signal becomes an exception. After it, Ctrl-C leaves at once, and other signals change nothing.

    Nothing: `timeout` and some shells send SIGTERM twice, and the second must not cut the clean-up short.
    """
    signal.signal(signal.SIGTERM, _terminate)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # shells ignore it for what runs in the background
        signal.signal(signal.SIGINT, _interrupt)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup ignores it
        signal.signal(signal.SIGHUP, _terminate)


def _interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    _ignore_further_signals()
    raise KeyboardInterrupt


def _terminate(_signal: int, _frame: FrameType | None) -> NoReturn:
    _ignore_further_signals()
    raise Terminated


def _ignore_further_signals() -> None:
    signal.signal(signal.SIGINT, _leave_at_once)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _leave_at_once(_signal: int, _frame: FrameType | None) -> NoReturn:
    discard_all()
    os._exit(ExitCode.INTERRUPTED)
