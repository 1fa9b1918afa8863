"""Where audio ends up: a file that exists only when it is complete, or a pipe.

Nothing here imports torch; samples may come as anything that numpy takes for an array.
"""

import os
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, BinaryIO, Protocol, Self

import numpy.typing as npt

from specdiff_cli.audio.compressed import CompressedBody, check_compression
from specdiff_cli.audio.compression import Compression
from specdiff_cli.audio.encoding import (
    Body,
    Layout,
    Levels,
    WavBody,
    check_format,
    check_wav_length,
    encode,
    wav_header,
)
from specdiff_cli.audio.tags import Loop
from specdiff_cli.choices import Format, Subtype
from specdiff_cli.constants import SAMPLE_RATE_HZ
from specdiff_cli.errors import Option, OutputError, UsageError
from specdiff_cli.files import PendingFile, check_target, output_error, reason, shown_path


class ReaderGone(BrokenPipeError):
    """The process that read our pipe has ended (``specdiff render song.mid -o - | head``). Not a failure of ours.

    The command line should end quietly: point file descriptor 1 at ``os.devnull`` (or the interpreter complains when
    it flushes standard output at exit) and leave with the code that shells expect, without a message.
    """


class Writer(Protocol):
    """What every writer of audio offers; it is used in a ``with`` block."""

    layout: Layout
    levels: Levels

    def __enter__(self) -> Self: ...

    def write(self, samples: npt.ArrayLike) -> None:
        """Append samples: (n,) in mono, else (n, n_channels)."""
        ...

    def settle(self) -> None:
        """Bring all of it to its place, save for the name of a file. No more writing."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class AtomicWriter:
    """Audio file that appears under its name complete or not at all.

    Samples stream into a temporary file in the target's folder. When the ``with`` block ends well, the file is
    completed, flushed to the disk and renamed; when it ends with any exception, KeyboardInterrupt included, the
    temporary file is removed and whatever had the name before is untouched.

    Args:
        path: the target.
        file_format: ``wav``, ``flac``, ``ogg`` (Vorbis), ``opus`` or ``mp3``.
        subtype: ``pcm16``, ``pcm24`` (WAV and FLAC) or ``float`` (WAV only). Integers are rounded plainly, without
            dither. Lossy formats have none of them.
        overwrite: replace an existing file. Without it an existing file is an error, also one that appears while
            we work.
        expected_samples: length of the audio where it is known, per channel at the file's rate: lets a WAV beyond 4 GB
            fail at once.
        record: where the audio comes from, kept as JSON inside the file; :mod:`specdiff_cli.audio.record` reads it
            back. The number of samples is added to it, in a WAV also their sha256, in lossy files that of the encoded
            bytes (FLAC has its own checksum).
        sample_rate_hz: what the header says; samples are written as they come.
        n_channels: with more than one, samples come as (n, n_channels).
        compression: quality or bit rate of a lossy format.
        loop: what a player repeats: a ``smpl`` chunk in WAV, ``LOOPSTART`` and ``LOOPLENGTH`` in FLAC and Ogg.

    Raises (from the constructor, ``with``, ``write`` and the end of the block): OutputError with one line for the
    user, UsageError for formats that do not exist.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        file_format: str = Format.WAV,
        subtype: str = Subtype.PCM16,
        overwrite: bool = False,
        expected_samples: int | None = None,
        record: Mapping[str, Any] | None = None,
        sample_rate_hz: int = SAMPLE_RATE_HZ,
        n_channels: int = 1,
        compression: Compression | None = None,
        loop: Loop | None = None,
    ) -> None:
        self._format, checked_subtype = check_format(file_format, subtype, compression, loop)
        self.layout = Layout(checked_subtype, sample_rate_hz, n_channels)
        check_compression(self._format, self.layout, compression, loop)
        self._shown = shown_path(path)
        self._record, self._compression, self._loop = record, compression, loop
        self._pending = PendingFile(check_target(path, overwrite), overwrite)
        if expected_samples is not None and self._format is Format.WAV:
            check_wav_length(expected_samples, self.layout, self._shown, record, loop)
        self._body: Body | None = None
        self.levels = Levels()

    def __enter__(self) -> Self:
        try:
            self._body = self._start(self._pending.open())
        except BaseException as error:
            self._discard()
            if isinstance(error, OSError):
                raise output_error(self._shown, error) from error
            raise
        return self

    def _start(self, file: BinaryIO) -> Body:
        if self._format is Format.WAV:
            return WavBody(file, self.layout, self._shown, self._record, self._loop)
        return CompressedBody(
            file, self._format, self.layout, compression=self._compression, record=self._record, loop=self._loop
        )

    def write(self, samples: npt.ArrayLike) -> None:
        """Append samples, nominally within +-1. Integer formats clip what is beyond; ``levels`` counts it."""
        if self._body is None:
            raise ValueError("write() outside the with block")
        audio = self.levels.prepare(samples, self.layout)
        if not audio.size:
            return
        try:
            self._body.write(audio)
        except OSError as error:
            raise output_error(self._shown, error) from error

    def settle(self) -> None:
        """Complete the content and bring it to the disk; what remains for the end of the block is the name alone.

        Lets a caller with several outputs learn of a full disk before any of them gets its name. No more writing.
        """
        if self._body is None:
            return
        try:
            self._body.finish()
            self._body = None
            self._pending.settle()
        except OSError as error:
            raise output_error(self._shown, error) from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.settle()
                self._pending.commit()
        except OSError as failure:
            raise output_error(self._shown, failure) from failure
        finally:
            self._discard()

    def _discard(self) -> None:
        """Close and remove the temporary file if it is still there."""
        if self._body is not None:
            self._body.abandon()
            self._body = None
        self._pending.discard()


class StreamWriter:
    """Audio to a pipe, as its samples come, each chunk flushed at once. No header tells the length.

    No record travels with it: whether a stream is complete cannot be told from its beginning. Loop points travel in a
    WAV. Lossy formats come in pages and frames of their own, up to a second at a time.

    ``write`` raises ReaderGone when nobody reads any more, OutputError for other failures. The stream is not closed.
    """

    def __init__(
        self,
        stream: BinaryIO,
        *,
        file_format: str = Format.WAV,
        subtype: str = Subtype.PCM16,
        sample_rate_hz: int = SAMPLE_RATE_HZ,
        n_channels: int = 1,
        compression: Compression | None = None,
        loop: Loop | None = None,
    ) -> None:
        self._format, checked_subtype = check_format(file_format, subtype, compression, loop)
        if loop is not None and self._format is not Format.WAV:
            what = "loop points reach a pipe as WAV only: choose "
            raise UsageError(what, Option("format", "wav"), ", or give a file name with ", Option("output"))
        if stream.isatty():
            rule = " would print audio to the terminal: redirect it or pipe it into a program"
            raise UsageError(Option("output", "-"), rule, option="output", value="-")
        self._stream = stream
        self._compression, self._loop = compression, loop
        self._body: CompressedBody | None = None
        self.layout = Layout(checked_subtype, sample_rate_hz, n_channels)
        check_compression(self._format, self.layout, compression, loop)
        self.levels = Levels()

    def __enter__(self) -> Self:
        if self._format is Format.WAV:
            self._send(lambda: self._stream.write(wav_header(self.layout, None, loop=self._loop)))
        else:
            self._send(self._start)
        return self

    def _start(self) -> None:
        self._body = CompressedBody(
            self._stream, self._format, self.layout, compression=self._compression, is_pipe=True
        )

    def write(self, samples: npt.ArrayLike) -> None:
        """Append samples; clipping as in ``AtomicWriter.write``."""
        audio = self.levels.prepare(samples, self.layout)
        if not audio.size:
            return
        body = self._body
        if body is None:
            self._send(lambda: self._stream.write(encode(audio, self.layout.subtype)))
        else:
            self._send(lambda: body.write(audio))

    def settle(self) -> None:
        """Send what an encoder still holds. No more writing."""
        body = self._body
        if body is not None:
            self._send(body.finish)
            self._body = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.settle()
        finally:
            if self._body is not None:
                self._body.abandon()
                self._body = None

    def _send(self, action: Callable[[], object]) -> None:
        try:
            action()
            self._stream.flush()
        except BrokenPipeError as error:
            raise ReaderGone(error.errno, "the reader of the pipe has ended") from error
        except OSError as error:
            raise OutputError(f"cannot write to standard output: {reason(error)}") from error
