"""Losses and distances of the vocoder against numbers worked out by hand."""

import math

import numpy as np
import pytest
import torch

from specdiff_cli.audio.mel import log_mel
from specdiff_cli.audio.spectral import bin_turns, network_inputs
from specdiff_cli.train.vocoder_data import Example
from specdiff_cli.train.vocoder_losses import (
    Guess,
    guess_of,
    quality,
    stft_distance,
    supervised_losses,
    truth_of,
    unit,
)
from specdiff_cli.train.vocoder_spectral import spectral_attempt


def tone(frequency_hz: float, n_frames: int = 6) -> torch.Tensor:
    t = torch.arange((n_frames + 2) * 320, dtype=torch.float64) / 16000
    return (0.5 * torch.sin(2 * math.pi * frequency_hz * t)).float()[None]


def test_truth_of_a_tone() -> None:
    # 1010 Hz turns by 20.2 cycles a frame; bin 64 (1000 Hz) by 20.0, so the difference is 0.2 cycles
    truth = truth_of(tone(1010.0))
    assert truth.log_magnitude.shape == (1, 6, 513)
    angle = truth.turn[0, :, 64].angle() / (2 * math.pi)
    torch.testing.assert_close(angle, torch.full((6,), 0.2), atol=2e-3, rtol=0)
    assert truth.weight[0, 0].argmax().item() in (64, 65)
    # |X[64]| is about 0.5 * 320 / 2 times the window's transform, 0.4 lines of the 640-sample window away
    line = np.sinc(0.4) / (1 - 0.4**2)
    assert truth.log_magnitude[0, 2, 64].exp().item() == pytest.approx(80 * line, rel=0.01)


def test_losses_are_zero_for_the_right_answer_and_as_worked_out_for_wrong_ones() -> None:
    truth = truth_of(tone(440.0))
    right = Guess(truth.log_magnitude, truth.turn)
    magnitude, advance = supervised_losses(right, truth)
    assert magnitude.item() == 0
    assert advance.item() == pytest.approx(0, abs=1e-5)
    turned = Guess(truth.log_magnitude, truth.turn * torch.polar(torch.tensor(1.0), torch.tensor(math.pi / 3)))
    assert supervised_losses(turned, truth)[1].item() == pytest.approx(1 - 0.5, abs=1e-5)
    louder = Guess(truth.log_magnitude + math.log(4), truth.turn)
    expected = math.log(4) + 2 * (truth.log_magnitude / 2).exp().mean().item()  # square root of 4 is 2: twice as loud
    assert supervised_losses(louder, truth)[0].item() == pytest.approx(expected, rel=1e-4)


def test_guess_adds_the_rotation_to_the_turn_of_the_peaks() -> None:
    shape = (1, 2, 513)
    quarter = (torch.zeros(shape), torch.zeros(shape), torch.ones(shape) * 7)  # any length, angle pi / 2
    guess = guess_of(quarter, torch.zeros(shape))
    bins = torch.arange(513) * 2 * math.pi * 320 / 1024
    expected = torch.polar(torch.ones(513), math.pi / 2 - bins)
    torch.testing.assert_close(guess.turn[0, 0], expected, atol=3e-4, rtol=0)


def test_unit_numbers_have_finite_gradients_even_at_zero() -> None:
    zero = torch.zeros(3, requires_grad=True)
    number = unit(zero, zero)
    torch.autograd.backward((number.real + number.imag).sum())
    assert zero.grad is not None
    assert torch.isfinite(zero.grad).all()
    torch.testing.assert_close(torch.view_as_real(unit(torch.tensor(3.0), torch.tensor(4.0))), torch.tensor([0.6, 0.8]))


def test_stft_distance_by_hand() -> None:
    real = tone(440.0, 60)[0] + 0.1 * torch.randn(62 * 320, generator=torch.Generator().manual_seed(0))
    half = stft_distance(0.5 * real, real)
    assert half.convergence.item() == pytest.approx(0.5, abs=1e-5)  # the error is half of every magnitude
    assert half.log_magnitude.item() == pytest.approx(math.log(2), rel=1e-3)
    silent = stft_distance(torch.zeros_like(real), real)
    assert silent.convergence.item() == pytest.approx(1.0, abs=1e-5)
    assert [distance.item() for distance in stft_distance(real, real)] == [0.0, 0.0]


def test_quality_is_zero_for_the_same_audio_and_grows() -> None:
    audio = tone(440.0, 60)[0]
    assert quality(audio, audio) == (0.0, 0.0, 0.0)
    noisy = audio + 0.01 * torch.randn(audio.shape, generator=torch.Generator().manual_seed(0))
    noisier = audio + 0.1 * torch.randn(audio.shape, generator=torch.Generator().manual_seed(0))
    assert all(0 < a < b for a, b in zip(quality(audio, noisy), quality(audio, noisier), strict=True))


class Oracle(torch.nn.Module):
    """In place of the network: the spectra that the recording has."""

    def __init__(self, audio: torch.Tensor, mel: torch.Tensor) -> None:
        super().__init__()
        truth = truth_of(audio)
        turns = network_inputs(mel.reshape(-1, 128))[1].turns.view(truth.turn.shape)
        rotation = (truth.turn.angle() + bin_turns() - turns).float()
        self.outputs = truth.log_magnitude, rotation.cos(), rotation.sin()

    def forward(self, *_inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.outputs


def test_the_recordings_own_spectra_have_no_loss() -> None:
    noise = 0.1 * torch.randn(2, 42 * 320, generator=torch.Generator().manual_seed(0))
    audio = torch.cat([tone(440.0, 40), torch.zeros(1, 42 * 320)]) + noise
    mel = log_mel(audio)[:, 1:41]
    attempt = spectral_attempt(Oracle(audio, mel), Example(audio, mel), torch.float32)
    for made, real in zip(attempt.made, attempt.real, strict=True):
        assert made.shape == (2, 40, 513)
        torch.testing.assert_close(made, real, atol=1e-3, rtol=0)
    assert {name: loss.item() for name, loss in attempt.losses.items()} == pytest.approx(
        {"magnitude": 0, "advance": 0}, abs=1e-3
    )
