"""``--save-mel``: the spectrogram as a NumPy file, written window by window, that appears complete or not at all."""

import contextlib
import os
import secrets
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Self

from specdiff_cli.constants import N_MELS
from specdiff_cli.errors import OutputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class MelWriter:
    """Writes (n_frames, 128) float32 log-mel in feature range; ``n_frames`` must be known from the start.

    Raises OutputError (one line) from ``with``, ``write`` and the end of the block. When the block ends with an
    exception nothing is left.
    """

    def __init__(self, target: Path, n_frames: int) -> None:
        self._target = target
        self._temporary = target.with_name(f".specdiff-{secrets.token_hex(6)}.tmp")
        self._n_frames = n_frames
        self._n_written = 0
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        import numpy as np

        try:
            self._file = self._temporary.open("xb")
            header = {"descr": "<f4", "fortran_order": False, "shape": (self._n_frames, N_MELS)}
            np.lib.format.write_array_header_1_0(self._file, header)
        except BaseException as error:
            self._discard()
            if isinstance(error, OSError):
                raise self._failure(error) from None
            raise
        return self

    def write(self, window: "npt.NDArray[np.float32]") -> None:
        """Append frames, (n, 128)."""
        if self._file is None:
            raise ValueError("write() outside the with block")
        try:
            self._file.write(window.astype("<f4").tobytes())
        except OSError as error:
            raise self._failure(error) from None
        self._n_written += len(window)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None and self._file is not None:
                if self._n_written != self._n_frames:
                    raise ValueError(f"{self._n_written} frames were written, {self._n_frames} announced")
                self._file.flush()
                os.fsync(self._file.fileno())
                self._file.close()
                self._temporary.replace(self._target)
        except OSError as failure:
            raise self._failure(failure) from None
        finally:
            self._discard()

    def _discard(self) -> None:
        with contextlib.suppress(OSError):
            if self._file is not None:
                self._file.close()
            self._temporary.unlink(missing_ok=True)
        self._file = None

    def _failure(self, error: OSError) -> OutputError:
        return OutputError(f"cannot write {self._target}: {error.strerror or error}")
