"""The discriminators tell apart what they should, and their losses are those worked out by hand."""

import pytest
import torch

from specdiff_cli.train.discriminators import (
    PERIODS_SAMPLES,
    RESOLUTIONS_SAMPLES,
    SpectrumDiscriminator,
    WaveDiscriminator,
    discriminator_loss,
    fold,
    generator_losses,
    log_image,
)
from specdiff_cli.train.vocoder_losses import truth_of


def noise(n_samples: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(1, n_samples, generator=torch.Generator().manual_seed(seed))


def tone(n_samples: int) -> torch.Tensor:
    return 0.5 * torch.sin(torch.arange(n_samples) * 0.17)[None]


def test_adversarial_losses_by_hand() -> None:
    real = [[torch.ones(2, 3), torch.full((2, 1), 0.5)]]
    made = [[torch.zeros(2, 3), torch.full((2, 1), 0.25)]]
    assert discriminator_loss(real, made).item() == pytest.approx(0.25 + 0.0625)
    adversarial, matching = generator_losses(real, made)
    assert adversarial.item() == pytest.approx(0.5625)
    assert matching.item() == pytest.approx(1.0)


def test_folding_puts_every_period_into_a_row() -> None:
    folded = fold(torch.arange(7.0)[None], 3)
    assert folded.tolist() == [[[[0, 1, 2], [3, 4, 5], [6, 0, 0]]]]


def test_the_image_of_a_louder_signal_is_brighter_by_the_logarithm() -> None:
    quiet, loud = (log_image(gain * noise(4000), 512) for gain in (10.0, 100.0))  # well above what counts as silence
    assert quiet.shape == (1, 1, 4000 // 128 + 1, 257)
    torch.testing.assert_close(loud - quiet, torch.full_like(quiet, 2.302585 / 6), atol=1e-3, rtol=0)


def test_one_stack_per_period_and_resolution() -> None:
    judged = WaveDiscriminator(width=2)(noise(2240))
    assert len(judged) == len(PERIODS_SAMPLES) + len(RESOLUTIONS_SAMPLES) == 8
    assert all(activations[-1].shape[1] == 1 for activations in judged)


@pytest.mark.parametrize("kind", ["spectrum", "wave"])
def test_noise_is_told_from_tones(kind: str) -> None:
    torch.manual_seed(0)
    real: tuple[torch.Tensor, ...]
    made: tuple[torch.Tensor, ...]
    if kind == "wave":
        judge: torch.nn.Module = WaveDiscriminator(width=4)
        real, made = (tone(2240),), (noise(2240),)
    else:
        judge = SpectrumDiscriminator(width=4)
        real, made = truth_of(tone(8 * 320))[:2], truth_of(noise(8 * 320))[:2]
    optimiser = torch.optim.Adam(judge.parameters(), lr=5e-3)
    losses = []
    for _ in range(15):
        loss = discriminator_loss(judge(*real), judge(*made))
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
