import pytest

from specdiff_cli.diffusion.presets import PRESETS, Preset, find_preset
from specdiff_cli.diffusion.samplers import SAMPLERS
from specdiff_cli.diffusion.schedules import N_TRAINING_STEPS, SCHEDULES
from specdiff_cli.errors import UsageError


def test_every_preset_can_be_sampled() -> None:
    assert list(PRESETS) == ["draft", "balanced", "best", "paper", "port"]
    for preset in PRESETS.values():
        assert preset.sampler in SAMPLERS
        assert preset.schedule in SCHEDULES
        assert preset.schedule != "discrete" or preset.steps <= N_TRAINING_STEPS
        assert preset.meaning


def test_paper_and_port_are_what_their_sources_say() -> None:
    paper, port = PRESETS["paper"], PRESETS["port"]
    assert (paper.steps, paper.sampler, paper.schedule, paper.guidance) == (1000, "ddpm", "magenta", 2.0)
    assert (port.steps, port.sampler, port.schedule, port.guidance) == (100, "ddpm", "discrete", 1.0)


def test_more_time_means_more_evaluations() -> None:
    def cost(preset: Preset) -> float:
        return preset.steps * (1 if preset.guidance in (0.0, 1.0) else 2)

    costs = [cost(PRESETS[name]) for name in ("draft", "balanced", "best", "paper")]
    assert costs == sorted(costs)


def test_a_voice_may_have_its_own() -> None:
    own = {"balanced": Preset(2, "ddim", "magenta", 1.0, "enough for this voice")}
    assert find_preset("balanced", own).steps == 2
    assert find_preset("balanced").steps == PRESETS["balanced"].steps
    assert find_preset("paper", own) is PRESETS["paper"]
    with pytest.raises(UsageError, match="--preset fast: is not one of draft, balanced, best, paper, port"):
        find_preset("fast", own)
