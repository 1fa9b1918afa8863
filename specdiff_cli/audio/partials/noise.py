"""Noise whose bands follow gains: one fixed bank of band noises, read at places that absolute time and the seed give.

Filtering noise frame by frame smears every onset over a window. Here the bands are filtered once, before any gain: a
gain that jumps makes a sharp onset, and nothing sounds before it. All notes share the bank, since the powers of their
noises add, so the cost does not depend on how many there are.
"""

import math
from functools import lru_cache
from typing import TypeVar

import torch

_NARROWEST_HZ, _RELATIVE_WIDTH = 75.0, 0.07
BANK_S = 3.0
SEGMENT_KNOTS, FADE_KNOTS = 400, 8  # read in a row before the place in the bank changes, and while it changes
BANDS_AT_ONCE = 16  # that the bank is made of, some megabytes
_SEED = 0x5EED
_PRIME = 2_147_483_647
_FACTORS = (48_271, 69_621, 16_807)

Whole = TypeVar("Whole", int, torch.Tensor)


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


def scramble(numbers: Whole) -> Whole:
    """Numbers from 0 to 2^31 - 2 that look random and depend on the given ones alone (a Lehmer generator's steps)."""
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
        # Whole pieces, so that the last one goes on into the first: a transform's noise is periodic.
        self.n_pieces = 1 << round(math.log2(BANK_S * rate_hz / hop_samples))
        n_samples = self.n_pieces * hop_samples
        generator = torch.Generator().manual_seed(_SEED)
        spectrum = torch.fft.rfft(torch.randn(n_samples, generator=generator))
        frequencies_hz = torch.arange(n_samples // 2 + 1, dtype=torch.float64) * (rate_hz / n_samples)
        shares = noise_shares(frequencies_hz, top_hz)
        pieces = torch.empty(self.n_pieces, self.n_bands, hop_samples)
        # Several transforms in one call: preparing a call takes longer than a transform.
        for first, some in enumerate(torch.split(shares.T, BANDS_AT_ONCE)):
            noise = torch.fft.irfft(spectrum * some, n=n_samples)
            bands = slice(first * BANDS_AT_ONCE, first * BANDS_AT_ONCE + len(some))
            pieces[:, bands] = noise.view(len(some), self.n_pieces, hop_samples).transpose(0, 1)
        self._pieces = pieces.to(device)
        ramp = torch.arange(hop_samples) / hop_samples
        self._ramps = torch.stack([1 - ramp, ramp]).to(device)  # (2, hop)
        angle = (torch.arange(FADE_KNOTS)[:, None] + ramp) * (math.pi / 2 / FADE_KNOTS)
        self._rising, self._falling = angle.sin()[:, None].to(device), angle.cos()[:, None].to(device)

    def render(self, gains: torch.Tensor, first_knot: int, seed: int) -> torch.Tensor:
        """Noise with gains that change linearly within each hop.

        Args:
            gains: (2, C, n, B) at the beginnings and at the ends of n hops, per channel.
            first_knot: number of the first hop since the start of the song.
            seed: another seed reads other places of the bank.

        Returns:
            (C, n * hop_samples) float32.
        """
        noise = self._noise(first_knot, gains.shape[2], seed)  # (n, B, hop)
        return self._shaped(gains, noise).flatten(1)

    def at(self, gains: torch.Tensor, knots: torch.Tensor, begun: torch.Tensor, seed: int) -> torch.Tensor:
        """The same for any hops (n,) int64 of the song: those that ``begun`` (n,) at one hop fit together.

        Returns (C, n, hop_samples).
        """
        segment = begun // SEGMENT_KNOTS
        return self._shaped(gains, self._pieces.index_select(0, self._places(knots, segment, seed)))

    def _shaped(self, gains: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """(2, C, n, B) gains on (n, B, hop) noise -> (C, n, hop)."""
        _, n_channels, n_hops, _ = gains.shape
        parts = torch.bmm(gains.flatten(0, 1).transpose(0, 1).contiguous(), noise)  # (n, 2 C, hop)
        parts = parts.view(n_hops, 2, n_channels, self.hop_samples) * self._ramps[:, None]
        return parts.sum(1).transpose(0, 1)

    def _noise(self, first_knot: int, n_pieces: int, seed: int) -> torch.Tensor:
        """(n_pieces, B, hop): stretches of the bank, faded into each other with constant power."""
        device = self._pieces.device
        knots = torch.arange(first_knot, first_knot + n_pieces, device=device)
        noise = self._pieces.index_select(0, self._places(knots, knots // SEGMENT_KNOTS, seed))
        for segment in range(first_knot // SEGMENT_KNOTS, (first_knot + n_pieces - 1) // SEGMENT_KNOTS + 1):
            start = segment * SEGMENT_KNOTS
            first, end = max(start, first_knot), min(start + FADE_KNOTS, first_knot + n_pieces)
            if first < end:
                fading = torch.arange(first, end, device=device)
                before = self._pieces.index_select(0, self._places(fading, fading // SEGMENT_KNOTS - 1, seed))
                own = noise[first - first_knot : end - first_knot]
                own *= self._rising[first - start : end - start]
                own += before * self._falling[first - start : end - start]
        return noise

    def _places(self, knots: torch.Tensor, segment: torch.Tensor, seed: int) -> torch.Tensor:
        return (knots + scramble(segment + 1_000_003 * seed)) % self.n_pieces


@lru_cache(maxsize=4)
def noise_bank(rate_hz: int, hop_samples: int, top_hz: float, device: torch.device) -> NoiseBank:
    """A bank, made once."""
    return NoiseBank(rate_hz, hop_samples, top_hz, device)
