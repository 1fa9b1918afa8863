"""How written notes are played: phrases in loudness, loosened timing, articulation, what hands can do, and the pedal.

Notes are (n, 4): start_s, end_s, pitch, velocity.
"""

import numpy as np
from numpy.typing import NDArray

from specdiff_cli.midi.holding import PEDAL_DOWN_FROM

Rng = np.random.Generator
Floats = NDArray[np.float64]

SHORTEST_NOTE_S, LONGEST_NOTE_S = 0.03, 8.0
REPEAT_GAP_S = 0.012  # a key is up at least this long before it is struck again


def phrase(rng: Rng, times_s: Floats, level: float) -> Floats:
    """Velocities around ``level``: even, swelling and fading in phrases, or one long crescendo or diminuendo."""
    kind = rng.random()
    if kind < 0.15:
        return np.full(len(times_s), level)
    if kind < 0.35:
        span = max(float(np.ptp(times_s)), 1e-6)
        return np.asarray(level + rng.uniform(-45, 45) * ((times_s - times_s.min()) / span - 0.5))
    period_s, phase = float(rng.uniform(2, 9)), float(rng.uniform(0, 2 * np.pi))
    return level + rng.uniform(3, 22) * np.sin(2 * np.pi * times_s / period_s + phase)


def gate(rng: Rng) -> float:
    """The share of its written length that a note is held: staccato, plain or legato."""
    return float(
        rng.choice([rng.uniform(0.12, 0.5), rng.uniform(0.6, 0.95), rng.uniform(0.95, 1.15)], p=[0.2, 0.4, 0.4])
    )


def humanise(rng: Rng, notes: Floats, gate: float) -> Floats:
    """Loosen timing by up to a few hundredths of a second and apply the articulation."""
    jitter_s = float(rng.choice([0.0, 0.004, 0.01, 0.02]))
    lengths_s = (notes[:, 1] - notes[:, 0]) * gate * np.exp(rng.normal(0, rng.choice([0.0, 0.1, 0.25]), len(notes)))
    played = notes.copy()
    played[:, 0] = np.maximum(notes[:, 0] + rng.normal(0, 1, len(notes)) * jitter_s, 0.005)
    if rng.random() < 0.15:  # rolled chords: the higher the key, the later
        played[:, 0] += (notes[:, 2] - notes[:, 2].min()) / 60 * rng.uniform(0.03, 0.15)
    played[:, 1] = played[:, 0] + np.clip(lengths_s, SHORTEST_NOTE_S, LONGEST_NOTE_S)
    played[:, 3] = np.clip(np.round(notes[:, 3]), 1, 127)
    return played


def fold(pitches: Floats, low: int, high: int) -> Floats:
    """Pitches brought into an instrument's range (an octave at least) by octaves."""
    above = np.maximum(np.ceil((pitches - high) / 12), 0)
    below = np.maximum(np.ceil((low - pitches) / 12), 0)
    return np.asarray(pitches - 12 * above + 12 * below)


def tidy(rng: Rng, notes: Floats, notes_per_s: int) -> Floats:
    """Make the part playable: at most ``notes_per_s`` onsets in a second, and one note per key at a time."""
    kept = []
    for second in np.unique(np.floor(notes[:, 0])):
        rows = np.flatnonzero(np.floor(notes[:, 0]) == second)
        kept.append(rng.permutation(rows)[:notes_per_s])
    if not kept:
        return notes
    notes = notes[np.concatenate(kept)]
    notes = notes[np.lexsort((notes[:, 0], notes[:, 2]))]
    result: list[Floats] = []
    for row in notes:
        last = result[-1] if result else None
        if last is not None and last[2] == row[2] and row[0] - last[0] < SHORTEST_NOTE_S + REPEAT_GAP_S:
            last[1] = max(last[1], row[1])
            continue
        if last is not None and last[2] == row[2]:
            last[1] = min(last[1], row[0] - REPEAT_GAP_S)
        result.append(row.copy())
    played = np.array(result)
    return np.asarray(played[np.argsort(played[:, 0], kind="stable")], dtype=np.float64)


def pedalling(rng: Rng, starts_s: Floats, end_s: float) -> list[tuple[float, int]]:
    """Sustain pedal (time_s, value): pressed after a beat, changed with the harmony, now and then left alone."""
    events: list[tuple[float, int]] = []
    period_s = float(np.exp(rng.uniform(np.log(0.5), np.log(5.0))))
    now_s = float(rng.uniform(0, 3))
    while now_s < end_s:
        later = starts_s[starts_s >= now_s]
        if not len(later):
            break
        press_s = float(later[0]) + float(rng.uniform(-0.02, 0.15))
        release_s = press_s + period_s * float(rng.uniform(0.5, 1.5))
        following = starts_s[starts_s >= release_s]
        if len(following) and rng.random() < 0.8:
            release_s = min(float(following[0]) + float(rng.uniform(-0.02, 0.05)), release_s + 6.0)
        events.append((max(press_s, 0.001), int(rng.integers(PEDAL_DOWN_FROM, 128))))
        events.append((release_s, int(rng.integers(0, PEDAL_DOWN_FROM))))
        now_s = release_s + (float(rng.uniform(1, 10)) if rng.random() < 0.1 else 0.03)
    return events
