"""Signals: the first is an exception, so that ``with`` blocks clean up, or is noted by a loop that saves and ends."""

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, NoReturn, Self

from specdiff_cli.errors import ExitCode
from specdiff_cli.files import discard_all


class Terminated(BaseException):
    """SIGTERM or SIGHUP, as an exception, so that ``with`` blocks clean up behind it."""


def catch_signals() -> None:
    """The first signal becomes an exception. After it, Ctrl-C leaves at once, and other signals change nothing.

    Nothing: `timeout` and some shells send SIGTERM twice, and the second must not cut the clean-up short.
    """
    signal.signal(signal.SIGTERM, _terminate)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # shells ignore it for what runs in the background
        signal.signal(signal.SIGINT, _interrupt)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup ignores it
        signal.signal(signal.SIGHUP, _terminate)


def _raise_interrupt() -> NoReturn:
    raise KeyboardInterrupt


def leave_at_once() -> NoReturn:
    """End the process without any clean-up but that of unfinished files: for a second Ctrl-C."""
    discard_all()
    os._exit(ExitCode.INTERRUPTED)


class StopSignals:
    """Within the block the first Ctrl-C, SIGTERM or SIGHUP is only noted, for a loop that ends its step and saves.

    As everywhere, a second Ctrl-C does not wait, and other signals change nothing then. Under torchrun (not alone) one
    Ctrl-C may arrive twice, from the terminal and from torchrun: all of them are only noted.

    Args:
        on_stop: called with a line for the user at the first signal.
        is_alone: no other process works on the same run.
        on_second: what a second Ctrl-C does.
    """

    def __init__(
        self,
        on_stop: Callable[[str], None] = lambda line: None,
        *,
        is_alone: bool = True,
        on_second: Callable[[], None] = _raise_interrupt,
    ) -> None:
        self._on_stop = on_stop
        self._is_alone = is_alone
        self._on_second = on_second
        self._before: dict[int, Any] = {}
        self._received: int | None = None

    def __call__(self) -> bool:
        """Was a signal received?"""
        return self._received is not None

    def error(self) -> BaseException:
        """What a command ends with that was stopped."""
        return KeyboardInterrupt() if self._received == signal.SIGINT else Terminated()

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # no other one may ask for them
            for name in ("SIGINT", "SIGTERM", "SIGHUP"):
                number = getattr(signal, name, None)
                if number is not None and signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores SIGHUP
                    self._before[number] = signal.signal(number, self._note)
        return self

    def listen_again(self) -> None:
        """After a library that took signals for itself."""
        for number in self._before:
            signal.signal(number, self._note)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self._received is None:
            self._received = number
            if self._is_alone:
                self._on_stop("stopping after this step; Ctrl-C (once more) stops without saving")
        elif self._is_alone and number == signal.SIGINT:
            self._on_second()


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
    leave_at_once()
