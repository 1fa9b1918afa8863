"""The network that tells recordings from a vocoder's work, and the losses it gives.

It returns, for each of its stacks, the activations of the layers; the last ones are scores (1: recording, 0: made).
Sources: least squares of LSGAN (Mao et al., 2017), feature matching of MelGAN (Kumar et al., 2019).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from specdiff_cli.audio.spectral import LOG_MAGNITUDE_MIN

_SLOPE = 0.1

Activations = list[list[Tensor]]


class SpectrumDiscriminator(nn.Module):
    """Judges spectra by log-magnitudes, and phase advances where there is sound.

    Two stacks of 2-D convolutions, on full and on halved detail.
    """

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        strides = [(1, 4), (2, 4), (2, 2)]
        widths = [3, width, 2 * width, 4 * width]
        shapes = list(zip(widths[:-1], widths[1:], strides, strict=True))
        self.stacks = nn.ModuleList()
        for _ in range(2):
            layers = [nn.Conv2d(a, b, (5, 9), stride, padding=(2, 4)) for a, b, stride in shapes]
            self.stacks.append(nn.Sequential(*layers, nn.Conv2d(4 * width, 1, 3, padding=1)))

    def forward(self, log_magnitude: Tensor, turn: Tensor) -> Activations:
        """Both (B, n_frames, 513); ``turn`` complex, as in ``vocoder_losses.Truth``."""
        level = (log_magnitude - LOG_MAGNITUDE_MIN) / -LOG_MAGNITUDE_MIN
        image = torch.stack([level, level * turn.real, level * turn.imag], dim=1)  # (B, 3, n_frames, 513)
        results = []
        for stack in self.stacks:
            results.append(activations(stack, image))
            image = functional.avg_pool2d(image, 2)
        return results


def discriminator_loss(real: Activations, made: Activations) -> Tensor:
    """Least squares: recordings should score 1, what was made 0."""
    losses = [
        (r[-1].float() - 1).square().mean() + m[-1].float().square().mean() for r, m in zip(real, made, strict=True)
    ]
    return torch.stack(losses).sum()


def generator_losses(real: Activations, made: Activations) -> tuple[Tensor, Tensor]:
    """Adversarial loss (what was made should score 1), and the distance of the inner activations."""
    adversarial = torch.stack([(m[-1].float() - 1).square().mean() for m in made]).sum()
    return adversarial, feature_matching(real, made)


def feature_matching(real: Activations, made: Activations) -> Tensor:
    """Mean distance of the inner activations; those of recordings take no gradient."""
    pairs = [(a, b) for r, m in zip(real, made, strict=True) for a, b in zip(r[:-1], m[:-1], strict=True)]
    return torch.stack([(a.detach().float() - b.float()).abs().mean() for a, b in pairs]).mean()


def activations(stack: nn.Module, x: Tensor) -> list[Tensor]:
    """What each layer of a stack makes of ``x``; the last is the score."""
    *layers, last = stack.children()
    activations = []
    for layer in layers:
        x = functional.leaky_relu(layer(x), _SLOPE)
        activations.append(x)
    return [*activations, last(x)]
