"""What the user sees on standard error: lines, spinner, progress. rich is loaded only when something is drawn."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID


def stderr_console() -> "Console":
    """A rich console on standard error (honours NO_COLOR and narrow terminals)."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, markup=False, soft_wrap=True)


def say(line: str) -> None:
    """Print one plain line to standard error."""
    print(one_line(line), file=sys.stderr, flush=True)  # noqa: T201


def fail(message: str) -> None:
    """Print an error as one line to standard error."""
    say(f"error: {message}")


def one_line(text: str) -> str:
    """Control characters (a file may be named with newlines or escape codes) shown instead of obeyed."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def clock(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class RenderDisplay(Protocol):
    """Where a render reports to."""

    def step(self, window: int, n_windows: int, step: int, n_steps: int, done_s: float) -> None:
        """``step`` of ``n_steps`` in ``window`` (from 0) is done, and with it ``done_s`` seconds of audio."""


class SilentDisplay:
    """Reports nothing (``--quiet``, or no terminal to draw on)."""

    def step(self, window: int, n_windows: int, step: int, n_steps: int, done_s: float) -> None:
        """Ignore the report."""


class BarDisplay:
    """A live bar: window, denoising step, elapsed and remaining time, and how fast against real time."""

    def __init__(self, label: str, n_windows: int, n_steps: int) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        self._progress: Progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            TextColumn("window {task.fields[window]}/{task.fields[n_windows]}"),
            TextColumn("step {task.fields[step]}/{task.fields[n_steps]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[speed]}"),
            console=stderr_console(),
            transient=True,
        )
        self._task: TaskID = self._progress.add_task(
            one_line(label),
            total=n_windows * n_steps,
            window=1,
            n_windows=n_windows,
            step=0,
            n_steps=n_steps,
            speed="",
        )
        self._start_s = time.perf_counter()

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def step(self, window: int, n_windows: int, step: int, n_steps: int, done_s: float) -> None:
        """Move the bar."""
        elapsed_s = time.perf_counter() - self._start_s
        self._progress.update(
            self._task,
            completed=window * n_steps + step,
            window=window + 1,
            step=step,
            speed=f"{done_s / elapsed_s:.1f} × realtime" if elapsed_s > 0 else "",
        )


@contextmanager
def render_display(label: str, n_windows: int, n_steps: int, quiet: bool) -> Iterator[RenderDisplay]:
    """A bar on a terminal; elsewhere one plain starting line (the summary is the finishing one)."""
    if quiet:
        yield SilentDisplay()
    elif not sys.stderr.isatty():
        say(f"{label}: rendering {n_windows} window{'s' if n_windows > 1 else ''} of {n_steps} steps")
        yield SilentDisplay()
    else:
        with BarDisplay(label, n_windows, n_steps) as bar:
            yield bar


@contextmanager
def working(message: str, quiet: bool) -> Iterator[None]:
    """A spinner on a terminal while something slow loads; nothing elsewhere."""
    if quiet or not sys.stderr.isatty():
        yield
    else:
        from rich.text import Text

        with stderr_console().status(Text(one_line(message))):
            yield
