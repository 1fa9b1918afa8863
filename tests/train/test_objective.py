"""Losses worked out by hand, and learning rates by step."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from specdiff_cli.diffusion.samplers import Objective, implied_x0
from specdiff_cli.diffusion.schedules import magenta
from specdiff_cli.train.batches import Batch
from specdiff_cli.train.hyperparameters import TrainConfig, lr_factor
from specdiff_cli.train.objective import Draws, alpha_sigma, draw, loss_on, template_loss_on, wanted_output

OBJECTIVES: tuple[Objective, ...] = ("eps", "v", "x0")
#: Where alpha is 0.6 and sigma 0.8; the angle runs from atan(e^-10) to atan(e^10).
TIME = (math.acos(0.6) - math.atan(math.exp(-10))) / (math.atan(math.exp(10)) - math.atan(math.exp(-10)))


class Recorder(nn.Module):
    """A network whose output is 0.25 everywhere, and which keeps what it was given."""

    def forward(self, *given: Tensor) -> Tensor:
        self.given = given
        return torch.full_like(given[0], 0.25)


def batch_of(target: float, context: float = -1.0) -> Batch:
    ids = torch.ones(1, 4, dtype=torch.int64)
    frames = torch.ones(1, 256, 128)
    return Batch(target * frames, context * frames, torch.tensor([True]), ids, ids[:, :, None].repeat(1, 1, 3), ids)


def draws_of(noise: float, **changes: Any) -> Draws:
    frames, yes = torch.ones(1, 256, 128), torch.tensor([True])
    values = {"context_noise": 0.5 * frames, "keeps_context": yes, "is_conditioned": yes, **changes}
    return Draws(times=torch.tensor([TIME]), noise=noise * frames, **values)


def test_noise_levels_are_the_magenta_schedule() -> None:
    for step in magenta(7):
        alpha, sigma = alpha_sigma(torch.tensor([step.time], dtype=torch.float64))
        assert alpha.item() == pytest.approx(step.alpha_t, abs=1e-6)
        assert sigma.item() == pytest.approx(step.sigma_t, abs=1e-6)


@pytest.mark.parametrize(
    ("objective", "loss"),
    [
        ("eps", 1.25),  # |0.25 - -1|
        ("v", 1.25),  # v = 0.6 * -1 - 0.8 * 0.5 = -1
        # noisy -0.5; the linear guess takes 0.6 * 0.16 / (0.36 * 0.16 + 0.64) of it: |0.5 + 0.0688 - 0.25|
        ("x0", 0.5 + 0.5 * 0.096 / 0.6976 - 0.25),
    ],
)
def test_losses_by_hand(objective: Objective, loss: float) -> None:
    found = loss_on(Recorder(), batch_of(0.5), draws_of(-1.0), objective, "float32")
    assert found.item() == pytest.approx(loss, rel=1e-5)


def test_with_templates_the_network_learns_what_they_lack() -> None:
    base = torch.full((1, 256, 128), 0.2)
    network = Recorder()
    loss = loss_on(network, batch_of(0.5), draws_of(-1.0), "eps", "float32", base)
    assert network.given[0][0, 0, 0].item() == pytest.approx(0.6 * (0.5 - 0.2) / 0.5 - 0.8)  # the residual, noised
    assert torch.equal(network.given[8], base)
    assert loss.item() == pytest.approx(0.5 * 1.25)


def test_templates_learn_the_spectrogram_itself() -> None:
    def templates(ids: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        return torch.full((1, 256, 128), 0.2)

    assert template_loss_on(templates, batch_of(0.5)).item() == pytest.approx(0.3)  # type: ignore[arg-type]


def test_the_network_is_given_noise_and_dropouts() -> None:
    network = Recorder()
    draws = draws_of(-1.0, keeps_context=torch.tensor([False]), is_conditioned=torch.tensor([False]))
    loss_on(network, batch_of(0.5, context=-0.75), draws, "x0", "bfloat16")
    noisy, times, _, context, has_context, is_conditioned = network.given[:6]
    assert noisy.dtype == torch.float32  # the sampler's state stays precise
    assert noisy[0, 0, 0].item() == pytest.approx(0.6 * 0.5 - 0.8)
    assert times.item() == pytest.approx(TIME)
    assert context[0, 0, 0].item() == pytest.approx(-0.25)
    assert (has_context.item(), is_conditioned.item()) == (False, False)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_wanted_output_implies_the_true_spectrogram(objective: Objective) -> None:
    generator = torch.Generator().manual_seed(0)
    x0, noise = torch.randn(2, 5, generator=generator).double(), torch.randn(2, 5, generator=generator).double()
    alpha, sigma = torch.tensor(0.6), torch.tensor(0.8)
    output = wanted_output(x0, noise, alpha, sigma, objective)
    torch.testing.assert_close(implied_x0(output, alpha * x0 + sigma * noise, alpha, sigma, objective), x0)


def test_draws_follow_the_settings_and_the_seed() -> None:
    config = TrainConfig(noise_times=(0.25, 0.5), condition_dropout=0.25, context_dropout=0.5, context_noise=0.0)
    draws = draw(400, config, torch.Generator().manual_seed(3))
    assert 0.25 <= draws.times.min() < 0.27
    assert 0.48 < draws.times.max() <= 0.5
    assert draws.is_conditioned.float().mean().item() == pytest.approx(0.75, abs=0.08)
    assert draws.keeps_context.float().mean().item() == pytest.approx(0.5, abs=0.08)
    assert not draws.context_noise.any()
    assert draws.noise.std().item() == pytest.approx(1, abs=0.01)
    again = draw(400, config, torch.Generator().manual_seed(3))
    assert torch.equal(again.noise, draws.noise)
    noised = draw(400, TrainConfig(context_noise=0.2), torch.Generator().manual_seed(3)).context_noise
    strengths = noised.flatten(1).std(1)  # even between 0 and 0.2, one for each window
    assert strengths.max().item() == pytest.approx(0.2, abs=0.01)
    assert strengths.mean().item() == pytest.approx(0.1, abs=0.01)


def test_learning_rates_by_hand() -> None:
    config = TrainConfig(n_steps=100, warmup_steps=4)
    assert lr_factor(0, config) == pytest.approx(0.25)  # a quarter of the first step's 1
    assert lr_factor(1, config) == pytest.approx(0.5 * (0.02 + 0.49 * (1 + math.cos(0.01 * math.pi))))
    assert lr_factor(50, config) == pytest.approx(0.51)
    assert lr_factor(100, config) == pytest.approx(0.02)
    constant = TrainConfig(n_steps=100, warmup_steps=4, schedule="constant")
    assert [lr_factor(step, constant) for step in (0, 3, 99)] == [0.25, 1, 1]
    assert lr_factor(0, TrainConfig(warmup_steps=0)) == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"n_steps": 0}, "n_steps = 0: must be at least 1"),
        ({"warmup_steps": -1}, "warmup_steps = -1: must not be negative"),
        ({"matrix_lr": 0.0}, "matrix_lr = 0.0: must be above 0"),
        ({"condition_dropout": 1.5}, "condition_dropout = 1.5: must be between 0 and 1"),
        ({"ema_decay": 1.0}, "ema_decay = 1.0: must be at least 0 and below 1"),
        ({"noise_times": (0.5, 0.5)}, "noise_times = .* must rise from 0"),
    ],
)
def test_hyper_parameters_that_cannot_work(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainConfig(**values)
