"""The discriminator tells apart what it should, and its losses are those worked out by hand."""

import pytest
import torch

from specdiff_cli.train.discriminators import SpectrumDiscriminator, discriminator_loss, generator_losses
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


def test_noise_is_told_from_tones() -> None:
    torch.manual_seed(0)
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
