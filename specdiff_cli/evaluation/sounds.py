"""Every program and drum key by itself: how loud, how sharp and how bright it is beside the teacher's.

A probe is a short song of one program (five neighbouring keys around each of three pitches) or one drum key, each note
alone with silence around it. The teacher and the voice play the same probe, and each note's stretch is measured in
both. What is compared says where a sound is wrong before anybody hears it in music: a pad that is 12 dB too low hides
behind everything else.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import mido
import numpy as np
from numpy.typing import NDArray

from specdiff_cli.constants import SAMPLE_RATE_HZ
from specdiff_cli.midi.drum_parts import DRUM_CHANNEL, DRUM_KEYS
from specdiff_cli.midi.notes import MidiSong, parse_midi
from specdiff_cli.midi.programs import GM_NAMES, N_PROGRAMS
from specdiff_cli.wording import one_line

CENTRES = (48, 60, 72)
#: Keys around each: how a sound rises is the mean of theirs, since beats and phases differ from key to key.
NEIGHBOURS = (-2, -1, 0, 1, 2)
N_STROKES = 3  # of a drum key
VELOCITY = 96
LEAD_S = 0.5  # before the first note
SLOT_S = 3.0  # from note to note: pads ring for two seconds after their ends
NOTE_S = 1.0
HEARD_S = 1.9  # of each note, with its release

# With 480 ticks a beat at 120 beats per minute.
TICKS_PER_S = 960

#: Hann windows of the envelopes. The power of a tone ripples at twice its frequency; at 10 ms nothing above 200 Hz is
#: left of that, so the attack of a tone from 100 Hz on does not depend on its phases.
ATTACK_WINDOW_S, BEFORE_WINDOW_S = 0.01, 0.004
ATTACK_WITHIN_S = 0.3
#: An attack is the mean of the times at which the envelope first reaches these shares of its peak, 10 % to 50 % of the
#: amplitude in steps of 1 dB.
ATTACK_POWERS = 10.0 ** (np.arange(-20, -5) / 10)
BEFORE_S = 0.02
FLOOR = 1e-5  # -100 dB: below a 16-bit file's last bit

#: What the bundled voice aims at.
LEVEL_TARGET_DB = 1.5
ATTACK_TARGET_MS = 5.0

HEADINGS = ("level dB", "attack ms", "its", "centroid Hz", "its", "before dB", "its")
LEGEND = (
    "level: RMS above the soundfont's, of the note farthest off; attack: from the written onset to 10 % to\n"
    "50 % of the peak; before: the loudest of the 20 ms before the onset, below the peak; its: the soundfont's\n"
    "own; !: beyond 1.5 dB or 5 ms"
)


@dataclass(frozen=True)
class Probe:
    """One program, or one key of the drum kit."""

    name: str
    program: int
    pitches: tuple[int, ...]
    is_drum: bool

    @property
    def n_groups(self) -> int:
        """Sets of notes, as many in each and one after the other, that rise alike."""
        return 1 if self.is_drum else len(CENTRES)

    @property
    def duration_s(self) -> float:
        """Of the whole probe, in seconds."""
        return LEAD_S + SLOT_S * len(self.pitches)

    def midi(self) -> mido.MidiFile:
        """The probe as a MIDI file."""
        channel = DRUM_CHANNEL if self.is_drum else 0
        track = mido.MidiTrack([mido.Message("program_change", channel=channel, program=self.program)])
        wait_s = LEAD_S
        for pitch in self.pitches:
            on = mido.Message("note_on", channel=channel, note=pitch, velocity=VELOCITY)
            off = mido.Message("note_off", channel=channel, note=pitch)
            track += [on.copy(time=_ticks(wait_s)), off.copy(time=_ticks(NOTE_S))]
            wait_s = SLOT_S - NOTE_S
        return mido.MidiFile(tracks=[track], ticks_per_beat=TICKS_PER_S // 2)

    def song(self) -> MidiSong:
        """The probe as the voices read it."""
        file = io.BytesIO()
        self.midi().save(file=file)
        return parse_midi(file.getvalue(), self.name)


@dataclass(frozen=True)
class NoteSound:
    """One note alone; None where nothing sounds."""

    level_db: float
    """RMS of the note and its release, over full scale."""
    centroid_hz: float | None
    """Mean frequency, weighted by power."""
    before_db: float | None
    """Loudest moment of the 20 ms before the written onset, over the loudest of the attack."""
    envelope: NDArray[np.float64] | None
    """Power from 20 ms before the written onset until 300 ms after it; its mean is 1."""


@dataclass(frozen=True)
class SoundRow:
    """A probe beside the teacher's: means over its notes, of attacks over its pitches; None where either is silent.

    Attacks count from the written onset, negative before it.
    """

    name: str
    program: int
    drum_key: int | None
    level_db: float
    """Above the teacher's: the note that is farthest off decides."""
    attack_ms: float | None
    teacher_attack_ms: float | None
    centroid_hz: float | None
    teacher_centroid_hz: float | None
    before_db: float | None
    teacher_before_db: float | None

    @property
    def is_level_met(self) -> bool:
        """Whether every note is within 1.5 dB."""
        return abs(self.level_db) <= LEVEL_TARGET_DB

    @property
    def is_attack_met(self) -> bool:
        """Whether the attack is within 5 ms; a probe that is silent in both has none to miss."""
        if self.attack_ms is None or self.teacher_attack_ms is None:
            return self.attack_ms is self.teacher_attack_ms
        return abs(self.attack_ms - self.teacher_attack_ms) <= ATTACK_TARGET_MS


#: Plays a probe: (n_samples,) float32 mono at 16 kHz, time 0 = time 0 of the file.
Player = Callable[[Probe], NDArray[np.float32]]


def probes(programs: Sequence[int] = range(N_PROGRAMS), drum_keys: Sequence[int] = DRUM_KEYS) -> list[Probe]:
    """One for each program, then one for each drum key of the standard kit."""
    pitches = tuple(centre + step for centre in CENTRES for step in NEIGHBOURS)
    return [Probe(f"{program} {GM_NAMES[program]}", program, pitches, is_drum=False) for program in programs] + [
        Probe(f"drum {key}", 0, (key,) * N_STROKES, is_drum=True) for key in drum_keys
    ]


def compare_sounds(items: Sequence[Probe], teacher: Player, voice: Player) -> Iterator[SoundRow]:
    """A row for each probe, in order."""
    for probe in items:
        ours, theirs = (note_sounds(play(probe), len(probe.pitches)) for play in (voice, teacher))
        yield _row(probe, ours, theirs)


def described(rows: Sequence[SoundRow]) -> dict[str, Any]:
    """The rows, and how many meet each target, in plain types."""
    return {
        "sounds": [asdict(row) | {"meets": {"level": row.is_level_met, "attack": row.is_attack_met}} for row in rows],
        "n_level_met": sum(row.is_level_met for row in rows),
        "n_attack_met": sum(row.is_attack_met for row in rows),
    }


def cells_of(row: SoundRow) -> list[str]:
    """A row as text, under ``HEADINGS``."""

    def text(value: float | None, form: str) -> str:
        return "–" if value is None else format(value, form)

    return [
        one_line(row.name),
        f"{row.level_db:+.1f}{' ' if row.is_level_met else '!'}",
        f"{text(row.attack_ms, '.1f')}{' ' if row.is_attack_met else '!'}",
        text(row.teacher_attack_ms, ".1f"),
        text(row.centroid_hz, ".0f"),
        text(row.teacher_centroid_hz, ".0f"),
        text(row.before_db, ".0f"),
        text(row.teacher_before_db, ".0f"),
    ]


def summary_of(rows: Sequence[SoundRow]) -> str:
    """How many meet each target, in words."""
    n_level, n_attack = sum(row.is_level_met for row in rows), sum(row.is_attack_met for row in rows)
    return (
        f"{n_level} of {len(rows)} within {LEVEL_TARGET_DB:g} dB, {n_attack} within {ATTACK_TARGET_MS:g} ms of the "
        "soundfont's attack"
    )


def note_sounds(audio: NDArray[np.float32], n_notes: int) -> list[NoteSound]:
    """Every note of a probe's recording."""
    padded = np.zeros(_samples(LEAD_S + SLOT_S * n_notes))
    padded[: len(audio)] = audio[: len(padded)]
    return [_note_sound(padded, _samples(LEAD_S + SLOT_S * i)) for i in range(n_notes)]


def attack_ms(notes: Sequence[NoteSound]) -> float | None:
    """Of notes that rise alike: how long after the written onset the mean of their envelopes has risen."""
    envelopes = [note.envelope for note in notes if note.envelope is not None]
    if not envelopes:
        return None
    risen = np.maximum.accumulate(np.mean(envelopes, axis=0))
    reached = np.searchsorted(risen, ATTACK_POWERS * risen[-1])
    return 1000.0 * (float(reached.mean()) / SAMPLE_RATE_HZ - BEFORE_S)


def _note_sound(audio: NDArray[np.float64], onset: int) -> NoteSound:
    sound = audio[onset : onset + _samples(HEARD_S)]
    level = float(np.sqrt(np.mean(np.square(sound))))
    if level < FLOOR:
        return NoteSound(20 * np.log10(FLOOR), None, None, None)
    begin, end = onset - _samples(BEFORE_S), onset + _samples(ATTACK_WITHIN_S)
    amplitude = np.sqrt(_envelope(audio, BEFORE_WINDOW_S)[begin:end])
    before = float(amplitude[: onset - begin].max())
    envelope = _envelope(audio, ATTACK_WINDOW_S)[begin:end]
    power = np.square(np.abs(np.fft.rfft(sound * np.hanning(len(sound)))))
    frequencies_hz = np.fft.rfftfreq(len(sound), 1 / SAMPLE_RATE_HZ)
    return NoteSound(
        level_db=20 * float(np.log10(level)),
        centroid_hz=float((power * frequencies_hz).sum() / power.sum()),
        before_db=20 * float(np.log10(max(before, FLOOR) / max(float(amplitude.max()), FLOOR))),
        envelope=envelope / max(float(envelope.mean()), FLOOR**2),
    )


def _envelope(audio: NDArray[np.float64], window_s: float) -> NDArray[np.float64]:
    """Mean power around every sample, under a Hann window."""
    window = np.hanning(_samples(window_s) + 2)[1:-1]
    return np.asarray(np.convolve(np.square(audio), window / window.sum(), mode="same"))


def _row(probe: Probe, ours: Sequence[NoteSound], theirs: Sequence[NoteSound]) -> SoundRow:
    levels = [a.level_db - b.level_db for a, b in zip(ours, theirs, strict=True)]
    return SoundRow(
        name=probe.name,
        program=probe.program,
        drum_key=probe.pitches[0] if probe.is_drum else None,
        level_db=max(levels, key=abs),
        attack_ms=_mean([attack_ms(group) for group in _groups(ours, probe.n_groups)]),
        teacher_attack_ms=_mean([attack_ms(group) for group in _groups(theirs, probe.n_groups)]),
        centroid_hz=_mean([note.centroid_hz for note in ours]),
        teacher_centroid_hz=_mean([note.centroid_hz for note in theirs]),
        before_db=_mean([note.before_db for note in ours]),
        teacher_before_db=_mean([note.before_db for note in theirs]),
    )


def _groups(notes: Sequence[NoteSound], n_groups: int) -> list[Sequence[NoteSound]]:
    size = len(notes) // n_groups
    return [notes[size * i : size * (i + 1)] for i in range(n_groups)]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _samples(duration_s: float) -> int:
    return round(duration_s * SAMPLE_RATE_HZ)


def _ticks(duration_s: float) -> int:
    return round(duration_s * TICKS_PER_S)
