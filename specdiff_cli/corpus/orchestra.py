"""Who plays: the instruments of the model classes, their ranges and what each of them is given to play."""

from dataclasses import dataclass

import numpy as np

from specdiff_cli.corpus.setting import PIANO_HIGH, PIANO_LOW
from specdiff_cli.corpus.textures import (
    TEXTURES,
    Texture,
    alberti,
    arpeggio,
    bass_line,
    block_chords,
    chorale,
    counterpoint,
    held_chords,
    isolated,
    melody,
    octaves,
    random_notes,
    repeated_notes,
    scales,
    stride,
    tremolo,
    trills,
    walking_bass,
)
from specdiff_cli.midi.programs import MODEL_CLASSES

Repertoire = tuple[tuple[Texture, float], ...]

KEYS: Repertoire = TEXTURES
LINE: Repertoire = (
    (melody, 6.0), (scales, 1.2), (repeated_notes, 0.8), (trills, 0.5), (isolated, 1.5), (octaves, 0.3),
    (held_chords, 0.5), (counterpoint, 0.4), (random_notes, 0.6),
)  # fmt: skip
SECTION: Repertoire = (
    (melody, 2.5), (held_chords, 2.5), (chorale, 2.0), (block_chords, 1.0), (counterpoint, 1.0), (octaves, 0.7),
    (arpeggio, 0.6), (repeated_notes, 0.6), (tremolo, 0.5), (isolated, 1.2), (scales, 0.5), (random_notes, 0.6),
)  # fmt: skip
PLUCKED: Repertoire = (
    (arpeggio, 2.5), (block_chords, 2.0), (melody, 2.0), (held_chords, 1.0), (alberti, 0.8), (stride, 0.8),
    (repeated_notes, 0.7), (scales, 0.6), (isolated, 1.2), (walking_bass, 0.5), (random_notes, 0.6),
)  # fmt: skip
BASS: Repertoire = (
    (bass_line, 5.0), (melody, 1.0), (repeated_notes, 0.8), (octaves, 0.3), (isolated, 1.0), (scales, 0.3),
    (random_notes, 0.4),
)  # fmt: skip


@dataclass(frozen=True)
class Instrument:
    """``program``: the General MIDI program that stands for its class; pitches from ``low`` to ``high``.

    ``weight``: how often it is drawn; common instruments more often than rare ones.
    """

    program: int
    low: int
    high: int
    repertoire: Repertoire
    weight: float = 1.0
    has_pedal: bool = False


#: Model class -> the instrument that plays it. Ranges are the instruments' own, a little widened, since files are.
INSTRUMENTS: dict[int, Instrument] = {
    0: Instrument(0, PIANO_LOW, PIANO_HIGH, KEYS, 4.0, has_pedal=True),
    4: Instrument(4, 28, 103, KEYS, 1.5, has_pedal=True),
    8: Instrument(11, 48, 96, PLUCKED, 1.2, has_pedal=True),
    16: Instrument(16, 36, 96, KEYS, 1.5),
    24: Instrument(24, 38, 88, PLUCKED, 2.0),
    26: Instrument(27, 38, 88, PLUCKED, 1.5),
    29: Instrument(30, 36, 88, PLUCKED, 1.2),
    32: Instrument(32, 26, 62, BASS, 1.2),
    33: Instrument(33, 24, 65, BASS, 2.5),
    40: Instrument(40, 55, 100, LINE, 1.5),
    41: Instrument(41, 48, 88, LINE),
    42: Instrument(42, 36, 79, LINE, 1.3),
    43: Instrument(43, 26, 62, LINE),
    46: Instrument(46, 24, 103, PLUCKED),
    47: Instrument(47, 36, 60, BASS, 0.8),
    48: Instrument(48, 28, 98, SECTION, 2.5),
    50: Instrument(50, 28, 96, SECTION),
    52: Instrument(52, 40, 84, SECTION, 1.5),
    55: Instrument(55, 36, 84, LINE, 0.5),
    56: Instrument(56, 52, 88, LINE, 1.5),
    57: Instrument(57, 34, 74, LINE),
    58: Instrument(58, 26, 62, LINE, 0.8),
    60: Instrument(60, 34, 79, LINE, 1.3),
    61: Instrument(61, 34, 88, SECTION, 1.2),
    64: Instrument(65, 48, 86, LINE, 1.2),
    66: Instrument(66, 42, 78, LINE),
    67: Instrument(67, 36, 72, LINE, 0.8),
    68: Instrument(68, 56, 92, LINE, 1.2),
    69: Instrument(69, 50, 82, LINE, 0.7),
    70: Instrument(70, 33, 76, LINE),
    71: Instrument(71, 48, 94, LINE, 1.2),
    73: Instrument(73, 58, 98, LINE, 2.0),
    80: Instrument(81, 36, 96, LINE, 1.2),
    88: Instrument(89, 36, 92, SECTION, 1.2),
}
assert INSTRUMENTS.keys() == MODEL_CLASSES.keys()  # noqa: S101 - a slip in the table above

BASSES = (32, 33)


def draw_ensemble(rng: np.random.Generator, classes: tuple[int, ...], n_parts: int, has_drums: bool) -> list[int]:
    """Model classes of ``n_parts`` parts, no class twice where there are enough; a band with drums has a bass."""
    weights = np.array([INSTRUMENTS[c].weight for c in classes])
    size = min(n_parts, len(classes))
    chosen = [int(c) for c in rng.choice(classes, size, replace=False, p=weights / weights.sum())]
    basses = [c for c in BASSES if c in classes]
    if has_drums and basses and n_parts > 1 and not set(chosen) & set(basses) and rng.random() < 0.8:
        chosen[-1] = int(rng.choice(basses))
    return chosen
