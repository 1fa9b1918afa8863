"""Named choices of sampler, schedule, steps and guidance, from a quick look to the paper's own setting. No torch."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from specdiff_cli.errors import UsageError

EVERYWHERE = (0.0, 1.0)  # guidance at all times
MAX_OVERLAP_FRAMES = 128  # half a window: what is new in it then still has as much music before it
_INTERVAL = re.compile(r"(\d*\.?\d+)\s*-\s*(\d*\.?\d+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Preset:
    """How to sample, and what for (``meaning`` is one line for users)."""

    steps: int
    sampler: str
    schedule: str
    guidance: float
    meaning: str
    guidance_interval: tuple[float, float] = EVERYWHERE


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


def parse_guidance_interval(text: str) -> tuple[float, float]:
    """``0.2-0.8`` as (0.2, 0.8): the times, 1 for noise and 0 for the end, between which guidance is applied.

    Raises:
        UsageError: not two numbers from 0 to 1 in order.
    """
    numbers = _INTERVAL.fullmatch(text.strip())
    if numbers is None:
        raise UsageError(f"--guidance-interval {text}: must be LOW-HIGH, such as 0.2-0.8")
    interval = float(numbers[1]), float(numbers[2])
    check_guidance_interval(interval)
    return interval


def check_guidance_interval(interval: tuple[float, float]) -> None:
    """Raises UsageError unless 0 <= low < high <= 1."""
    low, high = interval
    if not 0 <= low < high <= 1:
        raise UsageError(f"--guidance-interval {low:g}-{high:g}: needs 0 <= LOW < HIGH <= 1, such as 0.2-0.8")


def check_overlap_frames(n_frames: int) -> None:
    """Raises UsageError unless a window may begin with so many frames of the window before."""
    if not 0 <= n_frames <= MAX_OVERLAP_FRAMES:
        raise UsageError(f"--overlap-frames {n_frames}: must be between 0 and {MAX_OVERLAP_FRAMES}")
