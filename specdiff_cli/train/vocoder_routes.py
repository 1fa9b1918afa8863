"""How each head of the vocoder is trained: what it is compared with, and what its discriminator sees."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from specdiff_cli.audio.griffin_lim import Peaks
from specdiff_cli.audio.istft import join_turns, overlap_add
from specdiff_cli.audio.mel import log_mel
from specdiff_cli.audio.spectral import LOG_MAGNITUDE_MAX, LOG_MAGNITUDE_MIN, MelGanConfig, Trunk, network_inputs
from specdiff_cli.constants import HOP_SAMPLES, N_MELS
from specdiff_cli.train.discriminators import SpectrumDiscriminator, WaveDiscriminator
from specdiff_cli.train.vocoder_data import Example
from specdiff_cli.train.vocoder_losses import guess_of, stft_distance, supervised_losses, truth_of, unit


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

    def attempt(self, network: Trunk, example: Example, half: torch.dtype) -> Attempt:
        """Run the network in ``half`` precision (float32: as it is)."""
        ...


class AdvanceRoute:
    """Magnitudes and phase advances against known answers; the discriminator sees both."""

    def discriminator(self, width: int) -> nn.Module:
        return SpectrumDiscriminator(width)

    def attempt(self, network: Trunk, example: Example, half: torch.dtype) -> Attempt:
        peaks, (log_magnitude, cosine, sine) = _run(network, example, half)
        guess = guess_of((log_magnitude, cosine, sine), peaks.turns.float())
        truth = truth_of(example.audio)
        magnitude, advance = supervised_losses(guess, truth)
        return Attempt({"magnitude": magnitude, "advance": advance}, (*guess,), (truth.log_magnitude, truth.turn))


class IstftRoute:
    """The waveform against the recording's spectrograms; known answers keep magnitudes and turns on the way."""

    def discriminator(self, width: int) -> nn.Module:
        return WaveDiscriminator(width)

    def attempt(self, network: Trunk, example: Example, half: torch.dtype) -> Attempt:
        peaks, (log_magnitude, cosine, sine, phase_cosine, phase_sine) = _run(network, example, half)
        guess = guess_of((log_magnitude, cosine, sine), peaks.turns.float())
        magnitude_loss, advance = supervised_losses(guess, truth_of(example.audio))
        turns = peaks.turns + unit(cosine, sine).angle()
        carried = join_turns(peaks, turns, example.first_frame).float()
        magnitude = log_magnitude.clamp(2 * LOG_MAGNITUDE_MIN, LOG_MAGNITUDE_MAX).exp()
        spectrum = torch.polar(magnitude, carried) * unit(phase_cosine, phase_sine)
        # the first hop lacks the frame before it: in a song it would not
        made = overlap_add(spectrum)[:, HOP_SAMPLES:]
        real = example.audio[:, 2 * HOP_SAMPLES : 2 * HOP_SAMPLES + made.shape[1]]
        distance = stft_distance(made, real)
        losses = {
            "magnitude": magnitude_loss,
            "advance": advance,
            "stft": distance.convergence + distance.log_magnitude,
            "mel": (log_mel(made) - log_mel(real))[:, :-1].abs().mean(),  # the last frame is half padding
        }
        return Attempt(losses, (made,), (real,))


def _run(network: Trunk, example: Example, half: torch.dtype) -> tuple[Peaks, tuple[Tensor, ...]]:
    """The peaks of the batch, (B, n_frames, 513), and the network's outputs."""
    spread, peaks = network_inputs(example.mel.reshape(-1, N_MELS))
    shape = (*example.mel.shape[:2], -1)
    with torch.autocast(example.mel.device.type, half, enabled=half != torch.float32):
        outputs = network(example.mel, spread.view(shape))
    return Peaks(peaks.nearest.view(shape), peaks.places.view(shape)), outputs


def route_of(sizes: MelGanConfig) -> Route:
    """The training of the head that the sizes name."""
    return IstftRoute() if sizes.head == "istft" else AdvanceRoute()
