"""Audio at our 16 kHz to the rates of other equipment, as it streams. Nothing here imports torch."""

from typing import Any

import numpy as np
import numpy.typing as npt

from specdiff_cli.audio.encoding import check_samples
from specdiff_cli.constants import SAMPLE_RATE_HZ
from specdiff_cli.errors import UsageError

RATES_HZ = (SAMPLE_RATE_HZ, 44_100, 48_000)


def check_rate(rate_hz: int) -> int:
    """The rate, if audio can be written at it. Raises UsageError."""
    if rate_hz not in RATES_HZ:
        raise UsageError.of("sample_rate", rate_hz, f"is not one of {', '.join(map(str, RATES_HZ))}")
    return rate_hz


class Resampler:
    """Audio at 16 kHz that arrives in chunks, converted to ``rate_hz`` by soxr (linear phase, "HQ").

    What comes out is the same to the bit however the audio was cut into chunks; it is not delayed against what went
    in, and of the exact length. Chunks are float32, (n,) in mono, else (n, n_channels).
    """

    def __init__(self, rate_hz: int, n_channels: int = 1) -> None:
        self.rate_hz = rate_hz
        self._n_channels = n_channels
        self._start()

    def _start(self) -> None:
        import soxr

        self._n_taken = self._n_given = 0
        self._stream: Any = soxr.ResampleStream(
            SAMPLE_RATE_HZ, self.rate_hz, self._n_channels, dtype="float32", quality="HQ"
        )

    def count_samples(self, n_samples: int) -> int:
        """Length (per channel) of what ``n_samples`` at 16 kHz become."""
        return round(n_samples * self.rate_hz / SAMPLE_RATE_HZ)

    def push(self, chunk: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Take the next samples; return those that are now certain, often fewer or more than went in."""
        return self._convert(check_samples(chunk, self._n_channels), is_last=False)

    def flush(self) -> npt.NDArray[np.float32]:
        """The samples still held back. The next push starts a new piece of audio."""
        shape = (0,) if self._n_channels == 1 else (0, self._n_channels)
        n_missing = self.count_samples(self._n_taken) - self._n_given
        rest = self._convert(np.zeros(shape, np.float32), is_last=True)[:n_missing]
        self._start()
        # the converter may give a sample more or less than the length says
        padding = [(0, n_missing - len(rest))] + [(0, 0)] * (rest.ndim - 1)
        return np.pad(rest, padding)

    def _convert(self, chunk: npt.NDArray[np.float32], *, is_last: bool) -> npt.NDArray[np.float32]:
        if self.rate_hz == SAMPLE_RATE_HZ:
            given = chunk
        else:
            given = self._stream.resample_chunk(np.ascontiguousarray(chunk), last=is_last)
        self._n_taken += len(chunk)
        self._n_given += len(given)
        return given
