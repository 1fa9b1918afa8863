"""Integrated loudness (ITU-R BS.1770-4) of audio as it streams. Nothing here imports torch or scipy."""

import math

import numpy as np
import numpy.typing as npt

from specdiff_cli.audio.encoding import check_samples

LOWEST_RATE_HZ = 8_000  # below it too little is left to judge by
MAX_CHANNELS = 2  # more would need to know which of them surround
GATE_LUFS = -70.0  # what is quieter never counts
RELATIVE_GATE_LU = -10.0

# ITU-R BS.1770-4, annex 1, tables 1 and 2: numerator and denominator of the shelf and of the high-pass.
_FILTERS_HZ = 48_000
_FILTERS = (
    ((1.53512485958697, -2.69169618940638, 1.19839281085285), (1.0, -1.69065929318241, 0.73248077421585)),
    ((1.0, -2.0, 1.0), (1.0, -1.99004745483398, 0.99007225036621)),
)
_OFFSET_LU = -0.691
_PARTS_PER_BLOCK = 4  # blocks of 400 ms that overlap by three quarters: parts of 100 ms
_PARTS_PER_STEP = 10
# Blocks are counted by loudness in bins so fine that a gate in the middle of one does not matter.
_BIN_LU = 0.01
_HIGHEST_LUFS = 50.0
_N_BINS = round((_HIGHEST_LUFS - GATE_LUFS) / _BIN_LU)


class LoudnessMeter:
    """Peak and integrated loudness of audio that arrives in chunks, in memory that does not grow with it.

    Samples are (n,) in mono, else (n, 2); values that are not finite count as silence.
    """

    def __init__(self, sample_rate_hz: int, n_channels: int = 1) -> None:
        if sample_rate_hz < LOWEST_RATE_HZ or not 1 <= n_channels <= MAX_CHANNELS:
            raise ValueError(f"no loudness of {n_channels} channels at {sample_rate_hz} Hz")
        self.peak = 0.0
        """Largest absolute sample so far."""
        self._n_channels = n_channels
        self._part_samples = round(sample_rate_hz / 10)
        self._step_samples = _PARTS_PER_STEP * self._part_samples
        # The weighting rings for less than a quarter of a second: that much past decides the present.
        self._past_samples = self._step_samples // 4
        self._response = weighting(sample_rate_hz, self._past_samples + self._step_samples)
        self._waiting = np.zeros((n_channels, self._past_samples))  # the past, and what is not measured yet
        self._last_parts = np.empty(0)
        self._counts = np.zeros(_N_BINS, np.int64)
        self._powers = np.zeros(_N_BINS)

    def push(self, samples: npt.ArrayLike) -> None:
        """Take the next samples."""
        audio = np.nan_to_num(check_samples(samples, self._n_channels), nan=0.0, posinf=0.0, neginf=0.0)
        if not audio.size:
            return
        self.peak = max(self.peak, float(np.abs(audio).max()))
        self._waiting = np.concatenate([self._waiting, audio.reshape(-1, self._n_channels).T], axis=1)
        while self._n_waiting >= self._step_samples:
            self._take(self._weighted())
            self._waiting = self._waiting[:, self._step_samples :]
        self._waiting = self._waiting.copy()  # so that a long chunk is not kept for its end

    def finish(self) -> float:
        """Loudness of all that was pushed, in LUFS; -inf for silence. Audio under 400 ms is measured as one block.

        Nothing can be pushed afterwards.
        """
        n_left, n_whole = self._n_waiting, self._n_waiting // self._part_samples
        missing = np.zeros((self._n_channels, self._step_samples - n_left))
        self._waiting = np.concatenate([self._waiting, missing], axis=1)
        weighted = self._weighted()
        if len(self._last_parts) == 0 and 0 < n_left < _PARTS_PER_BLOCK * self._part_samples:
            self._count(np.array([_power(weighted[:, :n_left])]))
        else:
            self._take(weighted[:, : n_whole * self._part_samples])
        return self._gated()

    @property
    def _n_waiting(self) -> int:
        return self._waiting.shape[1] - self._past_samples

    def _weighted(self) -> npt.NDArray[np.float64]:
        """The next step of the signal, weighted, (n_channels, step)."""
        n_samples = self._past_samples + self._step_samples
        spectrum = np.fft.rfft(self._waiting[:, :n_samples])
        # The product wraps around at the start, which is the past and thrown away.
        weighted: npt.NDArray[np.float64] = np.fft.irfft(spectrum * self._response, n_samples)[:, self._past_samples :]
        return weighted

    def _take(self, weighted: npt.NDArray[np.float64]) -> None:
        """Count the blocks that end in these whole parts."""
        parts = weighted.reshape(self._n_channels, -1, self._part_samples)
        powers = np.concatenate([self._last_parts, np.square(parts).mean(axis=2).sum(axis=0)])
        if len(powers) >= _PARTS_PER_BLOCK:
            self._count(np.convolve(powers, np.full(_PARTS_PER_BLOCK, 1 / _PARTS_PER_BLOCK), mode="valid"))
        self._last_parts = powers[1 - _PARTS_PER_BLOCK :]

    def _count(self, powers: npt.NDArray[np.float64]) -> None:
        loudness = _OFFSET_LU + 10 * np.log10(np.maximum(powers, 1e-30))
        heard = loudness > GATE_LUFS
        bins = np.minimum(_bin_of(loudness[heard]), _N_BINS - 1)
        np.add.at(self._counts, bins, 1)
        np.add.at(self._powers, bins, powers[heard])

    def _gated(self) -> float:
        if not self._counts.any():
            return -math.inf
        first = _OFFSET_LU + 10 * math.log10(self._powers.sum() / self._counts.sum()) + RELATIVE_GATE_LU
        kept = slice(min(max(0, int(_bin_of(np.array(first)))), _N_BINS - 1), None)
        return _OFFSET_LU + 10 * math.log10(float(self._powers[kept].sum() / self._counts[kept].sum()))


def weighting(sample_rate_hz: int, n_samples: int) -> npt.NDArray[np.complex128]:
    """The K-weighting's response at the frequencies of a real FFT of ``n_samples``, (n_samples // 2 + 1,).

    The standard's filters for 48 kHz, at whatever rate: filters made anew for 16 kHz are a tenth of a LU off, since
    there the shelf has little room.
    """
    hertz = np.minimum(np.arange(n_samples // 2 + 1) * sample_rate_hz / n_samples, _FILTERS_HZ / 2)
    delay = np.exp(-2j * np.pi * hertz / _FILTERS_HZ)  # of one sample at 48 kHz
    response: npt.NDArray[np.complex128] = np.ones(len(delay), np.complex128)
    for numerator, denominator in _FILTERS:
        response *= np.polyval(numerator[::-1], delay) / np.polyval(denominator[::-1], delay)
    return response


def _power(weighted: npt.NDArray[np.float64]) -> float:
    return float(np.square(weighted).mean(axis=1).sum())


def _bin_of(loudness: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    bins: npt.NDArray[np.int64] = np.floor((loudness - GATE_LUFS) / _BIN_LU).astype(np.int64)
    return bins
