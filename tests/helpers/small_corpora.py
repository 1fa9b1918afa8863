"""A corpus of seconds and a network of hundreds of numbers, for tests of training."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from specdiff_cli.model.config import ModelConfig
from specdiff_cli.train.hyperparameters import TrainConfig
from specdiff_cli.train.run_folder import RunConfig

SMALLEST = ModelConfig(16, 1, 16, 16, 1, 1, 1, n_velocity_bins=4, note_layout=True, objective="x0")
#: A ``[model]`` table of as small a network, for a run's settings.
SMALLEST_TABLE = """\
[model]
d_model = 16
n_heads = 1
d_kv = 16
d_ff = 16
n_note_layers = 1
n_context_layers = 1
n_decoder_layers = 1
note_layout = true
objective = "x0"
"""
HASTY = TrainConfig(
    n_steps=6,
    batch_size=2,
    matrix_lr=5e-3,
    other_lr=5e-3,
    warmup_steps=2,
    precision="float32",
    log_every_steps=1,
    validate_every_steps=4,
    save_every_steps=4,
)
RUN = RunConfig(SMALLEST, HASTY)

#: start_s, end_s, pitch, velocity, program, is_drum
NOTES = [(0.5, 1.5, 60, 80, 0, 0), (1.0, 6.0, 64, 40, 0, 0), (5.5, 7.0, 67, 127, 0, 0)]


def write_piece(path: Path, notes: Sequence[Sequence[float]], length_s: float = 8.0, pitch_hz: float = 440.0) -> Path:
    """A piece: a tone, and notes that need not have anything to do with it."""
    seconds = np.arange(int(16_000 * length_s)) / 16_000
    audio = (np.sin(2 * np.pi * pitch_hz * seconds) * 8000).astype(np.int16)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, audio=audio, notes=np.array(notes, dtype=np.float64).reshape(-1, 6))
    return path


def write_corpus(folder: Path) -> Path:
    """Two training pieces and one for validation."""
    write_piece(folder / "train" / "piece-000000.npz", NOTES)
    write_piece(folder / "train" / "piece-000001.npz", NOTES, length_s=6.0, pitch_hz=330.0)
    write_piece(folder / "validation" / "piece-000002.npz", NOTES)
    return folder


def bells(seed: int) -> np.ndarray:
    """(24 000,) int16: a second and a half of four tones that ring out, with a little noise."""
    time_s = np.arange(24_000) / 16_000
    rng = np.random.default_rng(seed)
    tones = sum(np.sin(2 * np.pi * f * time_s) / 8 for f in rng.uniform(100, 3000, 4)) * np.exp(-time_s)
    return np.asarray(np.round((tones + 0.01 * rng.standard_normal(24_000)) * 20_000), dtype=np.int16)


def write_bells(
    folder: Path, splits: Sequence[str] = ("train", "train", "validation"), notes: np.ndarray | None = None
) -> Path:
    """A corpus for vocoders: one piece for each of ``splits``, with ``notes`` (n, 6) where they are given."""
    for number, split in enumerate(splits):
        (folder / split).mkdir(parents=True, exist_ok=True)
        more: dict[str, Any] = {} if notes is None else {"notes": notes}
        np.savez(folder / split / f"piece-{number}.npz", audio=bells(number), **more)
    return folder
