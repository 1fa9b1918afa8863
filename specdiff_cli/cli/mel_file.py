"""``--save-mel``: the spectrogram as a NumPy file that appears complete or not at all."""

import contextlib
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from specdiff_cli.constants import N_MELS
from specdiff_cli.errors import OutputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class MelCollector:
    """Keeps the windows of one song, (frames, 128) float32 each: 25 kB per second of audio."""

    def __init__(self) -> None:
        self._windows: list[npt.NDArray[np.float32]] = []

    def add(self, window: "npt.NDArray[np.float32]") -> None:
        """Append one window."""
        self._windows.append(window.copy())

    def save(self, target: Path) -> None:
        """Write (frames, 128) float32 log-mel in feature range under its final name. Raises OutputError."""
        import numpy as np

        mel = np.concatenate(self._windows) if self._windows else np.empty((0, N_MELS), dtype=np.float32)
        temporary = target.with_name(f".specdiff-{secrets.token_hex(6)}.tmp")
        try:
            with temporary.open("wb") as file:
                np.save(file, mel)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        except OSError as error:
            raise OutputError(f"cannot write {target}: {error.strerror or error}") from None
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
