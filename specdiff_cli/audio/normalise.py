"""``--normalize``: one gain for a whole piece of audio, which must be heard to its end before the gain is known."""

import contextlib
import math
import re
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np
import numpy.typing as npt

from specdiff_cli.audio.encoding import Layout, Levels, check_samples
from specdiff_cli.audio.loudness import GATE_LUFS, LoudnessMeter
from specdiff_cli.audio.wav import Writer
from specdiff_cli.errors import OutputError, UsageError
from specdiff_cli.files import reason, shown_path

#: Unit -> level where none is given, lowest and highest level.
LEVELS = {"dBFS": (-1.0, -60.0, 0.0), "LUFS": (-16.0, -60.0, -5.0)}
HIGHEST_PEAK_DBFS = -1.0  # a loudness is not reached at the price of peaks beyond this
SILENCE_DBFS = -90.0  # half a step of 16 bits

_PATTERN = re.compile(r"\s*([-+]?[0-9]+(?:\.[0-9]*)?)?\s*(dbfs|lufs)\s*", re.IGNORECASE)
_BLOCK_SAMPLES = 1 << 16


@dataclass(frozen=True, slots=True)
class Target:
    """The level to reach: of the sample peak (``dBFS``) or of the integrated loudness (``LUFS``)."""

    level: float
    unit: str

    def __str__(self) -> str:
        return f"{self.level:g}{self.unit}"


def parse_normalise(text: str) -> Target:
    """The level that ``-1dBFS``, ``-16 LUFS`` or a unit alone stands for. Raises UsageError."""
    found = _PATTERN.fullmatch(text)
    if found is None:
        if re.fullmatch(r"\s*[-+]?[0-9]+(?:\.[0-9]*)?\s*", text):
            value = text.strip()
            raise UsageError(f"--normalize {value}: of what? {value}LUFS is a loudness, {value}dBFS the highest peak")
        raise UsageError(f"--normalize {text}: is no level; give a peak such as -1dBFS or a loudness such as -16LUFS")
    unit = next(unit for unit in LEVELS if unit.lower() == found[2].lower())
    default, lowest, highest = LEVELS[unit]
    level = default if found[1] is None else float(found[1])
    if not lowest <= level <= highest:
        raise UsageError(f"--normalize {text}: must be between {lowest:g} and {highest:g} {unit}")
    return Target(level + 0.0, unit)  # -0 becomes 0


def choose_gain(target: Target, peak: float, loudness_lufs: float) -> tuple[float, str]:
    """The gain in dB that brings audio to the target, and a phrase for the user about it."""
    peak_dbfs = 20 * math.log10(peak) if peak > 0 else -math.inf
    if peak_dbfs < SILENCE_DBFS:
        return 0.0, "is silent: not normalised"
    if target.unit == "dBFS":
        gain_db = target.level - peak_dbfs
        return gain_db, f"normalised to a peak of {target.level:g} dBFS ({gain_db:+.1f} dB)"
    if loudness_lufs == -math.inf:
        return 0.0, f"is quieter than {GATE_LUFS:g} LUFS: not normalised"
    wanted_db, allowed_db = target.level - loudness_lufs, HIGHEST_PEAK_DBFS - peak_dbfs
    if wanted_db <= allowed_db:
        return wanted_db, f"normalised to {target.level:g} LUFS ({wanted_db:+.1f} dB)"
    return allowed_db, (
        f"normalised to {loudness_lufs + allowed_db:.1f} LUFS ({allowed_db:+.1f} dB): "
        f"at {target.level:g} LUFS its peaks would exceed {HIGHEST_PEAK_DBFS:g} dBFS"
    )


class NormalisingWriter:
    """A writer that hands everything on to ``inner`` at the end, at the level of ``target``.

    Until then the samples wait in a temporary file of 32-bit floats in ``folder``, which has no name (on Windows: which
    the system removes), so that nothing is left of it however the program ends. ``inner`` is entered and left here.

    Raises what ``inner`` raises, and OutputError when the temporary file cannot be written.
    """

    def __init__(self, inner: Writer, target: Target, folder: Path) -> None:
        self.message: str | None = None
        """What was done, as a phrase for the user; known once settled."""
        self._inner = inner
        self._target = target
        self._folder = folder
        self._meter = LoudnessMeter(inner.layout.sample_rate_hz, inner.layout.n_channels)
        self._spool: BinaryIO | None = None
        self._stack = ExitStack()

    @property
    def layout(self) -> Layout:
        """The inner writer's."""
        return self._inner.layout

    @property
    def levels(self) -> Levels:
        """What was written with the gain; all zero until settled."""
        return self._inner.levels

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self._inner)
            with self._failures():
                self._spool = stack.enter_context(_nameless_file(self._folder))
            self._stack = stack.pop_all()
        return self

    def write(self, samples: npt.ArrayLike) -> None:
        """Append samples: (n,) in mono, else (n, n_channels)."""
        if self._spool is None:
            raise ValueError("write() outside the with block, or after settle()")
        audio = check_samples(samples, self.layout.n_channels)
        self._meter.push(audio)
        with self._failures():
            self._spool.write(np.ascontiguousarray(audio).tobytes())

    def settle(self) -> None:
        """Write everything with its gain and settle the inner writer. No more writing."""
        if self._spool is None:
            return
        gain_db, self.message = choose_gain(self._target, self._meter.peak, self._meter.finish())
        gain = 10 ** (gain_db / 20)
        for block in self._waiting(self._spool):
            # In float64, or a peak of 0 dBFS could be rounded to more.
            self._inner.write((block.astype(np.float64) * gain).astype(np.float32))
        self._spool = None
        self._inner.settle()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            with self._stack:
                self.settle()
        else:
            self._stack.__exit__(kind, error, trace)

    def _waiting(self, spool: BinaryIO) -> Iterator[npt.NDArray[np.float32]]:
        n_channels = self.layout.n_channels
        with self._failures():
            spool.seek(0)
        while True:
            with self._failures():
                data = spool.read(_BLOCK_SAMPLES * n_channels * np.dtype(np.float32).itemsize)
            if not data:
                return
            block = np.frombuffer(data, np.float32)
            yield block if n_channels == 1 else block.reshape(-1, n_channels)

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            where = shown_path(self._folder)
            raise OutputError(f"cannot keep the audio for --normalize in {where}: {reason(error)}") from error


@contextmanager
def _nameless_file(folder: Path) -> Iterator[BinaryIO]:
    file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
    try:
        yield file
    finally:
        # closing flushes, which fails once more on a full disk
        with contextlib.suppress(OSError):
            file.close()
