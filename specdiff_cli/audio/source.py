"""Audio files as they come, to mono at our sample rate, block by block. Nothing here imports torch."""

import math
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
import numpy.typing as npt

from specdiff_cli.audio.record import AudioFileError, unreadable
from specdiff_cli.constants import SAMPLE_RATE_HZ
from specdiff_cli.errors import Option
from specdiff_cli.files import reason

BLOCK_S = 1.0
LOWEST_RATE_HZ, HIGHEST_RATE_HZ = 1_000, 768_000


class AudioSource:
    """An audio file of any rate and number of channels, read as 16 kHz mono in memory that does not grow with it.

    Channels are averaged; rates are converted by soxr (linear phase, "HQ"). Use it in a ``with`` block, which opens
    the file.

    Raises (from ``with`` and ``blocks``) AudioFileError with one line: missing, unreadable, empty, longer than
    ``max_duration_s``, or with samples that are not finite numbers. There the file is called ``name``.
    """

    def __init__(self, path: Path, max_duration_s: float = math.inf, name: str | None = None) -> None:
        self.path = path
        self._name = Path(name) if name is not None else path
        self._max_duration_s = max_duration_s
        self._stream: BinaryIO | None = None
        self._file: Any = None

    def __enter__(self) -> Self:
        import soundfile

        try:
            self._stream = self.path.open("rb")  # libsndfile takes no names that are not UTF-8
            self._file = soundfile.SoundFile(self._stream)
            self._check_header()
        except BaseException as error:
            self._close()
            if isinstance(error, FileNotFoundError):
                raise AudioFileError(f"{self._name}: does not exist; check the name") from None
            if isinstance(error, OSError):
                raise AudioFileError(f"{self._name}: cannot be read ({reason(error)})") from None
            if isinstance(error, (soundfile.LibsndfileError, ValueError, TypeError)):
                raise unreadable(self._name, error) from None
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    @property
    def n_samples(self) -> int:
        """Length at 16 kHz, as the file's header has it."""
        return self._converted(self._file.frames)

    def blocks(self) -> Iterator[npt.NDArray[np.float32]]:
        """The audio from the start, (n,) float32 each; together ``n_samples`` of them if the header is right."""
        import soundfile
        import soxr

        rate_hz = self._file.samplerate
        convert = soxr.ResampleStream(rate_hz, SAMPLE_RATE_HZ, 1, dtype="float32", quality="HQ")
        n_read = n_given = 0
        self._file.seek(0)
        while True:
            try:
                block = self._file.read(int(BLOCK_S * rate_hz), dtype="float32", always_2d=True)
            except (OSError, soundfile.LibsndfileError) as error:
                raise unreadable(self._name, error) from None
            self._check_block(block, n_read)
            n_read += len(block)
            is_last = len(block) == 0
            mono = np.ascontiguousarray(block.mean(axis=1, dtype=np.float32))
            given = mono if rate_hz == SAMPLE_RATE_HZ else convert.resample_chunk(mono, last=is_last)
            if is_last:
                # the converter may give a sample more or less than the length says
                rest = self._converted(n_read) - n_given
                given = np.pad(given[:rest], (0, max(0, rest - len(given))))
            n_given += len(given)
            yield given
            if is_last:
                return

    def _converted(self, n_frames: int) -> int:
        return round(n_frames * SAMPLE_RATE_HZ / int(self._file.samplerate))

    def _check_header(self) -> None:
        rate_hz = self._file.samplerate
        if not LOWEST_RATE_HZ <= rate_hz <= HIGHEST_RATE_HZ:
            raise AudioFileError(f"{self._name}: has a sample rate of {rate_hz} Hz; between 1 and 768 kHz can be read")
        if self.n_samples == 0:
            raise AudioFileError(f"{self._name}: holds no audio")
        self._check_length(self._file.frames)

    def _check_length(self, n_frames: int) -> None:
        if n_frames > self._max_duration_s * self._file.samplerate:
            what = f"{self._name}: is longer than {self._max_duration_s:g} seconds; raise "
            raise AudioFileError(what, Option("max_duration"), " to read it", option="max_duration")

    def _check_block(self, block: npt.NDArray[np.float32], n_before: int) -> None:
        finite = np.isfinite(block).all(axis=1)
        if not finite.all():
            at_s = (n_before + int(np.argmin(finite))) / self._file.samplerate
            raise AudioFileError(f"{self._name}: holds samples that are not numbers, the first at {at_s:.3f} s")
        self._check_length(n_before + len(block))

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._stream is not None:
            self._stream.close()
            self._stream = None
