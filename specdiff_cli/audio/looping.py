"""A writer for music that was played twice round: it keeps what a player repeats, and makes its ends meet."""

import math
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from specdiff_cli.audio.encoding import Layout, Levels, check_samples
from specdiff_cli.audio.normalise import NormalisingWriter
from specdiff_cli.audio.tags import Loop
from specdiff_cli.audio.wav import AtomicWriter, StreamWriter

FADE_S = 0.05


@dataclass(frozen=True, slots=True)
class LoopPlan:
    """What is rendered is an introduction and the loop twice; what is kept is the second time, behind an introduction.

    Without an introduction the first time round is left out; with one the file is the introduction, the loop, and the
    loop that repeats. Times in seconds.
    """

    intro_s: float
    length_s: float

    def loop(self, rate_hz: int) -> Loop:
        """The samples of the file that repeat."""
        first = round((self.intro_s + self.length_s) * rate_hz) if self.intro_s else 0
        return Loop(first, first + round(self.length_s * rate_hz))


class LoopingWriter:
    """Hands on to ``inner`` what belongs into the file; of the samples, the first :attr:`n_skipped` are left out.

    The last 50 ms of the loop fade into what came before its beginning. That is the end of the first time round: the
    same notes, and their sound goes on into the beginning without a step.
    """

    def __init__(self, inner: AtomicWriter | StreamWriter | NormalisingWriter, plan: LoopPlan) -> None:
        rate_hz = inner.layout.sample_rate_hz
        self._inner = inner
        self._loop = plan.loop(rate_hz)
        self._n_loop = self._loop.end - self._loop.start
        self.n_skipped = 0 if plan.intro_s else self._n_loop
        n_fade = min(round(FADE_S * rate_hz), self._n_loop // 4)
        self._n_read = 0
        self._before: list[npt.NDArray[np.float64]] = []
        # where the samples lie, in what is rendered, that lead into the beginning, and those they replace
        start = self.n_skipped + self._loop.start
        self._before_range = (max(0, start - n_fade), start)
        self._end_range = (start + self._n_loop - (start - self._before_range[0]), start + self._n_loop)

    @property
    def layout(self) -> Layout:
        """The inner writer's."""
        return self._inner.layout

    @property
    def levels(self) -> Levels:
        """The inner writer's."""
        return self._inner.levels

    @property
    def message(self) -> str | None:
        """The inner writer's, where it has one."""
        return getattr(self._inner, "message", None)

    def __enter__(self) -> Self:
        self._inner.__enter__()
        return self

    def write(self, samples: npt.ArrayLike) -> None:
        """Take the next samples of what is rendered."""
        audio = check_samples(samples, self.layout.n_channels)
        first, last = self._n_read, self._n_read + len(audio)
        self._n_read = last
        low, high = (np.clip(self._before_range, first, last) - first).tolist()
        if high > low:
            self._before.append(audio[low:high].astype(np.float64))
        low, high = (np.clip(self._end_range, first, last) - first).tolist()
        if high > low:
            audio = audio.copy()
            audio[low:high] = self._faded(audio[low:high], first + low - self._end_range[0])
        end = self._end_range[1]
        self._inner.write(audio[max(0, self.n_skipped - first) : max(0, end - first)])

    def _faded(self, audio: npt.NDArray[np.float32], at: int) -> npt.NDArray[np.float32]:
        """Samples at the end, the first of them number ``at`` of the fade, on their way to what came before."""
        before = np.concatenate(self._before)
        n_fade = len(before)
        # two renders of the same notes: alike, so their amplitudes add up
        weights = 0.5 - 0.5 * np.cos(math.pi * (np.arange(at, at + len(audio)) + 1) / n_fade)
        weights = weights.reshape(-1, *[1] * (audio.ndim - 1))
        return np.asarray((1 - weights) * audio + weights * before[at : at + len(audio)], dtype=np.float32)

    def settle(self) -> None:
        """As the inner writer."""
        self._inner.settle()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._inner.__exit__(kind, error, trace)
