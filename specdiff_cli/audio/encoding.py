"""Samples to bytes: file and sample formats, the WAV header, and the body of a WAV file that a writer fills.

WAV is written here rather than by libsndfile: the same bytes go to files and to pipes, a full disk is reported as
such, and no time stamp gets in (libsndfile puts one into the PEAK chunk of float files), so equal samples give
equal files.
"""

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

from specdiff_cli.audio.compression import Compression
from specdiff_cli.audio.tags import Loop, smpl_chunk
from specdiff_cli.choices import Format, Subtype, check_choice
from specdiff_cli.constants import SAMPLE_RATE_HZ
from specdiff_cli.errors import Option, OutputError, UsageError

UNKNOWN_LENGTH = 0xFFFFFFFF  # what readers take for "until the stream ends"
MAX_RIFF_BYTES = 0xFFFFFFFE  # the largest even size that a RIFF header can state, and not the unknown one

_PCM = 1
_IEEE_FLOAT = 3


def check_format(
    file_format: str, subtype: str, compression: Compression | None = None, loop: Loop | None = None
) -> tuple[Format, Subtype]:
    """The two as enums. Raises UsageError for unknown ones and for combinations that do not exist."""
    check_choice("format", file_format, list(Format))
    check_choice("subtype", subtype, list(Subtype))
    if file_format == Format.FLAC and subtype == Subtype.FLOAT:
        remedy = Option("subtype", "pcm16"), " or pcm24, or ", Option("format", "wav")
        raise UsageError("FLAC cannot hold float samples: choose ", *remedy, option="subtype", value=subtype)
    if Format(file_format).is_lossy and subtype != Subtype.PCM16:
        remedy = Option("subtype", subtype), ", or use ", Option("format", "wav")
        raise UsageError(f"{file_format} has no sample format: leave out ", *remedy, option="subtype", value=subtype)
    if not Format(file_format).is_lossy and not (compression or Compression()).is_default:
        what = Option("quality"), " and ", Option("bit_rate")
        raise UsageError(f"{file_format} loses nothing: ", *what, " are for ogg, opus and mp3")
    if file_format == Format.MP3 and loop is not None:
        raise UsageError(
            "MP3 files have no loop points, and pad their ends with silence: choose wav, flac, ogg or opus"
        )
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


def record_text(
    record: Mapping[str, Any], n_samples: int, audio_sha256: str | None = None, audio_bytes: int | None = None
) -> str:
    """A record as it stands inside a file: one line of JSON in plain ASCII."""
    known = {**record, "samples": n_samples}
    if audio_sha256 is not None:
        known["audio_sha256"] = audio_sha256
    if audio_bytes is not None:
        known["audio_bytes"] = audio_bytes
    return json.dumps(known, ensure_ascii=True, separators=(",", ":"))


def _widest_record(record: Mapping[str, Any]) -> str:
    """A text as long as the record of any WAV file can get, to keep the place for it."""
    return record_text(record, UNKNOWN_LENGTH, "0" * hashlib.sha256().digest_size * 2)


def wav_header(layout: Layout, n_samples: int | None, comment: str | None = None, loop: Loop | None = None) -> bytes:
    """RIFF header up to the samples, of which there are ``n_samples`` per channel. ``None``: unknown, for pipes.

    ``comment`` (ASCII) becomes a LIST/INFO chunk, ``loop`` a smpl chunk, both before the samples, where readers that
    stop at them see them, too.
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
    smpl = b"" if loop is None else _chunk(b"smpl", smpl_chunk(loop, rate_hz))
    chunks = b"WAVE" + _chunk(b"fmt ", fmt) + fact + info + smpl + b"data"
    if n_samples is None:
        return b"RIFF" + struct.pack("<I", UNKNOWN_LENGTH) + chunks + struct.pack("<I", UNKNOWN_LENGTH)
    data_bytes = n_samples * frame_bytes
    riff_bytes = len(chunks) + 4 + data_bytes + data_bytes % 2
    return b"RIFF" + struct.pack("<I", riff_bytes) + chunks + struct.pack("<I", data_bytes)


def _chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def max_wav_samples(layout: Layout, record: Mapping[str, Any] | None = None, loop: Loop | None = None) -> int:
    """The longest WAV file, in samples per channel (pcm16, mono, 16 kHz: 37 hours)."""
    header_bytes = len(wav_header(layout, 0, None if record is None else _widest_record(record), loop))
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

    def __init__(
        self,
        file: BinaryIO,
        layout: Layout,
        target: str,
        record: Mapping[str, Any] | None = None,
        loop: Loop | None = None,
    ) -> None:
        self._file = file
        self._layout = layout
        self._target = target
        self._record, self._loop = record, loop
        self._place = None if record is None else _widest_record(record)
        self._digest = hashlib.sha256()
        self._n_samples = 0
        file.write(wav_header(layout, 0, self._place, loop))

    def write(self, samples: npt.NDArray[np.float32]) -> None:
        check_wav_length(self._n_samples + len(samples), self._layout, self._target, self._record, self._loop)
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
        self._file.write(wav_header(self._layout, self._n_samples, comment, self._loop))

    def abandon(self) -> None:
        pass


def check_wav_length(
    n_samples: int, layout: Layout, target: str, record: Mapping[str, Any] | None = None, loop: Loop | None = None
) -> None:
    """Raise OutputError when a WAV file of that length cannot state its own size."""
    if n_samples > max_wav_samples(layout, record, loop):
        hours = n_samples / layout.sample_rate_hz / 3600
        raise OutputError(
            f"{target}: {hours:.1f} hours of audio exceed the 4 GB of a WAV file: use ", Option("format", "flac")
        )
