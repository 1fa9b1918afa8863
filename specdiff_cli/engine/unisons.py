"""Notes that begin together at one pitch: their partials meet, so that powers do not simply add up.

Two instruments in unison may be 6 dB louder than one of them, or all but cancel: it depends on the phases with which
their samples begin. The power of a sum is that of both and, per band, twice the root of their product times the
cosine of the angle between them; where they are tuned apart, that angle turns, and they beat.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from specdiff_cli.audio.partials.responses import lobe_powers, to_mel
from specdiff_cli.audio.partials.score import PlayedNote, Timbres, pitch_hz
from specdiff_cli.constants import MEL_MAX_HZ

TOGETHER_S = 5e-4  # between onsets: players of MIDI files begin notes in blocks of about 1.4 ms
MOST_BEATS_HZ = 8.0  # of the lowest partials: what beats faster is heard as two
# Tunings are known to a quarter of a hertz or so: by then the angle between two instruments is anybody's guess.
ANGLE_KNOWN_S = 0.7
UNHEARD = 1e-9  # of the strongest: in bands that hear no partial, all have equal shares
MOST_NOTES = 4  # of one unison that meet, the loudest; of more, the others' powers are added as they are


@dataclass(frozen=True)
class Unison:
    """Two notes of a song, by their places in it, and their P partials below 8 kHz that meet.

    ``turns`` and ``beats_hz`` (P,): of the second's against the first's, at the onset and per second. ``shares``
    (P, 128): of each in each band; they add up to less than 1 where phases are not known. ``known_s``: how long the
    angles stay so.
    """

    first: int
    second: int
    start_s: float
    turns: Tensor
    beats_hz: Tensor
    shares: Tensor
    known_s: float

    def coherence(self, times_s: Tensor) -> Tensor:
        """(F,) seconds of the song to (F, 128), -1 to 1: 1 where both have one phase, 0 where it is not known."""
        since_s = times_s.double()[:, None] - self.start_s
        turned = self.turns + self.beats_hz * since_s
        faded = torch.exp(-since_s.clamp(min=0.0) / self.known_s)
        return ((2 * math.pi * turned).cos() * faded).float() @ self.shares


def find_unisons(notes: Sequence[PlayedNote], timbres: Timbres) -> list[Unison]:
    """The unisons of a song, by the onset. A note whose pitch moves has them with its like alone, that moves alike."""
    alike: dict[tuple[int, int], list[int]] = {}
    for row, note in enumerate(notes):
        alike.setdefault((note.key, round(note.start_s / TOGETHER_S)), []).append(row)
    known: dict[tuple[float, ...], _Meeting | None] = {}
    found = []
    for rows in alike.values():
        if len(rows) > 1:
            loudest = sorted(rows, key=lambda row: -notes[row].gain * notes[row].velocity ** 2)[:MOST_NOTES]
            pairs = combinations(sorted(loudest), 2)
            found += [it for pair in pairs if (it := _unison(notes, pair, timbres, known)) is not None]
    return sorted(found, key=lambda unison: unison.start_s)


@dataclass(frozen=True)
class _Meeting:
    """What is the same for all unisons of two sounds; see :class:`Unison`."""

    turns: Tensor
    beats_hz: Tensor
    shares: Tensor
    known_s: float


def _unison(
    notes: Sequence[PlayedNote],
    rows: tuple[int, int],
    timbres: Timbres,
    known: dict[tuple[float, ...], _Meeting | None],
) -> Unison | None:
    first, second = (notes[row] for row in rows)
    moving = any(note.moves_within(note.start_s, note.end_s) for note in (first, second))
    if moving and (first.instrument != second.instrument or not first.moves_like(second)):
        return None
    lowest_hz = [pitch_hz(note.pitch + note.semitones_at(note.start_s)) for note in (first, second)]
    name = first.instrument, second.instrument, first.key, *lowest_hz
    if name not in known:
        known[name] = _meeting(first, second, lowest_hz, timbres)
    meeting = known[name]
    if meeting is None:
        return None
    return Unison(*rows, first.start_s, meeting.turns, meeting.beats_hz, meeting.shares, meeting.known_s)


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
    turns = torch.zeros(below, dtype=torch.float64)
    if not is_same:  # the very same sample begins with the same phases, known or not
        own = [timbres.phases(note)[:below] for note in (first, second)]
        turns = own[1] - own[0]
    below = len(turns)
    heard = ~turns.isnan()
    if not bool(heard.any()):
        return None
    shares = _shares(hertz[0])[:below][heard]
    beats_hz = (hertz[1] - hertz[0])[:below][heard]
    return _Meeting(turns[heard], beats_hz, shares, math.inf if is_same else ANGLE_KNOWN_S)


def _shares(frequencies_hz: Tensor) -> Tensor:
    """(P, 128): the share of each of equally strong partials in each band's power."""
    response = to_mel(frequencies_hz.device).product(lobe_powers(frequencies_hz).sqrt()).square()
    response = response + UNHEARD * response.max()
    shares: Tensor = response / response.sum(0)
    return shares
