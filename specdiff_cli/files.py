"""A file that gets its name only when it is complete, and what is known about names that cannot be had.

Nothing here imports numpy or torch.
"""

import contextlib
import errno
import fnmatch
import functools
import hashlib
import os
import platform
import re
import secrets
import shutil
import stat
import sys
from collections.abc import Collection
from pathlib import Path
from typing import BinaryIO, NoReturn

from specdiff_cli.errors import FOLDER_IS_GONE, Option, OutputError, UsageError

if sys.platform != "win32":
    import fcntl

# Errors of os.link on file systems without hard links (FAT, some network mounts, containers), and on full ones, where a
# second name may need room that renaming does not.
_NO_HARD_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EACCES, errno.EXDEV}
_NO_HARD_LINKS |= {errno.ENOSPC, errno.EDQUOT}

#: Temporary files of this process; what leaves without unwinding its stack (a second Ctrl-C) removes them first.
_TEMPORARY: set[Path] = set()

# Temporary files carry the name of their machine: a lock of another one need not be seen here (network mounts).
_HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:8]
_OWN_NAME = re.compile(rf"\.specdiff-{_HOST}-[0-9a-f]{{12}}\.tmp")


def check_target(path: str | os.PathLike[str], overwrite: bool) -> Path:
    """Refuse a target that cannot become our file, before any work is done for it.

    Returns the path with symbolic links followed, so that a link stays a link and its target gets the content. Raises
    OutputError: exists and ``overwrite`` is false, is a directory or a device, folder missing, name too long.
    """
    shown = shown_path(path)
    try:
        target = Path(os.path.realpath(path))
        mode = os.stat(path).st_mode  # not of the target: where /dev/stdout is a pipe, that is a name of nothing
    except FileNotFoundError:
        if os.path.isdir(target.parent):
            return target
        folder = shown_path(target.parent)
        raise OutputError(f"cannot write {shown}: the folder {folder} does not exist, create it first") from None
    except NotADirectoryError:
        raise OutputError(f"cannot write {shown}: {shown_path(target.parent)} is not a folder") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL character
        raise OutputError(f"cannot write {shown}: {reason(error)}") from None
    if stat.S_ISDIR(mode):
        raise OutputError(f"cannot write {shown}: it is a folder, give a file name")
    if not stat.S_ISREG(mode):  # renaming over /dev/null would replace the device
        what = f"cannot write {shown}: it is not a regular file, use '"
        raise OutputError(what, Option("output", "-"), "' to write to a pipe")
    if not overwrite:
        raise already_there(shown)
    if not os.access(target, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        raise OutputError(f"cannot overwrite {shown}: it is write-protected")
    return target


def already_there(shown: object) -> OutputError:
    """The line for what is there and was not to be replaced."""
    return OutputError(f"{shown} exists already: use ", Option("overwrite"), " to replace it, or another name")


class PendingFile:
    """A new file beside its target. ``commit`` gives it the target's name, ``discard`` leaves nothing.

    ``target`` comes from :func:`check_target`. All methods but ``discard`` raise OSError; see :func:`output_error`.
    """

    def __init__(self, target: Path, overwrite: bool) -> None:
        self._target = target
        self._overwrite = overwrite
        self._temporary = _temporary_name(target)
        self._file: BinaryIO | None = None
        self._lock: int | None = None

    @property
    def temporary(self) -> Path:
        """Where the content lies until it has its name."""
        return self._temporary

    def open(self) -> BinaryIO:
        """Create the file, which stays this object's to close, after a sweep beside it. Raises OSError."""
        sweep(self._target.parent)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        while self._file is None:
            _TEMPORARY.add(self._temporary)
            # mode 666 lessened by the umask, as any program's output; a private temporary file would keep 600
            self._file = os.fdopen(os.open(self._temporary, flags, 0o666), "w+b")
            if not self._hold():  # a sweeper came between
                self.discard()
                self._temporary = _temporary_name(self._target)
        return self._file

    def _hold(self) -> bool:
        """Lock the new file, so that no sweeper takes it for a dead one; False if one just did."""
        if sys.platform == "win32" or self._file is None:
            return True
        # A descriptor of its own: the file is in use until it has its name, long after its content is closed.
        self._lock = os.dup(self._file.fileno())
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # a file system without locks: nobody can sweep there either
            return True
        return os.path.exists(self._temporary)

    def settle(self) -> None:
        """Bring the content to the disk and close the file: after this only the name can fail."""
        if self._file is not None and not self._file.closed:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()

    def commit(self) -> None:
        """Give the settled file its name. Raises OSError; FileExistsError: that is taken and must not be replaced."""
        self.settle()
        if self._overwrite:
            with contextlib.suppress(OSError):  # whoever may read the old file, and nobody else, may read the new one
                shutil.copymode(self._target, self._temporary)
            os.replace(self._temporary, self._target)
        else:
            _move_without_clobbering(self._temporary, self._target)
        _TEMPORARY.discard(self._temporary)
        self._unlock()
        _sync_folder(self._target.parent)

    def discard(self) -> None:
        """Close and remove the temporary file if it is still there."""
        if self._file is not None:
            # closing flushes, which fails once more on a full disk
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None
        with contextlib.suppress(OSError):
            self._temporary.unlink(missing_ok=True)
        _TEMPORARY.discard(self._temporary)
        self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _temporary_name(target: Path) -> Path:
    # a short name of its own: one made from the target's could be too long
    return target.with_name(f".specdiff-{_HOST}-{secrets.token_hex(6)}.tmp")


def discard_all() -> None:
    """Remove every temporary file of this process; for those who leave at once."""
    for path in list(_TEMPORARY):
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


@functools.cache
def sweep(folder: Path) -> None:
    """Remove the temporary files of processes of this machine and user that were killed; once per folder.

    Whoever writes such a file holds a lock on it, which the system drops with the process.
    """
    if sys.platform == "win32":
        return
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for name in [entry.name for entry in entries if _OWN_NAME.fullmatch(entry.name)]:
            with contextlib.suppress(OSError):
                _remove_unless_in_use(folder / name)


def _remove_unless_in_use(path: Path) -> None:
    """Raises OSError where the file is in use, gone, or cannot be removed."""
    if sys.platform == "win32":
        return
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        found = os.fstat(descriptor)
        if stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid():
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
    finally:
        os.close(descriptor)


def output_error(shown: str, error: OSError) -> OutputError:
    """The line for a file that could not be written."""
    if isinstance(error, FileExistsError):
        what = f"{shown} appeared while it was being rendered: use "
        return OutputError(what, Option("overwrite"), ", or another name")
    if isinstance(error, FileNotFoundError):  # a temporary file's name would tell nobody anything
        return OutputError(f"cannot write {shown}: its folder was removed meanwhile")
    return OutputError(f"cannot write {shown}: {reason(error)}")


def _move_without_clobbering(source: Path, target: Path) -> None:
    """Give ``source`` the name ``target``. Raises OSError; FileExistsError: it is taken, even since a moment ago."""
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        # without a second name the best there is: a very short moment between looking and renaming
        if os.path.exists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
        os.rename(source, target)
    else:
        with contextlib.suppress(OSError):  # the file is in place: a second name left over is no failure
            source.unlink()


def _sync_folder(folder: Path) -> None:
    """Make the new name itself durable, where the system lets folders be opened."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def check_current_folder() -> None:
    """Raises OutputError: the current folder was removed. PyTorch's matrix library ends the program in such a place."""
    try:
        os.getcwd()
    except OSError:
        raise OutputError(FOLDER_IS_GONE) from None


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it; that it is there is fine. Raises OutputError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:  # ValueError: a NUL character
        raise OutputError(f"cannot make the folder {shown_path(folder)}: {reason(error)}") from None


def hidden_by(path: Path) -> str | None:
    """Why nobody can say what a path is (no permission, a name too long, links in circles); None: one can."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        return reason(error)
    return None


def size_bytes(path: Path) -> int:
    """Of a file; 0 where it cannot be seen: whoever opens it says why."""
    try:
        return path.stat().st_size
    except (OSError, ValueError):
        return 0


def files_in(folder: Path, pattern: str = "*") -> list[Path]:
    """The files directly in a folder whose names match, sorted; none where there is no such folder.

    Raises UsageError: it cannot be listed.
    """
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if fnmatch.fnmatchcase(entry.name, pattern))
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise UsageError(f"{shown_path(folder)}: cannot be listed ({reason(error)})") from None
    return [folder / name for name in names if os.path.isfile(folder / name)]


def files_below(folder: Path, suffixes: Collection[str] | None = None) -> list[Path]:
    """The files in a folder and below it, sorted; of ``suffixes`` (lower case), where some are given.

    Links to folders are not followed. Among files of one kind macOS's companions (``._song.mid``) are none.

    Raises UsageError: a folder cannot be listed, and it would not be told what is missing.
    """

    def refuse(error: OSError) -> NoReturn:
        raise UsageError(f"{shown_path(error.filename)}: cannot be listed ({reason(error)})")

    if (problem := hidden_by(folder)) is not None:  # of a NUL character os.walk makes no OSError
        raise UsageError(f"{shown_path(folder)}: cannot be listed ({problem})")
    found = []
    for place, _, names in os.walk(folder, onerror=refuse):
        wanted = names if suffixes is None else [name for name in names if _is_of(name, suffixes)]
        found += [path for name in wanted if os.path.isfile(path := Path(place, name))]
    return sorted(found)


def _is_of(name: str, suffixes: Collection[str]) -> bool:
    return os.path.splitext(name)[1].lower() in suffixes and not name.startswith("._")


def reason(error: Exception) -> str:
    """The operating system's words for an error, on one line."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text.splitlines()[0] if text else type(error).__name__


def shown_path(path: str | os.PathLike[str]) -> str:
    """A path for a message: control characters escaped, very long ones cut."""
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in os.fspath(path))
    return shown if len(shown) <= 120 else shown[:60] + "…" + shown[-50:]
