"""What the vocoder's network is trained on, and what it is judged by."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from specdiff_cli.audio.mel import N_BINS, hann_window, log_mel
from specdiff_cli.audio.melgan import LOG_MAGNITUDE_MAX, LOG_MAGNITUDE_MIN, bin_turns
from specdiff_cli.constants import FFT_SAMPLES, FRAME_SAMPLES, HOP_SAMPLES

COMPRESSED_WEIGHT = 2.0  # of the error in square-root magnitudes, which hears loud partials, beside that in logarithms
JUDGE_WINDOWS = (256, 512, 1024, 2048)


class Truth(NamedTuple):
    """The right answers for a batch of audio; shapes (B, n_frames, 513)."""

    log_magnitude: Tensor
    turn: Tensor
    """Unit complex numbers: how far the phase of a bin turned since the frame before, less the bin's own turn."""
    weight: Tensor
    """How much that turn matters: the loudness of the bin in both frames."""


class Guess(NamedTuple):
    """The network's answers in the same terms."""

    log_magnitude: Tensor
    turn: Tensor


def spectra(audio: Tensor) -> Tensor:
    """Complex spectra of the whole frames inside (B, (n_frames + 1) * 320) samples: (B, n_frames, 513)."""
    frames = audio.unfold(-1, FRAME_SAMPLES, HOP_SAMPLES)
    spectrum: Tensor = torch.fft.rfft(frames * hann_window(), n=FFT_SAMPLES)
    return spectrum


def truth_of(audio: Tensor) -> Truth:
    """(B, (n_frames + 2) * 320) samples, of which the first hop only serves as "the frame before"."""
    spectrum = spectra(audio)
    product = spectrum[:, 1:] * spectrum[:, :-1].conj() * torch.polar(torch.ones(N_BINS), -bin_turns())
    size = product.abs()
    log_magnitude = spectrum[:, 1:].abs().log().clamp(LOG_MAGNITUDE_MIN, LOG_MAGNITUDE_MAX)
    return Truth(log_magnitude, product / size.clamp_min(1e-20), size.sqrt().sqrt())


def guess_of(outputs: tuple[Tensor, Tensor, Tensor], peak_turns: Tensor) -> Guess:
    """The network's outputs for frames whose peaks turn by ``peak_turns`` (B, n_frames, 513), radians."""
    log_magnitude, cosine, sine = outputs
    length = (cosine.square() + sine.square() + 1e-6).rsqrt()
    rotation = torch.complex(cosine * length, sine * length)
    own = peak_turns - bin_turns()
    turn = rotation * torch.polar(torch.ones_like(own), own)
    return Guess(log_magnitude.clamp(LOG_MAGNITUDE_MIN, LOG_MAGNITUDE_MAX), turn)


def supervised_losses(guess: Guess, truth: Truth) -> tuple[Tensor, Tensor]:
    """Errors in magnitude (logarithmic and compressed) and in phase advance (1 - cosine, weighted by loudness)."""
    error = (guess.log_magnitude - truth.log_magnitude).abs().mean()
    compressed = ((guess.log_magnitude / 2).exp() - (truth.log_magnitude / 2).exp()).abs().mean()
    agreement = guess.turn.real * truth.turn.real + guess.turn.imag * truth.turn.imag
    advance = ((1 - agreement) * truth.weight).sum() / truth.weight.sum().clamp_min(1e-6)
    return error + COMPRESSED_WEIGHT * compressed, advance


class Discriminator(nn.Module):
    """Tells spectra of recordings from the network's: two stacks of 2-D convolutions, on full and on halved detail.

    It sees log-magnitudes, and phase advances where there is sound.
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

    def forward(self, log_magnitude: Tensor, turn: Tensor) -> list[list[Tensor]]:
        """For each stack the activations of its layers; the last ones are scores (1: recording, 0: network)."""
        level = (log_magnitude - LOG_MAGNITUDE_MIN) / -LOG_MAGNITUDE_MIN
        image = torch.stack([level, level * turn.real, level * turn.imag], dim=1)  # (B, 3, n_frames, 513)
        results = []
        for stack in self.stacks:
            x, activations = image, []
            layers = list(stack.children())
            for layer in layers[:-1]:
                x = functional.leaky_relu(layer(x), 0.1)
                activations.append(x)
            results.append([*activations, layers[-1](x)])
            image = functional.avg_pool2d(image, 2)
        return results


def discriminator_loss(real: list[list[Tensor]], fake: list[list[Tensor]]) -> Tensor:
    """Least squares: recordings should score 1, the network's spectra 0."""
    losses = [
        (r[-1].float() - 1).square().mean() + f[-1].float().square().mean() for r, f in zip(real, fake, strict=True)
    ]
    return torch.stack(losses).sum()


def generator_losses(real: list[list[Tensor]], fake: list[list[Tensor]]) -> tuple[Tensor, Tensor]:
    """Adversarial loss (the network's spectra should score 1), and the distance of the inner activations."""
    adversarial = torch.stack([(f[-1].float() - 1).square().mean() for f in fake]).sum()
    pairs = [(a, b) for r, f in zip(real, fake, strict=True) for a, b in zip(r[:-1], f[:-1], strict=True)]
    matching = torch.stack([(a.detach().float() - b.float()).abs().mean() for a, b in pairs]).mean()
    return adversarial, matching


class Quality(NamedTuple):
    """How close resynthesised audio is to the recording; smaller is better."""

    log_mel: float
    """Mean absolute difference of the log-mel features of both."""
    convergence: float
    """Multi-resolution spectral convergence."""
    log_spectrum: float
    """Multi-resolution mean absolute difference of log-magnitudes."""

    def __str__(self) -> str:
        return f"log-mel {self.log_mel:.4f}, convergence {self.convergence:.4f}, log-spectrum {self.log_spectrum:.4f}"


def quality(recording: Tensor, resynthesis: Tensor) -> Quality:
    """Compare two (n_samples,) signals; the longer one is cut."""
    n_samples = min(len(recording), len(resynthesis))
    recording, resynthesis = recording[:n_samples], resynthesis[:n_samples]
    convergence, log_spectrum = 0.0, 0.0
    for n_fft in JUDGE_WINDOWS:
        window = torch.hann_window(n_fft)
        true, made = (
            torch.stft(x, n_fft, n_fft // 4, window=window, return_complex=True).abs() for x in (recording, resynthesis)
        )
        convergence += float((true - made).norm() / true.norm().clamp_min(1e-9)) / len(JUDGE_WINDOWS)
        distance = (true.clamp_min(1e-3).log() - made.clamp_min(1e-3).log()).abs().mean()
        log_spectrum += float(distance) / len(JUDGE_WINDOWS)
    mel = (log_mel(recording) - log_mel(resynthesis)).abs().mean()
    return Quality(float(mel), convergence, log_spectrum)


def mean_quality(measured: list[Quality]) -> Quality:
    """Average over pieces."""
    return Quality(*(sum(column) / len(measured) for column in zip(*measured, strict=True)))
