"""How each head of the vocoder is trained: what it learns from, what it is compared with, and how good it is."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from specdiff_cli.audio.gains import GainsConfig
from specdiff_cli.audio.melgan import GeneratorConfig
from specdiff_cli.audio.spectral import SpectralConfig
from specdiff_cli.train.discriminators import Activations
from specdiff_cli.train.vocoder_losses import Quality
from specdiff_cli.train.vocoder_pairs import OnReady
from specdiff_cli.train.vocoder_settings import GainsTrainConfig, MelGanTrainConfig, RunSettings, TrainConfig

N_VALIDATION_PIECES = 6
VALIDATION_S = 6.0
N_HEARD_PIECES = 2


VocoderSizes: TypeAlias = SpectralConfig | GeneratorConfig | GainsConfig


@dataclass(frozen=True)
class Attempt:
    """The network's answer to a batch."""

    losses: dict[str, Tensor]
    """What it is off by, by name, unweighted."""
    made: tuple[Tensor, ...]
    """What the discriminator is to take for a recording."""
    real: tuple[Tensor, ...]
    """The same of the recording."""


class Route(Protocol):
    """The training of one head. Its pieces are those of a corpus, and its examples its own."""

    name: str
    plain: str
    """What the network improves on: the vocoder without it."""
    half: torch.dtype
    """Precision of the networks' arithmetic (float32: as they are)."""
    fingerprint: str
    """Which pieces these are."""
    n_pieces: int
    hours: float

    def network(self) -> nn.Module:
        """A new network."""
        ...

    def discriminator(self) -> nn.Module:
        """A new discriminator: takes ``Attempt.made`` or ``Attempt.real`` as arguments."""
        ...

    def next_example(self, draw: np.random.Generator, noise: torch.Generator) -> Any:
        """A batch of random excerpts."""
        ...

    def attempt(self, network: nn.Module, example: Any) -> Attempt:
        """Run the network on such a batch."""
        ...

    def discriminator_loss(self, real: Activations, made: Activations) -> Tensor:
        """Of a discriminator's activations."""
        ...

    def generator_losses(self, real: Activations, made: Activations) -> tuple[Tensor, Tensor]:
        """Adversarial loss, and that of feature matching."""
        ...

    def quality(self, network: nn.Module | None) -> Quality:
        """On the validation pieces; None: of what is plain."""
        ...

    def heard(self, network: nn.Module | None) -> list[Tensor]:
        """Sound of some validation pieces, (n_samples,) each; None: as recorded."""
        ...

    def shipped(self, network: Any) -> dict[str, Tensor]:
        """The weights as a voice has them, in float32."""
        ...

    def begin_with(self, network: Any, weights: dict[str, Tensor]) -> None:
        """Put such weights into a network. Raises WeightsError where they do not fit."""
        ...


def open_route(
    corpus: Path,
    config: RunSettings,
    sizes: VocoderSizes,
    device: torch.device,
    on_ready: OnReady = lambda ready, planned: None,
) -> Route:
    """The training of the head that the sizes name, with a corpus.

    ``on_ready`` is told how far preparing the pieces is. Raises UsageError for a corpus without training or validation
    part; the route's own errors.
    """
    from specdiff_cli.train.vocoder_gains import GainsRoute
    from specdiff_cli.train.vocoder_melgan import MelGanRoute
    from specdiff_cli.train.vocoder_spectral import SpectralRoute

    if isinstance(sizes, GeneratorConfig) and isinstance(config, MelGanTrainConfig):
        return MelGanRoute(corpus, config, sizes, device, on_ready)
    if isinstance(sizes, GainsConfig) and isinstance(config, GainsTrainConfig):
        return GainsRoute(corpus, config, sizes, device, on_ready)
    if isinstance(sizes, SpectralConfig) and isinstance(config, TrainConfig):
        return SpectralRoute(corpus, config, sizes, device)
    raise ValueError(f"{type(config).__name__} are no settings for {type(sizes).__name__}")
