"""How a run tells what it does, whatever it trains, without knowing who listens."""

from typing import Protocol


class Listener(Protocol):
    """Hears what a run does."""

    def reading(self, n_done: int, n_files: int, noun: str) -> None:
        """So many of the files that it learns from are read; ``noun`` is what one of them is called."""

    def step(self, step: int, n_steps: int, losses: str) -> None:
        """A step is done (on a GPU: ten). ``losses``: in words; empty where nothing new is known."""

    def logged(self, line: str, *, is_measured: bool) -> None:
        """A line was written to the log; in words. ``is_measured``: held-out music was measured for it."""

    def note(self, line: str) -> None:
        """Something to know, in one line."""


class SilentListener:
    """Ignores everything."""

    def reading(self, n_done: int, n_files: int, noun: str) -> None:
        """Ignore it."""

    def step(self, step: int, n_steps: int, losses: str) -> None:
        """Ignore it."""

    def logged(self, line: str, *, is_measured: bool) -> None:
        """Ignore it."""

    def note(self, line: str) -> None:
        """Ignore it."""
