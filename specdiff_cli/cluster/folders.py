"""Temporary folders that do not stay for good, even if the process that made one is killed: the next one removes it."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir


@contextmanager
def temporary_folder(prefix: str, parent: str | None = None) -> Iterator[Path]:
    """A folder that is gone after the block; those of that ``prefix`` whose processes were killed go now."""
    sweep(prefix, parent)
    with TemporaryDirectory(prefix=prefix, dir=parent, ignore_cleanup_errors=True) as name, _locked(Path(name)):
        yield Path(name)


def sweep(prefix: str, parent: str | None = None) -> None:
    """Remove this user's folders of this machine that nobody holds any more."""
    place = Path(parent or gettempdir())
    names: list[str] = []
    with suppress(OSError):
        names = os.listdir(place)
    for path in (place / name for name in names if name.startswith(prefix)):
        with suppress(OSError), _locked(path) as is_free:
            if is_free and path.stat().st_uid == os.geteuid():
                shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Hold a folder; says whether nobody else does. Where the system has no such locks, nothing is ever free.

    The lock goes with the process, and is of the folder itself: what dying children still write into it is swept, too.

    Raises OSError: it is no folder that can be opened.
    """
    try:
        import fcntl
    except ImportError:
        yield False
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_free = True
        except OSError:
            is_free = False
        yield is_free
    finally:
        os.close(descriptor)
