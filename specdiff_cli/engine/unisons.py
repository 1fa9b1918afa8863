"""Notes that sound at one pitch: their partials meet, so that powers do not simply add up.

Two instruments in unison may be 6 dB louder than one of them, or all but cancel: it depends on the phases with which
their samples begin, and on how much later one of them does. The power of a sum is that of both and, per band, twice the
root of their product times the cosine of the angle between them; where they are tuned apart, that angle turns, and they
beat. The vocoder's partials have the same angles: its filter would else fight the beats that they make.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from specdiff_cli.audio.partials.responses import lobe_powers, to_mel
from specdiff_cli.audio.partials.score import PlayedNote, Timbres, pitch_hz
from specdiff_cli.constants import MEL_MAX_HZ

TOGETHER_S = 5e-4  # between onsets: players of MIDI files begin notes in blocks of about 1.4 ms
MOST_BEATS_HZ = 8.0  # of the lowest partials: what beats faster is heard as two
UNHEARD = 1e-9  # of the strongest: in bands that hear no partial, all have equal shares
MOST_NOTES = 4  # of one pitch that meet, the latest and loudest; of more, the others' powers are added as they are


@dataclass(frozen=True)
class Unison:
    """Two notes of a song, by their places in it, and their P partials below 8 kHz that meet.

    ``start_s``: when the second begins. ``turns`` and ``beats_hz`` (P,): of the second's partials against the first's,
    at that time and per second. ``shares`` (P, 128): of each in each band; they add up to less than 1 where phases are
    not known.
    """

    first: int
    second: int
    start_s: float
    turns: Tensor
    beats_hz: Tensor
    shares: Tensor

    def coherence(self, times_s: Tensor) -> Tensor:
        """(F,) seconds of the song to (F, 128), -1 to 1: 1 where both have one phase, 0 where it is not known."""
        turned = self.turns + self.beats_hz * (times_s.double()[:, None] - self.start_s)
        return (2 * math.pi * turned).cos().float() @ self.shares


def find_unisons(notes: Sequence[PlayedNote], timbres: Timbres) -> list[Unison]:
    """The unisons of a song, by the onset. A note whose pitch moves has them with its like alone, that moves alike."""
    sounding: dict[int, list[int]] = {}
    known: dict[tuple[float, ...], _Meeting | None] = {}
    found = []
    for row in sorted(range(len(notes)), key=lambda row: notes[row].start_s):
        note = notes[row]
        earlier = [it for it in sounding.get(note.key, ()) if notes[it].end_s > note.start_s]
        earlier.sort(key=lambda it: (-notes[it].start_s, -notes[it].gain * notes[it].velocity ** 2))
        pairs = [(it, row) for it in earlier[: MOST_NOTES - 1]]
        found += [it for pair in pairs if (it := _unison(notes, pair, timbres, known)) is not None]
        sounding[note.key] = [row, *earlier[: 2 * MOST_NOTES]]
    return found


@dataclass(frozen=True)
class _Meeting:
    """What is the same for all unisons of two sounds: see :class:`Unison`; ``turns`` are those of notes that begin
    together, ``hertz`` (P,) the first's partials, ``is_known`` (P,) whether their phases are known."""

    turns: Tensor
    is_known: Tensor
    hertz: Tensor
    beats_hz: Tensor
    shares: Tensor


def _unison(
    notes: Sequence[PlayedNote],
    rows: tuple[int, int],
    timbres: Timbres,
    known: dict[tuple[float, ...], _Meeting | None],
) -> Unison | None:
    first, second = (notes[row] for row in rows)
    later_s = second.start_s - first.start_s
    is_later = later_s > TOGETHER_S
    moving = any(note.moves_within(note.start_s, note.end_s) for note in (first, second))
    if moving and (is_later or first.instrument != second.instrument or not first.moves_like(second)):
        return None
    if is_later and any(timbres.vibrato(note) is not None for note in (first, second)):
        return None
    lowest_hz = [pitch_hz(note.pitch + note.semitones_at(note.start_s)) for note in (first, second)]
    name = first.instrument, second.instrument, first.key, *lowest_hz
    if name not in known:
        known[name] = _meeting(first, second, lowest_hz, timbres)
    meeting = known[name]
    if meeting is None:
        return None
    if not is_later:
        return Unison(*rows, second.start_s, meeting.turns, meeting.beats_hz, meeting.shares)
    # the first's partials have turned since they began; those of unknown phases begin anywhere
    is_known = meeting.is_known
    turns = (meeting.turns - meeting.hertz * later_s)[is_known]
    return Unison(*rows, second.start_s, turns, meeting.beats_hz[is_known], meeting.shares[is_known])


def _meeting(first: PlayedNote, second: PlayedNote, lowest_hz: Sequence[float], timbres: Timbres) -> _Meeting | None:
    is_same = first.instrument == second.instrument
    if not is_same and any(timbres.vibrato(note) is not None for note in (first, second)):
        return None
    ratios = [timbres.partials(note) for note in (first, second)]
    if not all(map(len, ratios)):
        return None
    if abs(float(lowest_hz[1] * ratios[1][0] - lowest_hz[0] * ratios[0][0])) > MOST_BEATS_HZ:
        return None
    below = int((ratios[0] * lowest_hz[0] < MEL_MAX_HZ).sum())
    hertz = [ratio[:below] * low_hz for ratio, low_hz in zip(ratios, lowest_hz, strict=True)]
    turns = torch.full((below,), math.nan, dtype=torch.float64)
    own = [timbres.phases(note)[:below] for note in (first, second)]
    turns[: len(own[0])] = own[1] - own[0]
    is_known = ~turns.isnan()
    if is_same:  # the very same sample begins with the same phases, known or not
        turns = torch.zeros_like(turns)
    meets = ~turns.isnan()
    if not bool(meets.any()):
        return None
    beats_hz = hertz[1] - hertz[0]
    return _Meeting(turns[meets], is_known[meets], hertz[0][meets], beats_hz[meets], _shares(hertz[0])[meets])


def _shares(frequencies_hz: Tensor) -> Tensor:
    """(P, 128): the share of each of equally strong partials in each band's power."""
    response = to_mel(frequencies_hz.device).product(lobe_powers(frequencies_hz).sqrt()).square()
    response = response + UNHEARD * response.max()
    shares: Tensor = response / response.sum(0)
    return shares
