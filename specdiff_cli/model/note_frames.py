"""The frames of a song's notes: what :class:`NoteFunction` says, asked once per distinct note and kept.

A note's curve is kept on a grid of times (fine around onset and end) and read between its points, so the same note
played again, at another time or for another length, costs a few additions.
"""

import copy
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from specdiff_cli.constants import FRAMES_PER_SECOND
from specdiff_cli.midi.notes import Note
from specdiff_cli.midi.programs import N_PROGRAMS
from specdiff_cli.model.note_function import FACTS, FRAME_S, NoteFunction

# Grids: every 5 ms around an event, then every 20 ms (held) or in equal ratios (released).
FINE_S, COARSE_S = 0.005, 0.02
HELD_FINE_UNTIL_S, ENDED_FINE_UNTIL_S, ENDED_UNTIL_S = 0.2, 0.1, 6.0
N_HELD_FINE = round((HELD_FINE_UNTIL_S + FRAME_S) / FINE_S)
N_ENDED_FINE, N_ENDED_COARSE = round((ENDED_FINE_UNTIL_S + FRAME_S) / FINE_S), 39
HELD_CHUNK = 16  # points of the coarse grid that are asked for at a time
# What was learned reaches so far; from there on the last second is heard again, fading as it did.
LEARNED_UNTIL_S, LOOP_S = 4.4, 1.0
# So far releases were learned; what rings longer (cymbals) goes on falling as in the last second of that.
LEARNED_REST_S = 3.0
N_LEARNED = N_HELD_FINE + 1 + round((LEARNED_UNTIL_S - HELD_FINE_UNTIL_S) / COARSE_S)
NOTES_AT_ONCE = 64
MAX_KEPT = 1024  # curves of notes; some 100 kB each
VELOCITY_STEP = 4  # finer differences are differences in level alone
HOLD_RATIO, LONG_HOLD_S = 1.1, 1.6
INAUDIBLE_LOG_POWER = -18.0  # of a band's squared mel value: what rounding to 16 bits leaves
# A choked note falls by 100 dB in 0.89 s, as FluidSynth has it for exclusive classes.
CHOKED_LOG_POWER_PER_S = 100 / 0.89 * math.log(10) / 10
RESTRIKE_S = 0.002  # a note that is struck again ends this long before
#: Kits whose seven next programs are variations: standard, room, power, jazz, brush.
VARIED_KITS = (0, 8, 16, 32, 40)

NoteKey = tuple[int, int, int]  # instrument, key, and a velocity of near_velocity
EndKey = tuple[NoteKey, int, bool]  # and its length as a power of HOLD_RATIO, and whether it is choked


@dataclass(frozen=True, slots=True)
class NoteRows:
    """N notes in arrays, in the order they were given.

    ``instrument`` and ``key``: see :class:`NoteFunction`. ``log_gain``: added to every log power. Times are seconds
    from the start of the song; no note ends before its onset. ``is_choked``: it ends because another of its kit
    silences it.
    """

    instrument: npt.NDArray[np.int64]
    key: npt.NDArray[np.int64]
    velocity: npt.NDArray[np.int64]
    onset_s: npt.NDArray[np.float64]
    end_s: npt.NDArray[np.float64]
    log_gain: npt.NDArray[np.float32]
    is_choked: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.key)


def _kit_row(program: int, kits: Sequence[int]) -> int:
    """Row of the kit that plays a drum program: itself, or the one that it varies, or the first, as players have it."""
    varied = program // 8 * 8
    kit = varied if program not in kits and varied in VARIED_KITS else program
    return kits.index(kit) if kit in kits else 0


def note_rows(
    notes: Sequence[Note], kits: Sequence[int], chokes: Collection[tuple[int, int, int]] = frozenset()
) -> NoteRows:
    """Notes as :class:`NoteRows`: a key that is struck again, or choked by another of its kit, ends there.

    ``kits``: the voice's drum programs, see :func:`_kit_row` for those that it lacks. ``chokes``: see
    :class:`specdiff_cli.model.config.ModelConfig`.
    """
    instrument = np.array(
        [N_PROGRAMS + _kit_row(n.program, kits) if n.is_drum else n.program for n in notes],
        dtype=np.int64,
    )
    key = np.array([note.pitch for note in notes], dtype=np.int64)
    onset_s = np.array([note.start_s for note in notes], dtype=np.float64)
    end_s = np.array([max(note.end_s, note.start_s) for note in notes], dtype=np.float64)
    # Who silences a drum; one that others silence silences itself, too, being of the same class.
    chokers: dict[tuple[int, int], set[int]] = {}
    for kit, choked, other in chokes:
        chokers.setdefault((N_PROGRAMS + kits.index(kit), choked), {choked}).add(other)
    is_choked = np.zeros(len(notes), dtype=np.bool_)
    # Per place the latest two onsets so far, going backwards: what is struck together does not end each other.
    following: dict[tuple[int, int, bool, int], tuple[float, float]] = {}
    for row in np.argsort(-onset_s, kind="stable").tolist():
        note = notes[row]
        # Chokes matter on the kit's own channel; so do keys that are struck again.
        place = (note.port, note.channel, note.is_drum)
        enders = chokers.get((int(instrument[row]), note.pitch))
        next_s = min(
            soon_s if soon_s > onset_s[row] else later_s
            for soon_s, later_s in (following.get((*place, k), (math.inf, math.inf)) for k in enders or (note.pitch,))
        )
        # Drums ring on after their ends: those that can be choked until they are.
        if next_s < end_s[row] + (ENDED_UNTIL_S if enders else 0.0):
            end_s[row] = max(onset_s[row], next_s - RESTRIKE_S)
            is_choked[row] = enders is not None
        soon_s, _ = following.get((*place, note.pitch), (math.inf, math.inf))
        if soon_s > onset_s[row]:
            following[(*place, note.pitch)] = float(onset_s[row]), soon_s
    log_gain = np.array([4 * math.log(max(note.level, 1e-4)) for note in notes], dtype=np.float32)
    velocity = np.array([note.velocity for note in notes], dtype=np.int64)
    return NoteRows(instrument, key, velocity, onset_s, end_s, log_gain, is_choked)


@dataclass(frozen=True, slots=True)
class FrameRows:
    """Frames of notes: ``note`` (F,) rows of the notes, ``frame`` (F,) from the start of the song, both int64, and
    ``log_power`` (F, 144): squared mel values of 128 bands and the power of 16 bands from 8 to 20 kHz, natural log."""

    note: Tensor
    frame: Tensor
    log_power: Tensor

    def total(self, first_frame: int, n_frames: int, floor: float = 0.0) -> Tensor:
        """The notes' powers added up, (n_frames, 144), as they are (not logarithms)."""
        power = torch.full((n_frames, self.log_power.shape[1]), floor, device=self.log_power.device)
        return power.index_add_(0, self.frame - first_frame, self.log_power.exp())


@dataclass(slots=True)
class _Held:
    """A note's word from the trunk, and its curve as far as it was asked for."""

    code: Tensor  # (1, WIDTH)
    velocity: Tensor  # (1,)
    curve: Tensor  # (points, 144)

    def loop(self, n_points: int) -> None:
        """Go on to a number of points where nothing was learned: the last second, to and fro, fading as it did."""
        n_missing = n_points - N_LEARNED
        if n_missing <= 0 or len(self.curve) >= n_points:
            return
        n_loop = round(LOOP_S / COARSE_S)
        learned = self.curve[:N_LEARNED]
        loop, before = learned[-n_loop:], learned[-2 * n_loop : -n_loop]
        slope = (loop.mean(0) - before.mean(0)).clamp(max=0.0) / n_loop  # per point
        index = torch.arange(n_missing, device=self.curve.device)
        turn = index % (2 * n_loop)
        point = torch.where(turn < n_loop, n_loop - 1 - turn, turn - n_loop)
        distance = (n_loop + index - point).to(slope.dtype)
        self.curve = torch.cat([learned, loop[point] + distance[:, None] * slope])


class NoteFrames:
    """Reads the frames of notes off a :class:`NoteFunction`, in float32, on its device."""

    def __init__(self, function: NoteFunction) -> None:
        self._function = function.eval().requires_grad_(False)
        self.kits, self.chokes = list(function.config.kits), function.config.chokes
        self.device, self.dtype = function.facts.device, torch.float32
        self._held: dict[NoteKey, _Held] = {}
        self._ended: dict[EndKey, tuple[Tensor, float]] = {}
        self._ended_times_s = _ended_times_s()
        # What could not be measured counts as nothing: no detuning, no vibrato.
        self._facts: npt.NDArray[np.float32] = np.nan_to_num(function.facts.float().cpu().numpy())

    def for_a_song(self) -> "NoteFrames":
        """The same, with nothing kept yet of what was asked.

        What the network says of a note differs in the last bit with the notes that it is asked about together. So each
        reader of a song keeps its own: its bytes depend neither on other songs nor on threads.
        """
        fresh = copy.copy(self)
        fresh._held, fresh._ended = {}, {}
        return fresh

    @torch.inference_mode()
    def frames(self, notes: NoteRows, first_frame: int, n_frames: int) -> FrameRows:
        """All frames from ``first_frame`` on in which a note is heard."""
        self._make_room()
        last_frame = first_frame + n_frames
        start_s, stop_s = first_frame / FRAMES_PER_SECOND, last_frame / FRAMES_PER_SECOND
        near = np.flatnonzero((notes.onset_s < stop_s + FRAME_S) & (notes.end_s > start_s - ENDED_UNTIL_S - FRAME_S))
        keys = {row: _key(notes, row) for row in near.tolist()}
        self._prepare(keys.values())
        ends = {
            row: _end(key, notes.end_s[row] - notes.onset_s[row], notes.is_choked[row]) for row, key in keys.items()
        }
        self._release(ends.values())
        rows, spans = [], []
        wanted: dict[NoteKey, float] = {}
        for row, key in keys.items():
            onset_s, heard_until_s = notes.onset_s[row], notes.end_s[row] + self._ended[ends[row]][1]
            first = max(first_frame, math.floor((onset_s - FRAME_S) * FRAMES_PER_SECOND) + 1)
            last = min(last_frame, math.ceil(heard_until_s * FRAMES_PER_SECOND))
            if first < last:
                rows.append(row)
                spans.append((first, last))
                wanted[key] = max(wanted.get(key, 0.0), last / FRAMES_PER_SECOND - float(onset_s))
        self._extend(wanted)
        if not rows:
            nothing = torch.zeros(0, dtype=torch.int64, device=self.device)
            return FrameRows(nothing, nothing, torch.zeros(0, self._n_bands(), device=self.device))
        return self._gather(notes, np.array(rows), [keys[r] for r in rows], [ends[r] for r in rows], np.array(spans))

    def total(self, notes: NoteRows, first_frame: int, n_frames: int) -> Tensor:
        """The power that the notes add up to, (n_frames, 144)."""
        return self.frames(notes, first_frame, n_frames).total(first_frame, n_frames)

    @torch.inference_mode()
    def held_curve(self, instrument: int, key: int, velocity: int, until_s: float) -> tuple[Tensor, Tensor]:
        """A held note on the grid: (R,) float64 seconds from its onset to the beginnings of frames, (R, 144) log power.

        ``velocity`` as :func:`near_velocity` has it. The rows reach at least ``until_s``; asking for more adds rows.
        """
        note = instrument, key, velocity
        self._prepare([note])
        self._extend({note: until_s})
        curve = self._held[note].curve
        index = torch.arange(len(curve), dtype=torch.float64)
        later_s = HELD_FINE_UNTIL_S + (index - N_HELD_FINE) * COARSE_S
        return torch.where(index <= N_HELD_FINE, index * FINE_S - FRAME_S, later_s), curve

    @torch.inference_mode()
    def release_curve(
        self, instrument: int, key: int, velocity: int, hold_s: float, is_choked: bool = False
    ) -> tuple[Tensor, Tensor, float]:
        """What the end of a note that was held for ``hold_s`` adds to that: (P,) float64 seconds from its end to the
        frames' beginnings, (P, 144), and for how many seconds it is heard."""
        note = instrument, key, velocity
        self._prepare([note])
        end = _end(note, hold_s, is_choked)
        self._release([end])
        curve, tail_s = self._ended[end]
        return self._ended_times_s, curve, tail_s

    @staticmethod
    def ending(hold_s: float, is_choked: bool) -> tuple[int, bool]:
        """Ends of a note with equal answers are alike."""
        return _length(hold_s), is_choked

    def fact(self, instrument: int, key: int, name: str) -> float:
        """One of ``FACTS`` about an instrument's key."""
        return float(self._facts[instrument, key, FACTS.index(name)])

    def _n_bands(self) -> int:
        return int(self._function.fade.out_features)

    def _make_room(self) -> None:
        """Forget all curves when there are many, so that memory does not grow with the songs."""
        if len(self._held) > MAX_KEPT:
            self._held.clear()
            self._ended.clear()

    def _prepare(self, keys: Iterable[NoteKey]) -> None:
        """Ask the trunk, and the first points of the curves, of all notes that are new."""
        new = list(dict.fromkeys(key for key in keys if key not in self._held))
        for some in (new[at : at + NOTES_AT_ONCE] for at in range(0, len(new), NOTES_AT_ONCE)):
            instrument, pitch, velocity = (self._sent(column) for column in zip(*some, strict=True))
            codes = self._function.encode(instrument, pitch, velocity.float())
            times_s = self._times(0, N_HELD_FINE + 1)
            curves = self._function.sustained(codes, velocity.float(), times_s.expand(len(some), -1))
            for k, key in enumerate(some):
                self._held[key] = _Held(codes[k : k + 1], velocity[k : k + 1].float(), curves[k])

    def _times(self, first: int, last: int) -> Tensor:
        """(1, points) ages of the held grid's points."""
        index = torch.arange(first, last, device=self.device, dtype=torch.float64)
        fine = index * FINE_S - FRAME_S
        coarse = HELD_FINE_UNTIL_S + (index - N_HELD_FINE) * COARSE_S
        return torch.where(index <= N_HELD_FINE, fine, coarse)[None].float()

    def _extend(self, until_s: Mapping[NoteKey, float]) -> None:
        """Make notes' curves reach ages in seconds."""
        alike: dict[tuple[int, int], list[NoteKey]] = {}
        for key, reached_s in until_s.items():
            n_points, n_asked = len(self._held[key].curve), min(_n_points(reached_s), N_LEARNED)
            if n_points < n_asked:
                alike.setdefault((n_points, n_asked), []).append(key)
        for (first, last), keys in alike.items():
            for some in (keys[at : at + NOTES_AT_ONCE] for at in range(0, len(keys), NOTES_AT_ONCE)):
                held = [self._held[key] for key in some]
                codes, velocities = torch.cat([it.code for it in held]), torch.cat([it.velocity for it in held])
                more = self._function.sustained(codes, velocities, self._times(first, last).expand(len(some), -1))
                for it, points in zip(held, more, strict=True):
                    it.curve = torch.cat([it.curve, points])
        for key, reached_s in until_s.items():
            self._held[key].loop(_n_points(reached_s))

    def _release(self, ends: Iterable[EndKey]) -> None:
        """What the ends of notes take away, on their grid (points, 144), and for how long they are heard after it."""
        new = list(dict.fromkeys(end for end in ends if end not in self._ended))
        if not new:
            return
        lengths = {end: HOLD_RATIO ** end[1] for end in new}
        wanted: dict[NoteKey, float] = {}
        for end, length_s in lengths.items():
            wanted[end[0]] = max(wanted.get(end[0], 0.0), length_s)
        self._extend(wanted)
        times_s = self._ended_times_s.float().to(self.device)[None]
        learned_s = torch.cat(
            [times_s[0].clamp(max=LEARNED_REST_S), times_s.new_tensor([LEARNED_REST_S - 1, LEARNED_REST_S])]
        )
        later_s = (times_s[0] - LEARNED_REST_S).clamp(min=0.0)[:, None]
        choked = -CHOKED_LOG_POWER_PER_S * (times_s[0] + FRAME_S / 2).clamp(min=0.0)[:, None]
        for some in (new[at : at + NOTES_AT_ONCE] for at in range(0, len(new), NOTES_AT_ONCE)):
            hold_s = torch.tensor([lengths[end] for end in some], device=self.device)
            codes = torch.cat([self._held[key].code for key, _, _ in some])
            curves = self._function.released(codes, learned_s.expand(len(some), -1), hold_s)
            curves = curves[:, :-2] + (curves[:, -1:] - curves[:, -2:-1]).clamp(max=0.0) * later_s
            for end, curve, length_s in zip(some, curves, hold_s, strict=True):
                change = torch.minimum(curve, choked) if end[2] else curve
                at_end = self._read(self._held[end[0]].curve, length_s[None])
                audible = ((change + at_end).amax(1) > INAUDIBLE_LOG_POWER).nonzero()
                last = min(int(audible[-1]) + 1, times_s.shape[1] - 1) if len(audible) else 0
                self._ended[end] = change, max(0.0, float(self._ended_times_s[last]))

    @staticmethod
    def _held_position(age_s: Tensor) -> Tensor:
        fine = (age_s + FRAME_S) / FINE_S
        coarse = N_HELD_FINE + (age_s - HELD_FINE_UNTIL_S) / COARSE_S
        return torch.where(age_s < HELD_FINE_UNTIL_S, fine, coarse).clamp(min=0.0)

    @staticmethod
    def _ended_position(since_end_s: Tensor) -> Tensor:
        fine = (since_end_s + FRAME_S) / FINE_S
        ratio = math.log(ENDED_UNTIL_S / ENDED_FINE_UNTIL_S)
        later = torch.log(since_end_s.clamp(min=ENDED_FINE_UNTIL_S) / ENDED_FINE_UNTIL_S)
        coarse = N_ENDED_FINE + N_ENDED_COARSE * later / ratio
        at = torch.where(since_end_s < ENDED_FINE_UNTIL_S, fine, coarse)
        return at.clamp(min=0.0, max=N_ENDED_FINE + N_ENDED_COARSE)

    def _read(self, curve: Tensor, age_s: Tensor) -> Tensor:
        return _between(curve, self._held_position(age_s), torch.zeros(len(age_s), dtype=torch.int64), len(curve))

    def _gather(
        self,
        notes: NoteRows,
        rows: npt.NDArray[np.int64],
        keys: list[NoteKey],
        ended: list[EndKey],
        spans: npt.NDArray[np.int64],
    ) -> FrameRows:
        counts = spans[:, 1] - spans[:, 0]
        which = np.repeat(np.arange(len(rows)), counts)
        starts = np.cumsum(counts) - counts
        frame = spans[which, 0] + np.arange(len(which)) - starts[which]
        time_s = frame / FRAMES_PER_SECOND
        age_s = torch.from_numpy((time_s - notes.onset_s[rows[which]]).astype(np.float32)).to(self.device)
        rest_s = torch.from_numpy((time_s - notes.end_s[rows[which]]).astype(np.float32)).to(self.device)
        held, held_at = _stacked([self._held[key].curve for key in keys], keys)
        ends, ends_at = _stacked([self._ended[end][0] for end in ended], ended)
        on_device = self._sent(which)
        log_power = _between(held, self._held_position(age_s), held_at.to(self.device)[on_device], len(held))
        is_over = (rest_s > -FRAME_S).nonzero()[:, 0]
        over = on_device[is_over]
        log_power[is_over] += _between(
            ends, self._ended_position(rest_s[is_over]), ends_at.to(self.device)[over], len(ends)
        )
        exact = 4 * np.log(notes.velocity[rows] / np.array([key[2] for key in keys]))
        gain = (notes.log_gain[rows] + exact).astype(np.float32)
        log_power += torch.from_numpy(gain).to(self.device)[on_device, None]
        return FrameRows(self._sent(rows)[on_device], self._sent(frame), log_power)

    def _sent(self, values: Sequence[int] | npt.NDArray[np.int64]) -> Tensor:
        return torch.as_tensor(np.asarray(values, dtype=np.int64)).to(self.device)


def _key(notes: NoteRows, row: int) -> NoteKey:
    """What a note's curve is kept under: instrument, key, and the velocity on its grid."""
    return int(notes.instrument[row]), int(notes.key[row]), near_velocity(int(notes.velocity[row]))


def _end(key: NoteKey, hold_s: float, is_choked: bool) -> EndKey:
    """What the end of a note is kept under."""
    return key, _length(float(hold_s)), bool(is_choked)


def _length(hold_s: float) -> int:
    """A note's length as a power of HOLD_RATIO."""
    return round(math.log(min(max(hold_s, 0.01), LONG_HOLD_S)) / math.log(HOLD_RATIO))


def _ended_times_s() -> Tensor:
    """(P,) float64, the grid after a note's end."""
    fine = torch.arange(N_ENDED_FINE + 1, dtype=torch.float64) * FINE_S - FRAME_S
    ratio = (ENDED_UNTIL_S / ENDED_FINE_UNTIL_S) ** (1 / N_ENDED_COARSE)
    coarse = ENDED_FINE_UNTIL_S * ratio ** torch.arange(1, N_ENDED_COARSE + 1, dtype=torch.float64)
    return torch.cat([fine, coarse])


def _n_points(until_s: float) -> int:
    """Points of the held grid that reach an age, in whole chunks."""
    n_points = N_HELD_FINE + 2 + math.ceil(max(0.0, until_s - HELD_FINE_UNTIL_S) / COARSE_S)
    return n_points + -(n_points - N_HELD_FINE - 1) % HELD_CHUNK


def near_velocity(velocity: int) -> int:
    """The velocity whose sound stands for another's, which differs from it in level alone."""
    near = velocity if velocity < 2 * VELOCITY_STEP else round(velocity / VELOCITY_STEP) * VELOCITY_STEP
    return min(127, max(near, 1))


def _stacked(curves: Sequence[Tensor], names: Sequence[object]) -> tuple[Tensor, Tensor]:
    """Curves under each other, equal names once, and where each begins."""
    offsets: dict[object, int] = {}
    parts: list[Tensor] = []
    n_points = 0
    for name, curve in zip(names, curves, strict=True):
        if name not in offsets:
            offsets[name] = n_points
            parts.append(curve)
            n_points += len(curve)
    return torch.cat(parts), torch.tensor([offsets[name] for name in names])


def _between(curves: Tensor, position: Tensor, offset: Tensor, n_points: int) -> Tensor:
    """Rows of curves that begin at ``offset``, at ``position`` between their points."""
    below = position.floor()
    first = (offset.to(position.device) + below.long()).clamp(max=n_points - 1)
    second = (first + 1).clamp(max=n_points - 1)
    return torch.lerp(curves[first], curves[second], (position - below)[:, None])
