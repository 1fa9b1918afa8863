"""Training music without a library of music: a procedural composer and an arranger of real files.

Both are functions of a seed. The composer strings together sections of different textures (``textures.py``); what it
shares with the arranger is the performance: phrase-shaped velocities, humanised timing, articulation, tempo maps and
pedal. Everything happens in seconds; ticks appear only when the MIDI file is written.
"""

from dataclasses import dataclass, field
from pathlib import Path

import mido
import numpy as np
from numpy.typing import NDArray

from specdiff_cli.midi.notes import read_midi
from specdiff_cli.train.textures import MODES, PIANO_HIGH, PIANO_LOW, TEXTURES, ScoreNote, Setting

Rng = np.random.Generator
Floats = NDArray[np.float64]

# Raised with every change of what a seed composes or arranges: a half-made corpus must not go on with other rules.
COMPOSER_VERSION = 1
TICKS_PER_BEAT = 960
DRUM_CHANNEL = 9
SHORTEST_NOTE_S, LONGEST_NOTE_S = 0.03, 8.0
REPEAT_GAP_S = 0.012  # a key is up at least this long before it is struck again
SUSTAIN_CONTROL, PEDAL_THRESHOLD = 64, 64


@dataclass(frozen=True)
class ComposeConfig:
    """What pieces are made of.

    ``programs``: General MIDI programs to draw from; ``n_parts``: fewest and most parts; ``drums``: whether a part on
    channel 10 may be added (not offered yet); lengths in seconds; ``tempo_bpm`` and ``notes_per_s`` are limits.
    """

    programs: tuple[int, ...] = (0,)
    drums: bool = False
    n_parts: tuple[int, int] = (1, 1)
    length_s: tuple[float, float] = (60.0, 150.0)
    tempo_bpm: tuple[float, float] = (40.0, 220.0)
    pedal_share: float = 0.4
    notes_per_s: int = 40


@dataclass
class Part:
    """One instrument's performance.

    ``notes`` (n, 4): start_s, end_s, pitch, velocity. ``pedal``: (time_s, value) of the sustain controller.
    """

    program: int
    channel: int
    notes: Floats
    pedal: list[tuple[float, int]] = field(default_factory=list)


@dataclass(frozen=True)
class TempoMap:
    """Piecewise constant tempo: seconds[i] is the time of beats[i]."""

    beats: Floats
    seconds: Floats

    def to_seconds(self, beats: Floats) -> Floats:
        """Times in seconds of positions in beats."""
        return np.interp(beats, self.beats, self.seconds)

    def to_beats(self, seconds: Floats) -> Floats:
        """Positions in beats of times in seconds."""
        return np.interp(seconds, self.seconds, self.beats)


def compose(seed: int, config: ComposeConfig = ComposeConfig()) -> mido.MidiFile:  # noqa: B008 - frozen
    """A piece of 60 to 150 s (by the default config), the same for the same seed and config."""
    rng = np.random.default_rng([seed, 1])
    length_s = float(rng.uniform(*config.length_s))
    base_bpm = float(np.exp(rng.uniform(*np.log(config.tempo_bpm))))
    rubato = float(rng.choice([0.0, 0.02, 0.05, 0.1]))
    tempo = _tempo_map(rng, base_bpm, rubato, length_s, config)
    programs = rng.choice(config.programs, int(rng.integers(config.n_parts[0], config.n_parts[1] + 1)))
    spans = _sections(rng, tempo, length_s)
    parts = []
    for index, program in enumerate(programs):
        notes = np.concatenate([_section(rng, tempo, begin, end, len(programs)) for begin, end in spans])
        channel = index if index < DRUM_CHANNEL else index + 1
        parts.append(Part(int(program), channel, _tidy(rng, notes, config.notes_per_s)))
    return _finish(rng, parts, tempo, config)


def arrange(midi_path: Path, seed: int, config: ComposeConfig = ComposeConfig()) -> mido.MidiFile:  # noqa: B008
    """An excerpt of a real file in a new performance.

    Its programs are mapped to the configured ones; tempo, key, octave, velocities, timing, articulation and pedal are
    varied. A file shorter than the drawn length is used whole. Raises MidiError when the file cannot be read.
    """
    rng = np.random.default_rng([seed, 2])
    table = note_table(midi_path)
    table = table[table[:, 5] == 0]
    programs = np.unique(table[:, 4])
    if len(programs) > 1 and rng.random() < 0.25:  # the accompaniment, or the voice, alone
        kept = table[table[:, 4] == rng.choice(programs)]
        table = kept if len(kept) > 100 else table
    stretch = float(np.exp(rng.uniform(np.log(0.55), np.log(1.8))))
    length_s = float(rng.uniform(*config.length_s))
    total_s = float(table[:, 1].max()) * stretch
    begin_s = float(rng.uniform(0, max(total_s - length_s, 0.0)))
    start_s, end_s = table[:, 0] * stretch, table[:, 1] * stretch
    inside = (start_s >= begin_s) & (start_s < begin_s + length_s)
    tempo = _tempo_map(rng, float(rng.uniform(*config.tempo_bpm)), float(rng.choice([0.0, 0.03, 0.06])), 400.0, config)
    mapping = {program: int(rng.choice(config.programs)) for program in programs}
    octave = 12 * int(rng.choice([0, 0, 0, 0, -1, 1]))
    shift = int(rng.integers(-6, 7)) + octave
    level = float(rng.uniform(25, 105))
    parts = []
    for index, program in enumerate(sorted(set(mapping.values()))):
        sources = [source for source, target in mapping.items() if target == program]
        mine = inside & np.isin(table[:, 4], sources)
        if not mine.any():
            continue
        # The warp: an even beat at the piece's mean tempo, read through a tempo map that breathes.
        lead_in_s = float(rng.uniform(0.02, 0.6))
        scale = float(tempo.beats[-1] / tempo.seconds[-1])
        starts = tempo.to_seconds((start_s[mine] - begin_s + lead_in_s) * scale)
        ends = tempo.to_seconds((end_s[mine] - begin_s + lead_in_s) * scale)
        source_accent = 0.6 * (table[mine, 3] - table[mine, 3].mean())
        velocities = _phrase(rng, starts, level) + source_accent + rng.normal(0, rng.uniform(0, 6), len(starts))
        pitches = _fold(table[mine, 2] + shift)
        notes = np.column_stack([starts, ends, pitches, velocities])
        if rng.random() < 0.15:  # doubled an octave away
            below = notes.copy()
            below[:, 2] = _fold(notes[:, 2] + 12 * rng.choice([-1, 1]))
            notes = np.concatenate([notes, below])
        notes = _humanise(rng, notes, _gate(rng))
        channel = index if index < DRUM_CHANNEL else index + 1
        parts.append(Part(program, channel, _tidy(rng, notes, config.notes_per_s)))
    return _finish(rng, parts, tempo, config)


def note_table(path: Path) -> Floats:
    """Notes of a MIDI file as this project's reader sees them, sustain included.

    Returns (n, 6): start_s, end_s, pitch, velocity, program, is_drum; ordered by start, then pitch. Raises MidiError
    when the file cannot be read or holds no notes.
    """
    notes = read_midi(path).notes
    rows = [[n.start_s, n.end_s, n.pitch, n.velocity, n.program, n.is_drum] for n in notes]
    table = np.array(rows, dtype=np.float64)
    return np.asarray(table[np.lexsort((table[:, 2], table[:, 0]))], dtype=np.float64)


def _tempo_map(rng: Rng, base_bpm: float, rubato: float, length_s: float, config: ComposeConfig) -> TempoMap:
    """A tempo that wanders by ``rubato`` (a share), slows down at phrase ends and sometimes jumps."""
    n_beats = int(length_s * base_bpm / 60 * 1.6) + 16
    wander = np.cumsum(rng.normal(0, 1, n_beats))
    wander -= np.linspace(wander[0], wander[-1], n_beats)
    log_tempo = np.log(base_bpm) + rubato * (0.3 * wander / max(wander.std(), 1e-6) + rng.normal(0, 0.4, n_beats))
    if rubato > 0:
        for end in range(int(rng.integers(12, 40)), n_beats, int(rng.integers(16, 48))):
            span = int(rng.integers(2, 7))  # a ritardando
            log_tempo[end - span : end] -= np.linspace(0, float(rng.uniform(0.1, 0.7)), span)
    if rng.random() < 0.3:
        log_tempo[int(rng.integers(n_beats)) :] += float(rng.uniform(-0.6, 0.6))
    bpm = np.clip(np.exp(log_tempo), *config.tempo_bpm)
    beats = np.arange(n_beats + 1, dtype=np.float64)
    return TempoMap(beats, np.concatenate([[0.0], np.cumsum(60.0 / bpm)]))


def _sections(rng: Rng, tempo: TempoMap, length_s: float) -> list[tuple[float, float]]:
    """Spans of 4 to 16 s in seconds, now and then with a rest of up to several seconds between them."""
    now_s = float(rng.uniform(0.02, 0.8))
    spans = []
    while now_s < length_s - 3.0:
        end_s = min(now_s + float(rng.uniform(4, 16)), length_s)
        spans.append((now_s, end_s))
        now_s = end_s + (float(rng.uniform(0.5, 5.0)) if rng.random() < 0.15 else 0.0)
    return spans


def _section(rng: Rng, tempo: TempoMap, begin_s: float, end_s: float, n_parts: int) -> Floats:
    """One section's performance, (n, 4): start_s, end_s, pitch, velocity."""
    if n_parts > 1 and rng.random() < 0.25:
        return np.empty((0, 4))
    first_beat, last_beat = tempo.to_beats(np.array([begin_s, end_s]))
    weights = np.array([weight for _, weight in TEXTURES])
    texture = TEXTURES[int(rng.choice(len(TEXTURES), p=weights / weights.sum()))][0]
    low, width = _register(rng)
    n_beats = float(last_beat - first_beat)
    mode = MODES[int(rng.integers(len(MODES)))]
    setting = Setting(rng, int(rng.integers(12)), mode, n_beats, (end_s - begin_s) / n_beats, low, low + width)
    score: list[ScoreNote] = texture(setting)
    if not score:
        return np.empty((0, 4))
    table = np.array([[n.onset_beats, n.length_beats, n.pitch, n.accent] for n in score])
    starts = tempo.to_seconds(first_beat + table[:, 0])
    ends = tempo.to_seconds(first_beat + table[:, 0] + table[:, 1])
    accent_share = float(rng.choice([0.0, 0.5, 1.0, 2.0], p=[0.1, 0.2, 0.5, 0.2]))
    level = float(rng.choice([rng.uniform(8, 40), rng.uniform(35, 100), rng.uniform(90, 127)], p=[0.2, 0.6, 0.2]))
    velocities = _phrase(rng, starts, level) + accent_share * table[:, 3] + rng.normal(0, rng.uniform(0, 8), len(score))
    notes = np.column_stack([starts, ends, _fold(table[:, 2]), velocities])
    return _humanise(rng, notes, _gate(rng))


def _register(rng: Rng) -> tuple[int, int]:
    """Lowest pitch and width of a section's register; the ends of the keyboard get their share."""
    extreme = rng.random()
    if extreme < 0.2:
        width = int(rng.integers(12, 25))
        return (PIANO_LOW if extreme < 0.1 else PIANO_HIGH - width), width
    width = int(rng.integers(12, 62))
    return int(rng.integers(PIANO_LOW, PIANO_HIGH - width + 1)), width


def _phrase(rng: Rng, times_s: Floats, level: float) -> Floats:
    """Velocities around ``level``: even, swelling and fading in phrases, or one long crescendo or diminuendo."""
    kind = rng.random()
    if kind < 0.15:
        return np.full(len(times_s), level)
    if kind < 0.35:
        span = max(float(np.ptp(times_s)), 1e-6)
        return np.asarray(level + rng.uniform(-45, 45) * ((times_s - times_s.min()) / span - 0.5))
    period_s, phase = float(rng.uniform(2, 9)), float(rng.uniform(0, 2 * np.pi))
    return level + rng.uniform(3, 22) * np.sin(2 * np.pi * times_s / period_s + phase)


def _gate(rng: Rng) -> float:
    """The share of its written length that a note is held: staccato, plain or legato."""
    return float(
        rng.choice([rng.uniform(0.12, 0.5), rng.uniform(0.6, 0.95), rng.uniform(0.95, 1.15)], p=[0.2, 0.4, 0.4])
    )


def _humanise(rng: Rng, notes: Floats, gate: float) -> Floats:
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


def _fold(pitches: Floats) -> Floats:
    """Pitches brought onto the 88 keys by octaves."""
    above = np.maximum(np.ceil((pitches - PIANO_HIGH) / 12), 0)
    below = np.maximum(np.ceil((PIANO_LOW - pitches) / 12), 0)
    return np.asarray(pitches - 12 * above + 12 * below)


def _tidy(rng: Rng, notes: Floats, notes_per_s: int) -> Floats:
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


def _pedalling(rng: Rng, starts_s: Floats, end_s: float) -> list[tuple[float, int]]:
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
        events.append((max(press_s, 0.001), int(rng.integers(PEDAL_THRESHOLD, 128))))
        events.append((release_s, int(rng.integers(0, PEDAL_THRESHOLD))))
        now_s = release_s + (float(rng.uniform(1, 10)) if rng.random() < 0.1 else 0.03)
    return events


def _finish(rng: Rng, parts: list[Part], tempo: TempoMap, config: ComposeConfig) -> mido.MidiFile:
    """Pedal for the whole piece or none, then the file."""
    if rng.random() < config.pedal_share:
        for part in parts:
            if len(part.notes):
                part.pedal = _pedalling(rng, part.notes[:, 0], float(part.notes[:, 1].max()))
    return _to_midi(parts, tempo)


def _to_midi(parts: list[Part], tempo: TempoMap) -> mido.MidiFile:
    """One file: the tempo map on track 0, each part on a track of its own."""
    midi = mido.MidiFile(type=1, ticks_per_beat=TICKS_PER_BEAT)
    last_s = max((float(part.notes[:, 1].max()) for part in parts if len(part.notes)), default=1.0)
    conductor = []
    for beat, seconds_per_beat in zip(tempo.beats[:-1], np.diff(tempo.seconds), strict=True):
        if tempo.seconds[int(beat)] <= last_s:
            message = mido.MetaMessage("set_tempo", tempo=round(1e6 * float(seconds_per_beat)))
            conductor.append((int(beat) * TICKS_PER_BEAT, 0, message))
    midi.tracks.append(_track(conductor))
    for part in parts:
        events = [(0, 0, mido.Message("program_change", channel=part.channel, program=part.program))]
        ticks = np.round(tempo.to_beats(part.notes[:, :2]) * TICKS_PER_BEAT).astype(int)
        for (start, end), (pitch, velocity) in zip(ticks, part.notes[:, 2:].astype(int), strict=True):
            message = mido.Message("note_on", channel=part.channel, note=int(pitch), velocity=int(velocity))
            events.append((int(start), 3, message))
            message = mido.Message("note_off", channel=part.channel, note=int(pitch))
            events.append((max(int(end), int(start) + 1), 2, message))
        for time_s, value in part.pedal:
            tick = round(float(tempo.to_beats(np.array(time_s))) * TICKS_PER_BEAT)
            message = mido.Message("control_change", channel=part.channel, control=SUSTAIN_CONTROL, value=value)
            events.append((tick, 1, message))
        midi.tracks.append(_track(events))
    return midi


def _track(events: list[tuple[int, int, mido.Message]]) -> mido.MidiTrack:
    """Events (tick, order within the tick, message) as a track with delta times."""
    track = mido.MidiTrack()
    now = 0
    for tick, _, message in sorted(events, key=lambda event: event[:2]):
        track.append(message.copy(time=tick - now))
        now = tick
    track.append(mido.MetaMessage("end_of_track", time=0))
    return track
