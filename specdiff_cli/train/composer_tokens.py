"""What there is to learn for the token model: batches, losses and the validation that judges a run."""

import numpy as np
import torch
from torch import Tensor, nn

from specdiff_cli.composing.dataset import Rng, Songs, draw_excerpt, song_weights
from specdiff_cli.composing.network import Notes, TokensConfig, TokensNetwork
from specdiff_cli.composing.score import Ints
from specdiff_cli.train.composer_masking import (
    TARGETS,
    Bools,
    Excerpt,
    collate,
    draw_target,
    draw_training_excerpt,
    hide_all,
    mask_excerpt,
    masked_losses,
    plain_excerpt,
    rhythm_losses,
)
from specdiff_cli.train.composer_settings import TrainConfig

Mask = tuple[Ints, Bools]
N_VALIDATION_EXCERPTS = 64
#: Conditions of so many excerpts are kept with the weights: what pieces are asked to be when nobody says.
N_REPERTOIRE = 1024


class TokensTask:
    """The token model's batches and losses over a set of songs."""

    name = "tokens"

    def __init__(self, songs: Songs, sizes: TokensConfig, train: TrainConfig) -> None:
        self.songs, self.sizes, self.train = songs, sizes, train
        self._weights = song_weights(songs.training)
        rng = np.random.default_rng([1, train.seed])
        weights = song_weights(songs.validation)
        chosen = (
            draw_excerpt(songs.validation, weights, train.n_notes, rng, 0.05) for _ in range(N_VALIDATION_EXCERPTS)
        )
        self._validation = [plain_excerpt(*excerpt) for excerpt in chosen]
        self._masks = {field: [mask_excerpt(e.fields, field, rng) for e in self._validation] for field, _ in TARGETS}

    def make_network(self) -> TokensNetwork:
        """A network with its first weights."""
        network = TokensNetwork(self.sizes)
        network.initialise(self.train.seed)
        return network

    def matrices(self, network: nn.Module) -> list[nn.Parameter]:
        """The parameters that Muon trains."""
        return [value for name, value in network.named_parameters() if name.startswith("blocks.") and value.ndim == 2]

    def losses(self, network: nn.Module, step: int) -> dict[str, Tensor]:
        """Losses of the batch of a step, by name; their sum is what is minimised."""
        assert isinstance(network, TokensNetwork)  # noqa: S101 - what make_network makes
        rng = np.random.default_rng([self.train.seed, step])
        train = self.train
        excerpts = [
            draw_training_excerpt(self.songs.training, self._weights, train.n_notes, train.most_transposed, rng)
            for _ in range(train.batch_size)
        ]
        n_rhythm = min(max(1, round(train.rhythm_share * train.batch_size)), train.batch_size)
        losses = rhythm_losses(network, self._rhythm_batch(excerpts[:n_rhythm], rng))
        rest = excerpts[n_rhythm:]
        if rest:
            targets = [draw_target(rng) for _ in rest]
            losses |= self._masked(
                network, rest, targets, [mask_excerpt(e.fields, t, rng) for e, t in zip(rest, targets, strict=True)]
            )
        return losses

    def _rhythm_batch(self, excerpts: list[Excerpt], rng: Rng) -> Notes:
        n_known = [int(rng.integers(len(e.fields))) if rng.random() < 0.3 else 0 for e in excerpts]
        return collate(excerpts, [hide_all(e.fields, n) for e, n in zip(excerpts, n_known, strict=True)])

    @staticmethod
    def _masked(
        network: TokensNetwork, excerpts: list[Excerpt], targets: list[int], masks: list[Mask]
    ) -> dict[str, Tensor]:
        truth = torch.from_numpy(np.stack([excerpt.fields for excerpt in excerpts]))
        asked = torch.from_numpy(np.stack([is_asked for _, is_asked in masks]))
        notes = collate(excerpts, [masked for masked, _ in masks])
        return masked_losses(network, notes, truth, torch.tensor(targets), asked)

    def validate(self, network: nn.Module) -> dict[str, float]:
        """Losses on fixed held-out excerpts and masks; ``validation_loss`` is their sum, by which runs are judged."""
        assert isinstance(network, TokensNetwork)  # noqa: S101 - what make_network makes
        excerpts = self._validation
        found = rhythm_losses(network, collate(excerpts, [hide_all(e.fields, 0) for e in excerpts]))
        for field, _ in TARGETS:
            found |= self._masked(network, excerpts, [field] * len(excerpts), self._masks[field])
        values = {name: float(value) for name, value in found.items()}
        return {f"validation_{name}": value for name, value in values.items()} | {
            "validation_loss": sum(values.values())
        }

    def about(self) -> dict[str, object]:
        """What is kept with the weights: conditions of training excerpts, counted."""
        rng = np.random.default_rng([2, self.train.seed])
        rows: dict[tuple[int, ...], int] = {}
        for _ in range(N_REPERTOIRE):
            score, n_before, n_after = draw_excerpt(self.songs.training, self._weights, self.train.n_notes, rng, 0.0)
            row = tuple(plain_excerpt(score, n_before, n_after).conditions.tolist())
            rows[row] = rows.get(row, 0) + 1
        return {"repertoire": [[*row, n] for row, n in sorted(rows.items())], "n_notes": self.train.n_notes}
