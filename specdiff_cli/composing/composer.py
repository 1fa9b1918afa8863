"""Whole pieces by the token model, and songs that it continues."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from specdiff_cli.composing.dataset import Rng
from specdiff_cli.composing.generation import Draft, Manner, OnStep, Rhythm, blank_ids, settle
from specdiff_cli.composing.network import TokensNetwork
from specdiff_cli.composing.score import METRE_NAMES, METRES, Ints, Score
from specdiff_cli.composing.vocabulary import (
    N_LEFT_CLASSES,
    N_POSITIONS,
    ONSET,
    SIZES,
    TEMPO_CENTRES_BPM,
    conditions_of,
    left_classes,
    score_from,
    tokens_of,
)
from specdiff_cli.errors import MidiError

WINDOW_NOTES = 128  # as in training
CONTEXT_NOTES = 64  # of what came before, when a piece goes on behind its first window


@dataclass(frozen=True)
class Wish:
    """What a piece is to be: ids of metre, key, tempo and density; those behind the last mean "any"."""

    metre: int
    key: int
    tempo: int
    density: int

    @property
    def conditions(self) -> tuple[int, int, int, int]:
        """As the network reads it."""
        return self.metre, self.key, self.tempo, self.density

    @property
    def bar_steps(self) -> int:
        """Length of a bar."""
        return METRES[METRE_NAMES[self.metre]]

    @property
    def tempo_bpm(self) -> float:
        """A tempo of the class."""
        return float(TEMPO_CENTRES_BPM[self.tempo])


def draw_wish(repertoire: Ints, rng: Rng) -> Wish:
    """Conditions as often as the training songs had them (rows of metre, key, tempo, density, count), in any key."""
    counts = repertoire[:, 4] * (repertoire[:, 0] < len(METRE_NAMES))
    metre, key, tempo, density = repertoire[int(rng.choice(len(repertoire), p=counts / counts.sum())), :4].tolist()
    return Wish(metre, key // 12 * 12 + int(rng.integers(12)), tempo, density)


def wish_of(score: Score, name: str) -> Wish:
    """What a song is, by its own notes. Raises MidiError for a time signature that the composer does not know."""
    wish = Wish(*conditions_of(score).tolist())
    if wish.metre >= len(METRE_NAMES) or score.metre[-1] < 0:
        raise MidiError(f"{name}: has a time signature that the composer does not know; it knows {', '.join(METRES)}")
    return wish


def compose(
    network: TokensNetwork,
    wishes: list[Wish],
    n_notes: int,
    rngs: list[Rng],
    manner: Manner,
    on_step: OnStep = lambda step: None,
) -> list[Score]:
    """Whole pieces of ``n_notes`` notes, one for each wish, as one batch."""
    nothing = np.empty((len(wishes), 0, len(SIZES)), dtype=np.int64)
    ids = _go_on(network, nothing, n_notes, wishes, rngs, manner, on_step)
    return [score_from(own, wish.metre, wish.tempo_bpm) for own, wish in zip(ids, wishes, strict=True)]


def continue_song(
    network: TokensNetwork, score: Score, n_notes: int, rng: Rng, manner: Manner, name: str, on_step: OnStep
) -> Score:
    """``n_notes`` notes that follow a song and end it; onsets count from the song's beginning."""
    last = score.part_of(slice(-WINDOW_NOTES, None))
    wish = replace(wish_of(last, name), metre=int(score.metre[-1]))
    known = tokens_of(score.part_of(slice(-CONTEXT_NOTES, None))).fields[None]
    ids = _go_on(network, known, known.shape[1] + n_notes, [wish], [rng], manner, on_step)[0, known.shape[1] - 1 :]
    ids[0, ONSET] %= N_POSITIONS  # bars are counted from the song's last note
    made = score_from(ids, wish.metre, score.tempo_bpm).part_of(slice(1, None))
    bar_start = int(score.origin_steps + score.onset[-1] - score.position[-1])
    return replace(made, origin_steps=bar_start)


def _go_on(
    network: TokensNetwork,
    ids: Ints,
    n_notes: int,
    wishes: list[Wish],
    rngs: list[Rng],
    manner: Manner,
    on_step: OnStep,
) -> Ints:
    """Ids (batch, n, 5) and what follows them, up to ``n_notes``."""
    n_given = ids.shape[1]
    while ids.shape[1] < n_notes:
        n_before = ids.shape[1]
        n_kept = min(n_before, CONTEXT_NOTES)
        index = np.arange(n_before - n_kept, min(n_before - n_kept + WINDOW_NOTES, n_notes))
        draft = new_draft(ids[:, n_before - n_kept :], len(index), wishes)
        draft.left[:] = torch.from_numpy(left_classes(n_notes - 1 - index))
        draft.begins[:] = torch.from_numpy(((index == 0) & (n_given == 0)).astype(np.int64))
        rhythm = Rhythm(network, draft, manner, rngs)
        for note in range(n_kept, len(index)):
            rhythm.draw(note)
        settle(network, draft, manner, rngs, on_step)
        ids = np.concatenate([ids, draft.fields[:, n_kept:].numpy()], axis=1)
    return ids


def new_draft(known: Ints, n: int, wishes: list[Wish]) -> Draft:
    """A window of ``n`` notes, of which the first are known; how many follow in the song is not said."""
    batch, n_known = known.shape[:2]
    fields = np.concatenate([known, np.broadcast_to(blank_ids(n - n_known), (batch, n - n_known, len(SIZES)))], axis=1)
    bar_steps = np.array([wish.bar_steps for wish in wishes])
    times = np.zeros((batch, n), dtype=np.int64)
    times[:, :n_known] = times_of(known, bar_steps)
    return Draft(
        fields=torch.from_numpy(fields.copy()),
        times=torch.from_numpy(times),
        is_free=torch.from_numpy(np.broadcast_to(np.arange(n) >= n_known, (batch, n)).copy()),
        left=torch.full((batch, n), N_LEFT_CLASSES),
        begins=torch.zeros((batch, n), dtype=torch.long),
        conditions=torch.tensor([wish.conditions for wish in wishes]),
        bar_steps=torch.from_numpy(bar_steps),
    )


def times_of(ids: Ints, bar_steps: Ints) -> Ints:
    """Onsets in steps (batch, n) of ids (batch, n, 5), from the beginning of the first note's bar."""
    ahead, position = np.divmod(ids[..., ONSET], N_POSITIONS)
    if ids.shape[1]:
        ahead[:, 0] = 0
    times: Ints = np.cumsum(ahead, axis=1) * bar_steps[:, None] + position
    return times
