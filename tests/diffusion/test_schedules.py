import math

import pytest

from specdiff_cli.diffusion.schedules import SCHEDULES, discrete, find_schedule, magenta, magenta_at, magenta_log_snr
from specdiff_cli.errors import UsageError


def test_magenta_runs_from_plus_20_to_minus_20() -> None:
    assert magenta_log_snr(0.0) == pytest.approx(20.0, abs=1e-6)
    assert magenta_log_snr(0.5) == pytest.approx(0.0, abs=1e-9)
    assert magenta_log_snr(1.0) == pytest.approx(-20.0, abs=1e-3)


def test_magenta_times_and_levels() -> None:
    steps = magenta(4)
    assert [step.time for step in steps] == [1.0, 0.75, 0.5, 0.25]
    assert steps[2].alpha2_t == pytest.approx(0.5, abs=1e-9)
    # Close to the cosine schedule: alpha = cos(pi t / 2).
    assert steps[1].alpha_t == pytest.approx(math.cos(0.75 * math.pi / 2), abs=1e-4)
    assert steps[-1].alpha2_s == pytest.approx(1.0, abs=1e-8)


def test_discrete_takes_the_leading_timesteps() -> None:
    assert [round(step.time * 1000) for step in discrete(100)] == list(range(990, -1, -10))
    assert [round(step.time * 1000) for step in discrete(3)] == [666, 333, 0]
    assert discrete(10)[-1].alpha2_s == 1.0


def test_discrete_table_by_hand() -> None:
    def alpha_bar(u: float) -> float:
        return math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2

    steps = discrete(1000)
    # Without the cap the product telescopes to alpha_bar((i + 1) / 1000) / alpha_bar(0).
    for i in (0, 1, 500, 990):
        assert steps[999 - i].alpha2_t == pytest.approx(alpha_bar((i + 1) / 1000) / alpha_bar(0), rel=1e-3)
    assert steps[0].alpha2_t / steps[0].alpha2_s == pytest.approx(1 - 0.999, rel=1e-3)  # the capped last beta


def test_discrete_refuses_more_steps_than_the_table_has() -> None:
    with pytest.raises(UsageError, match="steps 1001: the discrete schedule has at most 1000"):
        discrete(1001)


@pytest.mark.parametrize("name", sorted(SCHEDULES))
@pytest.mark.parametrize("n_steps", [1, 2, 10, 1000])
def test_every_schedule_keeps_its_promises(name: str, n_steps: int) -> None:
    steps = SCHEDULES[name](n_steps)
    assert len(steps) == n_steps
    for step in steps:
        assert step.alpha2_t + step.sigma2_t == pytest.approx(1.0, abs=1e-9)
        assert step.alpha2_s + step.sigma2_s == pytest.approx(1.0, abs=1e-9)
        assert step.alpha2_s > step.alpha2_t
    for before, after in zip(steps, steps[1:], strict=False):
        assert after.alpha2_t == pytest.approx(before.alpha2_s, rel=1e-9)


def test_a_schedule_is_found_by_name_or_is_ones_own() -> None:
    assert find_schedule("magenta") is magenta
    assert find_schedule(discrete) is discrete
    with pytest.raises(UsageError, match="schedule cosine: is not one of magenta, discrete"):
        find_schedule("cosine")


def test_the_papers_noise_levels_at_times_of_ones_own() -> None:
    first, last = magenta_at([1.0, 0.5, 0.0])
    assert (first.time, last.time) == (1.0, 0.5)
    assert last.alpha2_t == pytest.approx(0.5)  # logSNR(0.5) is 0
    assert (first.alpha2_s, first.sigma2_s) == (last.alpha2_t, last.sigma2_t)
    assert last.sigma2_s == pytest.approx(math.exp(-20), rel=1e-4)
