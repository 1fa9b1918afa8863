"""What there is to learn for the U-Net: triples with noise on them."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from specdiff_cli.composing.dataset import Songs, draw_excerpt, song_weights
from specdiff_cli.composing.score import Score
from specdiff_cli.composing.triples import Floats, triples_of
from specdiff_cli.composing.unet import N_DIFFUSION_STEPS, STRIDE, UnetConfig, UnetNetwork, alpha_bars
from specdiff_cli.errors import UsageError
from specdiff_cli.train.composer_masking import transposed
from specdiff_cli.train.composer_settings import TrainConfig

N_VALIDATION_EXCERPTS = 64
_EDGE_SHARE = 0.05


class UnetTask:
    """The U-Net's batches and loss over a set of songs."""

    def __init__(self, songs: Songs, sizes: UnetConfig, train: TrainConfig) -> None:
        if train.n_notes % STRIDE:
            raise UsageError(f"[train] n_notes = {train.n_notes}: must be a multiple of {STRIDE} for kind = 'unet'")
        self.songs, self.sizes, self.train = songs, sizes, train
        self._weights = song_weights(songs.training)
        rows = np.concatenate([triples_of(score, sizes) for score in songs.training])
        self._low, self._high = rows.min(axis=0), np.maximum(rows.max(axis=0), rows.min(axis=0) + 1e-6)
        self._bars = alpha_bars().float()
        rng = np.random.default_rng([1, train.seed])
        self._validation = self._batch(songs.validation, song_weights(songs.validation), N_VALIDATION_EXCERPTS, rng, 0)

    def make_network(self) -> UnetNetwork:
        """A network with its first weights, and the songs' limits."""
        network = UnetNetwork(self.sizes)
        network.initialise(self.train.seed)
        network.low.copy_(torch.from_numpy(self._low))
        network.high.copy_(torch.from_numpy(self._high))
        return network

    def matrices(self, network: nn.Module) -> list[nn.Parameter]:
        """None: AdamW trains all of it."""
        return []

    def losses(self, network: nn.Module, step: int) -> dict[str, Tensor]:
        """Mean squared error of the noise, over all notes and numbers."""
        rng = np.random.default_rng([self.train.seed, step])
        batch = self._batch(self.songs.training, self._weights, self.train.batch_size, rng, self.train.most_transposed)
        return {"noise": self._error(network, *batch)}

    def _batch(
        self, songs: list[Score], weights: Floats, n: int, rng: np.random.Generator, most: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Clean triples (n, n_notes, 3) in [0, 1], their diffusion steps (n,) and noise."""
        rows = []
        for _ in range(n):
            score, _, _ = draw_excerpt(songs, weights, self.train.n_notes, rng, _EDGE_SHARE)
            score = transposed(score, int(rng.integers(-most, most + 1)))
            rows.append(np.clip((triples_of(score, self.sizes) - self._low) / (self._high - self._low), 0, 1))
        noise = torch.from_numpy(rng.standard_normal((n, self.train.n_notes, 3))).float()
        steps = torch.from_numpy(rng.integers(0, N_DIFFUSION_STEPS, n))
        return torch.from_numpy(np.stack(rows)).float(), steps, noise

    def _error(self, network: nn.Module, clean: Tensor, steps: Tensor, noise: Tensor) -> Tensor:
        bar = self._bars[steps][:, None, None]
        return F.mse_loss(network(bar.sqrt() * clean + (1 - bar).sqrt() * noise, steps).float(), noise)

    def validate(self, network: nn.Module) -> dict[str, float]:
        """The same error on fixed held-out excerpts, steps and noise."""
        return {"validation_loss": float(self._error(network, *self._validation))}

    def about(self) -> dict[str, object]:
        """What is kept with the weights."""
        return {"n_notes": self.train.n_notes}
