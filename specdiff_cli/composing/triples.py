"""Notes as triples of real numbers: pitch, duration and delta, as the U-Net reads them."""

import numpy as np
from numpy.typing import NDArray

from specdiff_cli.composing.score import STEPS_PER_BEAT, Score
from specdiff_cli.composing.unet import UnetConfig

Floats = NDArray[np.float64]
_A4_HZ, _A4_PITCH = 440.0, 69


def triples_of(score: Score, config: UnetConfig) -> Floats:
    """(n_notes, 3): frequency in Hz (or its logarithm to base 2), duration and delta in beats."""
    frequency = _A4_HZ * 2.0 ** ((score.pitch - _A4_PITCH) / 12)
    pitch = frequency if config.pitch == "linear" else np.log2(frequency)
    delta = np.diff(score.onset, prepend=score.onset[:1])
    beats = np.stack([score.duration, delta], axis=1) / STEPS_PER_BEAT
    return np.concatenate([pitch[:, None], np.minimum(beats, config.longest_beats)], axis=1)


def notes_of(triples: Floats, config: UnetConfig) -> tuple[NDArray[np.int64], Floats, Floats]:
    """Pitches, durations and deltas in beats of triples (n_notes, 3); the nearest pitch by frequency, in Hz."""
    table = _A4_HZ * 2.0 ** ((np.arange(128) - _A4_PITCH) / 12)
    pitch = triples[:, 0] if config.pitch == "linear" else 2.0 ** triples[:, 0]
    return np.abs(pitch[:, None] - table).argmin(axis=1), triples[:, 1], triples[:, 2]
