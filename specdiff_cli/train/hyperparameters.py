"""The ``[train]`` table of a spectrogram network's settings."""

import math
from dataclasses import dataclass
from typing import Literal

from specdiff_cli.checks import check_value

#: The cosine schedule ends at this share of the learning rates.
FINAL_SHARE = 0.02
Schedule = Literal["cosine", "constant"]


@dataclass(frozen=True)
class TrainConfig:
    """Hyper-parameters of a run. Raises ValueError for values that cannot work.

    Attributes:
        n_steps: length of the run; the cosine schedule ends there.
        n_template_steps: how many of them, at the start, go to the note templates alone, with a schedule of their own.
            The network then learns what differs from them, and they stay as they are.
        batch_size: windows per step, in each process.
        matrix_lr: learning rate of the blocks' matrices (Muon). Queries take less, see :mod:`.optimisers`.
        other_lr: learning rate of everything else (AdamW).
        template_lr: learning rate of the note templates (AdamW).
        warmup_steps: the rates rise linearly over these.
        schedule: "cosine" falls to 2 %, "constant" stays.
        clip_norm: longer gradients are shortened to this.
        ema_decay: of the averaged weights, which are the ones that are kept.
        noise_times: noise levels are drawn evenly between these diffusion times (0: clean, 1: noise).
        condition_dropout: share of windows that see neither notes nor context, for guidance.
        context_dropout: share of windows without their previous window.
        context_noise: greatest standard deviation of the noise on the previous window; each draws its own.
        precision: of the network's arithmetic; weights and optimisers stay float32. "auto" is bfloat16 on hardware
            that computes in it: elsewhere it would take several times as long as float32.
        compile: run the network through torch.compile.
        seed: of the first weights, the windows and the noise.
        log_every_steps, validate_every_steps, save_every_steps: how often; the last step does all of it.
        n_data_workers: processes that build batches ahead; 0 builds them in line, which suits CPUs.
    """

    n_steps: int = 10_000
    n_template_steps: int = 0
    batch_size: int = 12
    matrix_lr: float = 2e-3
    other_lr: float = 1e-3
    template_lr: float = 2e-3
    warmup_steps: int = 150
    schedule: Schedule = "cosine"
    clip_norm: float = 1.0
    ema_decay: float = 0.999
    noise_times: tuple[float, float] = (0.0, 1.0)
    condition_dropout: float = 0.1
    context_dropout: float = 0.15
    context_noise: float = 0.25
    precision: Literal["auto", "bfloat16", "float32"] = "auto"
    compile: bool = False
    seed: int = 0
    log_every_steps: int = 50
    validate_every_steps: int = 250
    save_every_steps: int = 250
    n_data_workers: int = 0

    def __post_init__(self) -> None:
        for key in ("n_steps", "batch_size", "log_every_steps", "validate_every_steps", "save_every_steps"):
            check_value(key, getattr(self, key), getattr(self, key) >= 1, "must be at least 1")
        in_reach = 0 <= self.n_template_steps < self.n_steps
        check_value("n_template_steps", self.n_template_steps, in_reach, "must be at least 0 and below n_steps")
        for key in ("warmup_steps", "n_data_workers", "seed", "context_noise"):
            check_value(key, getattr(self, key), getattr(self, key) >= 0, "must not be negative")
        for key in ("matrix_lr", "other_lr", "template_lr", "clip_norm"):
            check_value(key, getattr(self, key), getattr(self, key) > 0, "must be above 0")
        for key in ("condition_dropout", "context_dropout"):
            check_value(key, getattr(self, key), 0 <= getattr(self, key) <= 1, "must be between 0 and 1")
        check_value("ema_decay", self.ema_decay, 0 <= self.ema_decay < 1, "must be at least 0 and below 1")
        low, high = self.noise_times
        check_value(
            "noise_times", list(self.noise_times), 0 <= low < high <= 1, "must rise from 0 or more to 1 or less"
        )


def stage_of(step: int, config: TrainConfig) -> tuple[int, int]:
    """Steps before this one in its stage (the templates', then the network's), and how many the stage has."""
    if step < config.n_template_steps:
        return step, config.n_template_steps
    return step - config.n_template_steps, config.n_steps - config.n_template_steps


def lr_factor(step: int, config: TrainConfig) -> float:
    """Share of the learning rates at a step, counted from 0: a function of the step alone."""
    return scheduled_share(*stage_of(step, config), config.warmup_steps, config.schedule)


def scheduled_share(n_done: int, n_steps: int, n_warmup_steps: int, schedule: Schedule) -> float:
    """What is left of a learning rate after ``n_done`` of ``n_steps``: a linear warmup, then constant or a cosine."""
    warmup = min(1.0, (n_done + 1) / n_warmup_steps) if n_warmup_steps else 1.0
    if schedule == "constant":
        return warmup
    half = (1 + math.cos(math.pi * min(1.0, n_done / n_steps))) / 2
    return warmup * (FINAL_SHARE + (1 - FINAL_SHARE) * half)
