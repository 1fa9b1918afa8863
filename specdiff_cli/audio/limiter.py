"""A limiter that looks ahead: peaks are turned down before they come, so that none is cut off. No torch, no scipy."""

import numpy as np
import numpy.typing as npt

HOP_S = 0.001  # the gain is known at the seams between hops, and runs straight from one to the next
LOOK_AHEAD_HOPS = 5  # the gain bends over 5 ms: a shorter bend is heard as a crackle
RELEASE_DB_PER_S = 30.0  # slow against a period of the lowest notes, fast enough to be over before the next beat


class Limiter:
    """A gain, and as much less of it for a moment as keeps every sample within ``ceiling``.

    Audio goes in and comes out in chunks, (n,) in mono, else (n, n_channels); it comes out about 11 ms late, and
    :meth:`flush` returns the rest, so that length and place stay. Both channels get the same gain: the stereo image
    stands still. Memory does not grow with the audio.
    """

    def __init__(self, gain_db: float, ceiling: float, sample_rate_hz: int) -> None:
        self.most_db = 0.0
        """The most that was taken off so far."""
        self.n_limited = 0
        """Samples of one channel that something was taken off, counted in whole hops."""
        self.n_samples = 0
        """Samples of one channel that have come out, in whole hops."""
        self._gain = 10 ** (gain_db / 20)
        self._ceiling = ceiling
        self._hop_samples = max(1, round(HOP_S * sample_rate_hz))
        self._release_db = RELEASE_DB_PER_S * self._hop_samples / sample_rate_hz
        window = np.hanning(2 * LOOK_AHEAD_HOPS + 3)[1:-1]
        self._window = window / window.sum()
        self._audio: npt.NDArray[np.float64] | None = None  # with the gain, waiting for more or less of it
        self._n_hops_known = 0  # of it, those that have said what they demand
        # Before the audio there is silence, which demands nothing: 0 dB.
        self._last_demand_db = np.zeros(1)
        self._past_seams_db = np.zeros(2 * LOOK_AHEAD_HOPS)
        self._past_released_db = np.zeros(2 * LOOK_AHEAD_HOPS)
        self._n_before_start = 2 * LOOK_AHEAD_HOPS  # seams in that silence whose gain nobody needs
        self._gains_db = np.empty(0)  # of the seams from the first waiting hop on

    def push(self, samples: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Take the next samples; returns those that are ready, float32."""
        audio = samples.astype(np.float64) * self._gain
        self._audio = audio if self._audio is None else np.concatenate([self._audio, audio])
        self._look_at(self._audio[: len(self._audio) // self._hop_samples * self._hop_samples])
        return self._let_out()

    def flush(self) -> npt.NDArray[np.float32]:
        """The samples that were still waiting. No more pushing."""
        if self._audio is None:
            return np.empty(0, np.float32)
        n_samples = len(self._audio)
        missing = np.zeros((-n_samples % self._hop_samples, *self._audio.shape[1:]))
        self._audio = np.concatenate([self._audio, missing])
        self._look_at(self._audio)
        self._bend(np.zeros(2 * LOOK_AHEAD_HOPS + 1))
        return self._let_out()[:n_samples]

    def _look_at(self, audio: npt.NDArray[np.float64]) -> None:
        """Find what the new ones among these whole hops demand."""
        new = audio[self._n_hops_known * self._hop_samples :]
        self._n_hops_known = len(audio) // self._hop_samples
        sizes = np.nan_to_num(np.abs(new), nan=0.0, posinf=0.0).reshape(-1, new.size // max(len(new), 1) or 1)
        peaks = sizes.max(axis=1).reshape(-1, self._hop_samples).max(axis=1)
        self._bend(20 * np.log10(self._ceiling / np.maximum(peaks, self._ceiling)))

    def _bend(self, demands_db: npt.NDArray[np.float64]) -> None:
        """From what the next hops demand to a smooth gain that is nowhere above it.

        A seam serves the hops on both sides; the least of all seams within reach is taken, and their weighted mean
        within the same reach is therefore no more than any of them demands.
        """
        n_hops = len(demands_db)
        if not n_hops:
            return
        demands_db = np.concatenate([self._last_demand_db, demands_db])
        seams_db = np.concatenate([self._past_seams_db, np.minimum(demands_db[:-1], demands_db[1:])])
        least_db = np.lib.stride_tricks.sliding_window_view(seams_db, len(self._window)).min(axis=1)
        rise_db = self._release_db * np.arange(n_hops + 1)
        level = np.concatenate([self._past_released_db[-1:], least_db]) - rise_db
        released_db = np.concatenate([self._past_released_db, (np.minimum.accumulate(level) + rise_db)[1:]])
        gains_db = np.convolve(released_db, self._window, mode="valid")
        self._last_demand_db, self._past_seams_db = demands_db[-1:], seams_db[-2 * LOOK_AHEAD_HOPS :]
        self._past_released_db = released_db[-2 * LOOK_AHEAD_HOPS :]
        n_skipped = min(self._n_before_start, n_hops)
        self._n_before_start -= n_skipped
        self._gains_db = np.concatenate([self._gains_db, gains_db[n_skipped:]])

    def _let_out(self) -> npt.NDArray[np.float32]:
        """The whole hops between seams of known gain, with that gain."""
        n_hops = max(0, min(len(self._gains_db) - 1, self._n_hops_known))
        n_samples = n_hops * self._hop_samples
        if self._audio is None:
            return np.empty(0, np.float32)
        audio, self._audio = self._audio[:n_samples], self._audio[n_samples:].copy()
        seams_db, self._gains_db = self._gains_db[: n_hops + 1], self._gains_db[n_hops:]
        self._n_hops_known -= n_hops
        self.n_samples += n_samples
        if n_hops and seams_db.min() < -1e-9:
            self.most_db = max(self.most_db, -float(seams_db.min()))
            self.n_limited += self._hop_samples * int(np.count_nonzero(seams_db[:-1] < -1e-9))
            seams, part = 10 ** (seams_db / 20), np.arange(self._hop_samples) / self._hop_samples
            gains = (seams[:-1, None] + np.diff(seams)[:, None] * part).reshape(-1)
            audio = audio * (gains if audio.ndim == 1 else gains[:, None])
            # What rounding adds to a peak of exactly the ceiling is taken off again.
            audio = np.clip(audio, -self._ceiling, self._ceiling)
        return audio.astype(np.float32)
