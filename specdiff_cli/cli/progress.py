"""What the user sees on standard error: lines, spinners, bars. rich is loaded only when something is drawn."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from specdiff_cli.errors import Message
from specdiff_cli.weights.progress import SILENT, Action, format_bytes
from specdiff_cli.wording import about, clock, count, one_line

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn, TaskID

    from specdiff_cli.rendering.events import Opened
    from specdiff_cli.rendering.remaining import Remaining
    from specdiff_cli.weights.progress import Progress as DownloadListener

#: Options that are called otherwise on the command line.
_FLAGS = {"output": "-o", "inputs": "INPUT..."}


def flag_of(name: str) -> str:
    """An option of a request as the command line has it."""
    return _FLAGS.get(name) or f"--{name.replace('_', '-')}"


def worded(line: str) -> str:
    """A line for the user, with flags for the options that it names."""
    return line.line(flag_of) if isinstance(line, Message) else line


def stderr_console() -> "Console":
    """A rich console on standard error (honours NO_COLOR and narrow terminals)."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, markup=False, soft_wrap=True)


def can_draw() -> bool:
    """Can a moving line be drawn on standard error? Elsewhere (files, pipes, ``TERM=dumb``) plain lines say enough."""
    return sys.stderr.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown")


def say(line: str) -> None:
    """Print one plain line to standard error. That nobody reads it any more is no reason to stop working."""
    with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: a signal's handler that came into another print
        print(one_line(worded(line)), file=sys.stderr, flush=True)  # noqa: T201


def teller(quiet: bool) -> Callable[[str], None]:
    """``say``, or with ``--quiet`` nothing."""
    return (lambda line: None) if quiet else say


def fail(message: str) -> None:
    """Print an error as one line to standard error."""
    say(f"error: {message}")


@contextmanager
def working(message: str, quiet: bool) -> Iterator[None]:
    """A spinner on a terminal while something slow loads; nothing elsewhere."""
    if quiet or not can_draw():
        yield
    else:
        from rich.text import Text

        with stderr_console().status(Text(one_line(message))):
            yield


def _bar_of(*columns: "ProgressColumn | str") -> "Progress":
    from rich.progress import Progress

    # Lines of --json go to standard output while the bar is drawn, and must stay there.
    return Progress(*columns, console=stderr_console(), transient=True, redirect_stdout=False)


@contextmanager
def counted_display(label: str, quiet: bool) -> Iterator[Callable[..., None]]:
    """A bar on a terminal, nothing elsewhere; it is told how much is done, of how much, and perhaps another label."""
    if quiet or not can_draw():
        yield lambda n_done, n_all, label=label: None
        return
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=None), TimeElapsedColumn())
    progress = _bar_of(*columns, TextColumn("left"), TimeRemainingColumn())
    task = progress.add_task(one_line(label), total=None)

    def show(n_done: float, n_all: float, label: str = label) -> None:
        progress.start()  # with the first report: until then something else may be drawn
        progress.update(task, completed=n_done, total=n_all, description=one_line(label))

    try:
        yield show
    finally:
        progress.stop()


# --- renders ---------------------------------------------------------------------------------------------------------


class RenderDisplay:
    """Where a song reports to; this one draws nothing (``--quiet``, or no terminal to draw on)."""

    def step(self, window: int, step: int) -> None:
        """``step`` of ``window`` (from 0) is done."""


class BarDisplay(RenderDisplay):
    """A live bar: window and denoising step of the song; how much of all songs is done, for how long, and how fast.

    On narrow terminals the less important of these are left out.
    """

    def __init__(self, label: str, opened: "Opened", remaining: "Remaining", is_alone: bool = True) -> None:
        columns = _columns(stderr_console().width, opened.n_windows, remaining, is_alone)
        self._progress, self._remaining = _bar_of(*columns), remaining
        self._task: TaskID = self._progress.add_task(
            one_line(label),
            total=1.0,
            window=opened.n_kept + 1,
            n_windows=opened.n_windows,
            step=0,
            n_steps=opened.n_steps,
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def step(self, window: int, step: int) -> None:
        """Move the bar."""
        self._progress.update(self._task, completed=self._remaining.share, window=window + 1, step=step)


def _live(text: Callable[[], str]) -> "ProgressColumn":
    """A column that is asked for its text whenever the line is drawn."""
    from rich.progress import ProgressColumn
    from rich.table import Column
    from rich.text import Text

    class Live(ProgressColumn):
        def render(self, task: object) -> Text:
            return Text(text())

    return Live(Column(no_wrap=True))


def _clock_column(seconds: Callable[[], float | None]) -> "ProgressColumn":
    return _live(lambda: "-:--" if (at_s := seconds()) is None else clock(at_s))


def _speed_column(remaining: "Remaining") -> "ProgressColumn":
    return _live(lambda: f"{remaining.pace():.1f} × realtime")


def _columns(width: int, n_windows: int, remaining: "Remaining", is_alone: bool) -> "list[ProgressColumn]":
    """The parts of the bar for which there is room; the count of windows is the last to go."""
    from rich.progress import BarColumn, TextColumn
    from rich.table import Column

    has_words = width >= 40
    counted = TextColumn(f"{'window ' if has_words else ''}{{task.fields[window]}}/{{task.fields[n_windows]}}")
    word = ("left" if is_alone or width < 60 else "left in all") if has_words else ""
    n_counted = 2 * len(str(n_windows)) + 1 + (len("window ") if has_words else 0)
    n_left = len(" 0:00:00") + (len(word) + 1 if word else 0)
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
        columns += [TextColumn("step {task.fields[step]}/{task.fields[n_steps]}"), _clock_column(remaining.elapsed_s)]
    if has_left:
        columns += [*([TextColumn(word)] if word else []), _clock_column(remaining.left_s)]
    if width >= 80:
        columns.append(_speed_column(remaining))
    return columns


@contextmanager
def render_display(
    label: str, opened: "Opened", remaining: "Remaining", quiet: bool, is_alone: bool = True, step_name: str = "step"
) -> Iterator[RenderDisplay]:
    """A bar on a terminal; elsewhere one plain starting line (the summary is the finishing one)."""
    if not quiet and can_draw():
        with BarDisplay(label, opened, remaining, is_alone) as bar:
            yield bar
        return
    left_s = None if is_alone else remaining.left_s()
    left = "" if left_s is None else f"; about {about(left_s)} left in all"
    n_windows = count(opened.n_windows - opened.n_kept, "window")
    steps = f" of {count(opened.n_steps, step_name)}" if opened.n_steps > 1 else ""
    teller(quiet)(f"{label}: rendering {n_windows}{steps}{left}")
    yield RenderDisplay()


class FilesDisplay:
    """Where several songs at once report to; this one draws nothing."""

    def update(self, n_ended: int, workers: str = "", each: str = "") -> None:
        """So many songs have ended; who works on them, and how fast each of them is."""


class FilesBar(FilesDisplay):
    """Songs, audio, how fast against real time, the workers, and the time left; as much of it as there is room for."""

    def __init__(self, n_files: int, noun: str, remaining: "Remaining") -> None:
        from rich.progress import BarColumn

        width = stderr_console().width
        self._room = width - 5 if width >= 60 else width
        self._ended, self._of, self._remaining = (0, "", ""), f"{n_files} {noun}", remaining
        self.bar = _bar_of(_live(self._facts), *([BarColumn(bar_width=None)] if width >= 60 else []))
        self._task = self.bar.add_task("", total=1.0)

    def update(self, n_ended: int, workers: str = "", each: str = "") -> None:
        """Move the bar."""
        self._ended = n_ended, workers, each
        self.bar.update(self._task, completed=self._remaining.share)

    def _facts(self) -> str:
        remaining, (n_ended, workers, each) = self._remaining, self._ended
        left_s, elapsed = remaining.left_s(), clock(remaining.elapsed_s())
        left = f"{'-:--' if left_s is None else clock(left_s)} left"
        audio, pace = f"{remaining.audio_s / 3600:.2f} h", f"{remaining.pace():.1f} × realtime"
        facts = [f"{n_ended}/{self._of}", audio, pace, workers, each, elapsed, left]
        for least in ("", elapsed, workers, audio, pace, each):
            facts = [fact for fact in facts if fact and fact != least]
            if len(" · ".join(facts)) <= self._room:
                break
        return " · ".join(facts)


@contextmanager
def files_display(n_files: int, noun: str, opening: str, quiet: bool, remaining: "Remaining") -> Iterator[FilesDisplay]:
    """A bar on a terminal; elsewhere one line at the start, which begins ``rendering``."""
    if not quiet and can_draw():
        display = FilesBar(n_files, noun, remaining)
        with display.bar:
            yield display
        return
    teller(quiet)(f"rendering {opening}")
    yield FilesDisplay()


# --- training --------------------------------------------------------------------------------------------------------


class TrainingLines:
    """A :class:`~specdiff_cli.train.listener.Listener`: a line for every line of a run's log."""

    def __init__(self, quiet: bool) -> None:
        self._tell = teller(quiet)

    def reading(self, n_done: int, n_files: int, noun: str) -> None:
        """Say once how much there is to read."""
        if n_done == 1:
            self._tell(f"reading {count(n_files, noun)}")

    def step(self, step: int, n_steps: int, losses: str) -> None:
        """Wait for the next line of the log."""

    def logged(self, line: str, *, is_measured: bool) -> None:
        """Print where the run is."""
        self._tell(line)

    def note(self, line: str) -> None:
        """Print it."""
        self._tell(line)


class TrainingBar(TrainingLines):
    """A live line: steps, losses, and the time that is left; what was measured stays above it."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        super().__init__(quiet=False)
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=None), TextColumn("{task.fields[place]}"))
        losses = TextColumn("{task.fields[losses]}", markup=False)
        self.bar = _bar_of(*columns, losses, TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
        self._label = ""

    def reading(self, n_done: int, n_files: int, noun: str) -> None:
        """Move the bar of the files."""
        self._move(f"reading {noun}s", n_done, n_files)

    def step(self, step: int, n_steps: int, losses: str) -> None:
        """Move the bar of the steps."""
        self._move("training", step, n_steps, losses)

    def logged(self, line: str, *, is_measured: bool) -> None:
        """Keep it in sight if it tells how good the run is."""
        if is_measured:
            self.note(line)

    def note(self, line: str) -> None:
        """Print it above the bar."""
        self.bar.console.print(one_line(line))

    def _move(self, label: str, n_done: int, n_all: int, losses: str = "") -> None:
        if label != self._label:  # its time and pace are its own
            for task in self.bar.task_ids:
                self.bar.remove_task(task)
            self.bar.add_task(label, completed=n_done - 1, total=n_all, place="", losses="")
            self._label = label
        current = self.bar.tasks[0]
        kept = losses or current.fields["losses"]
        self.bar.update(current.id, completed=n_done, place=f"{n_done}/{n_all}", losses=kept)


@contextmanager
def training_display(quiet: bool) -> Iterator[TrainingLines]:
    """A live line on a terminal, plain lines elsewhere."""
    if quiet or not can_draw():
        yield TrainingLines(quiet)
        return
    display = TrainingBar()
    with display.bar:
        yield display


# --- downloads -------------------------------------------------------------------------------------------------------


@contextmanager
def download_display(quiet: bool) -> "Iterator[DownloadListener]":
    """A bar on a terminal, plain lines elsewhere, nothing when quiet."""
    if quiet:
        yield SILENT
    elif not can_draw():
        yield DownloadLines()
    else:
        display = DownloadBar()
        with display.bar:
            yield display


class DownloadLines:
    """One line when a file begins and one when it ends: right for log files."""

    def start(self, label: str, action: Action, done_bytes: int, total_bytes: int | None) -> None:
        """Say that it begins."""
        if action is Action.CONVERTING:
            say(f"{label}: converting to a voice")
        elif action is not Action.VERIFYING:
            size = "of unknown size" if total_bytes is None else format_bytes(total_bytes)
            already = f" after {format_bytes(done_bytes)}" if done_bytes else ""
            say(f"{label}: {action} {size}{already}")

    def advance(self, done_bytes: int) -> None:
        """Wait for the end."""

    def finish(self, label: str, outcome: str) -> None:
        """Say how it ended."""
        say(f"{label}: {outcome}")

    def note(self, line: str) -> None:
        """Say it."""
        say(line)


class DownloadBar:
    """One bar for the file at hand; finished files scroll away above it."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
        from rich.table import Column

        def column(**options: Any) -> Column:
            return Column(no_wrap=True, **options)  # a bar that breaks into two lines flickers

        self.bar = _bar_of(
            TextColumn("{task.description}", markup=False, table_column=column(overflow="ellipsis")),
            BarColumn(bar_width=16),
            DownloadColumn(table_column=column()),
            TransferSpeedColumn(table_column=column()),
            TimeRemainingColumn(table_column=column()),
        )

    def start(self, label: str, action: Action, done_bytes: int, total_bytes: int | None) -> None:
        """Show its bar."""
        self._drop()
        self.bar.add_task(f"{action} {label}", completed=done_bytes, total=total_bytes)

    def advance(self, done_bytes: int) -> None:
        """Move the bar."""
        for task in self.bar.task_ids:
            self.bar.update(task, completed=done_bytes)

    def finish(self, label: str, outcome: str) -> None:
        """Take the bar away, and say how it ended."""
        self._drop()
        self.note(f"{label}: {outcome}")

    def note(self, line: str) -> None:
        """Print it above the bar."""
        self.bar.console.print(line, markup=False, highlight=False)

    def _drop(self) -> None:
        for task in self.bar.task_ids:
            self.bar.remove_task(task)
