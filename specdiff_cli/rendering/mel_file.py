"""``--save-mel``: the spectrogram as a NumPy file, written window by window, that appears complete or not at all."""

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Self

from specdiff_cli.constants import N_MELS
from specdiff_cli.files import PendingFile, check_target, output_error, shown_path

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class MelWriter:
    """Writes (n_frames, 128) float32 log-mel in feature range; ``n_frames`` must be known from the start.

    Raises OutputError (one line) from the constructor, ``with``, ``write`` and the end of the block. When the block
    ends with an exception nothing is left. An existing file is replaced only with ``overwrite``.
    """

    def __init__(self, path: Path, n_frames: int, *, overwrite: bool = False) -> None:
        self._shown = shown_path(path)
        self._target = check_target(path, overwrite)
        self._pending = PendingFile(self._target, overwrite)
        self._n_frames = n_frames
        self._n_written = 0
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        import numpy as np

        try:
            self._file = self._pending.open()
            header = {"descr": "<f4", "fortran_order": False, "shape": (self._n_frames, N_MELS)}
            np.lib.format.write_array_header_1_0(self._file, header)
        except BaseException as error:
            self._pending.discard()
            if isinstance(error, OSError):
                raise output_error(self._shown, error) from None
            raise
        return self

    def write(self, window: "npt.NDArray[np.float32]") -> None:
        """Append frames, (n, 128)."""
        if self._file is None:
            raise ValueError("write() outside the with block")
        try:
            self._file.write(window.astype("<f4").tobytes())
        except OSError as error:
            raise output_error(self._shown, error) from None
        self._n_written += len(window)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                if self._n_written != self._n_frames:
                    raise ValueError(f"{self._n_written} frames were written, {self._n_frames} announced")
                self._pending.commit()
        except OSError as failure:
            raise output_error(self._shown, failure) from None
        finally:
            self._pending.discard()
            self._file = None
