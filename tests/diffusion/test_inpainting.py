"""Frames that are given stay what they are at every noise level, and the rest is sampled as ever."""

import pytest
import torch
from torch import Tensor

from specdiff_cli.diffusion.inpainting import KnownFrames
from specdiff_cli.diffusion.samplers import SAMPLERS
from specdiff_cli.diffusion.schedules import SCHEDULES, Step, magenta

N_KNOWN = 2
KNOWN = torch.linspace(-0.9, 0.9, 2 * N_KNOWN * 3).reshape(2, N_KNOWN, 3)
FIRST_ONLY = torch.tensor([True, False])[:, None, None]  # of two windows, the first has known frames


def sample(sampler: str, steps: list[Step], is_known: Tensor = FIRST_ONLY) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """What the denoiser saw at each step, what noise was drawn, and the result; windows are (2, 5, 3)."""
    generator = torch.Generator().manual_seed(1)
    draws: list[Tensor] = []
    seen: list[Tensor] = []

    def draw() -> Tensor:
        draws.append(torch.randn(2, 5, 3, generator=generator))
        return draws[-1]

    def denoiser(x: Tensor, i: int) -> Tensor:
        seen.append(x)
        return torch.tanh(x + 0.1 * i)  # of each value alone

    kept = KnownFrames(KNOWN, is_known, steps, draw)
    result = SAMPLERS[sampler](kept.around(denoiser), kept.noise(), steps, kept.noise, "eps", None)
    return seen, draws, result


@pytest.mark.parametrize("schedule", sorted(SCHEDULES))
@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_the_denoiser_sees_the_known_frames_at_each_noise_level(sampler: str, schedule: str) -> None:
    steps = list(SCHEDULES[schedule](6))
    seen, draws, _ = sample(sampler, steps)
    for i, (x, step) in enumerate(zip(seen, steps, strict=True)):
        noise = draws[i if sampler == "ddpm" else 0]  # ddpm draws at every step, the others never again
        expected = step.alpha2_t**0.5 * KNOWN[0] + step.sigma2_t**0.5 * noise[0, :N_KNOWN]
        torch.testing.assert_close(x[0, :N_KNOWN], expected)
    assert len(draws) == (6 if sampler == "ddpm" else 1)


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_all_other_frames_and_windows_are_sampled_as_without(sampler: str) -> None:
    steps = magenta(6)
    _, _, kept = sample(sampler, steps)
    _, _, plain = sample(sampler, steps, torch.zeros_like(FIRST_ONLY))
    assert torch.equal(kept[:, N_KNOWN:], plain[:, N_KNOWN:])
    assert torch.equal(kept[1], plain[1])


def test_the_path_of_the_known_frames_is_that_of_a_perfect_denoiser() -> None:
    """DDIM with a denoiser that knows the frames moves them along alpha * known + sigma * noise with one noise."""
    steps = magenta(5)
    states: list[Tensor] = []

    def perfect(x: Tensor, i: int) -> Tensor:
        states.append(x)
        return (x - steps[i].alpha_t * KNOWN) / steps[i].sigma_t

    begin = torch.randn(2, N_KNOWN, 3, generator=torch.Generator().manual_seed(2))
    first = steps[0].alpha_t * KNOWN + steps[0].sigma_t * begin
    SAMPLERS["ddim"](perfect, first, steps, lambda: begin, "eps", None)
    seen: list[Tensor] = []

    def watched(x: Tensor, _i: int) -> Tensor:
        seen.append(x)
        return torch.zeros_like(x)

    kept = KnownFrames(KNOWN, torch.ones_like(FIRST_ONLY), steps, lambda: begin)
    SAMPLERS["ddim"](kept.around(watched), kept.noise(), steps, kept.noise, "eps", None)
    # The noisy end has alpha = 4.5e-5, by which rounding is multiplied.
    torch.testing.assert_close(torch.stack(seen), torch.stack(states), atol=1e-3, rtol=0)


def test_sampling_begins_with_the_noise_of_the_known_frames() -> None:
    kept = KnownFrames(KNOWN, FIRST_ONLY, magenta(2), lambda: torch.zeros(2, 5, 3))
    with pytest.raises(ValueError, match="begins with noise"):
        kept.around(lambda x, _i: x)(torch.zeros(2, 5, 3), 0)
