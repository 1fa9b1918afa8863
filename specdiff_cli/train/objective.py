"""What the spectrogram network learns: noise is added, and the network's output compared with what it should be."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from specdiff_cli.constants import N_MELS, WINDOW_FRAMES
from specdiff_cli.diffusion.samplers import DATA_STD, Objective, ddim
from specdiff_cli.diffusion.schedules import magenta
from specdiff_cli.model.network import SpectrogramDiffusion
from specdiff_cli.model.templates import RESIDUAL_SCALE
from specdiff_cli.train.batches import Batch
from specdiff_cli.train.hyperparameters import TrainConfig

_LOWEST_ANGLE = math.atan(math.exp(-10.0))
_HIGHEST_ANGLE = math.atan(math.exp(10.0))


@dataclass(frozen=True)
class Draws:
    """Everything random about the loss of a batch."""

    times: Tensor  # (B,) diffusion times
    noise: Tensor  # (B, 256, 128)
    context_noise: Tensor  # (B, 256, 128), its strength included
    keeps_context: Tensor  # (B,) bool
    is_conditioned: Tensor  # (B,) bool


def draw(n_windows: int, config: TrainConfig, generator: torch.Generator) -> Draws:
    """Draw noise, noise levels and dropouts on the generator's device."""
    device = generator.device
    low, high = config.noise_times
    shape = (n_windows, WINDOW_FRAMES, N_MELS)
    times = torch.rand(n_windows, generator=generator, device=device) * (high - low) + low
    noise = torch.randn(shape, generator=generator, device=device)
    # A rolling render sees its own imperfect output as context; noise of random strength stands in for it.
    strength = torch.rand(n_windows, 1, 1, generator=generator, device=device) * config.context_noise
    context_noise = strength * torch.randn(shape, generator=generator, device=device)
    keeps_context = torch.rand(n_windows, generator=generator, device=device) >= config.context_dropout
    is_conditioned = torch.rand(n_windows, generator=generator, device=device) >= config.condition_dropout
    return Draws(times, noise, context_noise, keeps_context, is_conditioned)


def alpha_sigma(times: Tensor) -> tuple[Tensor, Tensor]:
    """Times (B,) -> alpha, sigma (B, 1, 1) of the magenta (cosine) schedule."""
    angle = (_HIGHEST_ANGLE - _LOWEST_ANGLE) * times + _LOWEST_ANGLE
    return torch.cos(angle)[:, None, None], torch.sin(angle)[:, None, None]


def wanted_output(x0: Tensor, noise: Tensor, alpha: Tensor, sigma: Tensor, objective: Objective) -> Tensor:
    """The output whose implied spectrogram is the true one: the inverse of ``diffusion.samplers.implied_x0``."""
    if objective == "eps":
        return noise
    if objective == "v":
        return alpha * noise - sigma * x0
    spread = DATA_STD**2
    return x0 - (alpha * spread / (alpha * alpha * spread + sigma * sigma)) * (alpha * x0 + sigma * noise)


def loss_on(
    network: nn.Module, batch: Batch, draws: Draws, objective: Objective, precision: str, base: Tensor | None = None
) -> Tensor:
    """L1 distance between the network's output and the wanted one, over all windows, frames and bands.

    For "x0" this is the distance between the true spectrogram and the implied one. ``base`` (B, 256, 128) is what the
    templates of a voice that has them add up to: the network learns the residual, whose distance is scaled back to
    model range.
    """
    alpha, sigma = alpha_sigma(draws.times)
    target = batch.target if base is None else (batch.target - base) / RESIDUAL_SCALE
    noisy = alpha * target + sigma * draws.noise
    told = replace(
        batch, context=batch.context + draws.context_noise, has_context=batch.has_context & draws.keeps_context
    )
    output = evaluate(network, noisy, draws.times, told, draws.is_conditioned, precision, base)
    loss = (output - wanted_output(target, draws.noise, alpha, sigma, objective)).abs().mean()
    return loss if base is None else RESIDUAL_SCALE * loss


def template_loss_on(templates: nn.Module, batch: Batch) -> Tensor:
    """L1 distance between the true spectrogram and what the note templates add up to, in float32."""
    base: Tensor = templates(batch.layout_tokens, batch.layout_times)
    return (base - batch.target).abs().mean()


def evaluate(
    network: nn.Module,
    noisy: Tensor,
    times: Tensor,
    batch: Batch,
    is_conditioned: Tensor,
    precision: str,
    base: Tensor | None = None,
) -> Tensor:
    """One evaluation of the network in the given precision; the output (B, 256, 128) is float32.

    What the network is told of the music is the batch's; its ``target`` is not looked at.
    """
    more = () if base is None else (base,)
    with torch.autocast(noisy.device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16"):
        out: Tensor = network(
            noisy,
            times,
            batch.tokens,
            batch.context,
            batch.has_context,
            is_conditioned,
            batch.layout_tokens,
            batch.layout_times,
            *more,
        )
    return out.float()


@torch.no_grad()
def sample(
    network: SpectrogramDiffusion, batch: Batch, objective: Objective, precision: str, n_steps: int = 10
) -> Tensor:
    """DDIM samples (B, 256, 128) of a batch with its true context, always from the same noise."""
    # Drawn on the CPU: the same noise on every device.
    noise = torch.randn(batch.target.shape, generator=torch.Generator().manual_seed(0)).to(batch.target.device)
    yes = torch.ones_like(batch.has_context)
    steps = magenta(n_steps)
    base = network.base(batch.layout_tokens, batch.layout_times)

    def denoise(x: Tensor, i: int) -> Tensor:
        times = torch.full((x.shape[0],), steps[i].time, device=x.device)
        return evaluate(network, x, times, batch, yes, precision, base)

    sampled = ddim(denoise, noise, steps, lambda: noise, objective)
    return sampled if base is None else base + RESIDUAL_SCALE * sampled
