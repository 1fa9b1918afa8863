"""What the user sees on standard error: lines, spinners, bars. rich is loaded only when something is drawn."""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from specdiff_cli.wording import count

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.progress import Progress, ProgressColumn, TaskID


def stderr_console() -> "Console":
    """A rich console on standard error (honours NO_COLOR and narrow terminals)."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, markup=False, soft_wrap=True)


def can_draw() -> bool:
    """Can a moving line be drawn on standard error? Elsewhere (files, pipes, ``TERM=dumb``) plain lines say enough."""
    return sys.stderr.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown")


def print_tables(*parts: "RenderableType") -> None:
    """Print to standard output what rich can draw; characters that it cannot show are replaced."""
    import typer
    from rich.console import Console

    console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
    # Rendered first and written afterwards: a reader that has left (`| head`) is then an ordinary BrokenPipeError.
    with console.capture() as captured:
        for part in parts:
            console.print(part)
    text = "".join(line.rstrip() + "\n" for line in captured.get().splitlines())
    encoding = sys.stdout.encoding or "utf-8"
    typer.echo(text.encode(encoding, errors="replace").decode(encoding), nl=False)


def say(line: str) -> None:
    """Print one plain line to standard error. That nobody reads it any more is no reason to stop working."""
    with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: a signal's handler that came into another print
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
        """``step`` of ``n_steps`` in ``window`` (from 0) is done, with it ``done_s`` seconds of audio in this run."""


class SilentDisplay:
    """Reports nothing (``--quiet``, or no terminal to draw on)."""

    def step(self, window: int, n_windows: int, step: int, n_steps: int, done_s: float) -> None:
        """Ignore the report."""


class BarDisplay:
    """A live bar: window, denoising step, elapsed and remaining time, and how fast against real time.

    On narrow terminals the less important of these are left out. ``first_window``: where this run begins.
    """

    def __init__(self, label: str, n_windows: int, n_steps: int, first_window: int = 0) -> None:
        from rich.progress import Progress

        console = stderr_console()
        self._progress: Progress = Progress(*_columns(console.width, n_windows), console=console, transient=True)
        self._task: TaskID = self._progress.add_task(
            one_line(label),
            total=(n_windows - first_window) * n_steps,
            window=first_window + 1,
            n_windows=n_windows,
            step=0,
            n_steps=n_steps,
            speed="",
        )
        self._first_window = first_window
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
            completed=(window - self._first_window) * n_steps + step,
            window=window + 1,
            step=step,
            speed=f"{done_s / elapsed_s:.1f} × realtime" if elapsed_s > 0 else "",
        )


def _columns(width: int, n_windows: int) -> "list[ProgressColumn]":
    """The parts of the bar for which there is room; the count of windows is the last to go."""
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.table import Column

    has_words = width >= 40
    counted = TextColumn(f"{'window ' if has_words else ''}{{task.fields[window]}}/{{task.fields[n_windows]}}")
    left = [TextColumn("left")] if has_words else []
    n_counted = 2 * len(str(n_windows)) + 1 + (len("window ") if has_words else 0)
    n_left = len(" 0:00:00") + (len(" left") if has_words else 0)
    has_left = n_counted + n_left <= width
    n_name = min(max(8, width // 4), width - n_counted - (n_left if has_left else 0) - 1)
    columns: list[ProgressColumn] = []
    if n_name >= 4:
        name = Column(no_wrap=True, overflow="ellipsis", max_width=n_name)
        columns.append(TextColumn("{task.description}", markup=False, table_column=name))
    if width >= 60:
        columns.append(BarColumn(bar_width=None))
    columns.append(counted)
    if width >= 100:
        columns += [TextColumn("step {task.fields[step]}/{task.fields[n_steps]}"), TimeElapsedColumn()]
    if has_left:
        columns += [*left, TimeRemainingColumn(compact=width < 60)]
    if width >= 80:
        columns.append(TextColumn("{task.fields[speed]}"))
    return columns


@contextmanager
def render_display(
    label: str, n_windows: int, n_steps: int, quiet: bool, first_window: int = 0, step_name: str = "step"
) -> Iterator[RenderDisplay]:
    """A bar on a terminal; elsewhere one plain starting line (the summary is the finishing one)."""
    if quiet:
        yield SilentDisplay()
    elif not can_draw():
        say(f"{label}: rendering {count(n_windows - first_window, 'window')} of {count(n_steps, step_name)}")
        yield SilentDisplay()
    else:
        with BarDisplay(label, n_windows, n_steps, first_window) as bar:
            yield bar


@contextmanager
def working(message: str, quiet: bool) -> Iterator[None]:
    """A spinner on a terminal while something slow loads; nothing elsewhere."""
    if quiet or not can_draw():
        yield
    else:
        from rich.text import Text

        with stderr_console().status(Text(one_line(message))):
            yield


class SongsDisplay:
    """Where songs of a batch report to; this one draws nothing."""

    def advance(self, song: str, fraction: float, duration_s: float) -> None:
        """So much of a song is done, 0 to 1; ``duration_s`` is its length."""


class _SongsBar(SongsDisplay):
    def __init__(self, n_songs: int) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        console = stderr_console()
        columns = [
            TextColumn("{task.fields[n_done]}/{task.total:.0f} songs"),
            BarColumn(bar_width=None),
            TextColumn("left"),
            TimeRemainingColumn(compact=console.width < 60),
        ]
        if console.width >= 80:
            columns += [TimeElapsedColumn(), TextColumn("{task.fields[speed]}")]
        # Lines of --json go to standard output while the bar is drawn, and must stay there.
        self.progress = Progress(*columns, console=console, transient=True, redirect_stdout=False)
        self._task = self.progress.add_task("", total=n_songs, n_done=0, speed="")
        self._fractions: dict[str, float] = {}
        self._done_s = 0.0
        self._start_s = time.perf_counter()

    def advance(self, song: str, fraction: float, duration_s: float) -> None:
        self._done_s += (fraction - self._fractions.get(song, 0.0)) * duration_s
        self._fractions[song] = fraction
        elapsed_s = time.perf_counter() - self._start_s
        self.progress.update(
            self._task,
            completed=sum(self._fractions.values()),
            n_done=sum(done >= 1 for done in self._fractions.values()),
            speed=f"{self._done_s / elapsed_s:.1f} × realtime" if elapsed_s > 0 else "",
        )


@contextmanager
def songs_display(n_songs: int, batch: int, quiet: bool) -> Iterator[SongsDisplay]:
    """A bar on a terminal; elsewhere one line at the start."""
    if quiet:
        yield SongsDisplay()
    elif not can_draw():
        say(f"rendering {count(n_songs, 'song')}, {batch} at once")
        yield SongsDisplay()
    else:
        bar = _SongsBar(n_songs)
        with bar.progress:
            yield bar


def plain_bar() -> "Progress":
    """Description, bar, time that has passed and that is left; for whoever counts by themselves."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=None), TimeElapsedColumn())
    return Progress(*columns, TextColumn("left"), TimeRemainingColumn(), console=stderr_console(), transient=True)


@contextmanager
def counted_display(label: str, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal, nothing elsewhere; it is told how much is done, of how much."""
    if quiet or not can_draw():
        yield lambda n_done, n_all: None
        return
    progress = plain_bar()
    task = progress.add_task(one_line(label), total=None)

    def show(n_done: int, n_all: int) -> None:
        progress.start()  # with the first report: until then something else may be drawn
        progress.update(task, completed=n_done, total=n_all)

    try:
        yield show
    finally:
        progress.stop()
