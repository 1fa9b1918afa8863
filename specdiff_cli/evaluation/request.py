"""What an evaluation or a measurement of speed is asked for, checked before anything takes long. No torch."""

from dataclasses import dataclass
from pathlib import Path

from specdiff_cli.audio.resample import check_rate
from specdiff_cli.choices import (
    DEFAULT_VOICE,
    MAX_BATCH,
    SAMPLERS,
    check_choice,
    check_guidance,
    check_range,
    check_reuse,
    check_seed,
    check_steps,
    check_threads,
)
from specdiff_cli.engine.devices import check_device_name
from specdiff_cli.errors import UsageError


@dataclass(frozen=True, slots=True)
class EvaluationRequest:
    """Which voices are judged, on what, and by whom; None leaves a setting to the voice. Raises UsageError."""

    voices: tuple[str, ...]
    midi: tuple[Path, ...] = ()
    soundfont: Path | None = None
    """Renders the references that are not there."""
    gain: float = 0.8
    """FluidSynth's; 0.8 is what corpora are rendered with."""
    reference_audio: Path | None = None
    max_seconds: float = 50.0
    """Of each piece, from its beginning."""
    steps: tuple[int, ...] = ()
    sampler: str | None = None
    schedule: str | None = None
    guidance: float | None = None
    vocoder: str | None = None
    seed: int = 0
    device: str = "auto"
    dtype: str = "auto"
    threads: int | None = None
    transcriber: Path | None = None
    """basic-pitch's ONNX file; None: the installed package's."""
    no_transcriber: bool = False
    opinion: bool = False
    frechet: bool = False
    embedding: Path | None = None

    def __post_init__(self) -> None:
        check_guidance(self.guidance)
        check_threads(self.threads)
        check_seed(self.seed)
        check_range("max_seconds", self.max_seconds, 1, 3600)
        if not 0 < self.gain <= 10:
            raise UsageError.of("gain", self.gain, "must be above 0 and at most 10")
        for number in self.steps:
            check_steps(number)
        check_device_name(self.device)


def parse_steps(text: str | None) -> tuple[int, ...]:
    """Numbers of steps with commas between them, sorted, each once. Raises UsageError."""
    try:
        return tuple(sorted({int(part) for part in text.split(",")})) if text is not None else ()
    except ValueError:
        raise UsageError.of("steps", text, "give whole numbers with commas between them, such as 1,2,4") from None


@dataclass(frozen=True, slots=True)
class SpeedOptions:
    """A voice and how it is loaded and sampled; None leaves it to the voice. ``random_weights``: of its true size.

    ``sample_rate``, ``stereo``: as ``render`` takes them; vocoders that have no choice give 16 kHz mono.
    """

    model: str = DEFAULT_VOICE
    random_weights: bool = False
    preset: str | None = None
    steps: int | None = None
    sampler: str | None = None
    guidance: float | None = None
    reuse_every: int | None = None
    device: str = "auto"
    dtype: str = "auto"
    threads: int | None = None
    vocoder: str | None = None
    sample_rate: int | None = None
    stereo: bool | None = None
    batch: int = 1
    """Songs rendered side by side."""

    def __post_init__(self) -> None:
        check_steps(self.steps)
        check_guidance(self.guidance)
        check_range("batch", self.batch, 1, MAX_BATCH)
        check_threads(self.threads)
        if self.sample_rate is not None:
            check_rate(self.sample_rate)
        check_reuse(self.reuse_every)
        if self.sampler is not None:
            check_choice("sampler", self.sampler, SAMPLERS)
        check_device_name(self.device)
