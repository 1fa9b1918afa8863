"""The curves of single notes: what :class:`NoteFunction` says of each, on a grid of times, asked once and kept.

Every note is asked about alone, in pieces of the same points. What comes out depends on nothing but the note then (the
last bit of a matrix product changes with the number of its rows), so all songs and threads can share the curves.
"""

import copy
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from threading import Lock

import numpy as np
import torch
from torch import Tensor

from specdiff_cli.constants import LEVEL_VELOCITIES, SWELL_AGES_S
from specdiff_cli.model.note_function import FRAME_S, NoteFunction
from specdiff_cli.model.note_rows import ENDED_UNTIL_S
from specdiff_cli.threads import each

# Grids: every 5 ms around an event, then every 20 ms (held) or in equal ratios (released).
FINE_S, COARSE_S = 0.005, 0.02
HELD_FINE_UNTIL_S, ENDED_FINE_UNTIL_S = 0.2, 0.1
N_HELD_FINE = round((HELD_FINE_UNTIL_S + FRAME_S) / FINE_S)
N_ENDED_FINE, N_ENDED_COARSE = round((ENDED_FINE_UNTIL_S + FRAME_S) / FINE_S), 39
HELD_CHUNK = 64  # points of the coarse grid that become known at a time
# Every other one is asked for, and those between where these lie further from straight lines through their neighbours:
# mean distance in log power, in bands that come so near to the loudest.
STRAIGHT, NEAR_LOUDEST = 0.12, 12.0
# What was learned reaches so far; from there on the last second is heard again, fading as it did.
LEARNED_UNTIL_S, LOOP_S = 4.4, 1.0
# So far releases were learned; what rings longer (cymbals) goes on falling as in the last second of that.
LEARNED_REST_S = 3.0
N_LEARNED = N_HELD_FINE + 1 + round((LEARNED_UNTIL_S - HELD_FINE_UNTIL_S) / COARSE_S)
# How much of the later levels holds at each of SWELL_AGES_S: they come in where the first half second is over.
LATER_FROM_S = 0.46, 0.66
# A swell is that of a note's loudest bands: fully down to 10 dB below the loudest, and not at all below 25 dB.
SWELL_FADES = 2.3, 5.8
MAX_KEPT = 1024  # curves of notes; some 100 kB each
VELOCITY_STEP = 4  # finer differences are differences in level alone
HOLD_RATIO, LONG_HOLD_S = 1.1, 1.6
INAUDIBLE_LOG_POWER = -18.0  # of a band's squared mel value: what rounding to 16 bits leaves
# A choked note falls by 100 dB in 0.89 s, as FluidSynth has it for exclusive classes.
CHOKED_LOG_POWER_PER_S = 100 / 0.89 * math.log(10) / 10

NoteKey = tuple[int, int, int]  # instrument, key, and a velocity of near_velocity
Ending = tuple[int, bool]  # a length as a power of HOLD_RATIO, and whether the note is choked


@dataclass(slots=True)
class _Held:
    """What is known of a note at any time, and its curve as far as it was asked for."""

    code: Tensor  # (1, WIDTH), the trunk's word
    parts: Tensor  # see ``FrameDecoder.of_note``
    spectra: Tensor
    loudness: Tensor  # (1, 1)
    later: float  # added after LATER_FROM_S
    swell: np.ndarray | None  # added to loud bands at SWELL_AGES_S; None where that is nothing
    curve: Tensor  # (points, 144)
    lock: Lock = field(default_factory=Lock)  # held while it is made longer

    def loop(self, n_points: int) -> None:
        """Go on to a number of points where nothing was learned: the last second, to and fro, fading as it did."""
        n_missing = n_points - N_LEARNED
        if n_missing <= 0 or len(self.curve) >= n_points:
            return
        n_loop = round(LOOP_S / COARSE_S)
        learned = self.curve[:N_LEARNED]
        loop, slope = learned[-n_loop:], _slope(learned, n_loop)
        index = torch.arange(n_missing, device=self.curve.device)
        turn = index % (2 * n_loop)
        point = torch.where(turn < n_loop, n_loop - 1 - turn, turn - n_loop)
        distance = (n_loop + index - point).to(slope.dtype)
        self.curve = torch.cat([learned, loop[point] + distance[:, None] * slope])


def _slope(learned: Tensor, n_second: int) -> Tensor:
    """(144,) log power by which a note goes on fading, per point, from its curve and the points of a second.

    One that is softer every second (a string, a bell) fades as it did last. Where detuned voices beat slowly, two
    seconds say little: of the slopes over one, two and three seconds the least holds, or an organ would die away.
    """
    seconds = learned[-4 * n_second :].reshape(4, n_second, -1)
    loudness, means = seconds.logsumexp((1, 2)), seconds.mean(1)
    slopes = [(means[3] - means[3 - n]) / (n * n_second) for n in (1, 2, 3)]
    fades = bool((loudness.diff() < 0).all())
    return (slopes[0] if fades else torch.stack(slopes).amax(0)).clamp(max=0.0)


class NoteCurves:
    """Asks a :class:`NoteFunction` about notes, in float32, on its device. Threads may share it.

    Args:
        n_threads: that ask about several notes at once, on the CPU.
    """

    def __init__(self, function: NoteFunction, n_threads: int = 1) -> None:
        # Another object with the same parameters: who keeps curves by their function would keep it for ever otherwise.
        self._function = copy.copy(function.eval().requires_grad_(False))
        self.device = function.facts.device
        self._levels, self._later_levels, self._swells = (
            np.nan_to_num(table.float().cpu().numpy())
            for table in (function.levels, function.later_levels, function.swells)
        )
        self._n_threads = n_threads if self.device.type == "cpu" else 1
        #: (P,) float64 on the CPU: seconds after a note's end at which the frames of ``ended`` begin.
        self.ended_times_s = _ended_times_s()
        self._held: dict[NoteKey, _Held] = {}
        self._ended: dict[tuple[NoteKey, Ending], tuple[Tensor, float]] = {}
        self._times: dict[tuple[int, int, int | None], Tensor] = {}  # of the grid's chunks
        self._lock = Lock()  # of these three
        self._endings: tuple[Tensor, Tensor] | None = None

    def forget(self) -> None:
        """Ask anew about every note from now on."""
        with self._lock:
            self._held.clear()
            self._ended.clear()

    def held_all(self, until_s: Mapping[NoteKey, float]) -> dict[NoteKey, Tensor]:
        """:meth:`held` of many notes."""
        missing = [it for it in until_s.items() if not self._reaches(*it)]
        each(lambda it: self.held(*it), missing, self._n_threads)
        return {key: self.held(key, reached_s) for key, reached_s in until_s.items()}

    def ended_all(self, ends: Collection[tuple[NoteKey, Ending]]) -> dict[tuple[NoteKey, Ending], tuple[Tensor, float]]:
        """:meth:`ended` of many notes."""
        each(lambda it: self.ended(*it), [it for it in ends if it not in self._ended], self._n_threads)
        return {it: self.ended(*it) for it in ends}

    def _reaches(self, key: NoteKey, until_s: float) -> bool:
        """Whether a curve is known so far."""
        note = self._held.get(key)
        return note is not None and len(note.curve) >= _n_points(until_s)

    @torch.inference_mode()
    def held(self, key: NoteKey, until_s: float) -> Tensor:
        """A held note's (points, 144) log power, as far as whole chunks of the grid reach ``until_s``."""
        n_points, note = _n_points(until_s), self._note(key)
        with note.lock:
            while len(note.curve) < min(n_points, N_LEARNED):
                first = len(note.curve)
                if first:
                    more = self._coarse(note, first, min(first + HELD_CHUNK, N_LEARNED))
                else:
                    more = self._points(note, slice(0, N_HELD_FINE + 1))
                note.curve = torch.cat([note.curve, more])
            note.loop(n_points)
            return note.curve[:n_points]

    @torch.inference_mode()
    def ended(self, key: NoteKey, ending: Ending) -> tuple[Tensor, float]:
        """What the end of a note adds to that, (P, 144), and for how many seconds it is heard."""
        known = self._ended.get((key, ending))
        if known is None:
            known = self._released(key, ending)
            with self._lock:
                self._ended[(key, ending)] = known
        return known

    def _note(self, key: NoteKey) -> _Held:
        """What is known of a note; the trunk is asked about a new one."""
        note = self._held.get(key)
        if note is None:
            instrument, pitch = (torch.tensor([number], device=self.device) for number in key[:2])
            velocity = torch.tensor([float(key[2])], device=self.device)
            code = self._function.encode(instrument, pitch, velocity)
            parts, spectra = self._function.held.of_note(code)
            change = float(np.interp(key[2], LEVEL_VELOCITIES, self._levels[key[0], key[1]]))
            later = float(np.interp(key[2], LEVEL_VELOCITIES, self._later_levels[key[0], key[1]]))
            swell = self._swells[key[0], key[1]] if self._swells[key[0], key[1]].any() else None
            loudness = self._function.loudness(velocity)[0] + change
            note = _Held(code, parts, spectra, loudness, later, swell, spectra[0, :0])
            with self._lock:
                if len(self._held) >= MAX_KEPT:  # memory does not grow with the songs
                    self._held.clear()
                    self._ended.clear()
                note = self._held.setdefault(key, note)
        return note

    def _coarse(self, note: _Held, first: int, last: int) -> Tensor:
        """The next points of the coarse grid, (last - first, 144), an even number of them."""
        asked = self._points(note, slice(first + 1, last, 2))
        known = torch.cat([note.curve[-1:], asked])
        distance = (known[1:-1] - (known[2:] + known[:-2]) / 2).abs()
        is_heard = known[1:-1] > note.curve.max() - NEAR_LOUDEST
        between = (known[1:] + known[:-1]) / 2
        if bool((distance * is_heard).sum() > STRAIGHT * is_heard.sum()):
            between = self._points(note, slice(first, last, 2))
        return torch.stack([between, asked], dim=1).flatten(0, 1)

    def _points(self, note: _Held, which: slice) -> Tensor:
        """Points of the held grid, (points, 144)."""
        name = which.start, which.stop, which.step
        times_s = held_times_s(0, which.stop)[which]
        times = self._times.get(name)
        if times is None:
            times = self._function.held_times(times_s.to(self.device, torch.float32)[None])
            with self._lock:
                self._times[name] = times
        points = self._function.held.mixed(note.parts, note.spectra, times)[0] + note.loudness
        if note.swell is not None:
            points = swelled(points, torch.from_numpy(swell_at(times_s.numpy(), note.swell)).to(points))
        if note.later:
            share = np.interp(times_s.numpy() + FRAME_S / 2, LATER_FROM_S, (0.0, 1.0))
            points = points + torch.from_numpy(note.later * share).to(points)[:, None]
        return points

    def _released(self, key: NoteKey, ending: Ending) -> tuple[Tensor, float]:
        length_s = HOLD_RATIO ** ending[0]
        if self._endings is None:
            self._endings = self._ending_times()
        learned_s, times = self._endings
        times_s = self.ended_times_s.float().to(self.device)
        hold_s = torch.tensor([length_s], device=self.device)
        curve = self._function.released_at(self._note(key).code, learned_s, hold_s, times)[0]
        later_s = (times_s - LEARNED_REST_S).clamp(min=0.0)[:, None]
        change = curve[:-2] + (curve[-1:] - curve[-2:-1]).clamp(max=0.0) * later_s
        # An end takes away and gives nothing back; where notes had fallen silent, nothing else was learned.
        change = change.cummin(0).values
        if ending[1]:
            choked = -CHOKED_LOG_POWER_PER_S * (times_s + FRAME_S / 2).clamp(min=0.0)[:, None]
            change = torch.minimum(change, choked)
        return change, self._tail_s(key, length_s, change)

    def _ending_times(self) -> tuple[Tensor, Tensor]:
        """The times after an end that are asked about, (1, P + 2): as far as was learned, and the last second again;
        and what ``NoteFunction.released_at`` makes of them."""
        times_s = self.ended_times_s.float().to(self.device)
        last = times_s.new_tensor([LEARNED_REST_S - 1, LEARNED_REST_S])
        learned_s = torch.cat([times_s.clamp(max=LEARNED_REST_S), last])[None]
        return learned_s, self._function.ended_times(learned_s)

    def _tail_s(self, key: NoteKey, length_s: float, change: Tensor) -> float:
        """For how many seconds after its end a note is heard. Held curves are asked for no further than that."""
        reached_s = length_s
        while True:
            held = self.held(key, reached_s)
            known_s = float(held_times_s(len(held) - 1, len(held)))
            ages_s = (self.ended_times_s + length_s).float().to(self.device)
            level = change + between(held, held_position(ages_s), torch.zeros_like(ages_s, dtype=torch.int64))
            audible = (level.amax(1) > INAUDIBLE_LOG_POWER).nonzero()
            last = min(int(audible[-1]) + 1, len(change) - 1) if len(audible) else 0
            tail_s = max(0.0, float(self.ended_times_s[last]))
            if length_s + tail_s <= known_s:
                return tail_s
            reached_s = known_s + COARSE_S  # the next chunk; so far its last point stood for it


def held_times_s(first: int, last: int) -> Tensor:
    """Seconds after the onset at which the frames of a held note's points begin, float64 on the CPU."""
    index = torch.arange(first, last, dtype=torch.float64)
    coarse = HELD_FINE_UNTIL_S + (index - N_HELD_FINE) * COARSE_S
    return torch.where(index <= N_HELD_FINE, index * FINE_S - FRAME_S, coarse)


def swelled(log_power: Tensor, swell: Tensor) -> Tensor:
    """Frames (..., F, bands) with a swell (..., F) of their loudest bands."""
    below = log_power.amax(-1, keepdim=True) - log_power
    full, none = SWELL_FADES
    return log_power + swell.unsqueeze(-1) * ((none - below) / (none - full)).clamp(0.0, 1.0)


def swell_at(begins_s: np.ndarray, swell: np.ndarray) -> np.ndarray:
    """A swell known at ``SWELL_AGES_S`` in frames that begin so long after an onset."""
    return np.asarray(np.interp(begins_s + FRAME_S / 2, SWELL_AGES_S, swell))


def held_position(age_s: Tensor) -> Tensor:
    """Where on a held note's curve frames lie that begin so long after its onset."""
    fine = (age_s + FRAME_S) / FINE_S
    coarse = N_HELD_FINE + (age_s - HELD_FINE_UNTIL_S) / COARSE_S
    return torch.where(age_s < HELD_FINE_UNTIL_S, fine, coarse).clamp(min=0.0)


def ended_position(since_end_s: Tensor) -> Tensor:
    """The same after its end."""
    fine = (since_end_s + FRAME_S) / FINE_S
    ratio = math.log(ENDED_UNTIL_S / ENDED_FINE_UNTIL_S)
    later = torch.log(since_end_s.clamp(min=ENDED_FINE_UNTIL_S) / ENDED_FINE_UNTIL_S)
    coarse = N_ENDED_FINE + N_ENDED_COARSE * later / ratio
    at = torch.where(since_end_s < ENDED_FINE_UNTIL_S, fine, coarse)
    return at.clamp(min=0.0, max=N_ENDED_FINE + N_ENDED_COARSE)


def between(curves: Tensor, position: Tensor, offset: Tensor) -> Tensor:
    """Rows of curves that begin at ``offset``, at ``position`` between their points."""
    below = position.floor()
    first = (offset + below.long()).clamp(max=len(curves) - 1)
    second = (first + 1).clamp(max=len(curves) - 1)
    return torch.lerp(curves[first], curves[second], (position - below)[:, None])


def ending_of(hold_s: float, is_choked: bool) -> Ending:
    """Ends of a note with equal answers are alike."""
    length = round(math.log(min(max(hold_s, 0.01), LONG_HOLD_S)) / math.log(HOLD_RATIO))
    return length, is_choked


def near_velocity(velocity: int) -> int:
    """The velocity whose sound stands for another's, which differs from it in level alone."""
    near = velocity if velocity < 2 * VELOCITY_STEP else round(velocity / VELOCITY_STEP) * VELOCITY_STEP
    return min(127, max(near, 1))


def _ended_times_s() -> Tensor:
    fine = torch.arange(N_ENDED_FINE + 1, dtype=torch.float64) * FINE_S - FRAME_S
    ratio = (ENDED_UNTIL_S / ENDED_FINE_UNTIL_S) ** (1 / N_ENDED_COARSE)
    coarse = ENDED_FINE_UNTIL_S * ratio ** torch.arange(1, N_ENDED_COARSE + 1, dtype=torch.float64)
    return torch.cat([fine, coarse])


def _n_points(until_s: float) -> int:
    """Points of the held grid that reach an age, in whole chunks."""
    n_points = N_HELD_FINE + 2 + math.ceil(max(0.0, until_s - HELD_FINE_UNTIL_S) / COARSE_S)
    n_chunks = -(-(n_points - N_HELD_FINE - 1) // HELD_CHUNK)
    return N_HELD_FINE + 1 + n_chunks * HELD_CHUNK
