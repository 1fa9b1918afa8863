"""Samples to bytes: the sample formats, the WAV header, and the WAV and FLAC bodies that the writers fill.

WAV is written here rather than by libsndfile: the same bytes go to files and to pipes, a full disk is reported as
such, and no time stamp gets in (libsndfile puts one into the PEAK chunk of float files), so equal samples give
equal files.
"""

import contextlib
import hashlib
import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

from specdiff_cli.constants import SAMPLE_RATE_HZ
from specdiff_cli.errors import OutputError, UsageError

UNKNOWN_LENGTH = 0xFFFFFFFF  # what readers take for "until the stream ends"
MAX_RIFF_BYTES = 0xFFFFFFFE  # the largest even size that a RIFF header can state, and not the unknown one

_PCM = 1
_IEEE_FLOAT = 3


class Format(StrEnum):
    """File formats that can be written."""

    WAV = "wav"
    FLAC = "flac"


class Subtype(StrEnum):
    """Sample formats that can be written."""

    PCM16 = "pcm16"
    PCM24 = "pcm24"
    FLOAT = "float"

    @property
    def n_bytes(self) -> int:
        """Bytes per sample."""
        return {"pcm16": 2, "pcm24": 3, "float": 4}[self.value]


def check_format(file_format: str, subtype: str) -> tuple[Format, Subtype]:
    """The two as enums. Raises UsageError for unknown ones and for combinations that do not exist."""
    if file_format not in list(Format):
        raise UsageError(f"unknown format '{file_format}': choose {' or '.join(Format)}")
    if subtype not in list(Subtype):
        raise UsageError(f"unknown subtype '{subtype}': choose {', '.join(Subtype)}")
    if file_format == Format.FLAC and subtype == Subtype.FLOAT:
        raise UsageError("FLAC cannot hold float samples: choose --subtype pcm16 or pcm24, or --format wav")
    return Format(file_format), Subtype(subtype)


@dataclass(frozen=True, slots=True)
class Layout:
    """How samples lie in a file. A frame is one sample of every channel."""

    subtype: Subtype
    sample_rate_hz: int = SAMPLE_RATE_HZ
    n_channels: int = 1

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample of every channel."""
        return self.subtype.n_bytes * self.n_channels


@dataclass
class Levels:
    """What went through a writer, for the summary line."""

    n_samples: int = 0
    """Samples of one channel."""
    peak: float = 0.0
    """Largest absolute value before any clipping."""
    n_clipped: int = 0
    """Samples (of all channels) beyond +-1 that an integer format had to cut. Float files keep them: always 0 there."""
    n_not_finite: int = 0
    """NaN and infinite samples, written as silence."""

    def prepare(self, samples: npt.ArrayLike, layout: Layout) -> npt.NDArray[np.float32]:
        """Count, and return the samples as they are to be encoded: float32, finite, clipped where need be.

        Samples are (n,) in mono, else (n, n_channels). Raises ValueError for another shape.
        """
        audio = check_samples(samples, layout.n_channels)
        finite = np.isfinite(audio)
        if not finite.all():
            self.n_not_finite += int(audio.size - np.count_nonzero(finite))
            audio = np.where(finite, audio, np.float32(0.0))
        self.n_samples += len(audio)
        if audio.size:
            self.peak = max(self.peak, float(np.abs(audio).max()))
        if layout.subtype is not Subtype.FLOAT:
            self.n_clipped += int(np.count_nonzero(np.abs(audio) > 1.0))
            audio = np.clip(audio, -1.0, 1.0)
        return audio


def check_samples(samples: npt.ArrayLike, n_channels: int) -> npt.NDArray[np.float32]:
    """Samples as float32, (n,) in mono, else (n, n_channels). Raises ValueError for another shape."""
    audio = np.asarray(samples, dtype=np.float32)
    if n_channels == 1 and audio.ndim != 1:
        raise ValueError(f"expected mono samples of shape (n,), not {audio.shape}")
    if n_channels > 1 and (audio.ndim != 2 or audio.shape[1] != n_channels):
        raise ValueError(f"expected samples of shape (n, {n_channels}), not {audio.shape}")
    return audio


def to_integers(samples: npt.NDArray[np.float32], bits: int) -> npt.NDArray[np.int32]:
    """Round samples within +-1 to ``bits``-bit integers. Symmetric: +-1 gives +-(2^(bits - 1) - 1). No dither."""
    # float64: 24-bit products do not fit into float32's mantissa
    integers: npt.NDArray[np.int32] = np.rint(samples.astype(np.float64) * (2 ** (bits - 1) - 1)).astype(np.int32)
    return integers


def encode(samples: npt.NDArray[np.float32], subtype: Subtype) -> bytes:
    """Little-endian bytes of prepared samples, as they stand in a WAV file: channels interleaved."""
    if subtype is Subtype.FLOAT:
        return samples.astype("<f4").tobytes()
    if subtype is Subtype.PCM16:
        return to_integers(samples, 16).astype("<i2").tobytes()
    four_bytes = to_integers(samples, 24).astype("<i4").view(np.uint8).reshape(-1, 4)
    return four_bytes[:, :3].tobytes()


def record_text(record: Mapping[str, Any], n_samples: int | None, audio_sha256: str | None = None) -> str:
    """A record as it stands inside a file: one line of JSON in plain ASCII."""
    known = {**record, "samples": n_samples}
    if audio_sha256 is not None:
        known["audio_sha256"] = audio_sha256
    return json.dumps(known, ensure_ascii=True, separators=(",", ":"))


def _widest_record(record: Mapping[str, Any]) -> str:
    """A text as long as the record of any WAV file can get, to keep the place for it."""
    return record_text(record, UNKNOWN_LENGTH, "0" * hashlib.sha256().digest_size * 2)


def wav_header(layout: Layout, n_samples: int | None, comment: str | None = None) -> bytes:
    """RIFF header up to the samples, of which there are ``n_samples`` per channel. ``None``: unknown, for pipes.

    ``comment`` (ASCII) becomes a LIST/INFO chunk before the samples, where readers that stop at them see it, too.
    """
    code = _IEEE_FLOAT if layout.subtype is Subtype.FLOAT else _PCM
    rate_hz, frame_bytes = layout.sample_rate_hz, layout.frame_bytes
    bits = 8 * layout.subtype.n_bytes
    fmt = struct.pack("<HHIIHH", code, layout.n_channels, rate_hz, rate_hz * frame_bytes, frame_bytes, bits)
    fact = b""
    if code == _IEEE_FLOAT:  # formats other than PCM need an (empty) extension and the number of samples
        fmt += struct.pack("<H", 0)
        fact = _chunk(b"fact", struct.pack("<I", UNKNOWN_LENGTH if n_samples is None else n_samples))
    info = b"" if comment is None else _chunk(b"LIST", b"INFO" + _chunk(b"ICMT", comment.encode("ascii") + b"\0"))
    chunks = b"WAVE" + _chunk(b"fmt ", fmt) + fact + info + b"data"
    if n_samples is None:
        return b"RIFF" + struct.pack("<I", UNKNOWN_LENGTH) + chunks + struct.pack("<I", UNKNOWN_LENGTH)
    data_bytes = n_samples * frame_bytes
    riff_bytes = len(chunks) + 4 + data_bytes + data_bytes % 2
    return b"RIFF" + struct.pack("<I", riff_bytes) + chunks + struct.pack("<I", data_bytes)


def _chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def max_wav_samples(layout: Layout, record: Mapping[str, Any] | None = None) -> int:
    """The longest WAV file, in samples per channel (pcm16, mono, 16 kHz: 37 hours)."""
    header_bytes = len(wav_header(layout, 0, None if record is None else _widest_record(record)))
    return (MAX_RIFF_BYTES + 8 - header_bytes - 1) // layout.frame_bytes


class Body(Protocol):
    """An audio file being written into an open, seekable binary file. Raises OSError as the file does."""

    def write(self, samples: npt.NDArray[np.float32]) -> None:
        """Append prepared samples."""
        ...

    def finish(self) -> None:
        """Complete the file. Leaves the binary file open."""
        ...

    def abandon(self) -> None:
        """Let go of the file without completing it. Never raises."""
        ...


class WavBody:
    """A WAV file whose header, with the record of where the audio comes from, is completed at the end."""

    def __init__(self, file: BinaryIO, layout: Layout, target: str, record: Mapping[str, Any] | None = None) -> None:
        self._file = file
        self._layout = layout
        self._target = target
        self._record = record
        self._place = None if record is None else _widest_record(record)
        self._digest = hashlib.sha256()
        self._n_samples = 0
        file.write(wav_header(layout, 0, self._place))

    def write(self, samples: npt.NDArray[np.float32]) -> None:
        check_wav_length(self._n_samples + len(samples), self._layout, self._target, self._record)
        data = encode(samples, self._layout.subtype)
        self._digest.update(data)
        self._file.write(data)
        self._n_samples += len(samples)

    def finish(self) -> None:
        if self._n_samples * self._layout.frame_bytes % 2:
            self._file.write(b"\0")  # chunks have even lengths
        self._file.seek(0)
        comment = None
        if self._record is not None and self._place is not None:
            comment = record_text(self._record, self._n_samples, self._digest.hexdigest()).ljust(len(self._place))
        self._file.write(wav_header(self._layout, self._n_samples, comment))

    def abandon(self) -> None:
        pass


def check_wav_length(n_samples: int, layout: Layout, target: str, record: Mapping[str, Any] | None = None) -> None:
    """Raise OutputError when a WAV file of that length cannot state its own size."""
    if n_samples > max_wav_samples(layout, record):
        hours = n_samples / layout.sample_rate_hz / 3600
        raise OutputError(f"{target}: {hours:.1f} hours of audio exceed the 4 GB of a WAV file: use --format flac")


class _FileForSoundfile:
    """Keeps a file's OSError until Python code can raise it: exceptions inside C callbacks are only printed."""

    def __init__(self, file: BinaryIO) -> None:
        self._file: BinaryIO | None = file
        self.error: OSError | None = None

    def detach(self) -> None:
        """From here on pretend that all goes well, without touching the file."""
        self._file = None

    def write(self, data: bytes) -> int:
        return self._guarded(lambda file: file.write(data), len(data), 0)

    def seek(self, offset: int, whence: int = 0) -> int:
        # a seek flushes what is buffered, so it can meet a full disk
        return self._guarded(lambda file: file.seek(offset, whence), 0, -1)

    def tell(self) -> int:
        return self._guarded(lambda file: file.tell(), 0, -1)

    def read(self, n_bytes: int) -> bytes:
        return b""  # libsndfile's interface asks for it; a writer never reads

    def _guarded(self, action: Callable[[BinaryIO], int], if_detached: int, if_failed: int) -> int:
        if self._file is None:
            return if_detached
        try:
            return action(self._file)
        except OSError as error:
            self.error = self.error or error
            return if_failed


class FlacBody:
    """A FLAC file written by libsndfile; the integers are those of a WAV file with the same subtype."""

    def __init__(self, file: BinaryIO, layout: Layout, comment: str | None = None) -> None:
        import soundfile

        self._file = _FileForSoundfile(file)
        self._bits = 8 * layout.subtype.n_bytes
        self._soundfile: Any = soundfile.SoundFile(
            self._file,
            "w",
            layout.sample_rate_hz,
            layout.n_channels,
            subtype=f"PCM_{self._bits}",
            format="FLAC",
        )
        self._library_error: type[Exception] = soundfile.LibsndfileError
        if comment is not None:
            self._soundfile.comment = comment  # before the first sample, or it would not be written

    def write(self, samples: npt.NDArray[np.float32]) -> None:
        # libsndfile takes the upper bits of a 32-bit integer
        self._guarded(lambda: self._soundfile.write(to_integers(samples, self._bits) << (32 - self._bits)))

    def finish(self) -> None:
        if self._soundfile.frames == 0:  # libsndfile would leave a file without even a header
            raise OutputError("there is no audio to write: a FLAC file needs at least one sample")
        self._guarded(self._soundfile.close)

    def abandon(self) -> None:
        self._file.detach()
        # closing frees the encoder, which complains when it could not write
        with contextlib.suppress(self._library_error):
            self._soundfile.close()

    def _guarded(self, action: Callable[[], object]) -> None:
        try:
            action()
        except (self._library_error, AssertionError) as error:  # soundfile asserts that all frames were written
            raise self._file.error or OSError(str(error)) from error
        if self._file.error is not None:
            raise self._file.error
