"""Notes from the token model: rhythm first, from left to right; then length, pitch and loudness, by unmasking.

Rhythm is absorbing diffusion in blocks of one note, which is autoregression (Arriola et al. 2025, block diffusion). The
other fields of all notes begin masked, and every pass of the network settles some of them: those of which it is surest,
with some noise in the order.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from specdiff_cli.composing.dataset import Rng
from specdiff_cli.composing.network import MASKABLE, Notes, Past, TokensNetwork
from specdiff_cli.composing.sampling import Taste, choose, forbid
from specdiff_cli.composing.score import Ints
from specdiff_cli.composing.vocabulary import (
    DURATION,
    MOST_BARS_AHEAD,
    N_POSITIONS,
    ONSET,
    PART,
    PITCH,
    SIZES,
    VELOCITY,
)

OnStep = Callable[[int], None]
#: Passes of the network out of 32 in which each field is settled. Three times as many measure no better.
_PASSES = {DURATION: 4, PITCH: 25, VELOCITY: 3}
DEFAULT_STEPS = sum(_PASSES.values())


@dataclass(frozen=True)
class Manner:
    """How pieces are drawn.

    ``rhythm``, ``pitch``, ``other``: tastes of the fields. ``order_noise``: how far the order of unmasking strays from
    the surest first; large values make it random. ``dtype``: what the passes that unmask compute in, "float32" or
    "bfloat16".
    """

    rhythm: Taste = Taste(1.0, 0.97)
    pitch: Taste = Taste(1.0, 0.95)
    other: Taste = Taste(1.0, 0.95)
    order_noise: float = 8.0
    dtype: str = "float32"
    n_steps: int = DEFAULT_STEPS

    def warmed(self, temperature: float) -> "Manner":
        """All temperatures times ``temperature``."""
        return replace(
            self,
            **{
                name: replace(getattr(self, name), temperature=getattr(self, name).temperature * temperature)
                for name in ("rhythm", "pitch", "other")
            },
        )

    def passes(self, field: int) -> int:
        """In how many passes a field is settled."""
        return max(1, round(_PASSES[field] * self.n_steps / DEFAULT_STEPS))


@dataclass
class Draft:
    """A batch of pieces in the making.

    ``fields`` (batch, n, 5): masked where not known; ``times`` (batch, n) in steps; ``is_free`` (batch, n): notes that
    are being composed; the others are given. ``left``, ``begins``, ``conditions`` as in
    :class:`~specdiff_cli.composing.network.Notes`. ``bar_steps``: length of a bar.
    """

    fields: Tensor
    times: Tensor
    is_free: Tensor
    left: Tensor
    begins: Tensor
    conditions: Tensor
    bar_steps: Tensor

    def notes(self) -> Notes:
        """As the network reads them."""
        return Notes(self.fields, self.times, self.left, self.begins, self.conditions)


def blank_ids(n_notes: int) -> Ints:
    """Ids (n_notes, 5) of notes of which nothing is known; onset and part are placeholders."""
    ids = np.zeros((n_notes, len(SIZES)), dtype=np.int64)
    ids[:, list(MASKABLE)] = [SIZES[field] for field in MASKABLE]
    return ids


class Rhythm:
    """Draws onset and part of one note after the other, for a batch."""

    def __init__(self, network: TokensNetwork, draft: Draft, manner: Manner, rngs: list[Rng]) -> None:
        self._network, self._draft, self._manner, self._rngs = network, draft, manner, rngs
        self._past = [Past() for _ in network.blocks]
        self._n_read = 0
        self._hidden: tuple[int, Tensor] | None = None

    @torch.no_grad()
    def draw(self, index: int, parts: tuple[int, ...] = (), earliest: int = 0) -> None:
        """Draw note ``index`` of every piece; all before it are known.

        ``parts``: those allowed, all when empty. ``earliest``: the first step at which the note may begin.
        """
        draft = self._draft
        hidden = self._hear(index)
        before = draft.fields[:, index - 1, ONSET] % N_POSITIONS if index else torch.full_like(draft.bar_steps, -1)
        allowed = _possible_onsets(before, draft.bar_steps, is_first=index == 0)
        if earliest:
            allowed &= self._onset_times(index, torch.arange(SIZES[ONSET])) >= earliest
        logits = forbid(self._network.onset_logits(hidden).float(), allowed[:, None])
        onset, _ = choose(logits, self._manner.rhythm, self._rngs)
        logits = self._network.part_logits(hidden, onset).float()
        if parts:
            logits = forbid(logits, torch.isin(torch.arange(SIZES[PART]), torch.tensor(parts)))
        part, _ = choose(logits, self._manner.rhythm, self._rngs)
        self.place(index, onset[:, 0], part[:, 0])

    def place(self, index: int, onset: Tensor, part: Tensor) -> None:
        """Settle onset and part (batch,) of a note."""
        draft = self._draft
        draft.times[:, index] = self._onset_times(index, onset[:, None])[:, 0]
        draft.fields[:, index, ONSET], draft.fields[:, index, PART] = onset, part

    def _onset_times(self, index: int, onsets: Tensor) -> Tensor:
        """When note ``index`` would begin (batch, n) with these onset ids (batch or 1, n)."""
        draft = self._draft
        within = (onsets // N_POSITIONS) * draft.bar_steps[:, None] + onsets % N_POSITIONS
        if index == 0:
            return within
        bar_start = draft.times[:, index - 1] - draft.fields[:, index - 1, ONSET] % N_POSITIONS
        return bar_start[:, None] + within

    def _hear(self, index: int) -> Tensor:
        """Hidden value (batch, 1, d) from which note ``index`` is drawn, however often."""
        if self._hidden is not None and self._hidden[0] == index:
            return self._hidden[1]
        draft, first = self._draft, self._n_read
        start = max(0, first - 1)
        notes = Notes(
            draft.fields[:, start : index + 1],
            draft.times[:, start : index + 1],
            draft.left[:, first : index + 1],
            draft.begins[:, first : index + 1],
            draft.conditions,
        )
        self._n_read = index + 1
        known = _unpitched(notes, draft.is_free[:, start : index + 1])
        hidden = self._network.rhythm(known, self._past, first)[:, -1:]
        self._hidden = index, hidden
        return hidden


def _unpitched(notes: Notes, is_free: Tensor) -> Notes:
    """Free notes have no pitch, length or loudness yet while rhythm is drawn."""
    fields = notes.fields.clone()
    for field in MASKABLE:
        fields[..., field] = torch.where(is_free, SIZES[field], fields[..., field])
    return replace(notes, fields=fields)


def _possible_onsets(before: Tensor, bar_steps: Tensor, *, is_first: bool) -> Tensor:
    """Whether an onset id is possible (batch, 288) behind a note at position ``before`` of its bar."""
    ids = torch.arange(SIZES[ONSET])
    ahead, position = ids // N_POSITIONS, ids % N_POSITIONS
    inside = position < bar_steps[:, None]
    if is_first:
        return inside & (ahead == 0)
    return inside & ((ahead > 0) | (position >= before[:, None])) & (ahead <= MOST_BARS_AHEAD)


@torch.no_grad()
def unmask(
    network: TokensNetwork,
    draft: Draft,
    field: int,
    manner: Manner,
    rngs: list[Rng],
    on_step: OnStep = lambda step: None,
) -> None:
    """Settle one field of every free note in which it is masked."""
    place = MASKABLE.index(field)
    taste = manner.pitch if field == PITCH else manner.other
    n_passes = manner.passes(field)
    done = 0
    while True:
        is_open = draft.fields[..., field] == SIZES[field]
        n_open = int(is_open.sum(dim=1).max())
        if n_open == 0:
            break
        with torch.autocast("cpu", torch.bfloat16, enabled=manner.dtype == "bfloat16"):
            logits = network.masked(draft.notes())[place].float()
        if field == PITCH:
            logits = forbid(logits, possible_pitches(draft))
        ids, sureness = choose(logits, taste, rngs)
        noise = np.stack([rng.gumbel(size=is_open.shape[1]) for rng in rngs])
        rank = sureness + manner.order_noise * torch.from_numpy(noise).float()
        settled = _pick(rank, is_open, draft.times, -(-n_open // max(1, n_passes - done)), one_per_onset=field == PITCH)
        draft.fields[..., field] = torch.where(settled, ids, draft.fields[..., field])
        done += 1
        if done <= n_passes:
            on_step(1)
    for _ in range(done, n_passes):
        on_step(1)


def _pick(rank: Tensor, is_open: Tensor, times: Tensor, n_wanted: int, *, one_per_onset: bool) -> Tensor:
    """Which notes are settled now: the ``n_wanted`` of highest rank, of those that begin together one at a time."""
    rank = rank.masked_fill(~is_open, -torch.inf)
    if one_per_onset:
        together = times[:, :, None] == times[:, None]
        best = torch.where(together, rank[:, None], -torch.inf).amax(dim=2)
        rank = rank.masked_fill(rank < best, -torch.inf)
    n_wanted = min(n_wanted, rank.shape[1])
    least = rank.topk(n_wanted, dim=1).values[:, -1:]
    return (rank >= least) & (rank > -torch.inf)


def possible_pitches(draft: Draft) -> Tensor:
    """Whether a pitch is possible (batch, n, 88): notes that begin together rise, within a part without unisons."""
    pitch, part, times = draft.fields[..., PITCH], draft.fields[..., PART], draft.times
    n = pitch.shape[1]
    together = (times[:, :, None] == times[:, None]) & (pitch < SIZES[PITCH])[:, None]
    earlier = torch.arange(n)[:, None] > torch.arange(n)  # [i, j]: note j stands before note i
    step = (part[:, :, None] == part[:, None]).long()
    lowest = torch.where(together & earlier, pitch[:, None] + step, 0).amax(dim=2)
    highest = torch.where(together & earlier.T, pitch[:, None] - step, SIZES[PITCH] - 1).amin(dim=2)
    ids = torch.arange(SIZES[PITCH])
    return (ids >= lowest[..., None]) & (ids <= highest[..., None])


def settle(
    network: TokensNetwork, draft: Draft, manner: Manner, rngs: list[Rng], on_step: OnStep = lambda step: None
) -> None:
    """Length, pitch and loudness of all free notes whose onsets and parts are known."""
    for field in (DURATION, PITCH, VELOCITY):
        unmask(network, draft, field, manner, rngs, on_step)
