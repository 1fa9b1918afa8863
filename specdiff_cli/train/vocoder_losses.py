"""What the vocoder's network is trained on, and what it is judged by."""

from typing import NamedTuple

import torch
from torch import Tensor

from specdiff_cli.audio.mel import N_BINS, hann_window, log_mel
from specdiff_cli.audio.spectral import LOG_MAGNITUDE_MAX, LOG_MAGNITUDE_MIN, bin_turns
from specdiff_cli.constants import FFT_SAMPLES, FRAME_SAMPLES, HOP_SAMPLES

COMPRESSED_WEIGHT = 2.0  # of the error in square-root magnitudes, which hears loud partials, beside that in logarithms
JUDGE_WINDOWS = (256, 512, 1024, 2048)
QUIETEST = 1e-3  # magnitudes below this are silence to the distances


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
    spectrum: Tensor = torch.fft.rfft(frames * hann_window().to(audio.device), n=FFT_SAMPLES)
    return spectrum


def truth_of(audio: Tensor) -> Truth:
    """(B, (n_frames + 2) * 320) samples, of which the first hop only serves as "the frame before"."""
    spectrum = spectra(audio)
    own = torch.polar(torch.ones(N_BINS), -bin_turns()).to(audio.device)
    product = spectrum[:, 1:] * spectrum[:, :-1].conj() * own
    size = product.abs()
    log_magnitude = spectrum[:, 1:].abs().log().clamp(LOG_MAGNITUDE_MIN, LOG_MAGNITUDE_MAX)
    return Truth(log_magnitude, product / size.clamp_min(1e-20), size.sqrt().sqrt())


def guess_of(outputs: tuple[Tensor, Tensor, Tensor], peak_turns: Tensor) -> Guess:
    """Outputs of the head ``advance`` for frames whose peaks turn by ``peak_turns`` (B, n_frames, 513), radians."""
    log_magnitude, cosine, sine = outputs
    own = peak_turns - bin_turns().to(peak_turns.device)
    turn = unit(cosine, sine) * torch.polar(torch.ones_like(own), own)
    return Guess(log_magnitude.clamp(LOG_MAGNITUDE_MIN, LOG_MAGNITUDE_MAX), turn)


def unit(cosine: Tensor, sine: Tensor) -> Tensor:
    """Unit complex numbers in the direction of (cosine, sine), with a finite gradient everywhere."""
    length = (cosine.square() + sine.square() + 1e-6).rsqrt()
    return torch.complex(cosine * length, sine * length)


def supervised_losses(guess: Guess, truth: Truth) -> tuple[Tensor, Tensor]:
    """Errors in magnitude (logarithmic and compressed) and in phase advance (1 - cosine, weighted by loudness)."""
    error = (guess.log_magnitude - truth.log_magnitude).abs().mean()
    compressed = ((guess.log_magnitude / 2).exp() - (truth.log_magnitude / 2).exp()).abs().mean()
    agreement = guess.turn.real * truth.turn.real + guess.turn.imag * truth.turn.imag
    advance = ((1 - agreement) * truth.weight).sum() / truth.weight.sum().clamp_min(1e-6)
    return error + COMPRESSED_WEIGHT * compressed, advance


class StftDistance(NamedTuple):
    """Multi-resolution STFT distance of two batches of waveforms (Yamamoto et al., 2020)."""

    convergence: Tensor
    """Norm of the error of the magnitudes over the norm of the true ones."""
    log_magnitude: Tensor
    """Mean absolute difference of the logarithms."""


def stft_distance(made: Tensor, real: Tensor) -> StftDistance:
    """Mean over the windows of ``JUDGE_WINDOWS`` that fit into the (..., n_samples) signals; differentiable."""
    convergences, log_magnitudes = [], []
    for n_fft in JUDGE_WINDOWS:
        if n_fft // 2 >= real.shape[-1]:
            continue
        window = torch.hann_window(n_fft, device=real.device)
        true, ours = (torch.stft(x, n_fft, n_fft // 4, window=window, return_complex=True).abs() for x in (real, made))
        convergences.append((true - ours).norm() / true.norm().clamp_min(1e-9))
        log_magnitudes.append((true.clamp_min(QUIETEST).log() - ours.clamp_min(QUIETEST).log()).abs().mean())
    return StftDistance(torch.stack(convergences).mean(), torch.stack(log_magnitudes).mean())


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
    convergence, log_spectrum = stft_distance(resynthesis, recording)
    mel = (log_mel(recording) - log_mel(resynthesis)).abs().mean()
    return Quality(float(mel), float(convergence), float(log_spectrum))


def mean_quality(measured: list[Quality]) -> Quality:
    """Average over pieces."""
    return Quality(*(sum(column) / len(measured) for column in zip(*measured, strict=True)))
