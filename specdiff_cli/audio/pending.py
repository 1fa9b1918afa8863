"""A file that gets its name only when it is complete, and what is known about names that cannot be had.

Nothing here imports numpy or torch.
"""

import contextlib
import errno
import os
import secrets
import stat
from pathlib import Path
from typing import BinaryIO

from specdiff_cli.errors import OutputError

# Errors of os.link on file systems without hard links (FAT, some network mounts, containers).
_NO_HARD_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EACCES, errno.EXDEV}

#: Temporary files of this process; what leaves without unwinding its stack (a second Ctrl-C) removes them first.
_TEMPORARY: set[Path] = set()


def check_target(path: str | os.PathLike[str], overwrite: bool) -> Path:
    """Refuse a target that cannot become our file, before any work is done for it.

    Returns the path with symbolic links followed, so that a link stays a link and its target gets the content. Raises
    OutputError: exists and ``overwrite`` is false, is a directory or a device, folder missing, name too long.
    """
    shown = shown_path(path)
    try:
        target = Path(os.path.realpath(path))
        mode = target.stat().st_mode
    except FileNotFoundError:
        if target.parent.is_dir():
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
        raise OutputError(f"cannot write {shown}: it is not a regular file, use '-o -' to write to a pipe")
    if not overwrite:
        raise OutputError(f"{shown} exists already: use --overwrite to replace it, or another name")
    if not os.access(target, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        raise OutputError(f"cannot overwrite {shown}: it is write-protected")
    return target


class PendingFile:
    """A new file beside its target. ``commit`` gives it the target's name, ``discard`` leaves nothing.

    ``target`` comes from :func:`check_target`. All methods but ``discard`` raise OSError; see :func:`output_error`.
    """

    def __init__(self, target: Path, overwrite: bool) -> None:
        self._target = target
        self._overwrite = overwrite
        # a short name of its own: one made from the target's could be too long
        self._temporary: Path = target.with_name(f".specdiff-{secrets.token_hex(6)}.tmp")
        self._file: BinaryIO | None = None

    def open(self) -> BinaryIO:
        """Create the file; it stays this object's to close."""
        _TEMPORARY.add(self._temporary)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        # mode 666 lessened by the umask, as any program's output; a private temporary file would keep 600
        self._file = os.fdopen(os.open(self._temporary, flags, 0o666), "wb")
        return self._file

    def settle(self) -> None:
        """Bring the content to the disk and close the file: after this only the name can fail."""
        if self._file is not None and not self._file.closed:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()

    def commit(self) -> None:
        """Give the settled file its name; FileExistsError if that is taken and must not be replaced."""
        self.settle()
        if self._overwrite:
            os.replace(self._temporary, self._target)
        else:
            _move_without_clobbering(self._temporary, self._target)
        _TEMPORARY.discard(self._temporary)
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


def discard_all() -> None:
    """Remove every temporary file of this process; for those who leave at once."""
    for path in list(_TEMPORARY):
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def output_error(shown: str, error: OSError) -> OutputError:
    """The line for a file that could not be written."""
    if isinstance(error, FileExistsError):
        return OutputError(f"{shown} appeared while it was being rendered: use --overwrite, or another name")
    if isinstance(error, FileNotFoundError):  # a temporary file's name would tell nobody anything
        return OutputError(f"cannot write {shown}: its folder was removed meanwhile")
    return OutputError(f"cannot write {shown}: {reason(error)}")


def _move_without_clobbering(source: Path, target: Path) -> None:
    """Give ``source`` the name ``target``; FileExistsError if that name is taken, even since a moment ago."""
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        # without hard links the best there is: a very short moment between looking and renaming
        if target.exists():
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


def reason(error: Exception) -> str:
    """The operating system's words for an error, on one line."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text.splitlines()[0] if text else type(error).__name__


def shown_path(path: str | os.PathLike[str]) -> str:
    """A path for a message: control characters escaped, very long ones cut."""
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in os.fspath(path))
    return shown if len(shown) <= 120 else shown[:60] + "…" + shown[-50:]
