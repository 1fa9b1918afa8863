"""Standard input and output where they are not what a program expects: named by a dash, no files, closed.

Nothing here imports numpy or torch.
"""

import contextlib
import io
import json
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from specdiff_cli.errors import OutputError

DASH = "-"
#: What a dash among the inputs stands for. Outputs are named after it: ``stdin.wav``.
STDIN = Path("/dev/stdin")
MAX_SPOOLED_BYTES = 1 << 32
_BLOCK_BYTES = 1 << 20


def input_path(text: str | os.PathLike[str]) -> Path:
    """An argument as the path of an input. A file that is really called so is meant by ``./-``."""
    path = Path(text)
    if os.fspath(text) == DASH:
        return STDIN
    return Path(os.path.abspath(path)) if path == Path(DASH) else path


def open_input(path: Path) -> BinaryIO:
    """A file, or standard input, for reading; the latter is not to be closed. Raises OSError."""
    if path != STDIN:
        return path.open("rb")
    if sys.stdin is None:
        raise OSError("it is closed")
    return sys.stdin.buffer


@contextmanager
def seekable(path: Path) -> Iterator[Path]:
    """A name of the content that can be read twice: of a pipe that of a copy, which is gone when the block ends.

    Raises OSError where the pipe cannot be read or is endless, OutputError where there is no room for the copy.
    """
    if path != STDIN and not _is_pipe(path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="specdiff-") as folder:
        copy = Path(folder) / "input"
        with ExitStack() as stack:
            source = open_input(path)
            if path != STDIN:
                stack.enter_context(source)
            _copy(source, copy, path)
        yield copy


def _copy(source: BinaryIO, copy: Path, path: Path) -> None:
    """Raises OSError, OutputError."""
    n_left = MAX_SPOOLED_BYTES
    with copy.open("wb") as file:
        while block := source.read(min(n_left, _BLOCK_BYTES)):
            n_left -= len(block)
            if n_left <= 0:
                raise OSError(f"it does not end within {MAX_SPOOLED_BYTES >> 30} GiB")
            try:
                file.write(block)
                file.flush()
            except OSError as error:
                raise OutputError(f"cannot keep a copy of {path} in {copy.parent}: {error.strerror}") from error


def _is_pipe(path: Path) -> bool:
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):  # whoever opens it says what is wrong
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


class ClosedOutput(io.TextIOBase):
    """Stands for a standard output that was closed before we began (``>&-``): writing is an error, nothing else is."""

    encoding = "utf-8"

    def __init__(self) -> None:
        self.buffer = _ClosedBuffer()

    def write(self, text: str) -> int:
        """Raises OutputError."""
        raise closed()

    def writable(self) -> bool:
        return True


class _ClosedBuffer(io.RawIOBase):
    def write(self, data: object) -> int:
        raise closed()

    def writable(self) -> bool:
        return True


def closed() -> OutputError:
    """What to raise for a closed standard output."""
    return OutputError("cannot write to standard output: it is closed")


def is_closed() -> bool:
    """Is there no standard output?"""
    return sys.stdout is None or isinstance(sys.stdout, ClosedOutput)


def close_stdout() -> None:
    """Point standard output at nothing: Python would complain when it flushes a broken one at exit."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class JsonLines:
    """A line for each record, to a program that reads standard output. Once it is gone, the work goes on.

    Attributes:
        is_unread: the reader is gone, or there is no room for what it reads; ``on_loss`` was told, once.
    """

    def __init__(self, on_loss: Callable[[str], None]) -> None:
        self._on_loss = on_loss
        self.is_unread = False

    def write(self, record: Mapping[str, Any]) -> None:
        """Raises OutputError where standard output was closed from the beginning."""
        if self.is_unread:
            return
        try:
            sys.stdout.write(json.dumps(record) + "\n")
            sys.stdout.flush()
        except OSError as error:
            self.is_unread = True
            close_stdout()
            why = "its reader is gone" if isinstance(error, BrokenPipeError) else error.strerror or str(error)
            self._on_loss(f"cannot write to standard output: {why}; the rest is made all the same")


def replace_closed() -> None:
    """Put something in the place of closed standard streams.

    Their numbers go to the null device: the next file that is opened would get them otherwise, and a message or a
    child's output would end up in it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    if sys.stdout is None:
        sys.stdout = ClosedOutput()
