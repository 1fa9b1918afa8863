"""A song's notes in arrays, as the note templates play them: which instrument, from when, until when."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from specdiff_cli.midi.notes import Note
from specdiff_cli.midi.programs import N_PROGRAMS

ENDED_UNTIL_S = 6.0  # so long at most a note is heard after its end
RESTRIKE_S = 0.002  # a note that is struck again ends this long before
SILENCE_LOG_POWER = -80.0
#: Kits whose seven next programs are variations: standard, room, power, jazz, brush.
VARIED_KITS = (0, 8, 16, 32, 40)


@dataclass(frozen=True, slots=True)
class NoteRows:
    """N notes in arrays, in the order they were given.

    ``instrument`` and ``key``: see :class:`NoteFunction`. ``log_gain``: added to every log power
    (``SILENCE_LOG_POWER``: nothing is heard). Times are seconds
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


def _doubled(notes: Sequence[Note], instrument: npt.NDArray[np.int64]) -> list[int]:
    """Rows that say a second time what another one says: two voices of a part in unison press one key.

    The louder one sounds, and of equal ones the longer. Drums are struck by two hands.
    """
    sounding: dict[tuple[int, int, int, int, float], int] = {}
    silent = []
    for row, note in enumerate(notes):
        if note.is_drum:
            continue
        place = note.port, note.channel, int(instrument[row]), note.pitch, note.start_s
        other = sounding.setdefault(place, row)
        if other == row:
            continue
        ranks = [(notes[index].velocity, notes[index].end_s) for index in (other, row)]
        if ranks[1] > ranks[0]:
            sounding[place], row = row, other
        silent.append(row)
    return silent


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
    log_gain[_doubled(notes, instrument)] = SILENCE_LOG_POWER
    velocity = np.array([note.velocity for note in notes], dtype=np.int64)
    return NoteRows(instrument, key, velocity, onset_s, end_s, log_gain, is_choked)
