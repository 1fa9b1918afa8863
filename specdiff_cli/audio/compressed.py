"""FLAC, Ogg (Vorbis, Opus) and MP3, written by libsndfile into files and pipes.

What libsndfile cannot do is done to the finished file: all of the tags, and the serial number of an Ogg stream, which
is drawn from the clock; here it comes from the record, so equal samples and records give equal bytes.
"""

import contextlib
import hashlib
import zlib
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from specdiff_cli.audio.compression import OPUS_RATES_HZ, Compression, libsndfile_options
from specdiff_cli.audio.encoding import Layout, record_text, to_integers
from specdiff_cli.audio.tags import Loop, id3_bytes, tag_flac, tag_mp3, tag_ogg
from specdiff_cli.choices import Format
from specdiff_cli.errors import Option, OutputError, UsageError

LONGEST_OGG_COMMENT = 50_000  # libsndfile writes comments that take more than a page (64 KB) wrongly
WRITE_FRAMES = 1 << 14  # libsndfile's Vorbis encoder keeps what it is given at once on the stack
READ_BYTES = 1 << 20
LARGEST = 2**63  # as wide as any number of samples or bytes
LONGEST_LOOP_COMMENTS = [f"LOOPSTART={LARGEST}", f"LOOPLENGTH={LARGEST}"]


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


class _PipeForSoundfile(_FileForSoundfile):
    """A pipe: libsndfile goes back once it has all, to put the length into the header, and that is left out."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self._at = 0
        self._n_written = 0

    def write(self, data: bytes) -> int:
        is_new = self._at == self._n_written
        self._at += len(data)
        if not is_new:
            return len(data)
        self._n_written = self._at
        return super().write(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self._n_written)[whence]
        return self._at

    def tell(self) -> int:
        return self._at


class CompressedBody:
    """An audio file that libsndfile writes. The integers in a FLAC are those of a WAV file with the same subtype.

    With a ``record`` or a ``loop`` the file must be readable, too, and both are put into its tags at the end. The
    record gets the number of samples, and in lossy files the number and the sha256 of the bytes behind the tags (FLAC
    has its own checksum).

    Raises UsageError for rates, bit rates and qualities that the format does not have.
    """

    def __init__(
        self,
        file: BinaryIO,
        file_format: Format,
        layout: Layout,
        *,
        compression: Compression | None = None,
        record: Mapping[str, Any] | None = None,
        loop: Loop | None = None,
        is_pipe: bool = False,
    ) -> None:
        import soundfile

        self._binary = file
        self._file = _PipeForSoundfile(file) if is_pipe else _FileForSoundfile(file)
        self._format = file_format
        self._bits = 8 * layout.subtype.n_bytes
        self._record, self._loop = record, loop
        options = _soundfile_options(file_format, layout, compression)
        self._soundfile: Any = soundfile.SoundFile(self._file, "w", layout.sample_rate_hz, layout.n_channels, **options)
        self._library_error: type[Exception] = soundfile.LibsndfileError
        self._place = self._widest_comment()
        if file_format in (Format.OGG, Format.OPUS) and len(self._place) > LONGEST_OGG_COMMENT:
            self.abandon()
            raise OutputError(f"the record of how it was made takes {len(self._place)} bytes, too many for an Ogg file")
        if self._place:
            self._soundfile.comment = self._place  # before the first sample, or it would not be written

    def write(self, samples: npt.NDArray[np.float32]) -> None:
        for start in range(0, len(samples), WRITE_FRAMES):
            self._write_block(samples[start : start + WRITE_FRAMES])

    def _write_block(self, samples: npt.NDArray[np.float32]) -> None:
        if self._format is not Format.FLAC:
            self._guarded(lambda: self._soundfile.write(samples))
            return
        # libsndfile takes the upper bits of a 32-bit integer
        self._guarded(lambda: self._soundfile.write(to_integers(samples, self._bits) << (32 - self._bits)))

    def finish(self) -> None:
        n_samples = self._soundfile.frames
        if n_samples == 0:  # libsndfile would leave a file without even a header
            name = self._format.upper()
            raise OutputError(f"there is no audio to write: {name} files need at least one sample")
        self._guarded(self._soundfile.close)
        if self._place:
            self._complete_tags(n_samples)

    def abandon(self) -> None:
        self._file.detach()
        # closing frees the encoder, which complains when it could not write
        with contextlib.suppress(self._library_error):
            self._soundfile.close()

    def _widest_comment(self) -> str:
        """A text as long as everything that goes into the tags, to keep the place for it."""
        sha256 = "0" * hashlib.sha256().digest_size * 2
        text = "" if self._record is None else record_text(self._record, LARGEST, sha256, LARGEST)
        if self._loop is not None:
            text += " " * sum(4 + len(comment) for comment in LONGEST_LOOP_COMMENTS)
        return text

    def _complete_tags(self, n_samples: int) -> None:
        loop_comments = [] if self._loop is None else self._loop.comments
        if self._format is Format.FLAC:
            tag_flac(self._binary, [f"comment={self._text(n_samples)}", *loop_comments])
        elif self._format is Format.MP3:
            tag_mp3(self._binary, self._text(n_samples, id3_bytes(self._binary)))
        else:
            tag_ogg(
                self._binary,
                lambda audio_at: [f"COMMENT={self._text(n_samples, audio_at)}", *loop_comments],
                serial=zlib.crc32(self._place.encode()),
            )

    def _text(self, n_samples: int, audio_at: int | None = None) -> str:
        if self._record is None:
            return ""
        if audio_at is None:
            return record_text(self._record, n_samples)
        n_bytes, sha256 = hash_from(self._binary, audio_at)
        return record_text(self._record, n_samples, sha256, n_bytes)

    def _guarded(self, action: Callable[[], object]) -> None:
        try:
            action()
        except (self._library_error, AssertionError) as error:  # soundfile asserts that all frames were written
            raise self._file.error or OSError(str(error)) from error
        if self._file.error is not None:
            raise self._file.error


def check_compression(
    file_format: Format, layout: Layout, compression: Compression | None, loop: Loop | None = None
) -> None:
    """Raise UsageError for rates, bit rates and qualities that the format does not have."""
    if file_format is not Format.WAV:
        _soundfile_options(file_format, layout, compression)
    if file_format is Format.OPUS and loop is not None and layout.sample_rate_hz != OPUS_RATES_HZ[-1]:
        what = "players count the loop points of Opus at 48 kHz: use "
        raise UsageError(
            what, Option("sample_rate", OPUS_RATES_HZ[-1]), ", or ", Option("format", "ogg"), option="loop"
        )


def _soundfile_options(file_format: Format, layout: Layout, compression: Compression | None) -> dict[str, Any]:
    if file_format is Format.FLAC:
        return {"format": "FLAC", "subtype": f"PCM_{8 * layout.subtype.n_bytes}"}
    return libsndfile_options(file_format, compression or Compression(), layout.sample_rate_hz, layout.n_channels)


def hash_from(file: BinaryIO, offset: int, n_bytes: int | None = None) -> tuple[int, str]:
    """How many bytes there are from ``offset`` on (of at most ``n_bytes``), and their sha256."""
    digest, n_read = hashlib.sha256(), 0
    file.seek(offset)
    while data := file.read(READ_BYTES if n_bytes is None else min(READ_BYTES, n_bytes - n_read)):
        digest.update(data)
        n_read += len(data)
    return n_read, digest.hexdigest()
