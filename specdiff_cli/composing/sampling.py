"""Choosing ids by a network's logits, reproducibly."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from specdiff_cli.composing.dataset import Rng

_IMPOSSIBLE = -1e9


@dataclass(frozen=True)
class Taste:
    """How daring a choice is: logits are divided by ``temperature``, and the least likely ids that together have
    less than 1 - ``top_p`` are left out."""

    temperature: float = 1.0
    top_p: float = 0.98


def forbid(logits: Tensor, allowed: Tensor) -> Tensor:
    """Logits without the ids that are not allowed; rows in which nothing is allowed stay as they are."""
    possible = allowed.any(dim=-1, keepdim=True)
    return torch.where(allowed | ~possible, logits, _IMPOSSIBLE)


def choose(logits: Tensor, taste: Taste, rngs: list[Rng]) -> tuple[Tensor, Tensor]:
    """One id for each row of (batch, n, size), and its log-probability before temperature and cut.

    Every piece of the batch draws from its own generator, so that it does not depend on the others.
    """
    logits = logits.float()
    shares = logits.log_softmax(dim=-1)
    warm = logits / max(taste.temperature, 1e-4)
    ordered, order = warm.softmax(dim=-1).sort(dim=-1, descending=True)
    is_cut = torch.zeros_like(ordered, dtype=torch.bool).scatter(-1, order, ordered.cumsum(-1) - ordered >= taste.top_p)
    uniform = np.stack([rng.random(tuple(logits.shape[1:])) for rng in rngs])
    gumbel = torch.from_numpy(-np.log(-np.log(uniform + 1e-20) + 1e-20)).float()
    ids = (warm.masked_fill(is_cut, _IMPOSSIBLE) + gumbel).argmax(dim=-1)
    return ids, shares.gather(-1, ids[..., None])[..., 0]
