"""The bar of songs that are rendered side by side."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from specdiff_cli.cli.console import can_draw, say, stderr_console
from specdiff_cli.wording import count


class BatchDisplay:
    """Where songs of a batch report to; this one draws nothing."""

    def advance(self, song: int, fraction: float, duration_s: float) -> None:
        """So much of a song is done, 0 to 1; ``duration_s`` is its length."""


class _Bar(BatchDisplay):
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
        self._fractions: dict[int, float] = {}
        self._done_s = 0.0
        self._start_s = time.perf_counter()

    def advance(self, song: int, fraction: float, duration_s: float) -> None:
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
def batch_display(n_songs: int, batch: int, quiet: bool) -> Iterator[BatchDisplay]:
    """A bar on a terminal; elsewhere one line at the start."""
    if quiet:
        yield BatchDisplay()
    elif not can_draw():
        say(f"rendering {count(n_songs, 'song')}, {batch} at once")
        yield BatchDisplay()
    else:
        bar = _Bar(n_songs)
        with bar.progress:
            yield bar
