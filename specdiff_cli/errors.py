"""Every failure a user can cause or meet, each with its documented exit code.

A message is one line: what is wrong, where, and what to do about it.
"""

from enum import IntEnum


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


class SpecdiffError(Exception):
    """Base of all expected errors: ``str(error)`` is the line shown to the user."""

    exit_code: ExitCode = ExitCode.FAILURE


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
