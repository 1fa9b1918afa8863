"""Every failure a user can cause or meet, each with its documented exit code.

A message is one line: what is wrong, where, and what to do about it. Where it names options, it does so as data
(:class:`Option`), so that the command line can write flags and Python its keywords.
"""

import errno
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Self


class ExitCode(IntEnum):
    """Exit codes of the ``specdiff`` command."""

    OK = 0
    FAILURE = 1  # several inputs failed, or a bug
    USAGE = 2
    MIDI = 3
    WEIGHTS = 4
    OUTPUT = 5
    DEVICE = 6  # device or memory
    INTERRUPTED = 130
    TERMINATED = 143


@dataclass(frozen=True, slots=True)
class Option:
    """An option that a message names, perhaps with a value; ``name`` is that of a request: ``sample_rate``."""

    name: str
    value: object = None

    def shown_as(self, name: str) -> str:
        """The option under the name that its reader knows it by, and its value."""
        if self.value is None:
            return name
        if isinstance(self.value, str) and (not self.value or any(map(str.isspace, self.value))):
            return f"{name} {self.value!r}"
        return f"{name} {self.value:g}" if isinstance(self.value, float) else f"{name} {self.value}"

    def __str__(self) -> str:
        return self.shown_as(self.name)


def listed(options: Iterable[Option], sign: str = ", ") -> tuple[str | Option, ...]:
    """Parts of a line that name several options, with ``sign`` between them."""
    return tuple(part for option in options for part in (sign, option))[1:]


class Message(str):
    """A line for the user that is no error: as text it names options as Python does.

    Args:
        parts: make up the line; a line among them gives its own parts.
    """

    parts: tuple[str | Option, ...]

    def __new__(cls, *parts: str | Option) -> Self:
        line = super().__new__(cls, "".join(map(str, parts)))
        line.parts = tuple(one for part in parts for one in (part.parts if isinstance(part, Message) else (part,)))
        return line

    def __getnewargs__(self) -> tuple[str | Option, ...]:  # type: ignore[override]
        return self.parts

    def line(self, flag_of: Callable[[str], str]) -> str:
        """The line, with ``flag_of(name)`` for the name of each option."""
        return _line(self.parts, flag_of)


def _line(parts: Iterable[str | Option], flag_of: Callable[[str], str]) -> str:
    return "".join(part.shown_as(flag_of(part.name)) if isinstance(part, Option) else part for part in parts)


class SpecdiffError(Exception):
    """Base of all expected errors: ``str(error)`` is the line shown to the user.

    Args:
        parts: make up the line; options among them are named as in Python.
        option: which option is to blame, where one is. With :meth:`of` the line begins with it.
        value: what it was set to.
    """

    exit_code: ExitCode = ExitCode.FAILURE

    def __init__(self, *parts: str | Option, option: str | None = None, value: object = None) -> None:
        super().__init__(*parts)
        self.option = option
        self.value = value

    @classmethod
    def of(cls, option: str, value: object, *rule: str | Option) -> Self:
        """``OPTION VALUE: RULE``, for a value that an option cannot have."""
        return cls(Option(option, value), ": ", *rule, option=option, value=value)

    @property
    def rule(self) -> str:
        """What the option's value does not keep to, without the option itself; of other errors the whole line."""
        begins_with_option = self.option is not None and isinstance(self.args[0], Option)
        return "".join(map(str, self.args[begins_with_option:])).lstrip(": ")

    def line(self, flag_of: Callable[[str], str]) -> str:
        """The line, with ``flag_of(name)`` for the name of each option."""
        return _line(self.args, flag_of)

    def __str__(self) -> str:
        return self.line(lambda name: name)


class UsageError(SpecdiffError):
    """An option or a combination of options that cannot work."""

    exit_code = ExitCode.USAGE


class MidiError(SpecdiffError):
    """A MIDI file that cannot be read or holds nothing to render."""

    exit_code = ExitCode.MIDI


class WeightsError(SpecdiffError):
    """Weights that are missing, damaged, unverified or of the wrong shape."""

    exit_code = ExitCode.WEIGHTS


class OutputError(SpecdiffError):
    """An output that cannot be written."""

    exit_code = ExitCode.OUTPUT


class DeviceError(SpecdiffError):
    """A device, precision or amount of memory that this machine does not offer."""

    exit_code = ExitCode.DEVICE


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory, of whatever device, was not enough. Needs no torch."""
    text = str(error)
    # torch.OutOfMemoryError is CUDA's; the CPU and Apple's Metal raise plain RuntimeErrors.
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError)
        and (
            type(error).__name__ == "OutOfMemoryError"
            or "can't allocate memory" in text
            or "not enough memory" in text
            or "MPS backend out of memory" in text
        )
    )


FOLDER_IS_GONE = "the current folder was removed; change into another one"
#: What the place of a file, and nobody's mistake in a program, makes impossible.
_PLACE_ERRNOS = {errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EROFS}
_OUTPUT_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


def explain(error: BaseException) -> SpecdiffError:
    """The error as one with a line for the user and an exit code. What nobody foresaw is called a bug."""
    if isinstance(error, SpecdiffError):
        return error
    if is_out_of_memory(error):
        return DeviceError(
            "out of memory; use ", Option("dtype", "bfloat16"), ", a smaller model, or a machine with more memory"
        )
    if isinstance(error, FileNotFoundError) and error.filename is None:  # what os.getcwd raises
        return OutputError(FOLDER_IS_GONE)
    if isinstance(error, OSError) and error.errno in _OUTPUT_ERRNOS:
        # Our own files are written by code that names them, so without a name it is standard output.
        return OutputError(f"cannot write {error.filename or 'to standard output'}: {error.strerror}")
    if isinstance(error, OSError) and error.errno in _PLACE_ERRNOS and isinstance(error.filename, str | bytes):
        return OutputError(f"{os.fsdecode(error.filename)[:200]}: cannot be used: {error.strerror}")
    return SpecdiffError(
        f"internal error ({type(error).__name__}: {error}); please report it with the output of ", Option("debug")
    )
