"""``--normalize``: one gain for a whole piece of audio, which must be heard to its end before the gain is known.

Where a loudness needs more gain than the peaks leave room for, a limiter turns those peaks down.
"""

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
from specdiff_cli.audio.limiter import Limiter
from specdiff_cli.audio.loudness import GATE_LUFS, LoudnessMeter
from specdiff_cli.audio.wav import Writer
from specdiff_cli.errors import Option, OutputError, UsageError
from specdiff_cli.files import reason, shown_path

#: Unit -> level where none is given, lowest and highest level.
LEVELS = {"dBFS": (-1.0, -60.0, 0.0), "LUFS": (-16.0, -60.0, -5.0)}
HIGHEST_PEAK_DBFS = -1.0  # a loudness is not reached at the price of peaks beyond this
MOST_LIMITING_DB = 24.0  # beyond it a single click would decide the sound of the song
SILENCE_DBFS = -90.0  # half a step of 16 bits

_PATTERN = re.compile(r"\s*([-+]?[0-9]+(?:\.[0-9]*)?)?\s*(dbfs|lufs)\s*", re.IGNORECASE)
_BLOCK_SAMPLES = 1 << 16
_TOLERANCE_LU = 0.05  # half of what is shown
_MAX_MEASURINGS = 6  # two or three do


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
            meant = f"-{value.lstrip('+-')}"  # of digital sound all levels are below 0
            rule = f"of what? {meant}LUFS is a loudness, {meant}dBFS the highest peak"
            raise UsageError.of("normalize", value, rule)
        rule = "is no level; give a peak such as -1dBFS or a loudness such as -16LUFS"
        raise UsageError.of("normalize", text, rule)
    unit = next(unit for unit in LEVELS if unit.lower() == found[2].lower())
    default, lowest, highest = LEVELS[unit]
    level = default if found[1] is None else float(found[1])
    if not lowest <= level <= highest:
        raise UsageError.of("normalize", text, f"must be between {lowest:g} and {highest:g} {unit}")
    return Target(level + 0.0, unit)  # -0 becomes 0


@dataclass(frozen=True, slots=True)
class Gain:
    """What is done to the level, and a phrase for the user about it; ``limits``: as far as peaks have no room."""

    gain_db: float
    message: str
    limits: bool = False


def choose_gain(target: Target, peak: float, loudness_lufs: float) -> Gain:
    """The gain that brings audio to the target; ``limits`` where its peaks have no room for it."""
    peak_dbfs = 20 * math.log10(peak) if peak > 0 else -math.inf
    if peak_dbfs < SILENCE_DBFS:
        return Gain(0.0, "is silent: not normalised")
    if target.unit == "dBFS":
        gain_db = target.level - peak_dbfs
        return Gain(gain_db, f"normalised to a peak of {target.level:g} dBFS ({gain_db:+.1f} dB)")
    if loudness_lufs == -math.inf:
        return Gain(0.0, f"is quieter than {GATE_LUFS:g} LUFS: not normalised")
    gain_db = target.level - loudness_lufs
    message = f"normalised to {target.level:g} LUFS ({gain_db:+.1f} dB)"
    return Gain(gain_db, message, limits=gain_db > HIGHEST_PEAK_DBFS - peak_dbfs)


class NormalisingWriter:
    """A writer that hands everything on to ``inner`` at the end, at the level of ``target``.

    Until then the samples wait in a temporary file of 32-bit floats in ``folder``, which has no name (on Windows: which
    the system removes), so that nothing is left of it however the program ends. ``inner`` is entered and left here.

    ``limits`` false: a loudness that the peaks have no room for is not reached. A loop must be so, since a limiter's
    gain at its end is not that at its beginning.

    Raises what ``inner`` raises, and OutputError when the temporary file cannot be written.
    """

    def __init__(self, inner: Writer, target: Target, folder: Path, *, limits: bool = True) -> None:
        self.message: str | None = None
        """What was done, as a phrase for the user; known once settled."""
        self._inner = inner
        self._target = target
        self._folder = folder
        self._limits = limits
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
        peak, loudness_lufs = self._meter.peak, self._meter.finish()
        chosen = choose_gain(self._target, peak, loudness_lufs)
        if chosen.limits:
            allowed_db = HIGHEST_PEAK_DBFS - 20 * math.log10(peak)
            chosen = self._limited(self._spool, loudness_lufs, allowed_db)
        self.message = chosen.message
        for block in self._with_gain(self._spool, chosen):
            self._inner.write(block)
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

    def _limited(self, spool: BinaryIO, loudness_lufs: float, allowed_db: float) -> Gain:
        """The gain with which limited audio has the loudness: what the limiter takes must be added again, and so on.

        ``allowed_db``: the gain up to which nothing need be limited, and the loudness is known without listening.
        """
        level = self._target.level
        if not self._limits:
            reached = f"normalised to {loudness_lufs + allowed_db:.1f} LUFS ({allowed_db:+.1f} dB)"
            why = f"at {level:g} LUFS its peaks would exceed {HIGHEST_PEAK_DBFS:g} dBFS, and loops are not limited"
            return Gain(allowed_db, f"{reached}: {why}")
        highest_db = allowed_db + MOST_LIMITING_DB
        known_db, known_lufs = allowed_db, loudness_lufs + allowed_db
        gain_db = min(level - loudness_lufs, highest_db)
        for _ in range(_MAX_MEASURINGS):
            limiter, reached_lufs = self._listen(spool, gain_db)
            missing = level - reached_lufs
            if abs(missing) <= _TOLERANCE_LU or (missing > 0 and gain_db >= highest_db):
                break
            # The loudness rises ever more slowly with the gain; the last stretch tells how fast.
            slope = min(max((reached_lufs - known_lufs) / (gain_db - known_db), 0.1), 1.0)
            known_db, known_lufs = gain_db, reached_lufs
            gain_db = min(gain_db + missing / slope, highest_db)
        share = 100 * limiter.n_limited / limiter.n_samples
        told = f"{gain_db:+.1f} dB, its peaks limited by up to {limiter.most_db:.1f} dB in {share:.1f} % of the time"
        if abs(missing) <= 2 * _TOLERANCE_LU:
            return Gain(gain_db, f"normalised to {level:g} LUFS ({told})", limits=True)
        more = f"for {level:g} LUFS they would have to be limited by more than {MOST_LIMITING_DB:g} dB"
        return Gain(gain_db, f"normalised to {reached_lufs:.1f} LUFS ({told}): {more}", limits=True)

    def _listen(self, spool: BinaryIO, gain_db: float) -> tuple[Limiter, float]:
        """The audio with a gain, limited: what that took, and how loud it is then in LUFS."""
        meter = LoudnessMeter(self.layout.sample_rate_hz, self.layout.n_channels)
        limiter = self._limiter(gain_db)
        for block in self._through(limiter, spool):
            meter.push(block)
        return limiter, meter.finish()

    def _limiter(self, gain_db: float) -> Limiter:
        return Limiter(gain_db, 10 ** (HIGHEST_PEAK_DBFS / 20), self.layout.sample_rate_hz)

    def _with_gain(self, spool: BinaryIO, chosen: Gain) -> Iterator[npt.NDArray[np.float32]]:
        if chosen.limits:
            yield from self._through(self._limiter(chosen.gain_db), spool)
            return
        gain = 10 ** (chosen.gain_db / 20)
        for block in self._waiting(spool):
            # In float64, or a peak of 0 dBFS could be rounded to more.
            yield (block.astype(np.float64) * gain).astype(np.float32)

    def _through(self, limiter: Limiter, spool: BinaryIO) -> Iterator[npt.NDArray[np.float32]]:
        for block in self._waiting(spool):
            yield limiter.push(block)
        yield limiter.flush()

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
            where = f" in {shown_path(self._folder)}: {reason(error)}"
            raise OutputError("cannot keep the audio for ", Option("normalize"), where) from error


@contextmanager
def _nameless_file(folder: Path) -> Iterator[BinaryIO]:
    file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
    try:
        yield file
    finally:
        # closing flushes, which fails once more on a full disk
        with contextlib.suppress(OSError):
            file.close()
