"""Fit the note templates to an atlas: plain regression on frames of isolated notes.

Step n of a run is a function of the seed and n alone: a run that resumes needs to know nothing of the batches before.
"""

import json
import math
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save as safetensors_bytes
from torch import Tensor, nn

from specdiff_cli.choices import MAX_TRAINING_STEPS, check_range
from specdiff_cli.constants import N_MELS
from specdiff_cli.errors import Option, UsageError, WeightsError
from specdiff_cli.files import make_folder
from specdiff_cli.midi.programs import N_PROGRAMS
from specdiff_cli.model.note_function import NoteFunction, note_function_config
from specdiff_cli.train.atlas_notes import AtlasNotes, NoteBatch
from specdiff_cli.train.note_corrections import level_changes, swell_changes
from specdiff_cli.train.run_folder import write_atomically, write_text_atomically
from specdiff_cli.weights.load import read_content

LOWEST_LOG_POWER = -25.0  # what lies below is silence (the reference's floor is -23.03)
REFERENCE_FLOOR = -23.026
# How much an error counts: fully from 40 dB below the note's peak, this much where it cannot be heard.
LEAST_WEIGHT, HALF_WEIGHT_NEPERS, WEIGHT_NEPERS = 0.15, -5.8, 0.7


@dataclass(frozen=True)
class NoteTrainConfig:
    """How a run learns. The rate is constant after the warm-up and falls to zero in the last ``decay_share``."""

    n_steps: int = 20000
    n_notes: int = 512
    n_frames: int = 24
    matrix_lr: float = 4e-3
    other_lr: float = 2e-3
    key_lr: float = 4e-3
    warmup_steps: int = 200
    decay_share: float = 0.3
    average: float = 0.999
    seed: int = 0

    def __post_init__(self) -> None:
        check_range("steps", self.n_steps, 1, MAX_TRAINING_STEPS)
        if not 0 < self.decay_share <= 1:
            raise UsageError.of("decay_share", self.decay_share, "must be above 0 and at most 1")


def predict(model: NoteFunction, batch: NoteBatch, hold_s: Tensor | None = None) -> Tensor:
    """(N, F, 144) log powers."""
    note = model.encode(batch.instrument, batch.key, batch.velocity)
    held = model.sustained(note, batch.velocity, batch.age_s)
    return held + model.released(note, batch.since_end_s, batch.hold_s if hold_s is None else hold_s)


def note_loss(predicted: Tensor, batch: NoteBatch) -> Tensor:
    """Mean error in nepers, less of it where it cannot be heard; sound above 8 kHz counts half."""
    target = batch.log_power.clamp(min=LOWEST_LOG_POWER)
    error = 0.5 * (nn.functional.softplus(predicted - LOWEST_LOG_POWER, beta=4) + LOWEST_LOG_POWER - target).abs()
    below = 0.5 * (torch.maximum(target, predicted.detach()) - batch.peak[:, None, None])
    weight = LEAST_WEIGHT + (1 - LEAST_WEIGHT) * torch.sigmoid((below - HALF_WEIGHT_NEPERS) / WEIGHT_NEPERS)
    weight[..., N_MELS:] *= 0.5
    return (error * weight).mean()


@torch.no_grad()
def held_out_error(model: NoteFunction, atlas: AtlasNotes, n_notes: int = 1200, n_frames: int = 32) -> dict[str, float]:
    """Errors in nepers on notes that training never sees, clipped at the reference's floor."""
    rng = np.random.default_rng(1)
    notes = rng.permutation(atlas.held_out)[:n_notes]
    batch = atlas.take(notes, rng, n_frames)
    predicted = predict(model, batch)
    floor = REFERENCE_FLOOR
    error = 0.5 * (predicted.clamp(min=floor) - batch.log_power.clamp(min=floor))
    loud = batch.log_power - batch.peak[:, None, None] > -2 * 4.6
    is_drum = batch.instrument >= N_PROGRAMS
    mel, heard = error[..., :N_MELS], loud[..., :N_MELS]
    return {
        "mel": float(mel.abs().mean()),
        "mel_programs": float(mel[~is_drum].abs().mean()),
        "mel_drums": float(mel[is_drum].abs().mean()),
        "mel_within_40_db": float(mel[heard].abs().mean()),
        "bias_within_40_db": float(mel[heard].mean()),
        "high_within_40_db": float(error[..., N_MELS:][loud[..., N_MELS:]].abs().mean()),
    }


def make_note_optimisers(model: NoteFunction, config: NoteTrainConfig) -> list[torch.optim.Optimizer]:
    """Muon for the matrices, AdamW for embeddings, biases and outputs."""
    matrices: list[nn.Parameter] = []
    keys: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if name == "keys.weight":
            keys.append(parameter)
        elif ".up." in name or ".down." in name or name.startswith(("up.", "down.")) and parameter.ndim == 2:
            (matrices if parameter.ndim == 2 else others).append(parameter)
        else:
            others.append(parameter)
    return [
        torch.optim.Muon(matrices, lr=config.matrix_lr, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=config.other_lr, betas=(0.9, 0.98), weight_decay=1e-3, fused=True),
        torch.optim.AdamW(keys, lr=config.key_lr, betas=(0.9, 0.98), weight_decay=1e-2, fused=True),
    ]


def rate(step: int, config: NoteTrainConfig) -> float:
    """The learning rate's factor: up, level, and down to zero at the end."""
    left = (config.n_steps - step) / max(1, config.decay_share * config.n_steps)
    return min(1.0, (step + 1) / config.warmup_steps, max(0.0, left))


class NoteTrainer:
    """A run in a folder: ``state.pt`` to go on from; ``model.safetensors`` (averaged) and ``config.json`` to export."""

    def __init__(self, atlas: AtlasNotes, folder: Path, config: NoteTrainConfig) -> None:
        self.atlas, self.folder, self.config = atlas, folder, config
        sizes = note_function_config(tuple(atlas.kits), atlas.chokes)
        self.model = NoteFunction(sizes)
        self.model.initialise(torch.Generator().manual_seed(config.seed))
        self.averaged = NoteFunction(sizes)
        self.averaged.load_state_dict(self.model.state_dict())
        self.averaged.requires_grad_(False)
        self._set_facts()
        self.optimisers = make_note_optimisers(self.model, config)
        self._bases = [[group["lr"] for group in optimiser.param_groups] for optimiser in self.optimisers]
        self.step = 0

    def _set_facts(self) -> None:
        """What the atlas measured goes with the weights as it is; levels and swells wait for the end."""
        for network in (self.model, self.averaged):
            network.facts.copy_(torch.from_numpy(self.atlas.facts))
            network.phases.copy_(torch.from_numpy(self.atlas.phases))
            network.tones.copy_(torch.from_numpy(self.atlas.tones))
            for table in (network.levels, network.later_levels, network.swells):
                table.zero_()

    def set_levels(self) -> None:
        """See to it that the averaged network's notes are as loud as the atlas measured, at every age and velocity."""
        self.averaged.swells.copy_(swell_changes(self.averaged, self.atlas))
        first, later = level_changes(self.averaged, self.atlas.levels).unbind(3)
        self.averaged.levels.copy_(first)
        self.averaged.later_levels.copy_(later)

    def resume(self) -> bool:
        """Go on from the folder's state, if there is one. Raises WeightsError for one of another atlas or version."""
        path = self.folder / "state.pt"
        if not os.path.exists(path):
            return False
        state = read_content(path, mapped=False)
        try:
            if not isinstance(state, dict) or state["kits"] != self.atlas.kits:
                raise WeightsError(f"{path} was trained on an atlas with other drum kits: give another ", Option("run"))
            self.model.load_state_dict(state["model"])
            self.averaged.load_state_dict(state["averaged"])
            for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
                optimiser.load_state_dict(saved)
            self.step = int(state["step"])
            self._set_facts()
        except (RuntimeError, KeyError, ValueError, TypeError):
            raise WeightsError(f"{path} is of another version of specdiff: give another ", Option("run")) from None
        return True

    def save(self) -> None:
        """Store everything; a run that is cut off leaves the state before. Raises OutputError."""
        state = {
            "step": self.step,
            "kits": self.atlas.kits,
            "model": self.model.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
        }
        about = {
            "model": asdict(self.model.config),
            "train": {**asdict(self.config), "precision": "float32"},
            "plays": {"programs": list(range(N_PROGRAMS)), "drums": True},
        }
        make_folder(self.folder)
        write_atomically(self.folder / "state.pt", lambda file: torch.save(state, file))
        weights = {name: tensor.contiguous() for name, tensor in self.averaged.state_dict().items()}
        write_atomically(self.folder / "model.safetensors", lambda file: file.write(safetensors_bytes(weights)))
        write_text_atomically(self.folder / "config.json", json.dumps(about, indent=2) + "\n")

    def train(self, log_every_steps: int = 100, save_every_s: float = 180.0) -> Iterator[dict[str, float]]:
        """Train to the end; yields what it logs."""
        losses: list[float] = []
        saved_s = began_s = time.monotonic()
        while self.step < self.config.n_steps:
            losses.append(self._train_step())
            is_last = self.step == self.config.n_steps
            if self.step % log_every_steps == 0 or is_last:
                row = {
                    "step": self.step,
                    "loss": sum(losses) / len(losses),
                    "s_per_step": (time.monotonic() - began_s) / len(losses),
                }
                losses, began_s = [], time.monotonic()
                if self.step % (10 * log_every_steps) == 0 or is_last:
                    row |= held_out_error(self.averaged, self.atlas)
                    began_s = time.monotonic()
                yield row
            if is_last:
                self.set_levels()
            if is_last or time.monotonic() - saved_s > save_every_s:
                self.save()
                saved_s = time.monotonic()

    def _train_step(self) -> float:
        config = self.config
        factor = rate(self.step, config)
        for optimiser, bases in zip(self.optimisers, self._bases, strict=True):
            for group, base in zip(optimiser.param_groups, bases, strict=True):
                group["lr"] = base * factor
        batch = self.atlas.batch(np.random.default_rng([config.seed, self.step]), config.n_notes, config.n_frames)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            predicted = predict(self.model, batch)
        loss = note_loss(predicted, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimiser in self.optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        self.step += 1
        keep = min(config.average, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            averaged: list[Tensor] = list(self.averaged.parameters())
            torch._foreach_lerp_(averaged, list(self.model.parameters()), 1 - keep)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise WeightsError("the loss is no number any more: lower the learning rates")
        return value
