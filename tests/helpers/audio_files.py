"""Audio files written for tests."""

from pathlib import Path

import numpy as np

from specdiff_cli.audio.wav import AtomicWriter


def quiet_tone(n: int = 1001) -> np.ndarray:
    """(n,) samples of a sine at half of full scale."""
    return (0.5 * np.sin(np.arange(n) / 7)).astype(np.float32)


def write(path: Path, *pieces: np.ndarray, **options: object) -> AtomicWriter:
    """The samples as a file; the writer, closed."""
    with AtomicWriter(path, **options) as writer:  # type: ignore[arg-type]
        for piece in pieces:
            writer.write(piece)
    return writer


def listing(folder: Path) -> list[str]:
    """Names in a folder."""
    return sorted(path.name for path in folder.iterdir())
