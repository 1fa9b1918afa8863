"""Training excerpts of a vocoder: audio out of a corpus, and what the network sees of it."""

import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from specdiff_cli.audio.mel import log_mel
from specdiff_cli.constants import HOP_SAMPLES, LOG_MEL_MIN
from specdiff_cli.corpus.pieces import INT16_PEAK
from specdiff_cli.errors import UsageError
from specdiff_cli.files import files_in


@dataclass(frozen=True)
class Example:
    """A training batch: excerpts of the corpus and their mel with noise on it."""

    audio: Tensor
    """(B, (n_frames + 2) * 320) float32, whose first hop only serves as "the frame before"."""
    mel: Tensor
    """(B, n_frames, 128) log-mel with noise; frame 0 begins with the second hop of the audio."""


class AudioCorpus:
    """The audio of a folder of pieces, in memory as 16-bit integers (115 MB an hour).

    Raises UsageError for a damaged piece, and when the folder holds none of at least ``shortest_samples``.
    """

    def __init__(self, folder: Path, shortest_samples: int) -> None:
        pieces: dict[str, npt.NDArray[np.int16]] = {}
        for path in files_in(folder, "*.npz"):
            try:
                with np.load(path) as archive:
                    pieces[path.name] = archive["audio"]
            except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
                raise UsageError(f"cannot read {path} ({error}); make the corpus again") from None
        self.pieces = [piece for piece in pieces.values() if len(piece) >= shortest_samples]
        if not self.pieces:
            raise UsageError(f"no pieces of music in {folder}; make them with specdiff train data")
        names = "".join(f"{name} {len(piece)} " for name, piece in pieces.items())
        self.fingerprint = hashlib.sha256(names.encode()).hexdigest()
        """Which pieces these are, by name and length."""
        lengths = np.array([len(piece) for piece in self.pieces], dtype=np.float64)
        self._odds = lengths / lengths.sum()

    def sample(self, n_pieces: int, n_samples: int, generator: np.random.Generator) -> Tensor:
        """Random excerpts, (n_pieces, n_samples) float32 within +-1."""
        rows = []
        for index in generator.choice(len(self.pieces), size=n_pieces, p=self._odds):
            piece = self.pieces[index]
            start = int(generator.integers(len(piece) - n_samples + 1))
            rows.append(piece[start : start + n_samples])
        return torch.from_numpy(np.stack(rows).astype(np.float32) / INT16_PEAK)

    def middles(self, n_pieces: int, n_samples: int) -> list[Tensor]:
        """The middle of each of the first pieces, (at most n_samples,) float32 within +-1."""
        excerpts = []
        for piece in self.pieces[:n_pieces]:
            start = max(0, len(piece) // 2 - n_samples // 2)
            excerpts.append(torch.from_numpy(piece[start : start + n_samples].astype(np.float32) / INT16_PEAK))
        return excerpts


def excerpt_samples(n_frames: int) -> int:
    """Samples of an excerpt of ``n_frames``: a hop more at either end."""
    return (n_frames + 2) * HOP_SAMPLES


def noised_mel(audio: Tensor, noise: Tensor) -> Tensor:
    """Mel of (B, (n_frames + 2) * 320) samples plus noise (B, n_frames, 128), never below silence."""
    mel = log_mel(audio)[:, 1 : 1 + noise.shape[1]]
    return (mel + noise).clamp_min(LOG_MEL_MIN)
