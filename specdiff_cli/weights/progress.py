"""How downloads and checks report what they do, without knowing who listens."""

from enum import StrEnum
from typing import Protocol


class Action(StrEnum):
    """What is being done to a file; the first word of a progress line."""

    DOWNLOADING = "downloading"
    RESUMING = "resuming"
    VERIFYING = "verifying"
    CONVERTING = "converting"


class Progress(Protocol):
    """A listener. ``label`` is the file's path inside the model; byte counts are absolute, not increments."""

    def start(self, label: str, action: Action, done_bytes: int, total_bytes: int | None) -> None:
        """Work on a file begins, or begins again after a retry, with ``done_bytes`` already there."""

    def advance(self, done_bytes: int) -> None:
        """So many bytes of the file started last are done."""

    def finish(self, label: str, outcome: str) -> None:
        """Nothing more happens to a file; ``outcome`` is "ok" or a phrase."""

    def note(self, line: str) -> None:
        """Something worth a line, such as a retry."""


class SilentProgress:
    """The listener that ignores everything."""

    def start(self, label: str, action: Action, done_bytes: int, total_bytes: int | None) -> None: ...

    def advance(self, done_bytes: int) -> None: ...

    def finish(self, label: str, outcome: str) -> None: ...

    def note(self, line: str) -> None: ...


SILENT = SilentProgress()


def format_bytes(n_bytes: int) -> str:
    """A size for people, in decimal units: 955 MB, 60.5 MB, 12 B."""
    size = float(n_bytes)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}" if size < 999.5 else f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.2f} GB"
