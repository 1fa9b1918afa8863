"""Scores to the numbers that the token model reads, and back.

Every note has five fields. ``onset`` says how many bars after the note before it the note begins, and where in its
bar; ``part``, ``pitch``, ``duration`` and ``velocity`` speak for themselves. The id behind a field's last one, its
size, stands for "masked".
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from specdiff_cli.composing.score import (
    LONGEST_BAR_STEPS,
    METRE_NAMES,
    METRES,
    PART_NAMES,
    STEPS_PER_BEAT,
    Ints,
    Score,
)

FIELDS = ("onset", "part", "pitch", "duration", "velocity")
ONSET, PART, PITCH, DURATION, VELOCITY = range(len(FIELDS))
MOST_BARS_AHEAD = 3
N_POSITIONS = LONGEST_BAR_STEPS
LOWEST_PITCH, HIGHEST_PITCH = 21, 108
#: Note lengths in steps (12 to a beat): all up to a beat, then those that notation has, about evenly spaced in log.
DURATIONS = np.array(
    [*range(1, 13), 14, 15, 16, 18, 20, 21, 24, 28, 30, 32, 36, 42, 48, 54, 60, 72, 84, 96, 120, 144, 192]
)
#: Centres of the classes of velocity.
VELOCITIES = np.array([27, 45, 63, 76, 90, 99, 110, 124])
SIZES = (
    (MOST_BARS_AHEAD + 1) * N_POSITIONS,
    len(PART_NAMES),
    HIGHEST_PITCH - LOWEST_PITCH + 1,
    len(DURATIONS),
    len(VELOCITIES),
)

#: What a piece may be asked to be; the last id of each means "unknown".
CONDITIONS = ("metre", "key", "tempo", "density")
TEMPO_EDGES_BPM = np.array([50.0, 65.0, 80.0, 95.0, 110.0, 130.0, 160.0])
TEMPO_CENTRES_BPM = np.array([45, 58, 72, 88, 102, 120, 144, 176])
DENSITY_EDGES = np.array([1.0, 1.5, 2.0, 2.75, 3.5, 4.5, 6.0])  # notes per beat
KEY = CONDITIONS.index("key")
CONDITION_SIZES = (len(METRE_NAMES), 24, len(TEMPO_EDGES_BPM) + 1, len(DENSITY_EDGES) + 1)

# Classes of how many notes of the song follow a note, by which a piece comes to an end. The last id means "unknown".
_LEFT_EDGES = np.array([1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96])
N_LEFT_CLASSES = len(_LEFT_EDGES) + 1

# Krumhansl and Kessler's probe-tone profiles of C major and C minor (Krumhansl 1990).
_PROFILES = np.array(
    [
        [6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88],
        [6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17],
    ]
)


@dataclass(frozen=True)
class Tokens:
    """One excerpt. ``fields`` (n_notes, 5), ``times`` (n_notes,) in steps from the beginning of its first bar."""

    fields: Ints
    times: Ints


def tokens_of(score: Score) -> Tokens:
    """Ids of a score's notes. Pitches that the vocabulary lacks are moved into it by octaves."""
    ahead = np.minimum(np.diff(score.bar, prepend=score.bar[:1]), MOST_BARS_AHEAD)
    position = np.clip(score.position, 0, N_POSITIONS - 1)
    pitch = score.pitch.copy()
    pitch = np.where(pitch < LOWEST_PITCH, pitch + 12 * -(-(LOWEST_PITCH - pitch) // 12), pitch)
    pitch = np.where(pitch > HIGHEST_PITCH, pitch - 12 * -(-(pitch - HIGHEST_PITCH) // 12), pitch)
    fields = np.stack(
        [
            ahead * N_POSITIONS + position,
            score.part,
            pitch - LOWEST_PITCH,
            nearest(np.log(DURATIONS), np.log(np.maximum(score.duration, 1))),
            nearest(VELOCITIES, score.velocity),
        ],
        axis=1,
    )
    return Tokens(fields, score.onset - (score.onset[:1] - score.position[:1]))


def score_from(fields: Ints, metre: int, tempo_bpm: float) -> Score:
    """The notes that ids (n_notes, 5) stand for, in bars of one metre.

    A position before that of the note before it, in what is said to be the same bar, means the next bar.
    """
    ahead, position = np.divmod(fields[:, ONSET], N_POSITIONS)
    goes_back = np.diff(position, prepend=position[:1]) < 0
    bar = np.cumsum(np.where((ahead == 0) & goes_back, 1, ahead))
    length = METRES[METRE_NAMES[metre]]
    return Score(
        onset=bar * length + position,
        bar=bar,
        position=position,
        metre=np.full(len(fields), metre),
        part=fields[:, PART],
        pitch=fields[:, PITCH] + LOWEST_PITCH,
        duration=DURATIONS[fields[:, DURATION]],
        velocity=VELOCITIES[fields[:, VELOCITY]],
        tempo_bpm=tempo_bpm,
    )


def left_classes(n_left: Ints) -> Ints:
    """Classes of how many notes follow in the song, 0 for its last one."""
    return np.searchsorted(_LEFT_EDGES, n_left, side="right").astype(np.int64)


def conditions_of(score: Score) -> Ints:
    """Metre, key, tempo and density of an excerpt, as ids (4,)."""
    known = score.metre[score.metre >= 0]
    metre = int(np.bincount(known).argmax()) if len(known) else CONDITION_SIZES[0]
    return np.array(
        [metre, key_of(score), np.searchsorted(TEMPO_EDGES_BPM, score.tempo_bpm), density_of(score)], dtype=np.int64
    )


def key_of(score: Score) -> int:
    """The likeliest key by the notes: 0-11 major from C, 12-23 minor. Correlation with probe-tone profiles."""
    weights = np.sqrt(np.minimum(score.duration, LONGEST_BAR_STEPS))
    heard = np.bincount(score.pitch % 12, weights=weights, minlength=12)
    profiles = np.concatenate([[np.roll(profile, root) for root in range(12)] for profile in _PROFILES])
    deviations = profiles - profiles.mean(axis=1, keepdims=True)
    deviations /= np.linalg.norm(deviations, axis=1, keepdims=True)
    return int((deviations @ (heard - heard.mean())).argmax())


def density_of(score: Score) -> int:
    """Class of notes per beat."""
    beats = max(1, score.onset[-1] - score.onset[0]) / STEPS_PER_BEAT
    return int(np.searchsorted(DENSITY_EDGES, (len(score) - 1) / beats))


def nearest(centres: "NDArray[np.float64] | Ints", values: "NDArray[np.float64] | Ints") -> Ints:
    """Indices of the nearest of ascending ``centres``."""
    return np.searchsorted((centres[1:] + centres[:-1]) / 2, values, side="left").astype(np.int64)
