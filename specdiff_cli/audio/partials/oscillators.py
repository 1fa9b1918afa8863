"""Partials to samples by matrix products.

Between two knots, 3 to 5 ms apart, a partial's frequency stands still and its amplitude changes linearly. So the
samples around a knot are a product of its partials' amplitudes and phases with a table of windowed cosines and sines,
and that table is the same for every note of a pitch: the sums over partials become two matrix products, which need no
scatter and are the same on every device. Cosines are even and sines odd around the knot, so half a table does. A pitch
that moves takes tables 10 cents apart; the phases at the knots are those of the exact frequency.

Phases are counted in whole numbers: frequency times time wraps around in 64 bits as turns do, so that they are exact
however long a note lasts, on devices without float64 too.
"""

import math
from collections import OrderedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BEND_STEP = 0.1  # semitones between tables
MAX_TABLES = 192
HIGHEST_SHARE = 0.98  # of half the sampling rate: higher partials are left out
# A turn is 2^64: frequencies in units of 2^-26 Hz (3e-5 turns of error in an hour), times in units of 2^-38 s.
FREQUENCY_BITS, TIME_BITS, TURN_BITS, ANGLE_BITS = 26, 38, 64, 24

Name = tuple[float, ...]  # of a set of frequencies


def whole_turns(turns: Tensor) -> Tensor:
    """Turns (0 to 1, float64 on the CPU) as int64 that wrap around."""
    return (turns * 2.0**32).round().to(torch.int64) << 32


def whole_hz(frequencies_hz: Tensor) -> Tensor:
    """Frequencies (float64 on the CPU, below 32 kHz) as int64, see :meth:`Oscillators.rows`."""
    return (frequencies_hz * 2.0**FREQUENCY_BITS).round().to(torch.int64)


def whole_seconds(times_s: NDArray[np.float64]) -> NDArray[np.int64]:
    """Seconds as int64, see :meth:`Oscillators.rows`."""
    return np.rint(times_s * 2.0**TIME_BITS).astype(np.int64)


class Oscillators:
    """Tables of one sampling rate, the most recent ones kept."""

    def __init__(self, rate_hz: int, hop_samples: int, device: torch.device) -> None:
        self.rate_hz, self.hop_samples, self.device = rate_hz, hop_samples, device
        self._highest_hz = HIGHEST_SHARE * rate_hz / 2
        offset = torch.arange(hop_samples, dtype=torch.float64)
        self._offset, self._hat = offset, 1 - offset / hop_samples
        self._tables: OrderedDict[tuple[Name, float], tuple[Tensor, Tensor]] = OrderedDict()

    def angles(self, turns: Tensor) -> Tensor:
        """Angles in radians (float32) of phases as :func:`whole_turns` has them."""
        shortened: Tensor = (turns >> (TURN_BITS - ANGLE_BITS)).float()
        return shortened.mul_(2 * math.pi / 2**ANGLE_BITS)

    def render(
        self, waves: tuple[Tensor, Tensor], name: Name, frequencies_hz: Tensor, semitones: float, out: Tensor
    ) -> None:
        """What partials put around knots.

        Args:
            waves: twice (J, K), amplitudes times the cosines and sines of the phases at the knots.
            name: of the set of frequencies.
            frequencies_hz: (K or fewer,) float64 on the CPU.
            semitones: how much higher they lie.
            out: (2, J, hop), for the even and the odd part: their sum is what lies i = 0, 1, ... samples after the
                knots, their difference what lies i samples before them.
        """
        for wave, table, place in zip(waves, self._table(name, frequencies_hz, semitones), out, strict=True):
            torch.mm(wave[:, : len(table)], table, out=place)

    def joined(self, around: Tensor) -> Tensor:
        """Even and odd parts (2, C, J, hop) at knots to the samples from the first to the last, (C, (J - 1) * hop)."""
        even, odd = around
        samples: Tensor = even[:, :-1] + odd[:, :-1]
        samples[:, :, 1:] += (even[:, 1:, 1:] - odd[:, 1:, 1:]).flip(2)
        return samples.flatten(1)

    def _table(self, name: Name, frequencies_hz: Tensor, semitones: float) -> tuple[Tensor, Tensor]:
        """(K, hop) twice: cosines and negative sines from a knot on, under the falling half of a triangle."""
        key = name, semitones
        tables = self._tables.get(key)
        if tables is None:
            moved_hz = frequencies_hz * 2.0 ** (semitones / 12)
            angle = moved_hz[:, None] * (2 * math.pi / self.rate_hz) * self._offset
            window = self._hat * (moved_hz < self._highest_hz)[:, None]
            even, odd = angle.cos() * window, -angle.sin() * window
            self._tables[key] = tables = even.float().to(self.device), odd.float().to(self.device)
            if len(self._tables) > MAX_TABLES:
                self._tables.popitem(last=False)
        else:
            self._tables.move_to_end(key)
        return tables
