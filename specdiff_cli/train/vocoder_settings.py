"""The ``[train]`` table of a vocoder's settings."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from specdiff_cli.checks import check_value
from specdiff_cli.choices import DEFAULT_VOICE
from specdiff_cli.train.hyperparameters import Schedule, scheduled_share

_GONE = 'served the head "istft", which is no longer made; leave it out'
#: Keys of earlier versions and what is said of them.
RETIRED_KEYS: Mapping[str, str] = {"stft_weight": _GONE, "mel_weight": _GONE}


@dataclass(frozen=True)
class RunSettings:
    """What every run has. Raises ValueError for values that cannot work.

    Attributes:
        n_steps: length of the run; the cosine schedule ends there.
        batch_size: excerpts per step.
        n_frames: length of an excerpt, 50 per second.
        learning_rate: of the network (AdamW); the discriminator takes a quarter of it.
        warmup_steps: the rate rises linearly over these.
        schedule: "cosine" falls to 2 %, "constant" stays.
        clip_norm: longer gradients are shortened to this.
        ema_decay: of the averaged weights, which are the ones that are kept.
        level_range_db: each excerpt is made louder or softer by something between these.
        adversarial_share: share of the run, at its end, in which the discriminator takes part.
        adversarial_weight, matching_weight: of its verdict, and of feature matching.
        discriminator_width: channels of its first layers.
        seed: of the first weights, the excerpts and the noise.
        log_every_steps, validate_every_steps, save_every_steps: how often; the last step does all of it.
    """

    n_steps: int = 3000
    batch_size: int = 16
    n_frames: int = 64
    learning_rate: float = 2e-3
    warmup_steps: int = 50
    schedule: Schedule = "cosine"
    clip_norm: float = 1.0
    ema_decay: float = 0.998
    level_range_db: tuple[float, float] = (-12.0, 12.0)
    adversarial_share: float = 0.3
    adversarial_weight: float = 0.03
    matching_weight: float = 0.3
    discriminator_width: int = 16
    seed: int = 0
    log_every_steps: int = 50
    validate_every_steps: int = 500
    save_every_steps: int = 500

    def __post_init__(self) -> None:
        at_least_one = ("n_steps", "batch_size", "discriminator_width")
        for key in (*at_least_one, "log_every_steps", "validate_every_steps", "save_every_steps"):
            check_value(key, getattr(self, key), getattr(self, key) >= 1, "must be at least 1")
        weights = [key for key in self.__dataclass_fields__ if key.endswith("_weight")]
        for key in ("warmup_steps", "seed", *weights):
            check_value(key, getattr(self, key), getattr(self, key) >= 0, "must not be negative")
        for key in ("learning_rate", "clip_norm"):
            check_value(key, getattr(self, key), getattr(self, key) > 0, "must be above 0")
        check_value("n_frames", self.n_frames, self.n_frames >= 4, "must be at least 4")
        check_value("ema_decay", self.ema_decay, 0 <= self.ema_decay < 1, "must be at least 0 and below 1")
        check_value("adversarial_share", self.adversarial_share, 0 <= self.adversarial_share <= 1, "must be 0 to 1")
        low, high = self.level_range_db
        check_value(
            "level_range_db", list(self.level_range_db), -60 <= low <= high <= 60, "must rise, within -60 to 60"
        )

    @property
    def first_adversarial_step(self) -> int:
        """The step, counted from 0, from which on the discriminator takes part."""
        return round(self.n_steps * (1 - self.adversarial_share))


@dataclass(frozen=True)
class TrainConfig(RunSettings):
    """Of the spectral vocoder.

    Attributes:
        largest_noise: upper end of the standard deviation of the noise on the mel (log-mel units): what the
            spectrogram network gets wrong.
        magnitude_weight, advance_weight: of the errors against known magnitudes and phase advances.
        precision: of the networks' arithmetic; weights and optimisers stay float32. "auto" is bfloat16 on hardware
            that computes in it.
    """

    largest_noise: float = 0.2
    magnitude_weight: float = 1.0
    advance_weight: float = 1.0
    precision: Literal["auto", "bfloat16", "float32"] = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_value("largest_noise", self.largest_noise, self.largest_noise >= 0, "must not be negative")


@dataclass(frozen=True)
class MelGanTrainConfig(RunSettings):
    """Of the generator that begins with the sound of ``partials``; it is trained in float32.

    Attributes:
        voice: whose notes ``partials`` plays: a name, or a folder.
        stft_weight, mel_weight: of the multi-resolution STFT distance to the recording, and of the log-mel's.
        level_weight: of the error in the level of octaves over a whole excerpt. Differences of logarithms are least
            where what cannot be known is too soft, which this does not allow.
    """

    batch_size: int = 8
    learning_rate: float = 1e-3
    level_range_db: tuple[float, float] = (-6.0, 6.0)
    adversarial_share: float = 0.5
    adversarial_weight: float = 0.02
    matching_weight: float = 0.5
    stft_weight: float = 1.0
    mel_weight: float = 1.0
    level_weight: float = 2.0
    voice: str = DEFAULT_VOICE


@dataclass(frozen=True)
class GainsTrainConfig(MelGanTrainConfig):
    """Of the network for the gains of partials and noise; without discriminators unless a share is theirs."""

    n_steps: int = 8000
    learning_rate: float = 2e-3
    level_range_db: tuple[float, float] = (-8.0, 8.0)
    adversarial_share: float = 0.0


def lr_factor(step: int, config: RunSettings) -> float:
    """Share of the learning rate at a step, counted from 0: a function of the step alone."""
    return scheduled_share(step, config.n_steps, config.warmup_steps, config.schedule)
