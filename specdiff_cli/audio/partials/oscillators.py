"""Partials to samples by matrix products.

Between two knots, 2.5 ms apart, a partial's frequency stands still and its amplitude changes linearly. So the samples
around a knot are a product of its partials' amplitudes and phases with a table of windowed cosines and sines, and that
table is the same for every note of a pitch: the sums over partials become one matrix product per note, which needs
no scatter and is the same on every device. A pitch that moves takes
tables 10 cents apart; the phases at the knots are those of the exact frequency.
"""

import math
from collections import OrderedDict

import torch
from torch import Tensor

BEND_STEP = 0.1  # semitones between tables
MAX_TABLES = 192
HIGHEST_SHARE = 0.98  # of half the sampling rate: higher partials are left out


class Oscillators:
    """Tables of one sampling rate, the most recent ones kept."""

    def __init__(self, rate_hz: int, hop_samples: int, device: torch.device) -> None:
        self.rate_hz, self.hop_samples, self.device = rate_hz, hop_samples, device
        self._highest_hz = HIGHEST_SHARE * rate_hz / 2
        offset = torch.arange(-hop_samples, hop_samples, dtype=torch.float64)
        self._offset, self._hat = offset, 1 - offset.abs() / hop_samples
        self._tables: OrderedDict[tuple[float, ...], Tensor] = OrderedDict()

    def render(self, amplitudes: Tensor, cycles: Tensor, frequencies_hz: Tensor, semitones: Tensor | float) -> Tensor:
        """A note's samples from its first knot to its last.

        Args:
            amplitudes: (J, K) at the knots.
            cycles: (J, K) phases at the knots, in turns from 0 to 1.
            frequencies_hz: (K,) float64 on the CPU.
            semitones: how much higher it lies, (J,) on the CPU, or throughout.

        Returns:
            ((J - 1) * hop,) float32.
        """
        angle = cycles * (2 * math.pi)
        rows = torch.cat([amplitudes * angle.cos(), amplitudes * angle.sin()], dim=1)  # (J, 2 K)
        if isinstance(semitones, float):
            around = rows @ self._table(frequencies_hz, semitones)
        else:
            around = torch.empty(len(rows), 2 * self.hop_samples, device=self.device)
            steps = torch.round(semitones / BEND_STEP)
            for step in sorted(set(steps.tolist())):
                own = (steps == step).nonzero()[:, 0].to(self.device)
                around[own] = rows[own] @ self._table(frequencies_hz, step * BEND_STEP)
        hop = self.hop_samples
        return (around[:-1, hop:] + around[1:, :hop]).reshape(-1)

    def _table(self, frequencies_hz: Tensor, semitones: float) -> Tensor:
        """(2 K, 2 hop): cosines, then negative sines, around a knot, under a triangle."""
        key = (semitones, len(frequencies_hz), *frequencies_hz[[0, -1]].tolist())
        table = self._tables.get(key)
        if table is None:
            moved_hz = frequencies_hz * 2.0 ** (semitones / 12)
            angle = moved_hz[:, None] * (2 * math.pi / self.rate_hz) * self._offset
            window = self._hat * (moved_hz < self._highest_hz)[:, None]
            table = torch.cat([angle.cos() * window, -angle.sin() * window]).float().to(self.device)
            self._tables[key] = table
            if len(self._tables) > MAX_TABLES:
                self._tables.popitem(last=False)
        else:
            self._tables.move_to_end(key)
        return table
