"""Where audio ends up: a file that exists only when it is complete, or a pipe.

Nothing here imports torch; samples may come as anything that numpy takes for a one-dimensional array.
"""

import contextlib
import errno
import os
import secrets
import stat
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy.typing as npt

from specdiff_cli.audio.encoding import (
    Body,
    FlacBody,
    Format,
    Levels,
    Subtype,
    WavBody,
    check_format,
    check_wav_length,
    encode,
    wav_header,
)
from specdiff_cli.errors import OutputError, UsageError

# Errors of os.link on file systems without hard links (FAT, some network mounts, containers).
_NO_HARD_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EACCES, errno.EXDEV}


class ReaderGone(BrokenPipeError):
    """The process that read our pipe has ended (``specdiff render song.mid -o - | head``). Not a failure of ours.

    The command line should end quietly: point file descriptor 1 at ``os.devnull`` (or the interpreter complains when
    it flushes standard output at exit) and leave with the code that shells expect, without a message.
    """


def check_target(path: str | os.PathLike[str], overwrite: bool) -> Path:
    """Refuse a target that cannot become our file, before any work is done for it.

    Returns the path with symbolic links followed, so that a link stays a link and its target gets the audio. Raises
    OutputError: exists and ``overwrite`` is false, is a directory or a device, folder missing, name too long.
    """
    shown = _one_line(path)
    try:
        target = Path(os.path.realpath(path))
        mode = target.stat().st_mode
    except FileNotFoundError:
        if target.parent.is_dir():
            return target
        folder = _one_line(target.parent)
        raise OutputError(f"cannot write {shown}: the folder {folder} does not exist, create it first") from None
    except NotADirectoryError:
        raise OutputError(f"cannot write {shown}: {_one_line(target.parent)} is not a folder") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL character
        raise OutputError(f"cannot write {shown}: {_reason(error)}") from None
    if stat.S_ISDIR(mode):
        raise OutputError(f"cannot write {shown}: it is a folder, give a file name")
    if not stat.S_ISREG(mode):  # renaming over /dev/null would replace the device
        raise OutputError(f"cannot write {shown}: it is not a regular file, use '-o -' to write to a pipe")
    if not overwrite:
        raise OutputError(f"{shown} exists already: use --overwrite to replace it, or another name")
    if not os.access(target, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        raise OutputError(f"cannot overwrite {shown}: it is write-protected")
    return target


class AtomicWriter:
    """Audio file that appears under its name complete or not at all.

    Samples stream into a temporary file in the target's folder. When the ``with`` block ends well, the file is
    completed, flushed to the disk and renamed; when it ends with any exception, KeyboardInterrupt included, the
    temporary file is removed and whatever had the name before is untouched.

    Args:
        path: the target.
        file_format: ``wav`` or ``flac``.
        subtype: ``pcm16``, ``pcm24`` or ``float`` (WAV only). Integers are rounded plainly, without dither.
        overwrite: replace an existing file. Without it an existing file is an error, also one that appears while
            we work.
        expected_samples: length of the audio where it is known: lets a WAV beyond 4 GB fail at once.

    Raises (from the constructor, ``with``, ``write`` and the end of the block): OutputError with one line for the
    user, UsageError for formats that do not exist.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        file_format: str = Format.WAV,
        subtype: str = Subtype.PCM16,
        overwrite: bool = False,
        expected_samples: int | None = None,
    ) -> None:
        self._format, self._subtype = check_format(file_format, subtype)
        self._shown = _one_line(path)
        self._overwrite = overwrite
        self._target = check_target(path, overwrite)
        if expected_samples is not None and self._format is Format.WAV:
            check_wav_length(expected_samples, self._subtype, self._shown)
        self._temporary: Path | None = None
        self._file: BinaryIO | None = None
        self._body: Body | None = None
        self.levels = Levels()

    def __enter__(self) -> Self:
        # a short name of its own: one made from the target's could be too long
        self._temporary = self._target.with_name(f".specdiff-{secrets.token_hex(6)}.tmp")
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
            # mode 666 lessened by the umask, as any program's output; a private temporary file would keep 600
            self._file = os.fdopen(os.open(self._temporary, flags, 0o666), "wb")
            if self._format is Format.FLAC:
                self._body = FlacBody(self._file, self._subtype)
            else:
                self._body = WavBody(self._file, self._subtype, self._shown)
        except BaseException as error:
            self._discard()
            if isinstance(error, OSError):
                raise self._output_error(error) from error
            raise
        return self

    def write(self, samples: npt.ArrayLike) -> None:
        """Append mono samples (n,), nominally within +-1. Integer formats clip what is beyond; ``levels`` counts it."""
        if self._body is None:
            raise ValueError("write() outside the with block")
        audio = self.levels.prepare(samples, self._subtype)
        if not audio.size:
            return
        try:
            self._body.write(audio)
        except OSError as error:
            raise self._output_error(error) from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._commit()
        except OSError as failure:
            raise self._output_error(failure) from failure
        finally:
            self._discard()

    def _commit(self) -> None:
        """Complete the temporary file and give it the target's name."""
        if self._body is None or self._file is None or self._temporary is None:
            raise ValueError("the writer is not open")
        self._body.finish()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        if self._overwrite:
            os.replace(self._temporary, self._target)
        else:
            _move_without_clobbering(self._temporary, self._target)
        _sync_folder(self._target.parent)

    def _discard(self) -> None:
        """Close and remove the temporary file if it is still there."""
        if self._body is not None:
            self._body.abandon()
            self._body = None
        if self._file is not None:
            # closing flushes, which fails once more on a full disk
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None
        if self._temporary is not None:
            with contextlib.suppress(OSError):
                self._temporary.unlink(missing_ok=True)
            self._temporary = None

    def _output_error(self, error: OSError) -> OutputError:
        if isinstance(error, FileExistsError):
            return OutputError(f"{self._shown} appeared while it was being rendered: use --overwrite, or another name")
        return OutputError(f"cannot write {self._shown}: {_reason(error)}")


class StreamWriter:
    """WAV to a pipe: a header of unknown length, then samples as they come, each chunk flushed at once.

    ``write`` raises ReaderGone when nobody reads any more, OutputError for other failures. The stream is not closed.
    """

    def __init__(self, stream: BinaryIO, *, file_format: str = Format.WAV, subtype: str = Subtype.PCM16) -> None:
        file_format, self._subtype = check_format(file_format, subtype)
        if file_format is not Format.WAV:
            raise UsageError("only WAV can be streamed to a pipe: choose --format wav, or give a file name with -o")
        if stream.isatty():
            raise UsageError("'-o -' would print audio to the terminal: redirect it or pipe it into a program")
        self._stream = stream
        self.levels = Levels()

    def __enter__(self) -> Self:
        self._send(wav_header(self._subtype, None))
        return self

    def write(self, samples: npt.ArrayLike) -> None:
        """Append mono samples (n,); clipping as in ``AtomicWriter.write``."""
        audio = self.levels.prepare(samples, self._subtype)
        if audio.size:
            self._send(encode(audio, self._subtype))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to complete: every chunk was flushed when it was written."""

    def _send(self, data: bytes) -> None:
        try:
            self._stream.write(data)
            self._stream.flush()
        except BrokenPipeError as error:
            raise ReaderGone(error.errno, "the reader of the pipe has ended") from error
        except OSError as error:
            raise OutputError(f"cannot write to standard output: {_reason(error)}") from error


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


def _reason(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text.splitlines()[0] if text else type(error).__name__


def _one_line(path: str | os.PathLike[str]) -> str:
    """A path for a message: control characters escaped, very long ones cut."""
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in os.fspath(path))
    return shown if len(shown) <= 120 else shown[:60] + "…" + shown[-50:]
