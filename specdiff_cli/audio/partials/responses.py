"""What sinusoids and noise of unit amplitude put into the mel bands and the bands above them.

Under the reference's 640-sample Hann window a partial is a main lobe four bins of 25 Hz wide, so its mel is known in
advance: with these tables a note's spectrogram is told apart into partials and noise.
"""

import math
from functools import lru_cache

import torch

from specdiff_cli.audio.mel import N_BINS, hann_window, hz_to_mel, mel_matrix
from specdiff_cli.constants import (
    FFT_SAMPLES,
    FRAME_SAMPLES,
    HIGH_BAND_HZ,
    HIGH_MIN_HZ,
    MEL_MAX_HZ,
    N_HIGH_BANDS,
    N_MELS,
    SAMPLE_RATE_HZ,
)

TOP_HZ = HIGH_MIN_HZ + N_HIGH_BANDS * HIGH_BAND_HZ  # 20 kHz

_WINDOW_ENERGY = float(hann_window().double().square().sum())
#: Mean magnitude of a bin of white noise of variance 1: a Rayleigh distribution's.
NOISE_MAGNITUDE = math.sqrt(math.pi / 4 * _WINDOW_ENERGY)
#: Power that a sinusoid of amplitude 1 leaves in the bins of its lobe, added up (Parseval).
PARTIAL_POWER = FFT_SAMPLES * _WINDOW_ENERGY / 4
#: Power that white noise of variance 1 leaves in a band of 750 Hz.
HIGH_NOISE_POWER = HIGH_BAND_HZ * FFT_SAMPLES / SAMPLE_RATE_HZ * _WINDOW_ENERGY
BIN_HZ, BESIDE_HZ = SAMPLE_RATE_HZ / FFT_SAMPLES, 300.0  # so far from its frequency a sinusoid is not heard
_POLE = 1e-6


def lobe(offset_hz: torch.Tensor) -> torch.Tensor:
    """Magnitude of a sinusoid of amplitude 1 under the analysis window, ``offset_hz`` from its frequency, any shape."""
    x = offset_hz.double() * (FRAME_SAMPLES / SAMPLE_RATE_HZ)  # in bins of the window's own length
    denominator = 1 - x.square()
    at_pole = denominator.abs() < _POLE
    value = torch.where(at_pole, torch.full_like(x, 0.5), torch.sinc(x) / torch.where(at_pole, 1.0, denominator))
    return value.abs() * (FRAME_SAMPLES / 4)


def lobe_powers(frequencies_hz: torch.Tensor) -> torch.Tensor:
    """Squared magnitudes in the 513 bins of sinusoids of amplitude 1: (K,) to (K, 513) float32.

    Further than ``BESIDE_HZ`` from a sinusoid, where it is 100 dB weaker, they are 0.
    """
    n_beside = math.ceil(BESIDE_HZ / BIN_HZ)
    nearest = (frequencies_hz.double() / BIN_HZ).round().long()
    bins = nearest[:, None] + torch.arange(-n_beside, n_beside + 1, device=nearest.device)
    powers = lobe(bins * BIN_HZ - frequencies_hz[:, None]).square().float()
    inside = (bins >= 0) & (bins < N_BINS)
    near = torch.zeros(len(bins), N_BINS, device=powers.device)
    return near.scatter_add_(1, bins.clamp(0, N_BINS - 1), powers * inside)


@lru_cache(maxsize=1)
def mel_weights() -> torch.Tensor:
    """Bins to mel bands, (513, 128) float32."""
    return torch.from_numpy(mel_matrix())


class Banded:
    """A matrix whose columns reach few neighbouring rows each: products with it pass over most of its zeros.

    Args:
        matrix: (R, N).
        n_parts: equal shares of its columns, each with the rows that it needs.
    """

    def __init__(self, matrix: torch.Tensor, n_parts: int, device: torch.device) -> None:
        self._parts: list[tuple[int, torch.Tensor]] = []  # first row, (rows, columns)
        for columns in matrix.tensor_split(n_parts, dim=1):
            rows = columns.any(1).nonzero()[:, 0].tolist() or [0]
            self._parts.append((rows[0], columns[rows[0] : rows[-1] + 1].contiguous().to(device)))

    def product(self, x: torch.Tensor) -> torch.Tensor:
        """(..., n) times the first n <= R rows, (..., N)."""
        parts = []
        for first, columns in self._parts:
            own = x[..., first : first + len(columns)]
            parts.append(own @ columns[: own.shape[-1]])
        return torch.cat(parts, dim=-1)


@lru_cache(maxsize=4)
def to_mel(device: torch.device) -> Banded:
    """:func:`mel_weights` for products on a device."""
    return Banded(mel_weights(), 4, device)


@lru_cache(maxsize=1)
def noise_response() -> torch.Tensor:
    """Mel of white noise of variance 1, (128,) float32; 0 where a band's triangle reaches no bin."""
    return mel_weights().sum(0) * NOISE_MAGNITUDE


@lru_cache(maxsize=1)
def band_centres_hz() -> torch.Tensor:
    """Centres of the 128 mel bands, then of the 16 bands above 8 kHz, (144,) float64."""
    mel = torch.arange(1, N_MELS + 1, dtype=torch.float64) * (float(hz_to_mel(MEL_MAX_HZ)) / (N_MELS + 1))
    low = 700.0 * torch.expm1(mel / 1127.0)
    high = HIGH_MIN_HZ + HIGH_BAND_HZ * (torch.arange(N_HIGH_BANDS, dtype=torch.float64) + 0.5)
    return torch.cat([low, high])


def interpolation(frequencies_hz: torch.Tensor) -> torch.Tensor:
    """Weights that read values of the 144 bands at frequencies, linearly between their centres: (N,) to (144, N)."""
    centres = band_centres_hz()
    place = torch.bucketize(frequencies_hz.double(), centres).clamp(1, len(centres) - 1)
    low, high = centres[place - 1], centres[place]
    upper = ((frequencies_hz - low) / (high - low)).clamp(0, 1)
    weights = torch.zeros(len(frequencies_hz), len(centres), dtype=torch.float64)
    weights.scatter_(1, (place - 1)[:, None], (1 - upper)[:, None])
    weights.scatter_(1, place[:, None], upper[:, None])
    return weights.T.float().contiguous()
