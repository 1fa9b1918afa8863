"""The notes of an atlas in memory, and batches of their frames."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from specdiff_cli.constants import N_MELS
from specdiff_cli.corpus.atlas import read_kits, read_preset
from specdiff_cli.errors import UsageError
from specdiff_cli.files import files_in
from specdiff_cli.midi.programs import N_PROGRAMS
from specdiff_cli.model.note_function import FRAME_S

# Of every so many notes one is kept out of training.
HELD_OUT_OF, HELD_OUT_AT = 50, 7
USUAL_PITCHES = (33, 96)
UNUSUAL_SHARE = 0.3
KIT_SHARES = {0: 8.0, 8: 2.0, 16: 2.0, 24: 2.0, 25: 2.0, 32: 2.0, 40: 2.0, 48: 2.0}
OTHER_KIT_SHARE = 0.4
DRUM_KEYS = (35, 81)


@dataclass(frozen=True, slots=True)
class NoteBatch:
    """Frames of N notes: what is known of each, and (N, F, 144) log powers."""

    instrument: Tensor
    key: Tensor
    velocity: Tensor
    hold_s: Tensor
    age_s: Tensor
    since_end_s: Tensor
    log_power: Tensor
    peak: Tensor


class AtlasNotes:
    """All notes of an atlas in memory. Raises UsageError when a preset is missing."""

    def __init__(self, folder: Path) -> None:
        paths = files_in(folder, "program-*.npz") + files_in(folder, "kit-*.npz")
        self.kits = read_kits(folder)
        presets = [read_preset(path) for path in paths]
        if not presets:
            raise UsageError(f"{folder} holds no atlas: make one with `specdiff train atlas`")
        self.age_s = np.concatenate([preset["age_s"] for preset in presets])
        self.since_end_s = np.concatenate([preset["since_end_s"] for preset in presets])
        n_frames = sum(len(preset["log_power"]) for preset in presets)
        self.log_power = np.empty((n_frames, presets[0]["log_power"].shape[1]), dtype=np.float16)
        columns: dict[str, list[NDArray[Any]]] = {name: [] for name in ("instrument", "first", "count", "peak")}
        columns |= {name: [] for name in ("pitch", "velocity", "hold_s")}
        self.facts = np.zeros((N_PROGRAMS + len(self.kits), *presets[0]["facts"].shape), dtype=np.float32)
        self.phases = np.full((len(self.facts), *presets[0]["phases"].shape), np.nan, dtype=np.float32)
        self.levels = np.full((len(self.facts), *presets[0]["levels"].shape), np.nan, dtype=np.float32)
        self.tones = np.full((len(self.facts), *presets[0]["tones"].shape), np.nan, dtype=np.float32)
        chokes: list[tuple[int, int, int]] = []
        at = 0
        for path, preset in zip(paths, presets, strict=True):
            notes, powers = preset["notes"], preset.pop("log_power")
            self.log_power[at : at + len(powers)] = powers
            number = int(path.stem.split("-")[1])
            instrument = N_PROGRAMS + self.kits.index(number) if path.stem.startswith("kit") else number
            self.facts[instrument], self.phases[instrument] = preset["facts"], preset["phases"]
            self.levels[instrument], self.tones[instrument] = preset["levels"], preset["tones"]
            chokes += [(number, key, other) for key, other in preset["chokes"].tolist()]
            columns["instrument"].append(np.full(len(notes), instrument))
            columns["first"].append(notes["first_frame"] + at)
            columns["count"].append(notes["n_frames"])
            for name in ("pitch", "velocity", "hold_s"):
                columns[name].append(notes[name])
            loudest = powers.max(axis=1, initial=-30.0)
            columns["peak"].append(
                np.array(
                    [
                        loudest[f : f + n].max(initial=-30.0)
                        for f, n in zip(notes["first_frame"], notes["n_frames"], strict=True)
                    ]
                )
            )
            at += len(powers)
        self.chokes = tuple(chokes)
        self.columns = {name: np.concatenate(parts) for name, parts in columns.items()}
        heard = self.columns["count"] > 0
        index = np.arange(len(heard))
        is_held_out = index % HELD_OUT_OF == HELD_OUT_AT
        self.training = index[heard & ~is_held_out]
        self.held_out = index[heard & is_held_out]
        shares = self._shares()[self.training]
        self._cumulative = np.cumsum(shares / shares.sum())

    def _shares(self) -> NDArray[np.float64]:
        """How often each note is drawn: more often where music is."""
        pitch, instrument = self.columns["pitch"], self.columns["instrument"]
        low, high = USUAL_PITCHES
        shares = np.where((pitch >= low) & (pitch <= high), 1.0, UNUSUAL_SHARE)
        for row, kit in enumerate(self.kits):
            mine = instrument == N_PROGRAMS + row
            usual = (pitch >= DRUM_KEYS[0]) & (pitch <= DRUM_KEYS[1])
            shares[mine] = KIT_SHARES.get(kit, OTHER_KIT_SHARE) * np.where(usual, 1.0, UNUSUAL_SHARE)[mine]
        return shares

    def batch(self, rng: np.random.Generator, n_notes: int, n_frames: int) -> NoteBatch:
        """Notes at random, and frames of each at random."""
        drawn = self.training[np.searchsorted(self._cumulative, rng.random(n_notes)).clip(max=len(self.training) - 1)]
        return self.take(drawn, rng, n_frames)

    def take(self, notes: NDArray[np.int64], rng: np.random.Generator, n_frames: int) -> NoteBatch:
        """``n_frames`` frames at random of each of these notes."""
        column = {name: values[notes] for name, values in self.columns.items()}
        frames = (rng.random((len(notes), n_frames)) * column["count"][:, None]).astype(np.int64)
        frames = np.sort(frames + column["first"][:, None], axis=1)
        return NoteBatch(
            instrument=torch.from_numpy(column["instrument"].astype(np.int64)),
            key=torch.from_numpy(column["pitch"].astype(np.int64)),
            velocity=torch.from_numpy(column["velocity"].astype(np.float32)),
            hold_s=torch.from_numpy(column["hold_s"].astype(np.float32)),
            age_s=torch.from_numpy(self.age_s[frames]),
            since_end_s=torch.from_numpy(self.since_end_s[frames]),
            log_power=torch.from_numpy(self.log_power[frames]).float(),
            peak=torch.from_numpy(column["peak"].astype(np.float32)),
        )

    def held_levels(self, note: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Of one note, while it is held: (F,) seconds from its onset to the beginnings of frames, from those on whose
        middles lie behind it, and (F,) logarithms of the power of the 128 mel bands, added up."""
        first = self.columns["first"][note]
        frames = slice(first, first + self.columns["count"][note])
        age_s = self.age_s[frames]
        is_held = (age_s >= -FRAME_S / 2) & (self.since_end_s[frames] <= -FRAME_S)
        power = np.exp(self.log_power[frames][is_held, :N_MELS].astype(np.float32))
        return age_s[is_held], np.log(power.sum(axis=1))
