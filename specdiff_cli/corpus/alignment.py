"""Does a recording play these notes, and when? Offset and drift, from when each pitch class begins to sound.

Both sides become twelve rows of onsets, 100 a second: of the notes as they are written, of the audio as the rise of its
spectrum, folded into pitch classes; a thirteenth row has every onset, and serves alone where there are hardly any
pitches. Of the twelve, only what sets them apart is compared, since many pieces share a rhythm.
Sections of the recording are correlated with the notes at every lag; what is sought is the line, lag = drift * time +
offset, along which the correlations are highest together.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from specdiff_cli.constants import SAMPLE_RATE_HZ, exact_div

Floats = npt.NDArray[np.float64]

RATE_HZ = 100
HOP_SAMPLES = exact_div(SAMPLE_RATE_HZ, RATE_HZ)
FRAME_SAMPLES = 2048
LOWEST_HZ, HIGHEST_HZ = 60.0, 2100.0
N_ROWS = 13
NEAR_FRAMES = 5
NONE_S = 0.05
MAX_LAG_S = 10.0
SECTION_S, SECTION_HOP_S = 20.0, 10.0
MIN_SECTION_ONSETS = 8  # fewer say nothing about where they are
PITCH_SHARE = 0.6  # of the correlation: which pitches begin; the rest is when anything does
# Half of all wrong pairs have 0.08 at 5 s, 0.02 at 30 s; right ones have 0.2, and 0.07 to 0.1 at their least.
MIN_CORRELATION, CHANCE_CORRELATION = 0.05, 0.17
MAX_LAG_SHARE = 0.25  # of the length: in a short piece, far away, something always fits
MAX_DRIFT, N_DRIFTS = 0.004, 161
DRIFTS = np.linspace(-MAX_DRIFT, MAX_DRIFT, N_DRIFTS)
MIN_DRIFT_FRAMES, CLEARLY_BETTER = 2.0, 1.1  # what a drift amounts to at the end, and how much better it fits than none
# Music repeats itself: of lags that fit nearly as well as the best, the smallest is meant, and before all none.
NEARLY_BEST, GOOD_ENOUGH_FOR_NONE = 0.9, 0.75
# The frame that sees half of an attack has its middle on it, and the rise is seen about so much before.
ATTACK_S = 0.0075


@dataclass(frozen=True, slots=True)
class Alignment:
    """How a recording lies against its notes: a note written at t is heard at ``t * (1 + drift) + offset_s``."""

    offset_s: float
    drift: float
    """Seconds that the recording falls behind per second of the notes."""
    correlation: float
    """Of the onsets along the line, on average."""
    least_correlation: float
    """What it must be for a recording of this length."""

    @property
    def is_same_piece(self) -> bool:
        """Do the notes belong to the recording?"""
        return self.correlation >= self.least_correlation and not self.is_at_limit

    @property
    def is_at_limit(self) -> bool:
        """Is the drift the largest that was looked for, so that what fits best is not known?"""
        return abs(self.drift) >= MAX_DRIFT

    def times(self, written_s: Floats) -> Floats:
        """When notes are heard that are written at these times."""
        return written_s * (1 + self.drift) + self.offset_s


def align(audio: npt.NDArray[np.float32], notes: Floats) -> Alignment:
    """Compare mono audio at 16 kHz, (n,), with notes (n_notes, 6) as a corpus has them."""
    heard = audio_onsets(audio)
    written = note_onsets(notes, len(heard))
    n_pitched = np.count_nonzero(notes[:, 5] == 0)
    length_s = len(heard) / RATE_HZ
    max_lag_s = min(MAX_LAG_S, MAX_LAG_SHARE * length_s)
    pitch_share = PITCH_SHARE if n_pitched >= MIN_SECTION_ONSETS else 0.0
    times_s, curves = _correlations(heard, written, round(max_lag_s * RATE_HZ), pitch_share)
    if not len(times_s):
        return Alignment(0.0, 0.0, 0.0, least_correlation(length_s))
    scores = np.array([_along(curves, times_s, drift) for drift in DRIFTS])  # (drifts, lags)
    lags_s = (np.arange(scores.shape[1]) - scores.shape[1] // 2) / RATE_HZ + ATTACK_S
    best = scores.max(axis=0)
    candidates = (best >= GOOD_ENOUGH_FOR_NONE * best.max()) & (np.abs(lags_s) < NONE_S)
    if not candidates.any():
        candidates = best >= NEARLY_BEST * best.max()
    peak = int(np.flatnonzero(candidates)[np.argmin(np.abs(lags_s[candidates]))])
    near = slice(max(0, peak - NEAR_FRAMES), peak + NEAR_FRAMES + 1)
    row = _drift(scores[:, near].max(axis=1), length_s)
    lag = near.start + int(np.argmax(scores[row, near]))
    offset_s = float(lags_s[lag]) + _between(scores[row], lag) / RATE_HZ
    return Alignment(offset_s, float(DRIFTS[row]), float(scores[row, lag]), least_correlation(length_s))


def least_correlation(length_s: float) -> float:
    """What the right notes reach: chance correlates the more, the fewer frames there are to compare."""
    return MIN_CORRELATION + CHANCE_CORRELATION / math.sqrt(length_s)


def _drift(scores: Floats, length_s: float) -> int:
    """Which of ``DRIFTS`` is meant, by the best correlation of each: none, unless another is clearly better."""
    none, best = len(DRIFTS) // 2, int(np.argmax(scores))
    end = 0 if best < none else len(DRIFTS) - 1
    if np.isclose(scores[end], scores[best]):  # lags are whole frames, so neighbours may be equal
        best = end
    says_something = abs(DRIFTS[best]) * length_s * RATE_HZ >= MIN_DRIFT_FRAMES
    return best if says_something and scores[best] >= CLEARLY_BETTER * scores[none] else none


def _between(scores: Floats, peak: int) -> float:
    """Where the parabola through a peak and its neighbours is highest, in frames from the peak."""
    if not 0 < peak < len(scores) - 1:
        return 0.0
    left, middle, right = scores[peak - 1 : peak + 2]
    return float(0.5 * (left - right) / min(left - 2 * middle + right, -1e-12))


def audio_onsets(audio: npt.NDArray[np.float32]) -> Floats:
    """How much each pitch class, and the whole, gets louder: (frames, 13), 100 frames a second."""
    n_frames = max(1, len(audio) // HOP_SAMPLES)
    padded = np.pad(audio, (FRAME_SAMPLES // 2, FRAME_SAMPLES))
    window = np.hanning(FRAME_SAMPLES).astype(np.float32)
    hz = np.fft.rfftfreq(FRAME_SAMPLES, 1 / SAMPLE_RATE_HZ)
    folding = _folding(hz.astype(np.float64))
    rows = np.empty((n_frames, N_ROWS))
    previous: Floats = np.zeros(len(hz))
    for first in range(0, n_frames, 1000):  # in blocks: an hour of spectra would take gigabytes
        starts = np.arange(first, min(first + 1000, n_frames)) * HOP_SAMPLES
        frames = np.lib.stride_tricks.sliding_window_view(padded, FRAME_SAMPLES)[starts]
        levels = np.log1p(100 * np.abs(np.fft.rfft(frames * window, axis=1)) / FRAME_SAMPLES * 4)
        rises = np.maximum(np.diff(levels, axis=0, prepend=previous[None]), 0)
        previous = levels[-1]
        rows[first : first + len(starts)] = rises @ folding
    return rows


def _folding(hz: Floats) -> Floats:
    """(bins, 13): which pitch class a bin belongs to; all of them to the last row."""
    folding = np.zeros((len(hz), N_ROWS))
    for bin_, frequency in enumerate(hz):
        if LOWEST_HZ <= frequency <= HIGHEST_HZ:
            pitch = 69 + 12 * np.log2(frequency / 440)
            folding[bin_, round(pitch) % 12] = 1 / max(1.0, frequency / 440)  # high bins are many to a pitch
    folding[:, 12] = 0.1
    return folding


def note_onsets(notes: Floats, n_frames: int) -> Floats:
    """Onsets as written, (frames, 13): the pitch class, its third partial weaker, and the last row for all of them."""
    rows = np.zeros((n_frames, N_ROWS))
    frames = np.rint(notes[:, 0] * RATE_HZ).astype(np.int64)
    inside = (frames >= 0) & (frames < n_frames)
    frames, pitches, is_drum = frames[inside], notes[inside, 2].astype(np.int64), notes[inside, 5] > 0
    np.add.at(rows, (frames[~is_drum], pitches[~is_drum] % 12), 1.0)
    np.add.at(rows, (frames[~is_drum], (pitches[~is_drum] + 7) % 12), 0.3)
    np.add.at(rows, (frames, np.full(len(frames), 12)), 1.0)
    return rows


def _correlations(heard: Floats, written: Floats, n_lag: int, pitch_share: float) -> tuple[Floats, Floats]:
    """The middle of each section with enough onsets, (sections,) in seconds, and its correlations, (sections, lags)."""
    n_section, n_hop = round(SECTION_S * RATE_HZ), round(SECTION_HOP_S * RATE_HZ)
    heard = _standardised(heard)
    heard[:, :12] -= heard[:, :12].mean(axis=1, keepdims=True)  # pitch alone: the rhythm has a row of its own
    times_s, curves = [], []
    for first in range(0, max(1, len(written) - n_section // 2), n_hop):
        section = written[first : first + n_section]
        if np.count_nonzero(section[:, :12] if pitch_share else section[:, 12]) < MIN_SECTION_ONSETS:
            continue
        around = np.zeros((len(section) + 2 * n_lag, section.shape[1]))
        low, high = max(0, first - n_lag), min(len(heard), first + len(section) + n_lag)
        around[low - first + n_lag : high - first + n_lag] = heard[low:high]
        times_s.append((first + len(section) / 2) / RATE_HZ)
        curves.append(_correlate(around, section, pitch_share))
    return np.array(times_s), np.array(curves)


def _correlate(around: Floats, section: Floats, pitch_share: float) -> Floats:
    """The correlation of the rows that have onsets, at every position of ``section`` in ``around``."""
    weights: Floats = np.asarray(section.any(axis=0), dtype=np.float64)
    weights[:12] *= pitch_share / max(1.0, weights[:12].sum())
    weights[12] *= 1 - pitch_share
    n_fft = 1 << (len(around) + len(section)).bit_length()
    spectrum = np.fft.rfft(around, n_fft, axis=0)
    product = spectrum * np.conj(np.fft.rfft(_standardised(section) * weights, n_fft, axis=0))
    sums = np.fft.irfft(product.sum(axis=1), n_fft)[: len(around) - len(section) + 1]
    return np.asarray(sums / len(section), dtype=np.float64)


def _standardised(rows: Floats) -> Floats:
    return np.asarray((rows - rows.mean(axis=0)) / (rows.std(axis=0) + 1e-9), dtype=np.float64)


def _along(curves: Floats, times_s: Floats, drift: float) -> Floats:
    """The mean correlation along the lines of one drift: (lags,), by the lag at time 0."""
    shifts = np.rint(drift * times_s * RATE_HZ).astype(np.int64)
    lags = np.clip(np.arange(curves.shape[1]) + shifts[:, None], 0, curves.shape[1] - 1)
    return np.asarray(np.take_along_axis(curves, lags, axis=1).mean(axis=0), dtype=np.float64)
