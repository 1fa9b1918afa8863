"""What a texture is given to write in: a key, a register, a span of beats, their tempo, and rhythms that recur."""

from dataclasses import dataclass

import numpy as np

MODES: tuple[tuple[int, ...], ...] = (
    (0, 2, 4, 5, 7, 9, 11),  # major
    (0, 2, 3, 5, 7, 8, 10),  # natural minor
    (0, 2, 3, 5, 7, 8, 11),  # harmonic minor
    (0, 2, 3, 5, 7, 9, 10),  # dorian
    (0, 2, 4, 5, 7, 9, 10),  # mixolydian
    (0, 2, 4, 6, 7, 9, 11),  # lydian
    (0, 1, 3, 5, 7, 8, 10),  # phrygian
    (0, 2, 4, 7, 9),  # pentatonic
    (0, 2, 4, 6, 8, 10),  # whole tone
    (0, 3, 5, 6, 7, 10),  # blues
)
# Rhythms of one or two beats, as lengths in beats.
RHYTHM_CELLS: tuple[tuple[float, ...], ...] = (
    (2.0,), (1.0,), (0.5, 0.5), (0.75, 0.25), (1.5, 0.5), (0.5, 0.25, 0.25), (0.25, 0.25, 0.25, 0.25),
    (1 / 3, 1 / 3, 1 / 3), (2 / 3, 1 / 3), (0.25, 0.5, 0.25), (1 / 6,) * 6, (0.125,) * 8,
)  # fmt: skip
MAX_RATE_HZ = 18.0  # of single keys struck one after another; chords multiply it
PIANO_LOW, PIANO_HIGH = 21, 108


@dataclass(frozen=True)
class ScoreNote:
    """A written note: beats from the section's start; accent in velocity steps relative to the phrase."""

    onset_beats: float
    length_beats: float
    pitch: int
    accent: float = 0.0


@dataclass(frozen=True)
class Setting:
    """What a texture is given: harmony, span and register (MIDI pitches), and how fast a beat goes."""

    rng: np.random.Generator
    root: int
    mode: tuple[int, ...]
    n_beats: float
    seconds_per_beat: float
    low: int
    high: int

    def scale(self, low: int | None = None, high: int | None = None) -> list[int]:
        """Pitches of the scale inside the register (never empty)."""
        low, high = self.low if low is None else low, self.high if high is None else high
        classes = {(self.root + step) % 12 for step in self.mode}
        return [pitch for pitch in range(low, high + 1) if pitch % 12 in classes] or [low]

    def chords(self, beats_per_chord: float) -> list[tuple[float, list[int]]]:
        """A progression: (onset in beats, pitch classes with the root first)."""
        degrees = len(self.mode)
        degree = 0
        progression = []
        for onset in np.arange(0.0, self.n_beats, beats_per_chord):
            size = int(self.rng.choice([2, 3, 3, 3, 4, 4, 5]))
            classes = [(self.root + self.mode[(degree + 2 * third) % degrees]) % 12 for third in range(size)]
            if self.rng.random() < 0.12:  # a borrowed note
                classes[-1] = (classes[-1] + int(self.rng.choice([-1, 1]))) % 12
            progression.append((float(onset), classes))
            degree = (degree + int(self.rng.choice([1, 2, 3, 4, 5, 5, 3, 4]))) % degrees
        return progression

    def subdivision(self, fastest_hz: float = MAX_RATE_HZ, slowest_hz: float = 1.5) -> float:
        """A note length in beats whose rate lies between the two limits where the tempo allows it."""
        choices = [2.0, 1.0, 0.5, 1 / 3, 0.25, 1 / 6, 0.125, 1 / 12, 0.0625]
        fit = [c for c in choices if slowest_hz <= 1 / (c * self.seconds_per_beat) <= fastest_hz]
        return float(self.rng.choice(fit)) if fit else 0.5


def spread(classes: list[int], low: int, high: int) -> list[int]:
    """All pitches of the given classes from low to high (never empty)."""
    wanted = set(classes)
    return [pitch for pitch in range(low, high + 1) if pitch % 12 in wanted] or [low + (classes[0] - low) % 12]


def rhythm(setting: Setting) -> list[tuple[float, float]]:
    """(onset, length) in beats over the span, from a few cells that recur."""
    rng = setting.rng
    shortest = 1 / (MAX_RATE_HZ * setting.seconds_per_beat)
    usable = [cell for cell in RHYTHM_CELLS if min(cell) >= shortest]
    motif = [usable[int(i)] for i in rng.integers(len(usable), size=3)]
    onset, events = 0.0, []
    while onset < setting.n_beats:
        for length in motif[int(rng.integers(3))]:
            if onset < setting.n_beats:
                events.append((onset, min(length, setting.n_beats - onset)))
            onset += length
    return events
