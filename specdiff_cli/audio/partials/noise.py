"""Noise whose bands follow gains: one fixed bank of band noises, read at places that absolute time and the seed give.

Filtering noise frame by frame smears every onset over a window. Here the bands are filtered once, before any gain: a
gain that jumps makes a sharp onset, and nothing sounds before it. All notes share the bank, since the powers of their
noises add, so the cost does not depend on how many there are.
"""

import math
from functools import lru_cache

import torch

_NARROWEST_HZ, _RELATIVE_WIDTH = 75.0, 0.07
BANK_S = 3.0
SEGMENT_KNOTS, FADE_KNOTS = 400, 8  # read in a row before the place in the bank changes, and while it changes
_SEED = 0x5EED
_PRIME = 2_147_483_647
_FACTORS = (48_271, 69_621, 16_807)


def noise_centres_hz(top_hz: float) -> torch.Tensor:
    """Centres of the noise bands, (B,) float64: 75 Hz apart at first, then 7 % apart, the last one at ``top_hz``."""
    centres = [_NARROWEST_HZ / 2]
    while centres[-1] < top_hz:
        centres.append(centres[-1] + max(_NARROWEST_HZ, _RELATIVE_WIDTH * centres[-1]))
    centres[-1] = top_hz
    return torch.tensor(centres, dtype=torch.float64)


def noise_shares(frequencies_hz: torch.Tensor, top_hz: float) -> torch.Tensor:
    """Share of each band at frequencies, (N,) to (N, B) float32: triangles that add up to 1 below ``top_hz``."""
    centres = noise_centres_hz(top_hz)
    place = torch.bucketize(frequencies_hz.double(), centres).clamp(1, len(centres) - 1)
    low, high = centres[place - 1], centres[place]
    upper = ((frequencies_hz - low) / (high - low)).clamp(0, 1)
    weights = torch.zeros(len(frequencies_hz), len(centres), dtype=torch.float64)
    weights.scatter_(1, (place - 1)[:, None], (1 - upper)[:, None])
    weights.scatter_(1, place[:, None], upper[:, None])
    return (weights * (frequencies_hz <= top_hz)[:, None]).float()


def scramble(numbers: torch.Tensor) -> torch.Tensor:
    """int64 from 0 to 2^31 - 2 that look random and depend on the given ones alone (a Lehmer generator's steps)."""
    mixed = numbers % _PRIME
    for factor in _FACTORS:
        mixed = (mixed * factor + 12_345) % _PRIME
        mixed = mixed ^ (mixed >> 13)
    return mixed


class NoiseBank:
    """White noise of variance 1 in bands, cut into pieces of ``hop_samples``."""

    def __init__(self, rate_hz: int, hop_samples: int, top_hz: float, device: torch.device) -> None:
        self.hop_samples = hop_samples
        self.n_bands = len(noise_centres_hz(top_hz))
        n_samples = 1 << math.ceil(math.log2(BANK_S * rate_hz))
        self.n_pieces = n_samples // hop_samples
        generator = torch.Generator().manual_seed(_SEED)
        spectrum = torch.fft.rfft(torch.randn(n_samples, generator=generator))
        frequencies_hz = torch.arange(n_samples // 2 + 1, dtype=torch.float64) * (rate_hz / n_samples)
        shares = noise_shares(frequencies_hz, top_hz)
        pieces = torch.empty(self.n_pieces, self.n_bands, hop_samples)
        for band in range(self.n_bands):
            noise = torch.fft.irfft(spectrum * shares[:, band], n=n_samples)
            pieces[:, band] = noise[: self.n_pieces * hop_samples].view(self.n_pieces, hop_samples)
        self._pieces = pieces.to(device)
        ramp = torch.arange(hop_samples) / hop_samples
        self._ramps = torch.stack([1 - ramp, ramp]).to(device)  # (2, hop)
        angle = (torch.arange(FADE_KNOTS)[:, None] + ramp) * (math.pi / 2 / FADE_KNOTS)
        self._rising, self._falling = angle.sin()[:, None].to(device), angle.cos()[:, None].to(device)

    def render(self, gains: torch.Tensor, first_knot: int, seed: int) -> torch.Tensor:
        """Noise with gains that change linearly from knot to knot.

        Args:
            gains: (C, n + 1, B) at the knots, per channel.
            first_knot: number of the first one since the start of the song.
            seed: another seed reads other places of the bank.

        Returns:
            (C, n * hop_samples) float32.
        """
        n_channels, n_knots, _ = gains.shape
        noise = self._noise(first_knot, n_knots - 1, seed)  # (n, B, hop)
        ends = torch.cat([gains[:, :-1], gains[:, 1:]])  # (2 C, n, B)
        parts = torch.bmm(ends.transpose(0, 1).contiguous(), noise)  # (n, 2 C, hop)
        parts = parts.view(-1, 2, n_channels, self.hop_samples) * self._ramps[:, None]
        return parts.sum(1).transpose(0, 1).reshape(n_channels, -1)

    def _noise(self, first_knot: int, n_pieces: int, seed: int) -> torch.Tensor:
        """(n_pieces, B, hop): stretches of the bank, faded into each other with constant power."""
        knots = torch.arange(first_knot, first_knot + n_pieces)
        segment = knots // SEGMENT_KNOTS
        noise = self._pieces[self._places(knots, segment, seed)]
        into = knots - segment * SEGMENT_KNOTS
        fading = (into < FADE_KNOTS).nonzero()[:, 0]
        if len(fading):
            before = self._pieces[self._places(knots[fading], segment[fading] - 1, seed)]
            step, fading = into[fading].to(noise.device), fading.to(noise.device)
            noise[fading] = noise[fading] * self._rising[step] + before * self._falling[step]
        return noise

    def _places(self, knots: torch.Tensor, segment: torch.Tensor, seed: int) -> torch.Tensor:
        return ((knots + scramble(segment + 1_000_003 * seed)) % self.n_pieces).to(self._pieces.device)


@lru_cache(maxsize=4)
def noise_bank(rate_hz: int, hop_samples: int, top_hz: float, device: torch.device) -> NoiseBank:
    """A bank, made once."""
    return NoiseBank(rate_hz, hop_samples, top_hz, device)
