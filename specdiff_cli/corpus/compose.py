"""Training music without a library of music: a procedural composer and an arranger of real files.

Both are functions of a seed. The composer strings together sections of different textures (``textures.py``); what it
shares with the arranger is the performance: phrase-shaped velocities, humanised timing, articulation, tempo maps and
pedal. Everything happens in seconds; ticks appear only when the MIDI file is written.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import mido
import numpy as np

from specdiff_cli.corpus.drums import DRUMMING
from specdiff_cli.corpus.orchestra import INSTRUMENTS, Instrument, Repertoire, draw_ensemble
from specdiff_cli.corpus.performance import Floats, Rng, fold, gate, humanise, pedalling, phrase, tidy
from specdiff_cli.corpus.setting import MODES, ScoreNote, Setting
from specdiff_cli.midi.drum_parts import DRUM_CHANNEL
from specdiff_cli.midi.holding import SUSTAIN_CONTROLLER
from specdiff_cli.midi.notes import read_midi
from specdiff_cli.midi.programs import MODEL_CLASSES

# Raised with every change of what a seed composes or arranges: a half-made corpus must not go on with other rules.
COMPOSER_VERSION = 2
TICKS_PER_BEAT = 960


@dataclass(frozen=True)
class ComposeConfig:
    """What pieces are made of.

    ``classes``: model classes to draw instruments from; ``solo_piano_share``: of the pieces; ``n_parts``: fewest and
    most parts of the others; ``drum_share``: of those, how many have drums on channel 10; lengths in seconds;
    ``tempo_bpm`` and ``notes_per_s`` (of all parts together) are limits.
    """

    classes: tuple[int, ...] = tuple(MODEL_CLASSES)
    solo_piano_share: float = 0.3
    n_parts: tuple[int, int] = (1, 8)
    drum_share: float = 0.45
    length_s: tuple[float, float] = (60.0, 150.0)
    tempo_bpm: tuple[float, float] = (40.0, 220.0)
    pedal_share: float = 0.4
    notes_per_s: int = 40


SOLO_PIANO = ComposeConfig(classes=(0,), solo_piano_share=1.0, n_parts=(1, 1), drum_share=0.0)


@dataclass
class Part:
    """One instrument's performance; ``instrument`` None is the drums.

    ``notes`` (n, 4): start_s, end_s, pitch, velocity. ``pedal``: (time_s, value) of the sustain controller.
    """

    instrument: Instrument | None
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
    classes, has_drums = _ensemble(rng, config)
    sections = [_harmony(rng, *span) for span in _spans(rng, length_s)]
    n_players = len(classes) + has_drums
    density = _density(config, n_players)
    parts = []
    for instrument, channel in zip(map(INSTRUMENTS.__getitem__, classes), _channels(), strict=False):
        notes = np.concatenate(
            [_section(rng, tempo, section, instrument.repertoire, instrument, n_players) for section in sections]
        )
        parts.append(Part(instrument, channel, tidy(rng, notes, density)))
    if has_drums:
        hits = np.concatenate([_section(rng, tempo, section, DRUMMING, None, n_players) for section in sections])
        parts.append(Part(None, DRUM_CHANNEL, tidy(rng, hits, density)))
    return _finish(rng, parts, tempo, config)


def arrange(midi_path: Path, seed: int, config: ComposeConfig = ComposeConfig()) -> mido.MidiFile:  # noqa: B008
    """An excerpt of a real file in a new performance.

    Its parts are given to drawn instruments (or all to the piano, for the share of pieces that are piano alone);
    tempo, key, octave, velocities, timing, articulation and pedal are varied, and a drummer may join. A file shorter
    than the drawn length is used whole. Raises MidiError when the file cannot be read.
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
    classes, has_drums = _ensemble(rng, config)
    mapping = {program: classes[k % len(classes)] for k, program in enumerate(rng.permutation(programs))}
    octave = 12 * int(rng.choice([0, 0, 0, 0, -1, 1]))
    shift = int(rng.integers(-6, 7)) + octave
    level = float(rng.uniform(25, 105))
    density = _density(config, len(set(mapping.values())) + has_drums)
    parts = []
    last_s = 0.0
    for model_class, channel in zip(sorted(set(mapping.values())), _channels(), strict=False):
        instrument = INSTRUMENTS[model_class]
        sources = [source for source, target in mapping.items() if target == model_class]
        mine = inside & np.isin(table[:, 4], sources)
        if not mine.any():
            continue
        # The warp: an even beat at the piece's mean tempo, read through a tempo map that breathes.
        lead_in_s = float(rng.uniform(0.02, 0.6))
        scale = float(tempo.beats[-1] / tempo.seconds[-1])
        starts = tempo.to_seconds((start_s[mine] - begin_s + lead_in_s) * scale)
        ends = tempo.to_seconds((end_s[mine] - begin_s + lead_in_s) * scale)
        source_accent = 0.6 * (table[mine, 3] - table[mine, 3].mean())
        velocities = phrase(rng, starts, level) + source_accent + rng.normal(0, rng.uniform(0, 6), len(starts))
        pitches = fold(table[mine, 2] + shift, instrument.low, instrument.high)
        notes = np.column_stack([starts, ends, pitches, velocities])
        if rng.random() < 0.15:  # doubled an octave away
            below = notes.copy()
            below[:, 2] = fold(notes[:, 2] + 12 * rng.choice([-1, 1]), instrument.low, instrument.high)
            notes = np.concatenate([notes, below])
        notes = humanise(rng, notes, gate(rng))
        parts.append(Part(instrument, channel, tidy(rng, notes, density)))
        last_s = max(last_s, float(starts.max()))
    if has_drums and last_s > 0:
        spans = _spans(rng, last_s + 3.0)
        hits = [_section(rng, tempo, _harmony(rng, *span), DRUMMING, None, len(parts) + 1) for span in spans]
        parts.append(Part(None, DRUM_CHANNEL, tidy(rng, np.concatenate(hits), density)))
    return _finish(rng, parts, tempo, config)


def _ensemble(rng: Rng, config: ComposeConfig) -> tuple[list[int], bool]:
    """Model classes of the pitched parts, and whether a drummer joins them."""
    if rng.random() < config.solo_piano_share:
        return [0], False
    fewest, most = config.n_parts
    sizes = np.arange(fewest, most + 1)
    odds = 1 / (sizes + 1.0)  # small ensembles more often: each instrument is heard more clearly there
    has_drums = bool(rng.random() < config.drum_share)
    return draw_ensemble(rng, config.classes, int(rng.choice(sizes, p=odds / odds.sum())), has_drums), has_drums


def _channels() -> Iterator[int]:
    """MIDI channels in order, without the drummer's."""
    return (channel for channel in range(16) if channel != DRUM_CHANNEL)


def _density(config: ComposeConfig, n_players: int) -> int:
    """Most notes a second of one part: alone everything, together a fair share."""
    return config.notes_per_s if n_players == 1 else max(config.notes_per_s // n_players, 6)


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


@dataclass(frozen=True)
class Section:
    """A span in seconds whose parts share a key."""

    begin_s: float
    end_s: float
    root: int
    mode: tuple[int, ...]


def _spans(rng: Rng, length_s: float) -> list[tuple[float, float]]:
    """Spans of 4 to 16 s in seconds, now and then with a rest of up to several seconds between them."""
    now_s = float(rng.uniform(0.02, 0.8))
    spans = []
    while now_s < length_s - 3.0:
        end_s = min(now_s + float(rng.uniform(4, 16)), length_s)
        spans.append((now_s, end_s))
        now_s = end_s + (float(rng.uniform(0.5, 5.0)) if rng.random() < 0.15 else 0.0)
    return spans


def _harmony(rng: Rng, begin_s: float, end_s: float) -> Section:
    return Section(begin_s, end_s, int(rng.integers(12)), MODES[int(rng.integers(len(MODES)))])


def _section(
    rng: Rng, tempo: TempoMap, section: Section, repertoire: Repertoire, instrument: Instrument | None, n_players: int
) -> Floats:
    """One part's performance of a section, (n, 4): start_s, end_s, pitch, velocity; ``instrument`` None: drums."""
    if n_players > 1 and rng.random() < 0.25:
        return np.empty((0, 4))
    first_beat, last_beat = tempo.to_beats(np.array([section.begin_s, section.end_s]))
    weights = np.array([weight for _, weight in repertoire])
    texture = repertoire[int(rng.choice(len(repertoire), p=weights / weights.sum()))][0]
    low, high = (0, 127) if instrument is None else _register(rng, instrument)
    n_beats = float(last_beat - first_beat)
    seconds_per_beat = (section.end_s - section.begin_s) / n_beats
    score: list[ScoreNote] = texture(Setting(rng, section.root, section.mode, n_beats, seconds_per_beat, low, high))
    if not score:
        return np.empty((0, 4))
    table = np.array([[n.onset_beats, n.length_beats, n.pitch, n.accent] for n in score])
    starts = tempo.to_seconds(first_beat + table[:, 0])
    ends = tempo.to_seconds(first_beat + table[:, 0] + table[:, 1])
    accent_share = float(rng.choice([0.0, 0.5, 1.0, 2.0], p=[0.1, 0.2, 0.5, 0.2]))
    level = float(rng.choice([rng.uniform(8, 40), rng.uniform(35, 100), rng.uniform(90, 127)], p=[0.2, 0.6, 0.2]))
    velocities = phrase(rng, starts, level) + accent_share * table[:, 3] + rng.normal(0, rng.uniform(0, 8), len(score))
    pitches = table[:, 2] if instrument is None else fold(table[:, 2], instrument.low, instrument.high)
    return humanise(rng, np.column_stack([starts, ends, pitches, velocities]), gate(rng))


def _register(rng: Rng, instrument: Instrument) -> tuple[int, int]:
    """Lowest and highest pitch of a part's section; the ends of the instrument get their share."""
    low, high = instrument.low, instrument.high
    extreme = rng.random()
    if extreme < 0.2:
        width = min(int(rng.integers(12, 25)), high - low)
        return (low, low + width) if extreme < 0.1 else (high - width, high)
    width = min(int(rng.integers(12, 62)), high - low)
    first = int(rng.integers(low, high - width + 1))
    return first, first + width


def _finish(rng: Rng, parts: list[Part], tempo: TempoMap, config: ComposeConfig) -> mido.MidiFile:
    """Pedal for the whole piece or none, then the file."""
    if rng.random() < config.pedal_share:
        for part in parts:
            if len(part.notes) and part.instrument is not None and part.instrument.has_pedal:
                part.pedal = pedalling(rng, part.notes[:, 0], float(part.notes[:, 1].max()))
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
        program = 0 if part.instrument is None else part.instrument.program  # of the drums: the standard kit
        events = [(0, 0, mido.Message("program_change", channel=part.channel, program=program))]
        ticks = np.round(tempo.to_beats(part.notes[:, :2]) * TICKS_PER_BEAT).astype(int)
        for (start, end), (pitch, velocity) in zip(ticks, part.notes[:, 2:].astype(int), strict=True):
            message = mido.Message("note_on", channel=part.channel, note=int(pitch), velocity=int(velocity))
            events.append((int(start), 3, message))
            message = mido.Message("note_off", channel=part.channel, note=int(pitch))
            events.append((max(int(end), int(start) + 1), 2, message))
        for time_s, value in part.pedal:
            tick = round(float(tempo.to_beats(np.array(time_s))) * TICKS_PER_BEAT)
            message = mido.Message("control_change", channel=part.channel, control=SUSTAIN_CONTROLLER, value=value)
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
