"""Settings of a composer's training run: which model, its sizes, and how to learn."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from specdiff_cli.checks import check_value
from specdiff_cli.composing.network import TokensConfig
from specdiff_cli.composing.unet import UnetConfig
from specdiff_cli.train.hyperparameters import Schedule, scheduled_share
from specdiff_cli.train.settings import read_settings

Kind = Literal["tokens", "unet"]


@dataclass(frozen=True)
class ComposerKind:
    """The ``[composer]`` table: which of the two models."""

    kind: Kind = "tokens"


@dataclass(frozen=True)
class TrainConfig:
    """Hyper-parameters of a run. Raises ValueError for values that cannot work.

    Attributes:
        n_steps: greatest length of the run; the schedule ends there.
        batch_size: excerpts per step.
        n_notes: notes in an excerpt.
        rhythm_share: of the excerpts, how many teach onsets and parts (tokens alone).
        matrix_lr: learning rate of the blocks' matrices (Muon; of the U-Net's convolutions: AdamW).
        other_lr: learning rate of everything else (AdamW).
        warmup_steps: the rates rise linearly over these.
        schedule: "cosine" falls to 2 %, "constant" stays.
        clip_norm: longer gradients are shortened to this.
        ema_decay: of the averaged weights, which are the ones that are kept.
        most_transposed: excerpts are moved by up to so many semitones, up or down.
        patience: the run ends after so many validations in a row without a better one; 0 never.
        n_judged_pieces: at every validation so many pieces are composed and measured (log and TensorBoard); 0 none.
        precision: of the network's arithmetic; weights and optimisers stay float32.
        seed: of the first weights, the excerpts and the masks.
        log_every_steps, validate_every_steps, save_every_steps: how often; the last step does all of it.
    """

    n_steps: int = 8000
    batch_size: int = 32
    n_notes: int = 128
    rhythm_share: float = 0.375
    matrix_lr: float = 2e-3
    other_lr: float = 1.5e-3
    warmup_steps: int = 150
    schedule: Schedule = "cosine"
    clip_norm: float = 1.0
    ema_decay: float = 0.998
    most_transposed: int = 6
    patience: int = 8
    n_judged_pieces: int = 8
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    seed: int = 0
    log_every_steps: int = 50
    validate_every_steps: int = 250
    save_every_steps: int = 250

    def __post_init__(self) -> None:
        for key in ("n_steps", "batch_size", "log_every_steps", "validate_every_steps", "save_every_steps"):
            check_value(key, getattr(self, key), getattr(self, key) >= 1, "must be at least 1")
        check_value("n_notes", self.n_notes, 8 <= self.n_notes <= 1024, "must be between 8 and 1024")
        for key in ("warmup_steps", "most_transposed", "patience", "n_judged_pieces", "seed"):
            check_value(key, getattr(self, key), getattr(self, key) >= 0, "must not be negative")
        for key in ("matrix_lr", "other_lr", "clip_norm"):
            check_value(key, getattr(self, key), getattr(self, key) > 0, "must be above 0")
        check_value("rhythm_share", self.rhythm_share, 0 < self.rhythm_share < 1, "must be between 0 and 1")
        check_value("ema_decay", self.ema_decay, 0 <= self.ema_decay < 1, "must be at least 0 and below 1")

    def lr_factor(self, step: int) -> float:
        """Share of the learning rates at a step, counted from 0."""
        return scheduled_share(step, self.n_steps, self.warmup_steps, self.schedule)


@dataclass(frozen=True)
class ComposerSettings:
    """What a settings file says."""

    kind: Kind
    sizes: TokensConfig | UnetConfig
    train: TrainConfig

    @classmethod
    def read(cls, path: Path, n_steps: int | None = None) -> "ComposerSettings":
        """Read a settings file; ``n_steps`` replaces the file's. Raises UsageError."""
        tables = read_settings(
            path, {"composer": ComposerKind, "tokens": TokensConfig, "unet": UnetConfig, "train": TrainConfig}
        )
        kind = tables["composer"].kind
        settings = cls(kind, tables[kind], tables["train"])
        return settings if n_steps is None else replace(settings, train=replace(settings.train, n_steps=n_steps))

    def tables(self) -> dict[str, Any]:
        """As they are kept in the state, to compare."""
        plain: dict[str, Any] = json.loads(json.dumps({self.kind: asdict(self.sizes), "train": asdict(self.train)}))
        return {"composer": {"kind": self.kind}, **plain}
