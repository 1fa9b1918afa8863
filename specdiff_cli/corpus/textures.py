"""What the composer can write: one function per musical texture, each filling a span of beats with notes.

A texture knows harmony, register and tempo, and nothing of performance: velocities here are accents relative to the
phrase (0 = as loud as the phrase asks), timing is exact. The textures are study material, not art: together they
should hold every way of touching a keyboard that a rendered file may contain.
"""

from collections.abc import Callable

import numpy as np

from specdiff_cli.corpus.setting import PIANO_HIGH, PIANO_LOW, ScoreNote, Setting, rhythm, spread

Texture = Callable[[Setting], list[ScoreNote]]


def melody(setting: Setting, rest_share: float = 0.1, leap_share: float = 0.2) -> list[ScoreNote]:
    """A line that walks the scale, leaps now and then, and breathes."""
    rng = setting.rng
    ladder = setting.scale()
    index = int(rng.integers(len(ladder)))
    notes = []
    for onset, length in rhythm(setting):
        step = int(rng.integers(-6, 7)) if rng.random() < leap_share else int(rng.choice([-2, -1, -1, 0, 1, 1, 2]))
        index = int(np.clip(index + step, 0, len(ladder) - 1))
        if rng.random() >= rest_share:
            notes.append(ScoreNote(onset, length, ladder[index], 6.0 if onset % 2 < 1e-6 else 0.0))
    return notes


def _hands(setting: Setting) -> tuple[Setting, Setting]:
    """The register divided into a lower and an upper hand."""
    middle = (setting.low + setting.high) // 2
    common = (setting.rng, setting.root, setting.mode, setting.n_beats, setting.seconds_per_beat)
    return Setting(*common, setting.low, middle), Setting(*common, min(middle, setting.high - 5), setting.high)


def _accompanied(setting: Setting, accompany: Callable[[Setting], list[ScoreNote]]) -> list[ScoreNote]:
    lower, upper = _hands(setting)
    quieter = float(setting.rng.uniform(0, 25))
    backing = [ScoreNote(n.onset_beats, n.length_beats, n.pitch, n.accent - quieter) for n in accompany(lower)]
    return melody(upper) + backing


def block_chords(setting: Setting) -> list[ScoreNote]:
    """Chords struck together in a free rhythm."""
    rng = setting.rng
    progression = setting.chords(float(rng.choice([1.0, 2.0, 4.0])))
    starts = [onset for onset, _ in progression]
    notes = []
    for onset, length in rhythm(setting):
        classes = progression[int(np.searchsorted(starts, onset + 1e-6)) - 1][1]
        pitches = spread(classes, setting.low, setting.high)
        size = min(int(rng.integers(2, 8)), len(pitches))
        first = int(rng.integers(len(pitches) - size + 1))
        chosen = pitches[first : first + size] if rng.random() < 0.6 else rng.choice(pitches, size, replace=False)
        notes += [ScoreNote(onset, length, int(pitch), 5.0 if onset % 4 < 1e-6 else 0.0) for pitch in chosen]
    return notes


def held_chords(setting: Setting) -> list[ScoreNote]:
    """One chord per harmony, held."""
    beats = float(setting.rng.choice([1.0, 2.0, 4.0]))
    notes = []
    for onset, classes in setting.chords(beats):
        pitches = spread(classes, setting.low, setting.high)[: int(setting.rng.integers(2, 6))]
        notes += [ScoreNote(onset, min(beats, setting.n_beats - onset), pitch) for pitch in pitches]
    return notes


def arpeggio(setting: Setting) -> list[ScoreNote]:
    """Broken chords, up, down, or in a fixed shuffled order."""
    rng = setting.rng
    step = setting.subdivision()
    beats = float(rng.choice([1.0, 2.0, 4.0]))
    shape = int(rng.integers(3))
    notes = []
    for onset, classes in setting.chords(beats):
        pitches = spread(classes, setting.low, setting.high)
        if len(pitches) > 4:
            size = int(rng.integers(4, min(len(pitches), 14) + 1))
            first = int(rng.integers(len(pitches) - size + 1))
            pitches = pitches[first : first + size]
        if shape == 1:
            pitches = pitches + pitches[-2:0:-1]
        elif shape == 2:
            pitches = [pitches[int(i)] for i in rng.permutation(len(pitches))]
        end = min(onset + beats, setting.n_beats)
        for k, at in enumerate(np.arange(onset, end - 1e-6, step)):
            notes.append(ScoreNote(float(at), step, pitches[k % len(pitches)], 5.0 if k == 0 else 0.0))
    return notes


def alberti(setting: Setting) -> list[ScoreNote]:
    """Low, high, middle, high: the classical accompaniment."""
    step = setting.subdivision(fastest_hz=14.0)
    notes = []
    for onset, classes in setting.chords(2.0):
        base = spread(classes, setting.low, setting.high)[:3]
        order = [base[0], base[-1], base[len(base) // 2], base[-1]]
        for k, at in enumerate(np.arange(onset, min(onset + 2.0, setting.n_beats) - 1e-6, step)):
            notes.append(ScoreNote(float(at), step, order[k % 4], 4.0 if k % 4 == 0 else 0.0))
    return notes


def stride(setting: Setting) -> list[ScoreNote]:
    """A bass note, then chords: stride, waltz, march."""
    metre = int(setting.rng.choice([2, 3, 4]))
    notes = []
    for onset, classes in setting.chords(float(metre)):
        pitches = spread(classes, setting.low, setting.high)
        notes.append(ScoreNote(onset, 1.0, pitches[0], 8.0))
        for beat in range(1, metre):
            if onset + beat < setting.n_beats:
                notes += [ScoreNote(onset + beat, 0.6, pitch) for pitch in pitches[-3:]]
    return notes


def walking_bass(setting: Setting) -> list[ScoreNote]:
    """A bass line in even beats with chords off the beat."""
    rng = setting.rng
    lower, upper = _hands(setting)
    ladder = lower.scale()
    index = len(ladder) // 2
    notes = []
    for onset, classes in setting.chords(4.0):
        pitches = spread(classes, upper.low, upper.high)
        for beat in np.arange(onset, min(onset + 4.0, setting.n_beats), 1.0):
            index = int(np.clip(index + int(rng.choice([-2, -1, 1, 2])), 0, len(ladder) - 1))
            notes.append(ScoreNote(float(beat), 1.0, ladder[index]))
            if rng.random() < 0.5:
                notes += [ScoreNote(float(beat) + 0.5, 0.4, pitch, -5.0) for pitch in pitches[:4]]
    return notes


def bass_line(setting: Setting) -> list[ScoreNote]:
    """Roots, fifths and octaves of the harmony in a figure that recurs, with steps into the next chord."""
    rng = setting.rng
    beats = float(rng.choice([2.0, 4.0, 4.0]))
    step = setting.subdivision(fastest_hz=7.0, slowest_hz=0.7)
    n_steps = max(int(beats / step), 1)
    sounds = rng.random(n_steps) < rng.uniform(0.35, 1.0)
    sounds[0] = True
    figure = rng.choice([0, 0, 0, 7, 12, 5], n_steps)
    ladder = setting.scale()
    notes = []
    for onset, classes in setting.chords(beats):
        root = spread(classes[:1], setting.low, min(setting.low + 16, setting.high))[0]
        for k in range(n_steps):
            at = onset + k * step
            if at >= setting.n_beats - 1e-6 or not sounds[k]:
                continue
            leads = k == n_steps - 1 and rng.random() < 0.3
            pitch = (
                int(rng.choice(ladder[: len(ladder) // 2 + 1])) if leads else min(root + int(figure[k]), setting.high)
            )
            notes.append(ScoreNote(float(at), step, pitch, 5.0 if k == 0 else 0.0))
    return notes


def counterpoint(setting: Setting) -> list[ScoreNote]:
    """Two to four independent lines, each in its own band of the register."""
    n_voices = int(setting.rng.integers(2, 5))
    bands = np.linspace(setting.low, setting.high, n_voices + 1).astype(int)
    common = (setting.rng, setting.root, setting.mode, setting.n_beats, setting.seconds_per_beat)
    notes = []
    for low, high in zip(bands[:-1], bands[1:], strict=True):
        notes += melody(Setting(*common, int(low), int(high)), leap_share=0.1)
    return notes


def chorale(setting: Setting) -> list[ScoreNote]:
    """Four voices moving together to the nearest notes of the next chord."""
    rng = setting.rng
    beats = float(rng.choice([1.0, 1.0, 2.0]))
    voices = [float(v) for v in np.linspace(setting.low, setting.high, 6)[1:5]]
    notes = []
    for onset, classes in setting.chords(beats):
        pitches = np.array(spread(classes, setting.low, setting.high))
        voices = [float(pitches[np.argmin(np.abs(pitches - v - rng.uniform(-2, 2)))]) for v in voices]
        notes += [ScoreNote(onset, min(beats, setting.n_beats - onset), int(v)) for v in sorted(set(voices))]
    return notes


def repeated_notes(setting: Setting) -> list[ScoreNote]:
    """The same key (or chord) struck again and again."""
    rng = setting.rng
    step = setting.subdivision(fastest_hz=13.0, slowest_hz=2.0)
    ladder = setting.scale()
    notes: list[ScoreNote] = []
    onset = 0.0
    while onset < setting.n_beats - 1e-6:
        pitches = {int(p) for p in rng.choice(ladder, int(rng.choice([1, 1, 1, 2, 3])))}
        for _ in range(int(rng.integers(2, 13))):
            if onset < setting.n_beats - 1e-6:
                notes += [ScoreNote(onset, step, pitch, float(rng.normal(0, 3))) for pitch in pitches]
            onset += step
    return notes


def trills(setting: Setting) -> list[ScoreNote]:
    """Two neighbouring keys in quick alternation, with pauses on a note."""
    rng = setting.rng
    ladder = setting.scale()
    notes: list[ScoreNote] = []
    onset = 0.0
    while onset < setting.n_beats - 0.1:
        step = 1 / (float(rng.uniform(7, 18)) * setting.seconds_per_beat)
        length = float(rng.uniform(0.5, 3.0))
        base, interval = int(rng.choice(ladder)), int(rng.choice([1, 2, 2]))
        end = min(onset + length, setting.n_beats)
        for k, at in enumerate(np.arange(onset, end, step)):
            notes.append(ScoreNote(float(at), step, base + interval * (k % 2)))
        notes.append(ScoreNote(end, 0.8, base - int(rng.choice([0, 1, 2]))))
        onset = end + float(rng.uniform(0.2, 1.0))
    return notes


def tremolo(setting: Setting) -> list[ScoreNote]:
    """Two halves of a chord (or an octave) in quick alternation."""
    rng = setting.rng
    step = 1 / (float(rng.uniform(6, 15)) * setting.seconds_per_beat)
    notes = []
    for onset, classes in setting.chords(float(rng.choice([2.0, 4.0]))):
        pitches = spread(classes, setting.low, setting.high)
        first = int(rng.integers(max(len(pitches) - 4, 1)))
        chord = pitches[first : first + int(rng.integers(2, 5))]
        halves = [chord[: len(chord) // 2] or chord, chord[len(chord) // 2 :]]
        if rng.random() < 0.3:
            halves = [[chord[0]], [chord[0] + 12]]
        for k, at in enumerate(np.arange(onset, min(onset + 2.0, setting.n_beats) - 1e-6, step)):
            notes += [ScoreNote(float(at), step, pitch) for pitch in halves[k % 2]]
    return notes


def scales(setting: Setting) -> list[ScoreNote]:
    """Runs up and down, diatonic or chromatic, alone, in thirds or in octaves."""
    rng = setting.rng
    step = setting.subdivision(fastest_hz=22.0, slowest_hz=3.0)
    chromatic = rng.random() < 0.25
    ladder = list(range(setting.low, setting.high + 1)) if chromatic else setting.scale()
    doubling = int(rng.choice([0, 0, 0, 2, 5, 7]))
    index, direction = int(rng.integers(len(ladder))), int(rng.choice([-1, 1]))
    notes = []
    for k, at in enumerate(np.arange(0.0, setting.n_beats - 1e-6, step)):
        if not 0 <= index + direction < len(ladder) or rng.random() < 0.04:
            direction = -direction
        index = int(np.clip(index + direction, 0, len(ladder) - 1))
        notes.append(ScoreNote(float(at), step, ladder[index], 5.0 if k % 4 == 0 else 0.0))
        if doubling:
            notes.append(ScoreNote(float(at), step, ladder[min(index + doubling, len(ladder) - 1)]))
    return notes


def octaves(setting: Setting) -> list[ScoreNote]:
    """A line doubled at one or two octaves."""
    distance = int(setting.rng.choice([12, 12, 12, 24, 36]))
    line = melody(setting, leap_share=0.3)
    return line + [ScoreNote(n.onset_beats, n.length_beats, n.pitch - distance, n.accent) for n in line]


def isolated(setting: Setting) -> list[ScoreNote]:
    """Single notes, far apart, held long: attack, decay and release in the clear."""
    rng = setting.rng
    notes: list[ScoreNote] = []
    onset = 0.0
    while onset < setting.n_beats:
        gap = float(rng.uniform(0.4, 5.0)) / setting.seconds_per_beat
        length = gap * float(rng.choice([0.1, 0.3, 0.6, 0.95, 1.6]))
        pitch = int(rng.integers(PIANO_LOW, PIANO_HIGH + 1))
        notes.append(ScoreNote(onset, length, pitch, float(rng.uniform(-45, 45))))
        onset += gap
    return notes


def clusters(setting: Setting) -> list[ScoreNote]:
    """Neighbouring keys struck together."""
    rng = setting.rng
    notes = []
    for onset, length in rhythm(setting):
        if rng.random() < 0.6:
            base = int(rng.integers(setting.low, setting.high))
            size, spacing = int(rng.integers(2, 7)), int(rng.choice([1, 1, 2]))
            accent = float(rng.normal(0, 12))
            notes += [ScoreNote(onset, length, base + k * spacing, accent) for k in range(size)]
    return notes


def random_notes(setting: Setting) -> list[ScoreNote]:
    """No music at all: any key at any time with any length and force, from sparse to a hail of notes."""
    rng = setting.rng
    span_s = setting.n_beats * setting.seconds_per_beat
    rate_hz = float(np.exp(rng.uniform(np.log(0.7), np.log(38.0))))
    count = max(int(rng.poisson(rate_hz * span_s)), 1)
    wide = rng.random() < 0.7
    low, high = (PIANO_LOW, PIANO_HIGH) if wide else (setting.low, setting.high)
    onsets = np.sort(rng.uniform(0, setting.n_beats, count))
    lengths_s = np.exp(rng.normal(np.log(0.25), 1.0, count))
    pitches, accents = rng.integers(low, high + 1, count), rng.uniform(-50, 50, count)
    return [
        ScoreNote(float(onset), float(length_s) / setting.seconds_per_beat, int(pitch), float(accent))
        for onset, length_s, pitch, accent in zip(onsets, lengths_s, pitches, accents, strict=True)
    ]


def melody_and_chords(setting: Setting) -> list[ScoreNote]:
    """A melody over held or repeated chords."""
    return _accompanied(setting, held_chords if setting.rng.random() < 0.5 else block_chords)


def melody_and_arpeggio(setting: Setting) -> list[ScoreNote]:
    """A melody over broken chords."""
    return _accompanied(setting, arpeggio)


def melody_and_alberti(setting: Setting) -> list[ScoreNote]:
    """A melody over an Alberti bass."""
    return _accompanied(setting, alberti)


def melody_and_stride(setting: Setting) -> list[ScoreNote]:
    """A melody over bass notes and after-beat chords."""
    return _accompanied(setting, stride)


# Weights: common playing often, edge cases often enough to be learned.
TEXTURES: tuple[tuple[Texture, float], ...] = (
    (melody_and_chords, 3.0), (melody_and_arpeggio, 3.0), (melody_and_alberti, 1.5), (melody_and_stride, 1.5),
    (melody, 1.5), (block_chords, 1.5), (held_chords, 0.7), (arpeggio, 2.0), (walking_bass, 1.0), (counterpoint, 2.0),
    (chorale, 1.2), (repeated_notes, 1.2), (trills, 0.7), (tremolo, 0.7), (scales, 1.5), (octaves, 1.2),
    (isolated, 1.8), (clusters, 0.5), (random_notes, 2.5),
)  # fmt: skip
