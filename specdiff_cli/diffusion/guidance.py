"""Classifier-free guidance."""

from collections.abc import Callable, Sequence

from torch import Tensor

from specdiff_cli.diffusion.samplers import Denoiser
from specdiff_cli.diffusion.sampling import EVERYWHERE
from specdiff_cli.diffusion.schedules import Step

#: (noisy x, number of the step) -> the conditional and the unconditional output, from one evaluation of both.
PairDenoiser = Callable[[Tensor, int], tuple[Tensor, Tensor]]


def step_weights(steps: Sequence[Step], weight: float, interval: tuple[float, float] = EVERYWHERE) -> list[float]:
    """The guidance weight of each step: ``weight`` where its time lies in the interval, elsewhere 1 (no guidance).

    Source: Kynkaanniemi et al. 2024 for the interval; times run from 1 (noise) down to 0.
    """
    first, last = interval
    return [weight if first <= step.time <= last else 1.0 for step in steps]


def guided(
    conditional: Denoiser,
    unconditional: Denoiser,
    weights: Sequence[float],
    both: PairDenoiser | None = None,
) -> Denoiser:
    """Combine two denoisers: ``weight * conditional + (1 - weight) * unconditional``, with one weight per step.

    The combination is linear, so it holds for outputs in eps, v and x0 alike. A weight of 1 is the conditional
    denoiser alone, at the cost of one evaluation per step; 0 is the unconditional one alone. ``both`` may evaluate
    the two together.

    Source: Ho and Salimans 2022, in the reference code's convention (the paper's demonstrations use 2.0).
    """

    def one_by_one(x: Tensor, i: int) -> tuple[Tensor, Tensor]:
        return conditional(x, i), unconditional(x, i)

    evaluate = both or one_by_one

    def denoise(x: Tensor, i: int) -> Tensor:
        weight = weights[i]
        if weight == 1.0:
            return conditional(x, i)
        if weight == 0.0:
            return unconditional(x, i)
        seeing, blind = evaluate(x, i)
        return weight * seeing + (1.0 - weight) * blind

    return denoise
