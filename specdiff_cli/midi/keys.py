"""Which note-off ends which note: first in, first out, also where keys are pressed again before they are released."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple


class KeyMove(NamedTuple):
    """A key of one port, channel and pitch goes down (velocity 1-127) or up (0).

    ``order`` is its place among all messages of the file, ``number`` what the caller knows the note by.
    """

    order: int
    tick: int
    track: int
    velocity: int
    number: int = -1


class Patience(NamedTuple):
    """How long a key may be down more than once, and by how much notes of a longer stretch may overlap."""

    stretch_ticks: int
    overlap_ticks: int


Pair = tuple[KeyMove, KeyMove | None]


def pair_moves(moves: Sequence[KeyMove], patience: Patience) -> list[Pair]:
    """Each press of one key with what ends it, in the order of the presses; None: nothing does.

    A track whose own presses and releases come out even keeps them to itself, so that two parts in unison on one
    channel do not end each other's notes. All others are paired together, whatever track they stand in.

    Args:
        moves: of one key, in order.
        patience: until when overlaps are taken at their word.
    """
    by_track: defaultdict[int, list[KeyMove]] = defaultdict(list)
    for move in moves:
        by_track[move.track].append(move)
    if len(by_track) == 1:
        return _pair(moves, patience)
    pairs: list[Pair] = []
    odd: set[int] = set()
    for track, own in by_track.items():
        if _is_even(own):
            pairs += _pair(own, patience)
        else:
            odd.add(track)
    pairs += _pair([move for move in moves if move.track in odd], patience)
    pairs.sort()
    return pairs


def _is_even(moves: Iterable[KeyMove]) -> bool:
    """Does every release follow a press of its own, and every press come before a release?"""
    depth = 0
    for move in moves:
        depth += 1 if move.velocity else -1
        if depth < 0:
            return False
    return depth == 0


def _pair(moves: Sequence[KeyMove], patience: Patience) -> list[Pair]:
    """First in, first out; releases without a press are passed over.

    Files lose releases, and have some too many. First in, first out would then give every later note the release of
    the next one, across all rests. So a stretch between two moments with the key at rest is paired that way only where
    it is short, or looks like notes that overlap a little; elsewhere a release ends all that sounds, and a press ends
    what sounded before it, as on one string.
    """
    pairs: list[Pair] = []
    for stretch, is_at_rest in _stretches(_releases_first(moves)):
        is_short = stretch[-1].tick - stretch[0].tick <= patience.stretch_ticks
        if is_at_rest and (is_short or _is_legato(stretch, patience.overlap_ticks)):
            presses = [move for move in stretch if move.velocity]
            pairs += zip(presses, (move for move in stretch if not move.velocity), strict=True)
        else:
            pairs += _pair_as_one_string(stretch)
    pairs.sort()
    return pairs


def _releases_first(moves: Sequence[KeyMove]) -> list[KeyMove]:
    """At one tick, releases of what was pressed earlier come before new presses."""
    ordered: list[KeyMove] = []
    depth = 0
    for _, group in groupby(moves, key=attrgetter("tick")):
        at_once = list(group)
        n_first = min(depth, sum(not move.velocity for move in at_once))
        at_once.sort(key=lambda move: move.velocity > 0)  # stable
        at_once = at_once[:n_first] + sorted(at_once[n_first:])
        ordered += at_once
        for move in at_once:
            depth = depth + 1 if move.velocity else max(0, depth - 1)
    return ordered


def _stretches(moves: Sequence[KeyMove]) -> Iterator[tuple[list[KeyMove], bool]]:
    """The moves from one rest of the key to the next, and whether there was one; releases at rest are left out."""
    stretch: list[KeyMove] = []
    depth = 0
    for move in moves:
        if move.velocity:
            depth += 1
        elif depth:
            depth -= 1
        else:
            continue
        stretch.append(move)
        if not depth:
            yield stretch, True
            stretch = []
    if stretch:
        yield stretch, False


def _is_legato(stretch: Sequence[KeyMove], overlap_ticks: int) -> bool:
    """Does every release come soon after a press, before half of the way to the next one?"""
    pressed_tick = stretch[0].tick
    depth = 0
    for index, move in enumerate(stretch):
        if move.velocity:
            pressed_tick = move.tick
            depth += 1
            continue
        depth -= 1
        following = stretch[index + 1] if index + 1 < len(stretch) else None
        is_between = depth and following is not None and following.velocity
        if is_between and following is not None:
            overlap = move.tick - pressed_tick
            if overlap > overlap_ticks or 2 * overlap > following.tick - pressed_tick:
                return False
    return True


def _pair_as_one_string(stretch: Sequence[KeyMove]) -> list[Pair]:
    """A press ends with whatever comes at a later tick: the next press or a release."""
    pairs: list[Pair] = []
    later: KeyMove | None = None  # the first move at a later tick than the one at hand
    first_here: KeyMove | None = None
    for move in reversed(stretch):
        if first_here is not None and first_here.tick > move.tick:
            later = first_here
        release_here = first_here if first_here is not None and not first_here.velocity else None
        if move.velocity:
            pairs.append((move, later or release_here))
        first_here = move
    return pairs
