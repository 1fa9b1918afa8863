"""Songs as notes on a grid of bars and beats: what the composer learns from, and what it writes.

A beat is a quarter note and has :data:`STEPS_PER_BEAT` steps, enough for sixteenths and triplets. Drums are left out.
"""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from specdiff_cli.midi.notes import MidiSong, Note

Ints = NDArray[np.int64]

STEPS_PER_BEAT = 12
#: Names of the time signatures that are told apart, and steps in a bar. 2/2 counts as 4/4, 6/4 as 3/2.
METRES = {"2/4": 24, "3/4": 36, "4/4": 48, "6/8": 36, "9/8": 54, "12/8": 72, "3/8": 18, "3/2": 72, "5/4": 60}
METRE_NAMES = tuple(METRES)
LONGEST_BAR_STEPS = max(METRES.values())
MELODY, UPPER, LOWER = range(3)
PART_NAMES = ("melody", "upper", "lower")
SPLIT_PITCH = 60  # middle C: between the hands of a keyboard whose notes lie on one track
DEFAULT_TEMPO_BPM = 120.0

# Programs that usually carry a tune: choirs and voices, reeds and pipes, solo strings and brass, leads.
_TUNE_PROGRAMS = frozenset([*range(52, 55), *range(40, 42), 56, 60, *range(64, 88)])
# A downbeat is looked for elsewhere than where the file has it (short first bars are often written so) only where the
# other place is clearly better.
_CLEARLY = 1.2


@dataclass(frozen=True)
class Score:
    """Notes in the order of onset, then pitch; all arrays have the shape (n_notes,).

    ``onset`` and ``duration`` are in steps, onsets from the beginning of the first bar; ``position`` is the onset
    within its bar, ``bar`` counts from 0; ``metre`` is an index of :data:`METRE_NAMES`, -1 where a bar has none of
    these; ``part`` is MELODY, UPPER or LOWER. The first bar begins ``origin_steps`` after the song.
    """

    onset: Ints
    bar: Ints
    position: Ints
    metre: Ints
    part: Ints
    pitch: Ints
    duration: Ints
    velocity: Ints
    tempo_bpm: float = DEFAULT_TEMPO_BPM
    origin_steps: int = 0

    def __len__(self) -> int:
        return len(self.onset)

    def part_of(self, chosen: "Ints | NDArray[np.bool_] | slice") -> "Score":
        """The chosen notes alone."""
        return Score(
            self.onset[chosen],
            self.bar[chosen],
            self.position[chosen],
            self.metre[chosen],
            self.part[chosen],
            self.pitch[chosen],
            self.duration[chosen],
            self.velocity[chosen],
            self.tempo_bpm,
            self.origin_steps,
        )


def score_of(song: MidiSong, *, aligns_bars: bool = False) -> Score:
    """The notes of a song on the grid. Of two notes of one part, pitch and onset the longer one stays.

    ``aligns_bars``: look for the downbeat by the notes (long and low ones stand there) where the file's bars are
    clearly off, as they are when an upbeat was exported as if it were a whole bar.
    """
    return score_with_notes(song, aligns_bars=aligns_bars)[0]


def score_with_notes(song: MidiSong, *, aligns_bars: bool = False) -> tuple[Score, list[Note]]:
    """As :func:`score_of`; also the note of the song that each of the score's was made from."""
    pitched = [note for note in song.notes if not note.is_drum]
    part_of = _parts(pitched)
    starts, ends = _steps(song, [note.start_s for note in pitched]), _steps(song, [note.end_s for note in pitched])
    best: dict[tuple[int, int, int], tuple[int, Note]] = {}
    for note, start, end in zip(pitched, starts, ends, strict=True):
        key = (start, note.pitch, part_of(note))
        if key not in best or end - start > best[key][0]:
            best[key] = (max(1, end - start), note)
    keys = sorted(best)
    onset, pitch, part = (np.array([key[i] for key in keys], dtype=np.int64) for i in range(3))
    notes = [best[key][1] for key in keys]
    duration = np.array([best[key][0] for key in keys], dtype=np.int64)
    velocity = np.array([note.velocity for note in notes], dtype=np.int64)
    begins, lengths, metres = _segments(song)
    shift = _downbeat_shift(onset, pitch, duration, int(lengths[0])) if aligns_bars and len(begins) == 1 else 0
    bar, bar_start, metre = _bars(onset, begins, lengths, metres, shift)
    first = int(bar_start[0]) if len(bar_start) else 0
    tempo = song.tempo_changes[0][1] if song.tempo_changes else DEFAULT_TEMPO_BPM
    position = onset - bar_start
    score = Score(onset - first, bar - bar[:1], position, metre, part, pitch, duration, velocity, tempo, first)
    return score, notes


def _steps(song: MidiSong, seconds: list[float]) -> list[int]:
    if song.bars is None:  # SMPTE division: no beats
        return [round(time_s * DEFAULT_TEMPO_BPM / 60 * STEPS_PER_BEAT) for time_s in seconds]
    tempo_map = song.bars.tempo_map
    return [round(tempo_map.tick(time_s) / tempo_map.ticks_per_beat * STEPS_PER_BEAT) for time_s in seconds]


def _segments(song: MidiSong) -> tuple[Ints, Ints, Ints]:
    """First step, bar length in steps and metre of each time signature."""
    if song.bars is None:
        return np.array([0]), np.array([48]), np.array([METRE_NAMES.index("4/4")])
    ticks_per_beat = song.bars.tempo_map.ticks_per_beat
    rows = []
    for meter in song.bars.meters:
        length = max(1, round(4 * STEPS_PER_BEAT * meter.numerator / meter.denominator))
        name = {"2/2": "4/4", "6/4": "3/2"}.get(meter.name, meter.name)
        while length > LONGEST_BAR_STEPS:
            length = -(-length // 2)
        metre = METRE_NAMES.index(name) if METRES.get(name) == length else -1
        if metre < 0 and length in METRES.values():
            metre = list(METRES.values()).index(length)
        rows.append((round(meter.start_tick / ticks_per_beat * STEPS_PER_BEAT), length, metre))
    table = np.array(rows, dtype=np.int64)
    return table[:, 0], table[:, 1], table[:, 2]


def _bars(onset: Ints, begins: Ints, lengths: Ints, metres: Ints, shift: int) -> tuple[Ints, Ints, Ints]:
    """Number, first step and metre of every note's bar; ``shift`` moves all bar lines."""
    begins = begins + shift
    spans = np.diff(begins)
    first_bars = np.concatenate([[0], np.cumsum(-(-spans // lengths[:-1]))]).astype(np.int64)
    segment = np.maximum(np.searchsorted(begins, onset, side="right") - 1, 0)
    within = np.floor_divide(onset - begins[segment], lengths[segment])
    return first_bars[segment] + within, begins[segment] + within * lengths[segment], metres[segment]


def _downbeat_shift(onset: Ints, pitch: Ints, duration: Ints, length: int) -> int:
    """By how many steps the bar lines move so that long, low notes and chords begin on them; 0 in case of doubt."""
    if length % STEPS_PER_BEAT or len(onset) == 0:
        return 0
    weight = np.minimum(duration, length) * np.where(pitch < SPLIT_PITCH, 2.0, 1.0)
    phase = np.bincount(onset % length, weights=weight, minlength=length)[::STEPS_PER_BEAT]
    best = int(phase.argmax())
    return 0 if phase[best] < _CLEARLY * max(phase[0], 1e-9) else best * STEPS_PER_BEAT - length


class _parts:  # noqa: N801 - reads as the function that it is used as
    """Which part a note belongs to.

    The tune is what a track with a voice or a solo instrument plays, if it lies above the rest; keyboards on two
    tracks are a right and a left hand; everything else is split at middle C.
    """

    def __init__(self, notes: list[Note]) -> None:
        groups: dict[tuple[int, int], list[Note]] = defaultdict(list)
        for note in notes:
            groups[note.track, note.channel].append(note)
        means = {key: float(np.mean([note.pitch for note in group])) for key, group in groups.items()}
        highest = max(means, key=lambda key: means[key], default=None)
        tunes = [key for key, group in groups.items() if len(groups) > 1 and _is_tune(group, key == highest)]
        self._melody = set(tunes if len(tunes) < len(groups) else [highest] if highest else [])
        others = sorted((key for key in groups if key not in self._melody), key=lambda key: means[key])
        # Without a tune, two tracks of which one lies higher are two hands as well.
        self._hands = {others[0]: LOWER, others[1]: UPPER} if len(others) == 2 else {}
        if not groups or len(groups) == 1:
            self._melody = set()

    def __call__(self, note: Note) -> int:
        key = (note.track, note.channel)
        if key in self._melody:
            return MELODY
        return self._hands.get(key, UPPER if note.pitch >= SPLIT_PITCH else LOWER)


def _is_tune(notes: list[Note], is_highest: bool) -> bool:
    """Whether a track is a single line, of a voice or a solo instrument, or of what else lies above the rest."""
    by_onset = sorted(notes, key=lambda note: note.start_s)
    n_overlapping = sum(b.start_s < a.end_s - 0.05 for a, b in zip(by_onset, by_onset[1:], strict=False))
    programs = [note.program for note in notes]
    if max(set(programs), key=programs.count) in _TUNE_PROGRAMS:
        return n_overlapping < 0.3 * len(notes)
    return is_highest and n_overlapping < 0.02 * len(notes)
