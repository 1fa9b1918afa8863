"""One step of samplers that carry x0 on along its last values, instead of taking it for constant.

With lambda = ln(alpha / sigma), the state at the end of a step from t to s is exactly

    x_s = (sigma_s / sigma_t) x_t + alpha_s * integral over lambda from t to s of exp(lambda - lambda_s) x0(lambda)

and these samplers differ in the polynomial that stands for x0. Each value of a spectrogram is treated alone.
"""

import math
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from specdiff_cli.diffusion.schedules import Step

#: Half a logarithm of signal to noise, and x0 there.
Point = tuple[float, Tensor]


def half_log_snr(step: Step) -> float:
    """lambda at the beginning of a step."""
    return 0.5 * math.log(step.alpha2_t / step.sigma2_t)


def carried(x: Tensor, step: Step, points: Sequence[Point]) -> Tensor:
    """The state at the end of a step from the one at its beginning, with x0 as the polynomial through ``points``.

    The first of them is the beginning of the step. With it alone this is DDIM's step; with one earlier one, that of
    DPM-Solver++(2M); with more, or with the end of the step, that of UniPC.

    Source: Lu et al. 2022, algorithm 2; Zhao et al. 2023 (UniPC), section 3, with B(h) = exp(h) - 1.
    """
    start = points[0][0]
    h = 0.5 * math.log(step.alpha2_s / step.sigma2_s) - start
    weights = _weights([(at - start) / h for at, _ in points], h)
    total = weights[0] * points[0][1]
    for weight, (_, x0) in zip(weights[1:], points[1:], strict=True):
        total = total + weight * x0
    return (step.sigma_s / step.sigma_t) * x + step.alpha_s * total


def _weights(nodes: Sequence[float], h: float) -> list[float]:
    """What each value counts for in the integral, at ``nodes`` in steps of width ``h`` from the step's beginning."""
    first = -math.expm1(-h)
    if len(nodes) == 1:
        return [first]
    if len(nodes) == 2:  # the papers' own: the slope for half a step, which differs from the integral in O(h^3)
        return [first - 0.5 * first / nodes[1], 0.5 * first / nodes[1]]
    moments = [first]  # of exp(h (u - 1)) h du over the step, by parts
    for power in range(1, len(nodes)):
        moments.append(1 - power / h * moments[-1])
    return np.linalg.solve(np.vander(nodes, increasing=True).T, moments).tolist()  # type: ignore[no-any-return]
