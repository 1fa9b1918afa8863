"""The frames of a song's notes: the curves of single notes (:mod:`note_curves`) read at the song's times.

The same note played again, at another time or for another length, costs a few additions.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from specdiff_cli.constants import FRAMES_PER_SECOND
from specdiff_cli.model.note_curves import (
    Ending,
    NoteCurves,
    NoteKey,
    between,
    ended_position,
    ending_of,
    held_position,
    held_times_s,
    near_velocity,
)
from specdiff_cli.model.note_function import FACTS, FRAME_S, N_BANDS, NoteFunction
from specdiff_cli.model.note_rows import ENDED_UNTIL_S, NoteRows

Name = TypeVar("Name")


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


@dataclass(frozen=True, slots=True)
class _Heard:
    """A note that is heard in some frames: its row, its frames from the start of the song, and its two curves."""

    row: int
    first_frame: int
    last_frame: int  # not included
    key: NoteKey
    ending: Ending


class NoteFrames:
    """Reads the frames of notes off a :class:`NoteFunction`, in float32, on its device. Songs and threads share it."""

    def __init__(self, function: NoteFunction) -> None:
        self.kits, self.chokes = list(function.config.kits), function.config.chokes
        self.device, self.dtype = function.facts.device, torch.float32
        self._curves = NoteCurves(function, torch.get_num_threads())
        # What could not be measured counts as nothing: no detuning, no vibrato.
        self._facts: npt.NDArray[np.float32] = np.nan_to_num(function.facts.float().cpu().numpy())
        self._phases = function.phases.double().cpu()
        self._tones = function.tones.double().cpu()

    @torch.inference_mode()
    def frames(self, notes: NoteRows, first_frame: int, n_frames: int) -> FrameRows:
        """All frames from ``first_frame`` on in which a note is heard."""
        heard = self._heard(notes, first_frame, n_frames)
        if not heard:
            nothing = torch.zeros(0, dtype=torch.int64, device=self.device)
            return FrameRows(nothing, nothing, torch.zeros(0, N_BANDS, device=self.device))
        rows = np.array([it.row for it in heard])
        spans = np.array([(it.first_frame, it.last_frame) for it in heard])
        counts = spans[:, 1] - spans[:, 0]
        which = np.repeat(np.arange(len(rows)), counts)
        starts = np.cumsum(counts) - counts
        frame = spans[which, 0] + np.arange(len(which)) - starts[which]
        time_s = frame / FRAMES_PER_SECOND
        age_s = torch.from_numpy((time_s - notes.onset_s[rows[which]]).astype(np.float32)).to(self.device)
        rest_s = torch.from_numpy((time_s - notes.end_s[rows[which]]).astype(np.float32)).to(self.device)
        until_s: dict[NoteKey, float] = {}
        for it in heard:
            reached_s = it.last_frame / FRAMES_PER_SECOND - float(notes.onset_s[it.row])
            until_s[it.key] = max(until_s.get(it.key, 0.0), reached_s)
        held, held_at = _stacked(self._curves.held_all(until_s), [it.key for it in heard])
        ends = {(it.key, it.ending): self._curves.ended(it.key, it.ending)[0] for it in heard}
        ended, ended_at = _stacked(ends, [(it.key, it.ending) for it in heard])
        on_device = self._sent(which)
        log_power = between(held, held_position(age_s), held_at.to(self.device)[on_device])
        is_over = (rest_s > -FRAME_S).nonzero()[:, 0]
        over = on_device[is_over]
        log_power[is_over] += between(ended, ended_position(rest_s[is_over]), ended_at.to(self.device)[over])
        exact = 4 * np.log(notes.velocity[rows] / np.array([it.key[2] for it in heard]))
        gain = (notes.log_gain[rows] + exact).astype(np.float32)
        log_power += torch.from_numpy(gain).to(self.device)[on_device, None]
        return FrameRows(self._sent(rows)[on_device], self._sent(frame), log_power)

    def total(self, notes: NoteRows, first_frame: int, n_frames: int) -> Tensor:
        """The power that the notes add up to, (n_frames, 144)."""
        return self.frames(notes, first_frame, n_frames).total(first_frame, n_frames)

    def held_curve(self, instrument: int, key: int, velocity: int, until_s: float) -> tuple[Tensor, Tensor]:
        """A held note on the grid: (R,) float64 seconds from its onset to the beginnings of frames, (R, 144) log power.

        ``velocity`` as :func:`near_velocity` has it. The rows reach at least ``until_s``; asking for more adds rows.
        """
        curve = self._curves.held((instrument, key, velocity), until_s)
        return held_times_s(0, len(curve)), curve

    def release_curve(
        self, instrument: int, key: int, velocity: int, hold_s: float, is_choked: bool = False
    ) -> tuple[Tensor, Tensor, float]:
        """What the end of a note that was held for ``hold_s`` adds to that: (P,) float64 seconds from its end to the
        frames' beginnings, (P, 144), and for how many seconds it is heard."""
        curve, tail_s = self._curves.ended((instrument, key, velocity), ending_of(hold_s, is_choked))
        return self._curves.ended_times_s, curve, tail_s

    def forget(self) -> None:
        """Ask anew about every note from now on; what comes out is the same."""
        self._curves.forget()

    def fact(self, instrument: int, key: int, name: str) -> float:
        """One of ``FACTS`` about an instrument's key."""
        return float(self._facts[instrument, key, FACTS.index(name)])

    def phases(self, instrument: int, key: int) -> Tensor:
        """(N_PHASES,) float64 on the CPU: turns of its first partials at the onset, NaN where they are not known."""
        return self._phases[instrument, key]

    def tones(self, instrument: int, key: int) -> Tensor:
        """(K,) float64 on the CPU: at which frequencies in hertz a struck sound rings, rising; empty: none is known."""
        tones = self._tones[instrument, key]
        return tones[~tones.isnan()]

    def _heard(self, notes: NoteRows, first_frame: int, n_frames: int) -> list[_Heard]:
        """The notes that are heard in a range of frames."""
        end_frame = first_frame + n_frames
        start_s, stop_s = first_frame / FRAMES_PER_SECOND, end_frame / FRAMES_PER_SECOND
        near = np.flatnonzero((notes.onset_s < stop_s + FRAME_S) & (notes.end_s > start_s - ENDED_UNTIL_S - FRAME_S))
        names = {row: _name(notes, row) for row in near.tolist()}
        ended = self._curves.ended_all(dict.fromkeys(names.values()))
        heard = []
        for row, (key, ending) in names.items():
            onset_s = float(notes.onset_s[row])
            heard_until_s = float(notes.end_s[row]) + ended[(key, ending)][1]
            first = max(first_frame, math.floor((onset_s - FRAME_S) * FRAMES_PER_SECOND) + 1)
            last = min(end_frame, math.ceil(heard_until_s * FRAMES_PER_SECOND))
            if first < last:
                heard.append(_Heard(row, first, last, key, ending))
        return heard

    def _sent(self, values: Sequence[int] | npt.NDArray[np.int64]) -> Tensor:
        return torch.as_tensor(np.asarray(values, dtype=np.int64)).to(self.device)


def _name(notes: NoteRows, row: int) -> tuple[NoteKey, Ending]:
    """What a note's two curves are kept under."""
    key = int(notes.instrument[row]), int(notes.key[row]), near_velocity(int(notes.velocity[row]))
    return key, ending_of(float(notes.end_s[row] - notes.onset_s[row]), bool(notes.is_choked[row]))


def _stacked(curves: dict[Name, Tensor], names: Sequence[Name]) -> tuple[Tensor, Tensor]:
    """Curves under each other, and where those of these names begin."""
    offsets: dict[Name, int] = {}
    n_points = 0
    for name, curve in curves.items():
        offsets[name] = n_points
        n_points += len(curve)
    return torch.cat(list(curves.values())), torch.tensor([offsets[name] for name in names])
