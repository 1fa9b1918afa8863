"""Temporary folders that do not stay for good, even if the process that made one is killed: the next one removes it."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import IO

_LOCK = "lock"


@contextmanager
def temporary_folder(prefix: str, parent: str | None = None) -> Iterator[Path]:
    """A folder that is gone after the block; those of that ``prefix`` whose processes were killed go now.

    Raises OSError: it cannot be made.
    """
    sweep(prefix, parent)
    with TemporaryDirectory(prefix=prefix, dir=parent, ignore_cleanup_errors=True) as name:
        with open(Path(name) / _LOCK, "w") as file:
            _lock(file)
            yield Path(name)


def sweep(prefix: str, parent: str | None = None) -> None:
    """Remove the folders of this machine that nobody holds any more."""
    for path in _locks(prefix, parent or gettempdir()):
        with suppress(OSError), open(path, "r+") as file:
            if _lock(file):
                shutil.rmtree(path.parent, ignore_errors=True)


def _locks(prefix: str, parent: str) -> list[Path]:
    with suppress(OSError), os.scandir(parent) as entries:
        return [Path(entry.path) / _LOCK for entry in entries if entry.name.startswith(prefix)]
    return []


def _lock(file: IO[str]) -> bool:
    """Whether it was free. It goes with the process; where the system has no such locks, nothing is ever swept."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):
        return False
    return True
