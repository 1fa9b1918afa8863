"""What the composer's drummer plays: grooves with fills on a General MIDI kit, and percussion in no order at all."""

import numpy as np

from specdiff_cli.corpus.setting import MAX_RATE_HZ, ScoreNote, Setting

KICKS, SNARES, SIDE_STICKS = (36, 35), (38, 40, 39), (37,)
CLOSED_HAT, PEDAL_HAT, OPEN_HAT = 42, 44, 46
RIDES, CRASHES, TOMS = (51, 59, 53), (49, 57, 52, 55), (50, 48, 47, 45, 43, 41)
SHAKERS = (70, 82, 69, 54)
PERCUSSION_LOW, PERCUSSION_HIGH = 35, 81
HIT_BEATS = 0.2
#: Sixteenths of a bar on which (kick, snare) fall, and how many beats the bar has.
GROOVES: tuple[tuple[tuple[int, ...], tuple[int, ...], int], ...] = (
    ((0, 8), (4, 12), 4),
    ((0, 6, 8), (4, 12), 4),
    ((0, 4, 8, 12), (4, 12), 4),
    ((0, 10), (4, 12), 4),
    ((0, 3, 8, 11), (4, 12), 4),
    ((0, 7, 10), (4, 12, 15), 4),
    ((0, 8), (8,), 4),
    ((0,), (4, 8), 3),
    ((0, 6), (6,), 3),
    ((0, 2, 8, 10), (4, 7, 12), 4),
)


def groove(setting: Setting) -> list[ScoreNote]:
    """A bar that repeats with small changes: kick, snare, something that keeps time, and fills into new phrases."""
    rng = setting.rng
    kicks, snares, n_beats = GROOVES[int(rng.integers(len(GROOVES)))]
    kick = int(rng.choice(KICKS, p=[0.75, 0.25]))
    snare = int(rng.choice(SNARES, p=[0.7, 0.15, 0.15])) if rng.random() < 0.85 else SIDE_STICKS[0]
    keeper = int(rng.choice([CLOSED_HAT, CLOSED_HAT, RIDES[0], PEDAL_HAT, *RIDES, *SHAKERS]))
    step = setting.subdivision(fastest_hz=12.0, slowest_hz=1.5)
    ghosts, opens = float(rng.choice([0.0, 0.1, 0.3])), float(rng.choice([0.0, 0.1]))
    phrase_bars = int(rng.choice([2, 4, 8]))
    notes: list[ScoreNote] = []
    for bar, start in enumerate(np.arange(0.0, setting.n_beats, n_beats)):
        fills = (bar + 1) % phrase_bars == 0 and rng.random() < 0.6
        end = start + n_beats - (1.0 if fills else 0.0)
        notes += [ScoreNote(start + k / 4, HIT_BEATS, kick, 4.0) for k in kicks if start + k / 4 < end]
        notes += [ScoreNote(start + k / 4, HIT_BEATS, snare, 6.0) for k in snares if start + k / 4 < end]
        for k in range(4 * n_beats):
            at = start + k / 4
            if at < end and k not in snares and rng.random() < ghosts / 2:
                notes.append(ScoreNote(at, HIT_BEATS, snare, -30.0))
        for k, at in enumerate(np.arange(start, end - 1e-6, step)):
            pitch = OPEN_HAT if keeper == CLOSED_HAT and rng.random() < opens else keeper
            notes.append(ScoreNote(float(at), HIT_BEATS, pitch, -8.0 if k % 2 else -2.0))
        if fills:
            notes += fill(setting, float(end), float(start + n_beats))
        if bar % phrase_bars == 0 and rng.random() < 0.5:
            notes.append(ScoreNote(float(start), HIT_BEATS, int(rng.choice(CRASHES)), 8.0))
    return [note for note in notes if note.onset_beats < setting.n_beats]


def fill(setting: Setting, start_beats: float, end_beats: float) -> list[ScoreNote]:
    """A run down the toms or on the snare."""
    rng = setting.rng
    step = max(float(rng.choice([0.25, 0.25, 1 / 6, 0.125])), 1 / (MAX_RATE_HZ * setting.seconds_per_beat))
    drums = [SNARES[0]] if rng.random() < 0.3 else sorted(rng.choice(TOMS, 3, replace=False), reverse=True)
    times = np.arange(start_beats, end_beats - 1e-6, step)
    return [
        ScoreNote(float(at), HIT_BEATS, int(drums[k * len(drums) // len(times)]), float(rng.normal(0, 5)))
        for k, at in enumerate(times)
    ]


def percussion(setting: Setting) -> list[ScoreNote]:
    """Two to four instruments of the whole kit, each with a rhythm of its own."""
    rng = setting.rng
    notes: list[ScoreNote] = []
    for pitch in rng.integers(PERCUSSION_LOW, PERCUSSION_HIGH + 1, int(rng.integers(2, 5))):
        step = setting.subdivision(fastest_hz=9.0, slowest_hz=0.8)
        pattern = rng.random(16) < rng.uniform(0.2, 0.8)
        for k, at in enumerate(np.arange(0.0, setting.n_beats, step)):
            if pattern[k % 16]:
                notes.append(ScoreNote(float(at), HIT_BEATS, int(pitch), float(rng.normal(0, 6))))
    return notes


def random_hits(setting: Setting) -> list[ScoreNote]:
    """Any instrument at any time with any force, from single strokes in the clear to a hail of them."""
    rng = setting.rng
    rate_hz = float(np.exp(rng.uniform(np.log(0.5), np.log(14.0))))
    count = max(int(rng.poisson(rate_hz * setting.n_beats * setting.seconds_per_beat)), 1)
    onsets = np.sort(rng.uniform(0, setting.n_beats, count))
    pitches = rng.integers(PERCUSSION_LOW, PERCUSSION_HIGH + 1, count)
    accents = rng.uniform(-45, 45, count)
    return [ScoreNote(float(o), HIT_BEATS, int(p), float(a)) for o, p, a in zip(onsets, pitches, accents, strict=True)]


DRUMMING = ((groove, 7.0), (percussion, 1.5), (random_hits, 1.5))
