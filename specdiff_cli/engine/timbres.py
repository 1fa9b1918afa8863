"""A voice's notes for the vocoder that knows them: how each sounds by itself, and what they add up to."""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from specdiff_cli.audio.partials.score import PlayedNote, Vibrato, pan_of_mono, pitch_hz
from specdiff_cli.constants import FRAME_SAMPLES, FRAMES_PER_SECOND, LOG_MEL_MIN, N_MELS, SAMPLE_RATE_HZ
from specdiff_cli.engine.bends import LEAST_SHIFT_SEMITONES, moved
from specdiff_cli.engine.unisons import Unison, find_unisons
from specdiff_cli.errors import UsageError
from specdiff_cli.midi.expression import ChannelExpression
from specdiff_cli.midi.notes import Note
from specdiff_cli.midi.programs import N_PROGRAMS
from specdiff_cli.midi.timeline import Part
from specdiff_cli.model.note_curves import ending_of, near_velocity
from specdiff_cli.model.note_frames import FrameRows, NoteFrames
from specdiff_cli.model.note_function import NoteFunction
from specdiff_cli.model.note_rows import SILENCE_LOG_POWER, NoteRows, note_rows

MAX_PARTIALS = 128
SOFT_PEDAL_GAIN = 10 ** (-3 / 20)  # all the way down
#: Mallets and bells, timpani, kalimba, percussion and effects: their partials are no multiples of one frequency.
RINGING_PROGRAMS = frozenset((*range(8, 15), 47, 108, *range(112, 128)))
_FRAME_S = FRAME_SAMPLES / SAMPLE_RATE_HZ
_SILENT_POWER = math.exp(2 * LOG_MEL_MIN)

#: A note's row, where its frames are, and their middles in seconds.
_Middle: TypeAlias = tuple[int, slice, np.ndarray]

# A note function lies on one device, for all that ask.
_FRAMES: WeakKeyDictionary[NoteFunction, NoteFrames] = WeakKeyDictionary()


def note_frames(function: NoteFunction, device: torch.device) -> NoteFrames:
    """The frames of a note function on a device, made once. Raises UsageError: it is in use on another device."""
    frames = _FRAMES.get(function)
    if frames is None:
        frames = _FRAMES[function] = NoteFrames(function.to(device))
    elif frames.device != device:
        raise UsageError(f"the note templates are in use on {frames.device}; load the voice once more for {device}")
    return frames


class NoteTimbres:
    """The sounds of a :class:`NoteFrames`. See ``audio.partials.score.Timbres``."""

    def __init__(self, frames: NoteFrames) -> None:
        self.frames = frames

    def held(self, note: PlayedNote, until_s: float) -> tuple[Tensor, Tensor]:
        return self.frames.held_curve(note.instrument, note.key, note.velocity, until_s)

    def released(self, note: PlayedNote) -> tuple[Tensor, Tensor, float]:
        begins_s, change, tail_s = self.frames.release_curve(
            note.instrument, note.key, note.velocity, note.end_s - note.start_s, note.is_choked
        )
        return begins_s, change, tail_s

    def ending(self, note: PlayedNote) -> Hashable:
        return ending_of(note.end_s - note.start_s, note.is_choked)

    def partials(self, note: PlayedNote) -> Tensor:
        if note.instrument >= N_PROGRAMS:
            return torch.zeros(0, dtype=torch.float64)
        number = torch.arange(1, MAX_PARTIALS + 1, dtype=torch.float64)
        stretch = self.frames.fact(note.instrument, note.key, "inharmonicity")
        detune = self.frames.fact(note.instrument, note.key, "detune_cents")
        return number * torch.sqrt(1 + stretch * number.square()) * math.pow(2.0, detune / 1200)

    def phases(self, note: PlayedNote) -> Tensor:
        return self.frames.phases(note.instrument, note.key)

    def rings(self, note: PlayedNote) -> bool:
        return note.instrument >= N_PROGRAMS or note.instrument in RINGING_PROGRAMS

    def tones(self, note: PlayedNote) -> Tensor:
        return self.frames.tones(note.instrument, note.key) / pitch_hz(note.key)

    def vibrato(self, note: PlayedNote) -> Vibrato | None:
        if note.instrument >= N_PROGRAMS:
            return None
        hertz, cents, delay_s = (
            self.frames.fact(note.instrument, note.key, f"vibrato_{name}") for name in ("hz", "cents", "delay_s")
        )
        return Vibrato(hertz, cents, delay_s) if hertz > 0 and cents > 1 else None


@dataclass(frozen=True)
class SongNotes:
    """A song as the voice's note templates play it.

    ``played`` are the notes with what their channels ask for; ``rows`` are the same notes in the same order.
    ``unisons``: of each note, those in which it comes first.
    """

    played: Sequence[PlayedNote]
    rows: NoteRows
    frames: NoteFrames
    unisons: Mapping[int, Sequence[Unison]] = field(default_factory=dict)

    @classmethod
    def of(
        cls, notes: Sequence[Note], frames: NoteFrames, expression: Mapping[Part, ChannelExpression] | None = None
    ) -> "SongNotes":
        """``expression``: what channels ask for over time; without it, each note's own level and pan hold."""
        rows = note_rows(notes, frames.kits, frames.chokes)
        if expression is not None:
            softened = np.array([2 * note.soft * math.log(SOFT_PEDAL_GAIN) for note in notes], dtype=np.float32)
            # the curves stand in for the notes' own levels, but for those that are silent
            rows = replace(rows, log_gain=np.where(rows.log_gain == SILENCE_LOG_POWER, rows.log_gain, softened))
        played = [_played(note, rows, row, expression) for row, note in enumerate(notes)]
        unisons: dict[int, list[Unison]] = {}
        for unison in find_unisons(played, NoteTimbres(frames)):
            unisons.setdefault(unison.first, []).append(unison)
        return cls(played, rows, frames, unisons)

    @torch.inference_mode()
    def log_mel(self, first_frame: int, n_frames: int) -> Tensor:
        """What the notes add up to in the mean of both channels, (n_frames, 128) log-mel in feature range."""
        frames = self.frames.frames(self.rows, first_frame, n_frames)
        middles = self._middles(frames)
        log_power = frames.log_power[:, :N_MELS] + 2 * self._log_gains(frames, middles)[:, None]
        log_power = self._bent(log_power, middles)
        power = torch.full((n_frames, N_MELS), _SILENT_POWER, device=log_power.device)
        power.index_add_(0, frames.frame - first_frame, log_power.exp())
        if self.unisons:
            self._meet(power, frames, log_power, middles, first_frame)
        return 0.5 * power.clamp(min=_SILENT_POWER).log()

    def _meet(
        self, power: Tensor, frames: FrameRows, log_power: Tensor, middles: Sequence[_Middle], first_frame: int
    ) -> None:
        """Add to the powers what unisons make of them."""
        heard = {row: own for row, own, _ in middles}
        begins = frames.frame.cpu().numpy()
        meeting = [unison for row in heard for unison in self.unisons.get(row, ()) if unison.second in heard]
        for unison in meeting:
            both = heard[unison.first], heard[unison.second]
            first = max(int(begins[own.start]) for own in both)
            end = min(int(begins[own.stop - 1]) for own in both) + 1
            if first >= end:
                continue
            starts = [own.start + first - int(begins[own.start]) for own in both]
            rows = [slice(start, start + end - first) for start in starts]
            times_s = torch.arange(first, end) / FRAMES_PER_SECOND + _FRAME_S / 2
            coherence = unison.coherence(times_s).to(power.device)
            product = (log_power[rows[0]] + log_power[rows[1]]).mul_(0.5).exp_()
            power[first - first_frame : end - first_frame] += 2 * coherence * product

    def _log_gains(self, frames: FrameRows, middles: Sequence[_Middle]) -> Tensor:
        """(F,) logarithms of the amplitude factors of rows, in the middle of their frames."""
        gains = np.ones(len(frames.note))
        for row, own, times_s in middles:
            note = self.played[row]
            if note.expression is None:
                gains[own] = pan_of_mono(note.pan)
            else:
                pans = math.pi / 4 * (1 + note.expression.pan.sampled(times_s))
                gains[own] = note.expression.gain.sampled(times_s) * (np.cos(pans) + np.sin(pans)) / math.sqrt(2.0)
            gains[own] *= times_s < note.cut_s
        return torch.from_numpy(np.log(gains.clip(min=1e-6))).float().to(frames.log_power.device)

    def _bent(self, log_power: Tensor, middles: Sequence[_Middle]) -> Tensor:
        """(F, 128) spectra moved along with the pitches of their notes."""
        bent = log_power
        for row, own, times_s in middles:
            note = self.played[row]
            if note.instrument >= N_PROGRAMS:
                continue
            semitones = note.semitones_over(times_s)
            moves = np.abs(semitones) >= LEAST_SHIFT_SEMITONES
            if not moves.any():
                continue
            if bent is log_power:
                bent = log_power.clone()
            index = torch.from_numpy(np.flatnonzero(moves)).to(bent.device) + own.start
            bent[index] = moved(log_power[index], semitones[moves], self._places_hz(note))
        return bent

    def _places_hz(self, note: PlayedNote) -> Tensor:
        """Where a note's partials lie before it is moved, (K,) float64 on the CPU."""
        timbres = NoteTimbres(self.frames)
        places = timbres.partials(note)
        if timbres.rings(note) and len(tones := timbres.tones(note)):
            places = tones
        return places * pitch_hz(note.pitch)

    def _middles(self, frames: FrameRows) -> list[_Middle]:
        """Of each note in the frames."""
        notes = frames.note.cpu().numpy()
        times_s = frames.frame.cpu().numpy() / FRAMES_PER_SECOND + _FRAME_S / 2
        starts = np.flatnonzero(np.diff(notes, prepend=-1))
        ends = [*starts[1:].tolist(), len(notes)]
        pairs = zip(starts.tolist(), ends, strict=True) if len(notes) else ()
        return [(int(notes[start]), slice(start, end), times_s[start:end]) for start, end in pairs]


def _played(note: Note, rows: NoteRows, row: int, expression: Mapping[Part, ChannelExpression] | None) -> PlayedNote:
    velocity = near_velocity(note.velocity)
    gain = (note.velocity / velocity) ** 2 * math.exp(float(rows.log_gain[row]) / 2)
    own = None if expression is None else expression.get((note.port, note.channel), _NOTHING_ASKED)
    follows = own is not None and not note.is_drum
    return PlayedNote(
        note.start_s,
        float(rows.end_s[row]),
        int(rows.instrument[row]),
        note.pitch,
        velocity,
        float(note.pitch),
        gain,
        note.pan,
        own,
        bool(rows.is_choked[row]),
        tuning_semitones=note.tuning_semitones if follows else 0.0,
        glide_semitones=note.glide_from - note.pitch if follows and note.glide_from is not None else 0.0,
        glide_s=note.glide_s if follows else 0.0,
        cut_s=math.inf if expression is None or note.cut_s is None else note.cut_s,
    )


_NOTHING_ASKED = ChannelExpression()
