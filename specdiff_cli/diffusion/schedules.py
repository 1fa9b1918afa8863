"""Noise schedules: how much signal and noise a spectrogram holds at each step.

z_t = alpha_t * x + sigma_t * eps with alpha_t^2 + sigma_t^2 = 1. All arithmetic here is float64 on plain numbers;
tensors only meet the finished coefficients.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from specdiff_cli.choices import MAX_DISCRETE_STEPS, check_choice
from specdiff_cli.errors import UsageError

N_TRAINING_STEPS = MAX_DISCRETE_STEPS
COSINE_OFFSET = 0.008
MAX_BETA = 0.999
MAX_LOG_SNR = 20.0
_MAGENTA_B = math.atan(math.exp(-0.5 * MAX_LOG_SNR))
_MAGENTA_A = math.atan(math.exp(0.5 * MAX_LOG_SNR)) - _MAGENTA_B


@dataclass(frozen=True, slots=True)
class Step:
    """One denoising step from noise level t to the lower level s.

    ``time`` is what the network is told, in [0, 1]; the others are alpha and sigma squared at both ends.
    """

    time: float
    alpha2_t: float
    sigma2_t: float
    alpha2_s: float
    sigma2_s: float

    @property
    def alpha_t(self) -> float:
        return math.sqrt(self.alpha2_t)

    @property
    def sigma_t(self) -> float:
        return math.sqrt(self.sigma2_t)

    @property
    def alpha_s(self) -> float:
        return math.sqrt(self.alpha2_s)

    @property
    def sigma_s(self) -> float:
        return math.sqrt(self.sigma2_s)


def magenta_log_snr(time: float) -> float:
    """logSNR(t) = -2 ln tan(a t + b), from +20 at t = 0 to -20 at t = 1 (reference code, cosine schedule)."""
    return -2.0 * math.log(math.tan(_MAGENTA_A * time + _MAGENTA_B))


def _sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x)) if x >= 0 else math.exp(x) / (1.0 + math.exp(x))


def magenta(n_steps: int) -> list[Step]:
    """The paper's schedule: times n/N, (n-1)/N ... in order of sampling."""
    return magenta_at([i / n_steps for i in range(n_steps, -1, -1)])


def magenta_at(times: Sequence[float]) -> list[Step]:
    """The paper's noise levels at times of one's own, which fall from 1 to 0: a step between each two of them."""
    steps = []
    for time_t, time_s in pairwise(times):
        log_snr_t, log_snr_s = magenta_log_snr(time_t), magenta_log_snr(time_s)
        steps.append(
            Step(
                time=time_t,
                alpha2_t=_sigmoid(log_snr_t),
                sigma2_t=_sigmoid(-log_snr_t),
                alpha2_s=_sigmoid(log_snr_s),
                sigma2_s=_sigmoid(-log_snr_s),
            )
        )
    return steps


def _cosine_alpha2() -> list[float]:
    """Cumulative alpha^2 of the 1000-step squared-cosine table with betas capped at 0.999."""

    def alpha_bar(u: float) -> float:
        return math.cos((u + COSINE_OFFSET) / (1 + COSINE_OFFSET) * math.pi / 2) ** 2

    betas = [
        min(1 - alpha_bar((i + 1) / N_TRAINING_STEPS) / alpha_bar(i / N_TRAINING_STEPS), MAX_BETA)
        for i in range(N_TRAINING_STEPS)
    ]
    # Rounded where the port rounds: at the noisy end, where alpha is tiny, the rounding is part of what it computes.
    alphas = np.float32(1.0) - np.array(betas, dtype=np.float32)
    table: list[float] = np.cumprod(alphas, dtype=np.float32).astype(np.float64).tolist()
    return table


def discrete(n_steps: int) -> list[Step]:
    """The Diffusers port's schedule: "leading" timesteps of the 1000-step table, down to timestep 0.

    Raises:
        UsageError: more than 1000 steps.
    """
    if n_steps > N_TRAINING_STEPS:
        raise UsageError.of("steps", n_steps, f"the discrete schedule has at most {N_TRAINING_STEPS}")
    table = _cosine_alpha2()
    stride = N_TRAINING_STEPS // n_steps
    steps = []
    for i in range(n_steps - 1, -1, -1):
        alpha2_t = table[i * stride]
        alpha2_s = table[i * stride - stride] if i > 0 else 1.0
        steps.append(
            Step(
                time=i * stride / N_TRAINING_STEPS,
                alpha2_t=alpha2_t,
                sigma2_t=1 - alpha2_t,
                alpha2_s=alpha2_s,
                sigma2_s=1 - alpha2_s,
            )
        )
    return steps


#: From a number of steps to the steps in order of sampling.
Schedule = Callable[[int], Sequence[Step]]

SCHEDULES: dict[str, Schedule] = {"magenta": magenta, "discrete": discrete}


def find_schedule(schedule: str | Schedule) -> Schedule:
    """A schedule by its name, or the function itself. Raises UsageError for an unknown name."""
    if not isinstance(schedule, str):
        return schedule
    check_choice("schedule", schedule, SCHEDULES)
    return SCHEDULES[schedule]
