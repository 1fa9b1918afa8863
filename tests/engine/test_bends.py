"""Spectra at another pitch, beside those of the same sinusoids and noise that lie there."""

import numpy as np
import pytest
import torch

from specdiff_cli.audio.mel import log_mel
from specdiff_cli.engine.bends import moved

PARTIALS_HZ = 261.6 * torch.arange(1, 13, dtype=torch.float64)
AMPLITUDES = 0.2 / torch.arange(1, 13) ** 0.7


def frames_of(frequencies_hz: torch.Tensor) -> torch.Tensor:
    """Log powers (R, 128) of a steady tone, measured on its samples."""
    times_s = torch.arange(16_000, dtype=torch.float64) / 16_000
    phases = torch.arange(len(frequencies_hz)) ** 2.0
    waves = torch.sin(2 * torch.pi * frequencies_hz[:, None] * times_s + phases[:, None])
    return 2 * log_mel((AMPLITUDES[:, None] * waves).sum(0).float())[5:40]


@pytest.mark.parametrize("semitones", [-12.0, -4.3, -0.5, 0.3, 2.0, 7.0, 12.0])
def test_a_moved_tone_is_the_tone_that_lies_there(semitones: float) -> None:
    found = moved(frames_of(PARTIALS_HZ), np.full(35, semitones), PARTIALS_HZ)
    there_hz = PARTIALS_HZ * 2 ** (semitones / 12)
    truth = frames_of(there_hz)
    level_db = 10 * torch.log10(found.exp().sum() / truth.exp().sum())
    assert abs(float(level_db)) < 0.3
    loud = truth > truth.max() - 6  # 26 dB
    assert float((found - truth)[loud].abs().mean()) < 0.35


def test_frames_move_one_by_one() -> None:
    semitones = np.linspace(-3, 3, 35)
    found = moved(frames_of(PARTIALS_HZ), semitones, PARTIALS_HZ)
    for row in (0, 20, 34):
        alone = moved(frames_of(PARTIALS_HZ)[row : row + 1], semitones[row : row + 1], PARTIALS_HZ)
        torch.testing.assert_close(found[row : row + 1], alone, rtol=1e-3, atol=1e-3)


def test_noise_that_is_spread_over_twice_the_range_is_half_as_strong() -> None:
    noise = 0.1 * torch.randn(320_000, generator=torch.Generator().manual_seed(1))
    frames = 2 * log_mel(noise)[5:-5].exp().square().mean(0).log()[None] / 2
    found = moved(frames, np.array([12.0]), torch.zeros(0, dtype=torch.float64))
    torch.testing.assert_close((found - frames)[0, 40:], torch.full((88,), -np.log(2.0)).float(), rtol=0, atol=0.3)
