import pytest

from specdiff_cli.diffusion.presets import PRESETS, Preset, find_preset
from specdiff_cli.diffusion.samplers import SAMPLERS
from specdiff_cli.diffusion.sampling import Sampling, parse_guidance_interval
from specdiff_cli.diffusion.schedules import N_TRAINING_STEPS, SCHEDULES
from specdiff_cli.errors import UsageError


def test_every_preset_can_be_sampled() -> None:
    assert list(PRESETS) == ["draft", "balanced", "best", "paper", "port"]
    for preset in PRESETS.values():
        assert preset.sampling.sampler in SAMPLERS
        assert preset.sampling.schedule in SCHEDULES
        assert preset.sampling.schedule != "discrete" or preset.sampling.steps <= N_TRAINING_STEPS
        assert preset.meaning


def test_paper_and_port_are_what_their_sources_say() -> None:
    paper, port = PRESETS["paper"].sampling, PRESETS["port"].sampling
    assert (paper.steps, paper.sampler, paper.schedule, paper.guidance) == (1000, "ddpm", "magenta", 2.0)
    assert (port.steps, port.sampler, port.schedule, port.guidance) == (100, "ddpm", "discrete", 1.0)


def test_more_time_means_more_evaluations() -> None:
    def cost(preset: Preset) -> float:
        return preset.sampling.steps * (1 if preset.sampling.guidance in (0.0, 1.0) else 2)

    costs = [cost(PRESETS[name]) for name in ("draft", "balanced", "best", "paper")]
    assert costs == sorted(costs)


def test_a_voice_may_have_its_own() -> None:
    own = {"balanced": Preset(Sampling(2, "ddim", "magenta"), "enough for this voice")}
    assert find_preset("balanced", own) is own["balanced"]
    assert find_preset("balanced") is PRESETS["balanced"]
    assert find_preset("paper", own) is PRESETS["paper"]
    with pytest.raises(UsageError, match="preset fast: is not one of draft, balanced, best, paper, port"):
        find_preset("fast", own)


def test_guidance_is_applied_everywhere_unless_a_preset_says_otherwise() -> None:
    assert {preset.sampling.guidance_interval for preset in PRESETS.values()} == {(0.0, 1.0)}


@pytest.mark.parametrize(
    ("text", "interval"), [("0.2-0.8", (0.2, 0.8)), ("0-1", (0.0, 1.0)), (" .25 - 1.0 ", (0.25, 1.0))]
)
def test_an_interval_is_read(text: str, interval: tuple[float, float]) -> None:
    assert parse_guidance_interval(text) == interval


@pytest.mark.parametrize("text", ["", "0.5", "0.8,0.9", "a-b", "-0.1-0.5", "nan-1", "0.2-0.8-0.9", "٠-١"])
def test_what_is_no_interval_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"guidance_interval .*: must be LOW-HIGH, such as 0\.2-0\.8"):
        parse_guidance_interval(text)


@pytest.mark.parametrize("text", ["0.8-0.2", "0.5-0.5", "0-1.5"])
def test_an_interval_out_of_order_or_range_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=f"guidance_interval {text}: needs 0 <= LOW < HIGH <= 1"):
        parse_guidance_interval(text)
