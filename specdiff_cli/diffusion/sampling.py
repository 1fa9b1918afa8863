"""How to sample: one record for the engine, the voices, the presets and whoever asks for a render. No torch."""

import re
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from specdiff_cli.choices import (
    MAX_DISCRETE_STEPS,
    MAX_OVERLAP_FRAMES,
    NO_SAMPLERS,
    NO_SCHEDULE,
    SAMPLERS,
    SCHEDULES,
    check_choice,
    check_guidance,
    check_range,
    check_reuse,
    check_seed,
    check_steps,
)
from specdiff_cli.constants import WINDOW_FRAMES
from specdiff_cli.errors import UsageError

if TYPE_CHECKING:
    from specdiff_cli.diffusion.samplers import Sampler
    from specdiff_cli.diffusion.schedules import Schedule

EVERYWHERE = (0.0, 1.0)  # guidance at all times
_INTERVAL = re.compile(r"(\d*\.?\d+)\s*-\s*(\d*\.?\d+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to sample.

    ``sampler`` and ``schedule`` are names (of ``choices``) or functions of one's own.
    ``guidance_interval``: the times (1 is noise, 0 the finished spectrogram) between which guidance is applied.
    ``overlap_frames``: 0 to 128, how many frames at the start of a window are the last ones of the window before, kept
    while the rest is sampled.
    ``reuse_every``: of so many neighbouring steps, one evaluates the whole network; the others reuse what its inner
    blocks added there. 1 evaluates it always.

    Raises UsageError: a number is outside its range, or a name is not known.
    """

    steps: int
    sampler: "str | Sampler"
    schedule: "str | Schedule"
    guidance: float = 1.0
    seed: int = 0
    guidance_interval: tuple[float, float] = EVERYWHERE
    overlap_frames: int = 0
    reuse_every: int = 1

    def __post_init__(self) -> None:
        check_steps(self.steps)
        if isinstance(self.sampler, str) and self.sampler not in NO_SAMPLERS:
            check_choice("sampler", self.sampler, SAMPLERS)
        if isinstance(self.schedule, str) and self.schedule != NO_SCHEDULE:
            check_choice("schedule", self.schedule, SCHEDULES)
        if self.schedule == "discrete" and self.steps > MAX_DISCRETE_STEPS:
            raise UsageError.of("steps", self.steps, f"the discrete schedule has at most {MAX_DISCRETE_STEPS}")
        check_guidance(self.guidance)
        check_seed(self.seed)
        check_guidance_interval(self.guidance_interval)
        check_overlap_frames(self.overlap_frames)
        check_reuse(self.reuse_every)

    @property
    def hop_frames(self) -> int:
        """Frames from one window's start to the next one's."""
        return WINDOW_FRAMES - self.overlap_frames

    def with_given(self, **given: Any) -> "Sampling":
        """The same but for the fields that are not None. Raises UsageError."""
        return replace(self, **{name: value for name, value in given.items() if value is not None})

    def as_table(self) -> dict[str, Any]:
        """What belongs to a voice or a preset, for TOML and JSON: all but the seed and the overlap.

        ``reuse_every`` came later, and is left out where it is off: older programs read the others.
        """
        values = asdict(self)
        del values["seed"], values["overlap_frames"]
        if self.reuse_every == 1:
            del values["reuse_every"]
        return values


def parse_guidance_interval(text: str) -> tuple[float, float]:
    """``0.2-0.8`` as (0.2, 0.8): the times, 1 for noise and 0 for the end, between which guidance is applied.

    Raises:
        UsageError: not two numbers from 0 to 1 in order.
    """
    numbers = _INTERVAL.fullmatch(text.strip())
    if numbers is None:
        raise UsageError.of("guidance_interval", text, "must be LOW-HIGH, such as 0.2-0.8")
    interval = float(numbers[1]), float(numbers[2])
    check_guidance_interval(interval)
    return interval


def check_guidance_interval(interval: tuple[float, float]) -> None:
    """Raises UsageError unless 0 <= low < high <= 1."""
    low, high = interval
    if not 0 <= low < high <= 1:
        shown = f"{low:g}-{high:g}"
        raise UsageError.of("guidance_interval", shown, "needs 0 <= LOW < HIGH <= 1, such as 0.2-0.8")


def check_overlap_frames(n_frames: int) -> None:
    """Raises UsageError unless a window may begin with so many frames of the window before."""
    check_range("overlap_frames", n_frames, 0, MAX_OVERLAP_FRAMES)


#: An autoregressive voice has no choice: one step per frame of a window.
AUTOREGRESSIVE_SAMPLING = Sampling(WINDOW_FRAMES, "autoregressive", NO_SCHEDULE)
#: Nor has one that adds up note templates: a window is computed at once.
TEMPLATES_SAMPLING = Sampling(1, "templates", NO_SCHEDULE)
#: Kind of voice that has no denoising steps -> how it is sampled, and what it is, for messages.
FIXED_SAMPLING: dict[str, tuple[Sampling, str]] = {
    "autoregressive": (AUTOREGRESSIVE_SAMPLING, "is autoregressive"),
    "templates": (TEMPLATES_SAMPLING, "adds up note templates"),
}
