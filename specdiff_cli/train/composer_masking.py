"""What the token model is asked in training: excerpts with parts of them masked, and the loss on those parts.

Absorbing diffusion (Austin et al. 2021, D3PM; as order-agnostic autoregression: Hoogeboom et al. 2022): a share t of a
field's ids, uniform in [0, 1], is masked, and the loss is the cross-entropy of the masked ones over how many they are.
That is the variational bound of the linear schedule, weight 1/t included.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from specdiff_cli.composing.dataset import Rng, draw_excerpt
from specdiff_cli.composing.network import MASKABLE, Notes, TokensNetwork
from specdiff_cli.composing.score import MELODY, Score
from specdiff_cli.composing.vocabulary import (
    CONDITION_SIZES,
    DURATION,
    FIELDS,
    HIGHEST_PITCH,
    LOWEST_PITCH,
    N_LEFT_CLASSES,
    ONSET,
    PART,
    PITCH,
    SIZES,
    VELOCITY,
    conditions_of,
    left_classes,
    tokens_of,
)

Bools = NDArray[np.bool_]
#: Which field is asked for, and how often.
TARGETS = ((PITCH, 0.6), (DURATION, 0.25), (VELOCITY, 0.15))
UNKNOWN_SHARE = 0.1  # of each condition
EDGE_SHARE = 0.1


@dataclass(frozen=True)
class Excerpt:
    """A plain excerpt: ``fields`` (n, 5), ``times``, ``left`` and ``begins`` (n,), ``conditions`` (4,)."""

    fields: NDArray[np.int64]
    times: NDArray[np.int64]
    left: NDArray[np.int64]
    begins: NDArray[np.int64]
    conditions: NDArray[np.int64]


def draw_training_excerpt(
    songs: list[Score], weights: NDArray[np.float64], n_notes: int, most: int, rng: Rng
) -> Excerpt:
    """A random excerpt, transposed by up to ``most`` semitones, some of what is known about it left out."""
    score, n_before, n_after = draw_excerpt(songs, weights, n_notes, rng, EDGE_SHARE)
    plain = plain_excerpt(transposed(score, int(rng.integers(-most, most + 1))), n_before, n_after)
    conditions = np.where(rng.random(len(CONDITION_SIZES)) < UNKNOWN_SHARE, CONDITION_SIZES, plain.conditions)
    left = np.full_like(plain.left, N_LEFT_CLASSES) if rng.random() < UNKNOWN_SHARE else plain.left
    return Excerpt(plain.fields, plain.times, left, plain.begins, conditions)


def plain_excerpt(score: Score, n_before: int, n_after: int) -> Excerpt:
    """An excerpt with everything that is known about it."""
    tokens, n = tokens_of(score), len(score)
    left = left_classes(n_after + np.arange(n)[::-1])
    begins = (np.arange(n) + n_before == 0).astype(np.int64)
    return Excerpt(tokens.fields, tokens.times, left, begins, conditions_of(score))


def transposed(score: Score, semitones: int) -> Score:
    """Higher or lower, by less where the keyboard ends."""
    semitones = min(semitones, HIGHEST_PITCH - int(score.pitch.max()))
    semitones = max(semitones, LOWEST_PITCH - int(score.pitch.min()))
    return replace(score, pitch=score.pitch + semitones)


def draw_given(fields: NDArray[np.int64], rng: Rng) -> Bools:
    """Notes of an excerpt that are wholly known, as when a song is continued, filled in or accompanied."""
    n = len(fields)
    index, kind = np.arange(n), rng.random()
    first, last = np.sort(rng.integers(0, n + 1, 2))
    is_melody = fields[:, PART] == MELODY
    given: Bools = np.zeros(n, dtype=bool)
    if 0.45 <= kind < 0.65:  # what came before
        given = index < min(first, n - 4)
    elif 0.65 <= kind < 0.8:  # what stands around a gap
        given = (index < first) | (index >= max(last, first + 4))
    elif 0.8 <= kind < 0.85:  # what comes after
        given = index >= max(first, 4)
    elif kind >= 0.85:  # the tune, or all but the tune
        given = is_melody if kind < 0.95 else ~is_melody
    return given


def mask_excerpt(fields: NDArray[np.int64], target: int, rng: Rng) -> tuple[NDArray[np.int64], Bools]:
    """Masked ids (n, 5) and which ids of the target field (n,) are asked for."""
    given = draw_given(fields, rng)
    hidden = ~given
    if not hidden.any():
        hidden = np.ones_like(given)
    masked = fields.copy()
    free = np.flatnonzero(hidden)
    n_asked = int(np.ceil(rng.random() * len(free))) or 1
    # A quarter of the time in the order of the notes, else anywhere.
    asked = free[-n_asked:] if rng.random() < 0.25 else rng.choice(free, n_asked, replace=False)
    masked[asked, target] = SIZES[target]
    # Sampling goes from duration to pitch to velocity: what comes later is usually unknown.
    unknown = {PITCH: 0.7 if target == DURATION else 0.0, DURATION: 0.1 if target == PITCH else 0.0, VELOCITY: 0.8}
    for field, share in unknown.items():
        if field != target and rng.random() < share:
            masked[free, field] = SIZES[field]
    is_asked = np.zeros(len(fields), dtype=bool)
    is_asked[asked] = True
    return masked, is_asked


def draw_target(rng: Rng) -> int:
    """Which field is asked for."""
    fields, shares = zip(*TARGETS, strict=True)
    return int(rng.choice(fields, p=shares))


def hide_all(fields: NDArray[np.int64], n_known: int) -> NDArray[np.int64]:
    """Nothing but onset and part, save of the first ``n_known`` notes."""
    hidden = fields.copy()
    hidden[n_known:, list(MASKABLE)] = [SIZES[field] for field in MASKABLE]
    return hidden


def collate(excerpts: list[Excerpt], fields: list[NDArray[np.int64]]) -> Notes:
    """A batch, with these ids in place of the excerpts' own."""
    return Notes(
        torch.from_numpy(np.stack(fields)),
        torch.from_numpy(np.stack([excerpt.times for excerpt in excerpts])),
        torch.from_numpy(np.stack([excerpt.left for excerpt in excerpts])),
        torch.from_numpy(np.stack([excerpt.begins for excerpt in excerpts])),
        torch.from_numpy(np.stack([excerpt.conditions for excerpt in excerpts])),
    )


def rhythm_losses(network: TokensNetwork, notes: Notes) -> dict[str, Tensor]:
    """Mean cross-entropy per note, in nats, of onset and part."""
    hidden = network.rhythm(notes)
    onset, part = notes.fields[..., ONSET], notes.fields[..., PART]
    return {
        "onset": F.cross_entropy(network.onset_logits(hidden).float().flatten(0, 1), onset.flatten()),
        "part": F.cross_entropy(network.part_logits(hidden, onset).float().flatten(0, 1), part.flatten()),
    }


def masked_losses(
    network: TokensNetwork, notes: Notes, truth: Tensor, targets: Tensor, is_asked: Tensor
) -> dict[str, Tensor]:
    """Cross-entropy in nats of the ids that are asked for, mean over each excerpt's, then over the excerpts.

    ``truth`` (batch, n, 5), ``targets`` (batch,): the field asked for, ``is_asked`` (batch, n).
    """
    losses = {}
    for logits, field in zip(network.masked(notes), MASKABLE, strict=True):
        rows = targets == field
        if rows.any():
            wrong = F.cross_entropy(logits[rows].float().transpose(1, 2), truth[rows][..., field], reduction="none")
            asked = is_asked[rows]
            losses[FIELDS[field]] = ((wrong * asked).sum(1) / asked.sum(1)).mean()
    return losses
