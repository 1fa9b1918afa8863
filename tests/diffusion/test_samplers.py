import math

import pytest
import torch
from torch import Tensor

from specdiff_cli.diffusion.guidance import guided, step_weights
from specdiff_cli.diffusion.reuse import reusing_steps
from specdiff_cli.diffusion.samplers import SAMPLERS, Objective, ddim, ddpm, find_sampler, predict
from specdiff_cli.diffusion.schedules import SCHEDULES, Step, magenta
from specdiff_cli.errors import UsageError

TARGET = torch.linspace(-1, 1, 12).reshape(1, 3, 4)
# A noisy middle step with round numbers: alpha_t = 0.6, sigma_t = 0.8.
STEP = Step(time=0.5, alpha2_t=0.36, sigma2_t=0.64, alpha2_s=0.64, sigma2_s=0.36)


def never() -> Tensor:
    raise AssertionError("no noise may be drawn here")


def seeded_noise(seed: int = 0) -> "torch.Generator":
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("objective", ["eps", "v"])
@pytest.mark.parametrize("schedule", sorted(SCHEDULES))
@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
@pytest.mark.parametrize("n_steps", [1, 5])
def test_a_perfect_denoiser_gives_the_spectrogram(
    sampler: str, schedule: str, n_steps: int, objective: Objective
) -> None:
    steps = SCHEDULES[schedule](n_steps)
    generator = seeded_noise()

    def perfect(x: Tensor, i: int) -> Tensor:
        step = steps[i]
        eps = (x - step.alpha_t * TARGET) / step.sigma_t
        return eps if objective == "eps" else step.alpha_t * eps - step.sigma_t * TARGET

    def noise() -> Tensor:
        return torch.randn(TARGET.shape, generator=generator)

    out = SAMPLERS[sampler](perfect, noise(), steps, noise, objective, None)
    torch.testing.assert_close(out, TARGET, atol=2e-3, rtol=0)


def test_predictions_by_hand() -> None:
    x = torch.tensor([0.6 * 0.5 + 0.8 * 0.25])  # x0 = 0.5, eps = 0.25
    for objective, output in (("eps", 0.25), ("v", 0.6 * 0.25 - 0.8 * 0.5)):
        prediction = predict(torch.tensor([output]), x, STEP, objective)  # type: ignore[arg-type]
        assert prediction.x0.item() == pytest.approx(0.5, abs=1e-6)
        assert prediction.eps.item() == pytest.approx(0.25, abs=1e-6)


def test_eps_is_recomputed_after_the_clip() -> None:
    prediction = predict(torch.tensor([0.0]), torch.tensor([1.2]), STEP, "eps")  # x0 would be 2
    assert prediction.x0.item() == 1.0
    assert prediction.eps.item() == pytest.approx((1.2 - 0.6) / 0.8, abs=1e-6)


def test_ddpm_mean_and_large_variance_by_hand() -> None:
    steps = [STEP, Step(0.25, 0.64, 0.36, 1.0, 0.0)]
    x, x0 = 0.7, 0.5
    seen: list[float] = []

    def denoiser(z: Tensor, _i: int) -> Tensor:
        seen.append(z.item())
        return (z - 0.6 * x0) / 0.8 if len(seen) == 1 else (z - 0.8 * x0) / 0.6

    out = ddpm(denoiser, torch.tensor([x]), steps, lambda: torch.ones(1), "eps", None)
    snr_t, snr_s = 0.36 / 0.64, 0.64 / 0.36
    r = snr_t / snr_s
    mean = r * math.sqrt(0.64 / 0.36) * x + (1 - r) * 0.8 * x0
    # (1 - SNR_t / SNR_s) sigmoid(-logSNR_t), which is also 1 - alpha_t^2 / alpha_s^2
    variance = (1 - r) / (1 + snr_t)
    assert variance == pytest.approx(1 - 0.36 / 0.64)
    assert seen[1] == pytest.approx(mean + math.sqrt(variance), abs=1e-6)
    assert out.item() == pytest.approx(x0, abs=1e-6)


def test_ddim_step_by_hand_and_without_noise() -> None:
    steps = [STEP, Step(0.25, 0.64, 0.36, 1.0, 0.0)]
    seen: list[float] = []

    def denoiser(z: Tensor, _i: int) -> Tensor:
        seen.append(z.item())
        return torch.tensor([0.25])

    x = 0.6 * 0.5 + 0.8 * 0.25
    ddim(denoiser, torch.tensor([x]), steps, never, "eps", None)
    assert seen[1] == pytest.approx(0.8 * 0.5 + 0.6 * 0.25, abs=1e-6)


def test_ddpm_draws_noise_at_every_step_but_the_last() -> None:
    draws: list[int] = []

    def noise() -> Tensor:
        draws.append(1)
        return torch.zeros(1)

    ddpm(lambda z, _i: torch.zeros_like(z), torch.zeros(1), magenta(7), noise, "eps", None)
    assert len(draws) == 6


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_the_callback_counts_finished_steps(sampler: str) -> None:
    counts: list[int] = []
    SAMPLERS[sampler](
        lambda z, _i: torch.zeros_like(z), torch.zeros(1), magenta(3), lambda: torch.zeros(1), "eps", counts.append
    )
    assert counts == [1, 2, 3]


def test_guidance_combines_and_skips() -> None:
    x = torch.zeros(2)

    def constant(value: float):  # type: ignore[no-untyped-def]
        return lambda _x, _i: torch.full((2,), value)

    def forbidden(_x: Tensor, _i: int) -> Tensor:
        raise AssertionError("must not be evaluated")

    assert guided(constant(3.0), constant(1.0), [2.0])(x, 0).tolist() == [5.0, 5.0]
    assert guided(constant(3.0), forbidden, [1.0])(x, 0).tolist() == [3.0, 3.0]
    assert guided(forbidden, constant(1.0), [0.0])(x, 0).tolist() == [1.0, 1.0]
    mixed = guided(constant(3.0), constant(1.0), [2.0, 1.0, 0.0])
    assert [mixed(x, i)[0].item() for i in range(3)] == [5.0, 3.0, 1.0]


def test_guidance_may_evaluate_both_halves_at_once() -> None:
    def both(x: Tensor, i: int) -> tuple[Tensor, Tensor]:
        return x + i, x - i

    def forbidden(_x: Tensor, _i: int) -> Tensor:
        raise AssertionError("must not be evaluated")

    out = guided(forbidden, forbidden, [0.5, 3.0], both)(torch.tensor([10.0]), 1)
    assert out.item() == 3 * 11 - 2 * 9


def test_guidance_applies_in_its_interval_only() -> None:
    steps = magenta(4)  # times 1, 0.75, 0.5, 0.25
    assert step_weights(steps, 2.0) == [2.0, 2.0, 2.0, 2.0]
    assert step_weights(steps, 2.0, (0.5, 0.75)) == [1.0, 2.0, 2.0, 1.0]


MEAN, SPREAD = 0.3, 0.25  # of a Gaussian target, for which the best denoiser and the ODE's solution are known


def levels(n_steps: int) -> list[Step]:
    """Steps of equal width in half-logSNR from -2 to 1; then one more, at which the caller looks at the state."""
    half_log_snr = [-2 + 3 * i / n_steps for i in range(n_steps + 1)] + [2.0]
    alpha2 = [1 / (1 + math.exp(-2 * value)) for value in half_log_snr]
    return [Step(0.5, a, 1 - a, b, 1 - b) for a, b in zip(alpha2, alpha2[1:], strict=False)]


def error_on_a_gaussian(sampler: str, n_steps: int) -> float:
    """Distance from the exact solution of the probability-flow ODE after ``n_steps`` steps."""
    steps = levels(n_steps)
    states: list[Tensor] = []

    def best(x: Tensor, i: int) -> Tensor:
        step = steps[i]
        states.append(x)
        variance = step.alpha2_t * SPREAD**2 + step.sigma2_t
        x0 = MEAN + step.alpha_t * SPREAD**2 / variance * (x - step.alpha_t * MEAN)
        return (x - step.alpha_t * x0) / step.sigma_t

    start = torch.linspace(-1, 1, 9, dtype=torch.float64)
    SAMPLERS[sampler](best, start, steps, never, "eps", None)
    first, last = steps[0], steps[-1]
    # Along the exact solution the standardised state stays what it is.
    standard = (start - first.alpha_t * MEAN) / math.sqrt(first.alpha2_t * SPREAD**2 + first.sigma2_t)
    exact = last.alpha_t * MEAN + math.sqrt(last.alpha2_t * SPREAD**2 + last.sigma2_t) * standard
    return float((states[-1] - exact).abs().max())


@pytest.mark.parametrize(("sampler", "order"), [("ddim", 1), ("dpm++2m", 2), ("unipc", 3.2)])
def test_the_error_falls_with_the_order_of_the_sampler(sampler: str, order: float) -> None:
    errors = [error_on_a_gaussian(sampler, n) for n in (20, 40, 80)]
    assert errors[0] / errors[1] == pytest.approx(2**order, rel=0.2)
    assert errors[1] / errors[2] == pytest.approx(2**order, rel=0.1)


#: State before the last step, and result, of UniPCMultistepScheduler(solver_order=3, solver_type="bh2") and
#: DPMSolverMultistepScheduler(solver_order=2) of Diffusers 0.31.0 with the noise levels of ``magenta``, in float64.
DIFFUSERS_STATES = {
    ("unipc", 3): (
        [-1.24567189, -0.75748676, 0.08943635, 0.81959472, 1.25727964],
        [-0.50368156, -0.31565808, 0.28488836, 0.53922623, 0.57982996],
    ),
    ("unipc", 8): (
        [-0.34246872, 0.15967619, 0.50067152, 0.71382208, 0.87456247],
        [0.44516653, 0.55368088, 0.58047057, 0.58870139, 0.59253686],
    ),
    ("dpm++2m", 3): (
        [-1.24630771, -0.75895551, 0.07234345, 0.80919352, 1.25569701],
        [-0.5038279, -0.31648579, 0.2744533, 0.53764686, 0.57974819],
    ),
    ("dpm++2m", 8): (
        [-0.38466497, 0.12772557, 0.49668893, 0.71238894, 0.87439098],
        [0.42975989, 0.54983646, 0.58027064, 0.58865961, 0.59253356],
    ),
}


@pytest.mark.parametrize(("sampler", "n_steps"), sorted(DIFFUSERS_STATES))
def test_multistep_samplers_equal_those_of_diffusers(sampler: str, n_steps: int) -> None:
    steps = magenta(n_steps)
    states: list[Tensor] = []

    def denoiser(x: Tensor, i: int) -> Tensor:
        states.append(x)
        x0 = 0.6 * torch.tanh(1.3 * x + 0.2 * i)
        return (x - steps[i].alpha_t * x0) / steps[i].sigma_t

    start = torch.linspace(-1.5, 1.5, 5, dtype=torch.float64)
    result = SAMPLERS[sampler](denoiser, start, steps, never, "eps", None)
    for found, expected in zip((states[-1], result), DIFFUSERS_STATES[sampler, n_steps], strict=True):
        torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), atol=2e-7, rtol=0)


def test_second_order_is_closer_with_few_steps_already() -> None:
    assert error_on_a_gaussian("dpm++2m", 10) < 0.3 * error_on_a_gaussian("ddim", 10)


def test_third_order_is_closer_still() -> None:
    assert error_on_a_gaussian("unipc", 10) < 0.3 * error_on_a_gaussian("dpm++2m", 10)


@pytest.mark.parametrize("objective", ["eps", "v", "x0"])
@pytest.mark.parametrize("n_steps", [1, 2])
def test_one_and_two_steps_of_dpmpp_are_those_of_ddim(n_steps: int, objective: Objective) -> None:
    """There is no line through one value, and the last step gives x0: the two differ from the third step on."""
    x = torch.randn(TARGET.shape, generator=seeded_noise())

    def denoiser(z: Tensor, i: int) -> Tensor:
        return torch.tanh(z + 0.3 * i)

    ours, theirs = (
        SAMPLERS[name](denoiser, x, magenta(n_steps), never, objective, None) for name in ("dpm++2m", "ddim")
    )
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)


def test_steps_that_reuse_and_steps_that_do_not() -> None:
    def shown(weights: list[float], every: int) -> str:
        return "".join("-" if reuses else "W" for reuses in reusing_steps(weights, every))

    assert shown([1.0] * 6, 1) == "WWWWWW"
    assert shown([1.0] * 6, 2) == "W-W-WW"  # the last is whole
    assert shown([2.0] * 8, 3) == "W--W--WW"
    assert shown([1.0, 1.0, 2.0, 2.0, 2.0, 1.0, 1.0], 5) == "W-W--WW"  # what is evaluated changes
    assert shown([2.0, 3.0, 0.5, 0.0, 0.0, 1.0], 9) == "W--W-W"
    assert [shown([1.0] * n, 4) for n in (1, 2)] == ["W", "WW"]


def test_a_sampler_is_found_by_name_or_is_ones_own() -> None:
    assert find_sampler("ddim") is ddim
    assert find_sampler(ddpm) is ddpm
    with pytest.raises(UsageError, match=r"sampler euler: is not one of ddpm, ddim, dpm\+\+2m, unipc"):
        find_sampler("euler")
