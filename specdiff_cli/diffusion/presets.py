"""Named choices of sampler, schedule, steps and guidance, from a quick look to the paper's own setting. No torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from specdiff_cli.choices import check_choice
from specdiff_cli.diffusion.sampling import Sampling


@dataclass(frozen=True, slots=True)
class Preset:
    """How to sample, and what for (``meaning`` is one line for users)."""

    sampling: Sampling
    meaning: str

    def as_table(self) -> dict[str, Any]:
        """For TOML and JSON."""
        return {**self.sampling.as_table(), "meaning": self.meaning}


#: For networks as the paper's: trained on every noise level, with eps, v or x0 as objective.
PRESETS: dict[str, Preset] = {
    "draft": Preset(Sampling(10, "dpm++2m", "magenta"), "a quick look: notes and timing are right, the sound is rough"),
    "balanced": Preset(Sampling(20, "dpm++2m", "magenta"), "close to the best at a fraction of its time"),
    "best": Preset(Sampling(50, "dpm++2m", "magenta", 2.0), "what more time buys: further steps change little"),
    "paper": Preset(Sampling(1000, "ddpm", "magenta", 2.0), "the setting of the paper's demonstrations"),
    "port": Preset(Sampling(100, "ddpm", "discrete"), "what the Diffusers pipeline does by default"),
}


def find_preset(name: str, own: Mapping[str, Preset] | None = None) -> Preset:
    """The preset of that name; a voice's ``own`` ones come before the general ones.

    Raises:
        UsageError: there is none of that name.
    """
    known = {**PRESETS, **(own or {})}
    check_choice("preset", name, known)
    return known[name]
