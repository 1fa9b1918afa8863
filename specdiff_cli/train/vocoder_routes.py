"""How each head of the vocoder is trained: what it is compared with, and what its discriminator sees."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from specdiff_cli.audio.griffin_lim import Peaks
from specdiff_cli.audio.spectral import SpectralConfig, SpectralNetwork, network_inputs
from specdiff_cli.constants import N_MELS
from specdiff_cli.train.discriminators import SpectrumDiscriminator
from specdiff_cli.train.vocoder_data import Example
from specdiff_cli.train.vocoder_losses import guess_of, supervised_losses, truth_of


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
    """The training of one head."""

    def discriminator(self, width: int) -> nn.Module:
        """A new discriminator: takes ``Attempt.made`` or ``Attempt.real`` as arguments."""
        ...

    def attempt(self, network: SpectralNetwork, example: Example, half: torch.dtype) -> Attempt:
        """Run the network in ``half`` precision (float32: as it is)."""
        ...


class AdvanceRoute:
    """Magnitudes and phase advances against known answers; the discriminator sees both."""

    def discriminator(self, width: int) -> nn.Module:
        return SpectrumDiscriminator(width)

    def attempt(self, network: SpectralNetwork, example: Example, half: torch.dtype) -> Attempt:
        peaks, (log_magnitude, cosine, sine) = _run(network, example, half)
        guess = guess_of((log_magnitude, cosine, sine), peaks.turns.float())
        truth = truth_of(example.audio)
        magnitude, advance = supervised_losses(guess, truth)
        return Attempt({"magnitude": magnitude, "advance": advance}, (*guess,), (truth.log_magnitude, truth.turn))


def _run(network: SpectralNetwork, example: Example, half: torch.dtype) -> tuple[Peaks, tuple[Tensor, ...]]:
    """The peaks of the batch, (B, n_frames, 513), and the network's outputs."""
    spread, peaks = network_inputs(example.mel.reshape(-1, N_MELS))
    shape = (*example.mel.shape[:2], -1)
    with torch.autocast(example.mel.device.type, half, enabled=half != torch.float32):
        outputs = network(example.mel, spread.view(shape))
    return Peaks(peaks.nearest.view(shape), peaks.places.view(shape)), outputs


def route_of(sizes: SpectralConfig) -> Route:
    """The training of the head that the sizes name."""
    return {"advance": AdvanceRoute}[sizes.head]()
