"""Networks that tell recordings from a vocoder's work, and the losses they give.

Each returns, for each of its stacks, the activations of the layers; the last ones are scores (1: recording, 0: made).
Sources: HiFi-GAN (Kong et al., 2020) for periods, UnivNet (Jang et al., 2021) for resolutions, least squares of
LSGAN (Mao et al., 2017), feature matching of MelGAN (Kumar et al., 2019).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from specdiff_cli.audio.spectral import LOG_MAGNITUDE_MIN

PERIODS_SAMPLES = (2, 3, 5, 7, 11)
RESOLUTIONS_SAMPLES = (256, 512, 1024)
_SLOPE = 0.1
_QUIETEST = 1e-3  # magnitudes below this look alike to the resolution discriminators

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
            results.append(_activations(stack, image))
            image = functional.avg_pool2d(image, 2)
        return results


class WaveDiscriminator(nn.Module):
    """Judges waveforms: folded at five periods, and as magnitudes at three resolutions."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.periods = nn.ModuleList(_period_stack(width) for _ in PERIODS_SAMPLES)
        self.resolutions = nn.ModuleList(_resolution_stack(width) for _ in RESOLUTIONS_SAMPLES)

    def forward(self, audio: Tensor) -> Activations:
        """(B, n_samples) float32."""
        folded = [fold(audio, period) for period in PERIODS_SAMPLES]
        images = [log_image(audio, n_fft) for n_fft in RESOLUTIONS_SAMPLES]
        return [
            _activations(stack, image)
            for stack, image in zip([*self.periods, *self.resolutions], [*folded, *images], strict=True)
        ]


def fold(audio: Tensor, period_samples: int) -> Tensor:
    """(B, n_samples) to (B, 1, ceil(n_samples / period), period), zeros at the end: columns are one phase each."""
    audio = functional.pad(audio, (0, -audio.shape[-1] % period_samples))
    return audio.view(len(audio), 1, -1, period_samples)


def log_image(audio: Tensor, n_fft: int) -> Tensor:
    """(B, n_samples) to (B, 1, n_frames, n_fft / 2 + 1): log-magnitudes, about within +-1."""
    window = torch.hann_window(n_fft, device=audio.device)
    spectrum = torch.stft(audio, n_fft, n_fft // 4, window=window, return_complex=True)
    return spectrum.abs().clamp_min(_QUIETEST).log().transpose(1, 2)[:, None] / 6


def discriminator_loss(real: Activations, made: Activations) -> Tensor:
    """Least squares: recordings should score 1, what was made 0."""
    losses = [
        (r[-1].float() - 1).square().mean() + m[-1].float().square().mean() for r, m in zip(real, made, strict=True)
    ]
    return torch.stack(losses).sum()


def generator_losses(real: Activations, made: Activations) -> tuple[Tensor, Tensor]:
    """Adversarial loss (what was made should score 1), and the distance of the inner activations."""
    adversarial = torch.stack([(m[-1].float() - 1).square().mean() for m in made]).sum()
    pairs = [(a, b) for r, m in zip(real, made, strict=True) for a, b in zip(r[:-1], m[:-1], strict=True)]
    matching = torch.stack([(a.detach().float() - b.float()).abs().mean() for a, b in pairs]).mean()
    return adversarial, matching


def _period_stack(width: int) -> nn.Sequential:
    widths = [1, width, 2 * width, 4 * width, 4 * width]
    layers = [nn.Conv2d(a, b, (5, 1), (3, 1), padding=(2, 0)) for a, b in zip(widths[:-1], widths[1:], strict=True)]
    return nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, (3, 1), padding=(1, 0)))


def _resolution_stack(width: int) -> nn.Sequential:
    widths = [1, width, width, 2 * width, 2 * width]
    strides = [(1, 2), (1, 2), (2, 2), (1, 1)]
    layers = [
        nn.Conv2d(a, b, (3, 9), stride, padding=(1, 4))
        for a, b, stride in zip(widths[:-1], widths[1:], strides, strict=True)
    ]
    return nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 3, padding=1))


def _activations(stack: nn.Module, x: Tensor) -> list[Tensor]:
    *layers, last = stack.children()
    activations = []
    for layer in layers:
        x = functional.leaky_relu(layer(x), _SLOPE)
        activations.append(x)
    return [*activations, last(x)]
