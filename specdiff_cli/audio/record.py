"""What an audio file tells about itself: the record of where it comes from, and whether it is complete.

A record is the JSON object that :class:`specdiff_cli.audio.wav.AtomicWriter` put into the file: a LIST/INFO comment in
a WAV, a Vorbis comment in FLAC and Ogg, an ID3 comment in an MP3. Nothing here imports torch.
"""

import contextlib
import hashlib
import json
import math
import struct
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from specdiff_cli.audio.compressed import hash_from
from specdiff_cli.audio.tags import (
    Loop,
    find_flac_comments,
    header_pages,
    id3_bytes,
    ogg_comments,
    parse_loop_comments,
    parse_smpl,
    unpack_comments,
)
from specdiff_cli.constants import exact_div
from specdiff_cli.errors import ExitCode, SpecdiffError
from specdiff_cli.files import reason, shown_path
from specdiff_cli.streams import seekable
from specdiff_cli.wording import clock, count

PROGRAM = "specdiff"  # what the key "program" of a record of ours says
READ_BYTES = 1 << 20
READ_FRAMES = 1 << 16
MAX_COMMENT_BYTES = 1 << 20  # a larger chunk of text is none of ours
FMT_AT = 20  # where the values of a WAV's first chunk begin
FLAC_MD5_AT = slice(26, 42)  # within "fLaC", a block header of 4 bytes and STREAMINFO, whose last 16 bytes it is


class AudioFileError(SpecdiffError):
    """An audio file that cannot be read."""

    exit_code = ExitCode.MIDI  # an input that cannot be read, as MIDI files have it


@dataclass(frozen=True, slots=True)
class AudioFile:
    """What an audio file holds. ``problem`` says why it is not complete, as a phrase; None where it is."""

    file_format: str
    subtype: str
    sample_rate_hz: int
    n_channels: int
    n_samples: int
    """Samples of one channel."""
    peak: float
    """Largest absolute sample that is a finite number."""
    loudness_lufs: float | None
    """Integrated loudness (ITU-R BS.1770); None for silence, more than two channels, or less than 8 kHz."""
    n_not_finite: int
    """Samples, of all channels, that are NaN or infinite."""
    record: dict[str, Any] | None
    problem: str | None
    loop: Loop | None = None
    """What a player repeats, where the file says so."""

    def to_json(self) -> dict[str, Any]:
        """Everything, in plain types."""
        known = {key: value for key, value in asdict(self).items() if key not in ("record", "problem")}
        return {
            **known,
            "loudness_lufs": None if self.loudness_lufs is None else round(self.loudness_lufs, 2),
            "duration_s": round(self.n_samples / self.sample_rate_hz, 6),
            # Only a record says how much there should be.
            "complete": None if self.record is None and self.problem is None else self.problem is None,
            "problem": self.problem,
            "record": self.record,
        }

    def facts(self) -> list[tuple[str, str]]:
        """Everything in words: names and what they stand for."""
        channels = {1: "mono", 2: "stereo"}.get(self.n_channels, f"{self.n_channels} channels")
        level = f"{20 * math.log10(self.peak):.1f} dBFS" if self.peak > 0 else "silence"
        rows = [
            ("Length", f"{clock(self.n_samples / self.sample_rate_hz)} ({self.n_samples} samples)"),
            ("Format", f"{self.file_format} {self.subtype}, {self.sample_rate_hz} Hz, {channels}"),
            ("Peak", f"{self.peak:.4f} ({level})"),
        ]
        if self.loudness_lufs is not None:
            rows.append(("Loudness", f"{self.loudness_lufs:.1f} LUFS"))
        if self.n_not_finite:
            rows.append(("Damaged", f"{count(self.n_not_finite, 'sample')} no finite number"))
        if self.record is None:
            return [*rows, ("Made by", "unknown: it holds no record of specdiff")]
        rows.append(("Complete", "yes" if self.problem is None else f"no: {self.problem}"))
        for key, value in self.record.items():
            rows += _record_rows(key, value)
        return rows


def _record_rows(key: str, value: object) -> list[tuple[str, str]]:
    if isinstance(value, dict):
        return [row for name, item in value.items() for row in _record_rows(f"{key} {name}", item)]
    return [(key.capitalize(), str(value))]


def read_record(path: Path) -> dict[str, Any] | None:
    """The record inside an audio file; None where there is none, or no such file. Raises OSError."""
    try:
        with path.open("rb") as file:
            magic = file.read(4)
            comment = _wav_layout(file).comment if magic == b"RIFF" else None
    except (FileNotFoundError, NotADirectoryError):
        return None
    if magic in (b"fLaC", b"OggS") or magic[:3] == b"ID3":
        comment = _libsndfile_comment(path)
    return _parse(comment)


def format_inside(path: Path) -> str:
    """The format of an audio file of ours, by what is in it. Raises OSError."""
    with path.open("rb") as file:
        magic = file.read(4)
        if magic == b"OggS":
            pages = header_pages(file)
            return "opus" if pages and pages[0].body.startswith(b"OpusHead") else "ogg"
    return "flac" if magic == b"fLaC" else "mp3" if magic[:3] == b"ID3" else "wav"


def read_loop(path: Path) -> Loop | None:
    """The loop that a WAV, FLAC or Ogg file states; None where it states none. Raises OSError."""
    with path.open("rb") as file:
        magic = file.read(4)
        if magic == b"RIFF":
            return _wav_layout(file).loop
        if magic == b"fLaC":
            found = find_flac_comments(file)
            return None if found is None else parse_loop_comments(_comments(found[1]))
        return parse_loop_comments(ogg_comments(header_pages(file))) if magic == b"OggS" else None


def find_problem(path: Path, record: dict[str, Any]) -> str | None:
    """Read the whole file; why it is not what its record says was written, or None. Raises OSError."""
    with path.open("rb") as file:
        magic = file.read(42)
        if magic[:4] == b"OggS":
            return _ogg_problem(file, record)
        if magic[:3] == b"ID3":
            return _lossy_problem(file, record, id3_bytes(file))
    return _flac_problem(path, magic[FLAC_MD5_AT]) if magic[:4] == b"fLaC" else _wav_problem(path, record)


def inspect_audio(path: Path, name: str | None = None) -> AudioFile:
    """Read all of an audio file, whoever made it; ``name`` is what messages call it.

    Raises:
        AudioFileError: missing, unreadable, or not a format that libsndfile knows.
    """
    import soundfile

    try:
        record = read_record(path)
        with path.open("rb") as stream, soundfile.SoundFile(stream) as audio:
            n_samples, peak, loudness_lufs, n_not_finite = _measure(audio)
            problem = find_problem(path, record) if record is not None else None
            if problem is None and n_samples != audio.frames:
                problem = _too_short(n_samples, audio.frames)
            return AudioFile(
                file_format=audio.format,
                subtype=audio.subtype,
                sample_rate_hz=audio.samplerate,
                n_channels=audio.channels,
                n_samples=n_samples,
                peak=peak,
                loudness_lufs=loudness_lufs,
                n_not_finite=n_not_finite,
                record=record,
                problem=problem,
                loop=read_loop(path),
            )
    except OSError as error:
        raise AudioFileError(f"{shown_path(name or path)}: cannot be read ({reason(error)})") from None
    except (soundfile.LibsndfileError, ValueError) as error:  # ValueError: a NUL character in the name
        raise unreadable(Path(name or path), error) from None


def inspect_input(path: Path) -> AudioFile:
    """The same of what a user names: a file, or a pipe, which is copied. Raises AudioFileError."""
    try:
        with seekable(path) as copy:
            return inspect_audio(copy, name=str(path))
    except OSError as error:
        raise AudioFileError(f"{path}: cannot be read ({reason(error)})") from None


def _measure(audio: Any) -> tuple[int, float, float | None, int]:
    """Samples per channel, peak, loudness and samples that are no numbers of an opened file."""
    import numpy as np

    from specdiff_cli.audio.loudness import LOWEST_RATE_HZ, MAX_CHANNELS, LoudnessMeter
    from specdiff_cli.audio.source import HIGHEST_RATE_HZ

    n_samples, n_not_finite, peak = 0, 0, 0.0
    can_meter = audio.channels <= MAX_CHANNELS and LOWEST_RATE_HZ <= audio.samplerate <= HIGHEST_RATE_HZ
    meter = LoudnessMeter(audio.samplerate, audio.channels) if can_meter else None
    for block in _blocks(audio, "float64"):
        n_samples += len(block)
        n_not_finite += int(block.size - np.count_nonzero(np.isfinite(block)))
        finite = np.nan_to_num(block, nan=0.0, posinf=0.0, neginf=0.0)
        peak = max(peak, float(np.abs(finite).max()))
        if meter is not None:
            meter.push(finite.clip(-1e9, 1e9))  # which it takes as float32
    loudness_lufs = -math.inf if meter is None else meter.finish()
    return n_samples, peak, loudness_lufs if math.isfinite(loudness_lufs) else None, n_not_finite


def unreadable(path: Path, error: Exception) -> AudioFileError:
    """What to raise where libsndfile cannot read a file."""
    detail = getattr(error, "error_string", None) or reason(error)  # without the name or object that it puts first
    return AudioFileError(f"{path}: is not an audio file that can be read ({detail.rstrip('.')})")


@dataclass(frozen=True, slots=True)
class _WavLayout:
    comment: str | None
    data_offset: int | None
    data_bytes: int
    loop: Loop | None = None


def _wav_layout(file: BinaryIO) -> _WavLayout:
    """Walk the chunks of a RIFF file up to the samples."""
    comment, loop = None, None
    file.seek(12)
    while len(head := file.read(8)) == 8:
        name, size = struct.unpack("<4sI", head)
        if name == b"data":
            return _WavLayout(comment, file.tell(), size, loop)
        if name == b"LIST" and size <= MAX_COMMENT_BYTES:
            comment = _info_comment(file.read(size)) or comment
            file.seek(size % 2, 1)
        elif name == b"smpl" and size <= MAX_COMMENT_BYTES:
            loop = parse_smpl(file.read(size))
            file.seek(size % 2, 1)
        else:
            file.seek(size + size % 2, 1)
    return _WavLayout(comment, None, 0, loop)


def _info_comment(content: bytes) -> str | None:
    if content[:4] != b"INFO":
        return None
    at = 4
    while at + 8 <= len(content):
        name, size = struct.unpack_from("<4sI", content, at)
        if name == b"ICMT":
            return content[at + 8 : at + 8 + size].rstrip(b"\0").decode("ascii", errors="replace")
        at += 8 + size + size % 2
    return None


def _libsndfile_comment(path: Path) -> str | None:
    """Raises OSError."""
    import soundfile

    # Opened here: libsndfile takes no names that are not UTF-8.
    with path.open("rb") as file, contextlib.suppress(soundfile.LibsndfileError):
        with soundfile.SoundFile(file) as audio:
            return str(audio.comment)
    return None


def _comments(area: bytes) -> list[str]:
    try:
        return unpack_comments(area)[1]
    except ValueError:
        return []


def _parse(comment: str | None) -> dict[str, Any] | None:
    try:
        record = json.loads(comment or "")
    except (ValueError, RecursionError):
        return None
    is_ours = isinstance(record, dict) and record.get("program") == PROGRAM
    return record if is_ours and isinstance(record.get("samples"), int) else None


def _wav_problem(path: Path, record: dict[str, Any]) -> str | None:
    """Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        layout = _wav_layout(file)
        if layout.data_offset is not None:
            file.seek(0)
            if not _is_own_header(file.read(layout.data_offset), layout):
                return "its header is not what was written"
        left = layout.data_bytes
        while left and (data := file.read(min(left, READ_BYTES))):
            digest.update(data)
            left -= len(data)
    if left:
        return f"it is cut off: {layout.data_bytes - left} of {layout.data_bytes} bytes of audio"
    return None if digest.hexdigest() == record.get("audio_sha256") else "its audio is not what was written"


def _is_own_header(header: bytes, found: _WavLayout) -> bool:
    """Would we write this header for what it says? What it says more than once must agree, so a flipped bit shows.

    The size of the whole is left out: programs that append tags change it.
    """
    from specdiff_cli.audio.encoding import Layout, wav_header
    from specdiff_cli.audio.source import HIGHEST_RATE_HZ
    from specdiff_cli.choices import Subtype

    if len(header) < FMT_AT + 16:
        return False
    code, n_channels, rate_hz, _, _, bits = struct.unpack_from("<HHIIHH", header, FMT_AT)
    subtype = {(1, 16): Subtype.PCM16, (1, 24): Subtype.PCM24, (3, 32): Subtype.FLOAT}.get((code, bits))
    if subtype is None or not 1 <= n_channels <= 2 or rate_hz > HIGHEST_RATE_HZ or not (found.comment or "").isascii():
        return False
    layout = Layout(subtype, rate_hz, n_channels)
    anew = wav_header(layout, found.data_bytes // layout.frame_bytes, found.comment, found.loop)
    return header[:4] == anew[:4] and header[8:] == anew[8:]


def _flac_problem(path: Path, md5: bytes) -> str | None:
    """Raises OSError."""
    import soundfile

    digest = hashlib.md5(usedforsecurity=False)  # FLAC's own checksum of the decoded samples
    n_samples = 0
    try:
        with path.open("rb") as file, soundfile.SoundFile(file) as audio:
            n_bytes = exact_div(int(audio.subtype.removeprefix("PCM_")), 8)
            for block in _blocks(audio, "int32"):
                n_samples += len(block)
                # libsndfile hands out the upper bits of 32; little-endian, so the first bytes are the empty ones
                four_bytes = block.astype("<i4").view("u1").reshape(-1, 4)
                digest.update(four_bytes[:, 4 - n_bytes :].tobytes())
            if n_samples != audio.frames:
                return _too_short(n_samples, audio.frames)
    except (soundfile.LibsndfileError, ValueError):
        return "it is damaged or cut off"
    return None if digest.digest() == md5 else "its audio is not what was written"


def _ogg_problem(file: BinaryIO, record: dict[str, Any]) -> str | None:
    pages = header_pages(file)
    if not pages or any(page.checksum != page.signed().checksum for page in pages):
        return "its header is not what was written"
    return _lossy_problem(file, record, pages[-1].at + len(pages[-1].head) + len(pages[-1].body))


def _lossy_problem(file: BinaryIO, record: dict[str, Any], audio_at: int) -> str | None:
    """What is wrong with encoded audio from that byte on. Tags behind it are none of it."""
    announced = record.get("audio_bytes")
    if not isinstance(announced, int) or announced < 1:
        return "its header is not what was written"
    n_bytes, sha256 = hash_from(file, audio_at, announced)
    if n_bytes < announced:
        return f"it is cut off: {n_bytes} of {announced} bytes of audio"
    return None if sha256 == record.get("audio_sha256") else "its audio is not what was written"


def _blocks(audio: Any, dtype: str) -> Iterator[Any]:
    while len(block := audio.read(max(1, READ_FRAMES // audio.channels), dtype=dtype)):
        yield block


def _too_short(n_samples: int, announced: int) -> str:
    return f"it is cut off: {n_samples} of {announced} samples"
