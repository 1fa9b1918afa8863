"""Samplers: from noise to a spectrogram, given any denoiser.

A sampler knows no network: it is a function of (denoiser, x, steps, noise, callback). Coefficients are float64
numbers; the state stays float32, since lower precision there was seen to ruin quality.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from specdiff_cli.choices import check_choice
from specdiff_cli.diffusion.multistep import Point, carried, half_log_snr
from specdiff_cli.diffusion.schedules import Step

#: (noisy x, number of the step counted from the first) -> the network's output, same shape, float32.
Denoiser = Callable[[Tensor, int], Tensor]
#: Called after each step with the number of steps done.
StepCallback = Callable[[int], None]
#: Draws standard normal noise of x's shape.
NoiseSource = Callable[[], Tensor]
#: What a network's output means; see `implied_x0`.
Objective = Literal["eps", "v", "x0"]
#: Standard deviation of spectrograms in model range, for the linear guess of the "x0" objective.
DATA_STD = 0.4


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a network output says about the clean spectrogram and the noise in it."""

    x0: Tensor
    eps: Tensor


def implied_x0(output: Tensor, x: Tensor, alpha: Tensor | float, sigma: Tensor | float, objective: Objective) -> Tensor:
    """The clean spectrogram that a network output implies, not yet clipped.

    Objectives: ``eps``, the noise (the reference's); ``v``, alpha * noise - sigma * x0 (Salimans and Ho 2022);
    ``x0``, what remains of x0 beyond the best guess that is linear in the noisy x (after Karras et al. 2022). The last
    suits spectrograms, whose spread is well below 1: the network need not carry the noise through to its output.
    """
    if objective == "x0":
        spread = DATA_STD**2
        return output + (alpha * spread / (alpha * alpha * spread + sigma * sigma)) * x
    if objective == "v":
        return alpha * x - sigma * output
    return (x - sigma * output) / alpha


def predict(output: Tensor, x: Tensor, step: Step, objective: Objective) -> Prediction:
    """Clip the implied spectrogram to model range [-1, 1], then recompute the noise that goes with it."""
    x0 = implied_x0(output, x, step.alpha_t, step.sigma_t, objective).clamp(-1.0, 1.0)
    return Prediction(x0=x0, eps=(x - step.alpha_t * x0) / step.sigma_t)


def ddpm(
    denoiser: Denoiser,
    x: Tensor,
    steps: Sequence[Step],
    noise: NoiseSource,
    objective: Objective = "eps",
    callback: StepCallback | None = None,
) -> Tensor:
    """Ancestral sampling with the "large" posterior variance 1 - (alpha_t / alpha_s)^2; no noise at the last step.

    Source: Ho et al. 2020, equations 6-7, in the continuous form of the reference code.
    """
    for i, step in enumerate(steps):
        prediction = predict(denoiser(x, i), x, step, objective)
        if i == len(steps) - 1:
            x = prediction.x0
        else:
            # SNR_t / SNR_s, below 1: how much of what z_t says survives beside the predicted x0.
            ratio = (step.alpha2_t * step.sigma2_s) / (step.sigma2_t * step.alpha2_s)
            mean = ratio * (step.alpha_s / step.alpha_t) * x + (1 - ratio) * step.alpha_s * prediction.x0
            x = mean + ((1 - ratio) * step.sigma2_t) ** 0.5 * noise()
        if callback is not None:
            callback(i + 1)
    return x


def ddim(
    denoiser: Denoiser,
    x: Tensor,
    steps: Sequence[Step],
    noise: NoiseSource,
    objective: Objective = "eps",
    callback: StepCallback | None = None,
) -> Tensor:
    """Deterministic sampling: z_s = alpha_s x0 + sigma_s eps (Song et al. 2021). ``noise`` is not drawn from."""
    for i, step in enumerate(steps):
        prediction = predict(denoiser(x, i), x, step, objective)
        if i == len(steps) - 1:
            x = prediction.x0
        else:
            x = step.alpha_s * prediction.x0 + step.sigma_s * prediction.eps
        if callback is not None:
            callback(i + 1)
    return x


def dpmpp_2m(
    denoiser: Denoiser,
    x: Tensor,
    steps: Sequence[Step],
    noise: NoiseSource,
    objective: Objective = "eps",
    callback: StepCallback | None = None,
) -> Tensor:
    """Deterministic sampling of second order in half-logSNR: x0 is carried on along the line of its last two values.

    One evaluation per step, as DDIM, whose step this is where there is no line yet (the first step) or no use for it
    (the last, which gives x0 itself). ``noise`` is not drawn from.

    Source: DPM-Solver++(2M), Lu et al. 2022, algorithm 2, in the data-prediction form.
    """
    return _multistep(denoiser, x, steps, objective, callback, order=2, corrects=False)


def unipc(
    denoiser: Denoiser,
    x: Tensor,
    steps: Sequence[Step],
    noise: NoiseSource,
    objective: Objective = "eps",
    callback: StepCallback | None = None,
) -> Tensor:
    """Deterministic sampling of third order: predicted from three values of x0, and corrected when the next is known.

    One evaluation per step, as DDIM: what is evaluated is not evaluated again after its correction. The last steps are
    of lower order. ``noise`` is not drawn from.

    Source: UniPC-3, Zhao et al. 2023, in the data-prediction form, with B(h) = exp(h) - 1.
    """
    return _multistep(denoiser, x, steps, objective, callback, order=3, corrects=True)


def _multistep(
    denoiser: Denoiser,
    x: Tensor,
    steps: Sequence[Step],
    objective: Objective,
    callback: StepCallback | None,
    *,
    order: int,
    corrects: bool,
) -> Tensor:
    """What they share. The last step gives x0 itself."""
    points: list[Point] = []  # the last first
    x_before = x
    for i, step in enumerate(steps):
        x0 = predict(denoiser(x, i), x, step, objective).x0
        if i == len(steps) - 1:
            x = x0
        else:
            point = half_log_snr(step), x0
            if corrects and points:
                x = carried(x_before, steps[i - 1], [*points, point])
            # Towards the end the steps are wide, and what lies behind says little.
            points = [point, *points][: min(order, len(steps) - i if corrects else order)]
            x_before, x = x, carried(x, step, points)
        if callback is not None:
            callback(i + 1)
    return x


#: (denoiser, noise to begin with, steps, source of more noise, objective, callback) -> the spectrogram. The denoiser is
#: evaluated with steps in order, each value of a spectrogram is treated alone, and the callback is called after each
#: step.
Sampler = Callable[[Denoiser, Tensor, Sequence[Step], NoiseSource, Objective, StepCallback | None], Tensor]

SAMPLERS: dict[str, Sampler] = {"ddpm": ddpm, "ddim": ddim, "dpm++2m": dpmpp_2m, "unipc": unipc}


def find_sampler(sampler: str | Sampler) -> Sampler:
    """A sampler by its name, or the function itself. Raises UsageError for an unknown name."""
    if not isinstance(sampler, str):
        return sampler
    check_choice("sampler", sampler, SAMPLERS)
    return SAMPLERS[sampler]
