"""The end of a piece of audio, faded to silence."""

import math

import numpy as np
import numpy.typing as npt


class FadeOut:
    """Fades the last samples of a signal that comes piece by piece, by half a period of a cosine.

    Args:
        n_samples: length of the whole signal.
        n_faded: how many of its last samples fade; more than it has fade all of it.
    """

    def __init__(self, n_samples: int, n_faded: int) -> None:
        self._n_faded = min(n_faded, n_samples)
        self._start = n_samples - self._n_faded
        self._n_read = 0

    def push(self, audio: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The next samples (n,) or (n, n_channels), as loud as they are to be."""
        first, self._n_read = self._n_read, self._n_read + len(audio)
        if self._n_read <= self._start or not self._n_faded:
            return audio
        place = (np.arange(first, self._n_read) + 0.5 - self._start) / self._n_faded
        gains = (0.5 + 0.5 * np.cos(math.pi * place.clip(0, 1))).astype(np.float32)
        return audio * gains.reshape(-1, *[1] * (audio.ndim - 1))
