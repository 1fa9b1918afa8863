"""Named choices of sampler, schedule, steps and guidance, from a quick look to the paper's own setting."""

from collections.abc import Mapping
from dataclasses import dataclass

from specdiff_cli.errors import UsageError


@dataclass(frozen=True, slots=True)
class Preset:
    """How to sample, and what for (``meaning`` is one line for users)."""

    steps: int
    sampler: str
    schedule: str
    guidance: float
    meaning: str


#: For networks as the paper's: trained on every noise level, with eps, v or x0 as objective.
PRESETS: dict[str, Preset] = {
    "draft": Preset(10, "dpm++2m", "magenta", 1.0, "a quick look: notes and timing are right, the sound is rough"),
    "balanced": Preset(20, "dpm++2m", "magenta", 1.0, "close to the best at a fraction of its time"),
    "best": Preset(50, "dpm++2m", "magenta", 2.0, "what more time buys: further steps change little"),
    "paper": Preset(1000, "ddpm", "magenta", 2.0, "the setting of the paper's demonstrations"),
    "port": Preset(100, "ddpm", "discrete", 1.0, "what the Diffusers pipeline does by default"),
}


def find_preset(name: str, own: Mapping[str, Preset] | None = None) -> Preset:
    """The preset of that name; a voice's ``own`` ones come before the general ones.

    Raises:
        UsageError: there is none of that name.
    """
    known = {**PRESETS, **(own or {})}
    if name not in known:
        raise UsageError(f"--preset {name}: is not one of {', '.join(known)}")
    return known[name]
