"""What is added to a trained network's levels so that its notes are as loud as an atlas measured, and swell so.

A network that has heard some frames of each note is some decibels off where a key's velocity layers begin, and where
detuned voices beat: every key beats at other moments. Both are known, and cost little to be kept.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from specdiff_cli.constants import LATER_LEVEL_AGES_S, LEVEL_AGES_S, LEVEL_VELOCITIES, N_MELS, SWELL_AGES_S
from specdiff_cli.model.note_curves import swell_at, swelled
from specdiff_cli.model.note_function import NoteFunction
from specdiff_cli.train.atlas_notes import AtlasNotes

# In log power: half a decibel is left as it is, and no more than 6 dB is changed; what is softer than a note's last bit
# is no level.
LEVEL_TOLERANCE, LARGEST_CHANGE, FAINTEST_LEVEL = 0.115, 1.38, -12.0
# A swell is read off a key's longest note, and kept where it brings the next one nearer: other velocities may be other
# samples. Both are held for so long at least, and are not compared 30 dB below their loudest.
LEAST_HOLD_S, FAINTEST_SWELL = 0.5, -6.9


@dataclass(frozen=True)
class _Deviation:
    """A held note beside the network's: (F,) seconds from its onset to frames' beginnings, and logarithms of the powers
    of both, each over that of its first half second."""

    begins_s: NDArray[np.float32]
    measured: NDArray[np.float64]
    played: NDArray[np.float64]

    @classmethod
    def of(cls, model: NoteFunction, atlas: AtlasNotes, note: int) -> "_Deviation":
        begins_s, measured = atlas.held_levels(note)
        instrument, key, velocity = (
            torch.from_numpy(atlas.columns[name][note : note + 1]) for name in ("instrument", "pitch", "velocity")
        )
        code = model.encode(instrument.long(), key.long(), velocity.float())
        bands = model.sustained(code, velocity.float(), torch.from_numpy(begins_s)[None])[0, :, :N_MELS]
        is_early = begins_s <= LEVEL_AGES_S[-1]
        both = (it.astype(np.float64) for it in (measured, bands.logsumexp(1).numpy()))
        return cls(begins_s, *(it - np.logaddexp.reduce(it[is_early]) for it in both))

    @property
    def is_heard(self) -> NDArray[np.bool_]:
        """(F,)."""
        return np.asarray(self.measured > self.measured.max() + FAINTEST_SWELL)

    def swell(self) -> NDArray[np.float64]:
        """What is missing at ``SWELL_AGES_S``; where the note is faint, what is nearest."""
        near = _shares(self.begins_s)
        weight = near.sum(axis=1)
        measured, played = (near @ np.exp(it) / np.maximum(weight, 1e-9) for it in (self.measured, self.played))
        known = np.flatnonzero((weight > 0) & (measured > np.exp(FAINTEST_SWELL) * measured.max()))
        missing = np.log(measured[known] / np.maximum(played[known], 1e-30))
        missing = missing.clip(-LARGEST_CHANGE, LARGEST_CHANGE)
        return np.asarray(np.interp(np.arange(len(weight)), known, missing))

    def without(self, swell: NDArray[np.float64]) -> float:
        """Mean distance that is left with a swell."""
        left = np.abs(self.measured - self.played - swell_at(self.begins_s, swell))
        return float(left[self.is_heard].mean())


@torch.no_grad()
def level_changes(model: NoteFunction, measured: NDArray[np.float32]) -> Tensor:
    """What is added to a network's log powers so that its notes are as loud as was measured: (instruments, 128, V, 2),
    ``NoteFunction.levels`` and ``later_levels``.

    ``measured``: see ``corpus.note_levels``; NaN where nothing is known. What is within ``LEVEL_TOLERANCE`` is left as
    it is: a note's loudest bands decide its level, and the network is right about the others.
    """
    spans_s = LEVEL_AGES_S, LATER_LEVEL_AGES_S
    ages_s = torch.tensor(spans_s[0] + spans_s[1])[None].float()
    shares = _shares(np.array(spans_s[0] + spans_s[1]))
    changes = torch.zeros(measured.shape)
    for instrument, keys in enumerate(measured):
        known = np.flatnonzero((keys > FAINTEST_LEVEL).any(axis=(1, 2)))
        key = torch.from_numpy(known).repeat_interleave(len(LEVEL_VELOCITIES))
        if not len(key):
            continue
        velocity = torch.tensor(LEVEL_VELOCITIES).float().repeat(len(known))
        note = model.encode(torch.full_like(key, instrument), key, velocity)
        swells = torch.from_numpy(model.swells[instrument, key].numpy() @ shares).float()
        bands = model.sustained(note, velocity, ages_s.expand(len(key), -1))[..., :N_MELS]
        played = swelled(bands, swells).logsumexp(2).view(len(known), -1, len(spans_s), len(spans_s[0])).logsumexp(3)
        wanted = torch.from_numpy(keys[known])
        missing = (wanted - played).where(wanted > FAINTEST_LEVEL, 0.0)
        first = _beyond_tolerance(missing[..., 0])
        changes[instrument, known] = torch.stack([first, _beyond_tolerance(missing[..., 1] - first)], dim=2)
    return changes


@torch.no_grad()
def swell_changes(model: NoteFunction, atlas: AtlasNotes) -> Tensor:
    """What is added to a network's log powers so that its notes rise, beat and fade as measured: (instruments, 128,
    ages), see ``NoteFunction.swells``. How loud they are altogether is left to :func:`level_changes`."""
    changes = torch.zeros(model.swells.shape)
    columns = atlas.columns
    place = columns["instrument"].astype(np.int64) * changes.shape[1] + columns["pitch"]
    is_heard = (columns["count"] > 0) & (columns["peak"] > FAINTEST_LEVEL)  # a font may have nothing on a key
    long_enough = np.flatnonzero(is_heard & (columns["hold_s"] >= LEAST_HOLD_S))
    order = long_enough[np.lexsort((-columns["hold_s"][long_enough], place[long_enough]))]
    _, firsts, counts = np.unique(place[order], return_index=True, return_counts=True)
    for first in firsts[counts > 1].tolist():
        longest, other = (_Deviation.of(model, atlas, int(note)) for note in order[first : first + 2])
        swell = longest.swell()
        if other.without(swell) < other.without(np.zeros_like(swell)):
            changes[divmod(int(place[order[first]]), changes.shape[1])] = torch.from_numpy(swell).float()
    return changes


def _shares(begins_s: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """(ages, F): how much each of ``SWELL_AGES_S`` says about frames that begin so long after an onset."""
    return np.stack([swell_at(begins_s, unit) for unit in np.eye(len(SWELL_AGES_S))])


def _beyond_tolerance(missing: Tensor) -> Tensor:
    """What is changed where so much is missing."""
    limited = missing.clamp(-LARGEST_CHANGE, LARGEST_CHANGE)
    return limited.sign() * (limited.abs() - LEVEL_TOLERANCE).clamp(min=0.0)
