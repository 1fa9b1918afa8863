"""Audio to log-mel and back through a vocoder alone, as a library: what ``specdiff vocode`` does."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import TYPE_CHECKING, Any

from specdiff_cli.choices import DEFAULT_MAX_DURATION_S, DEFAULT_VOICE, check_max_duration, check_threads
from specdiff_cli.constants import SAMPLE_RATE_HZ
from specdiff_cli.errors import Option, OutputError, UsageError
from specdiff_cli.files import reason
from specdiff_cli.rendering.jobs import format_of
from specdiff_cli.rendering.request import STDOUT
from specdiff_cli.streams import is_closed, seekable

if TYPE_CHECKING:
    import numpy.typing as npt
    import torch

    from specdiff_cli.audio.mel_stream import MelDistance
    from specdiff_cli.audio.resample import Resampler
    from specdiff_cli.audio.source import AudioSource
    from specdiff_cli.audio.vocoder import Vocoder
    from specdiff_cli.audio.wav import AtomicWriter, StreamWriter, Writer

MEL_SUFFIX = ".npy"
MEL_MAGIC = b"\x93NUMPY"
MEL_BLOCK_FRAMES = 128


@dataclass(frozen=True, slots=True)
class VocodeRequest:
    """What is to pass through a vocoder, and where to. Raises UsageError for what cannot be.

    ``source`` is an audio file, or a spectrogram (.npy); ``output`` a file, or ``-`` for WAV on standard output.
    ``vocoder`` None is that of the voice ``model``, ``file_format`` None what the output's suffix says.
    """

    source: Path
    output: str
    model: str = DEFAULT_VOICE
    vocoder: str | None = None
    threads: int | None = None
    file_format: str | None = None
    subtype: str = "pcm16"
    sample_rate_hz: int = SAMPLE_RATE_HZ
    max_duration_s: float = DEFAULT_MAX_DURATION_S
    overwrite: bool = False

    def __post_init__(self) -> None:
        from specdiff_cli.audio.encoding import check_format
        from specdiff_cli.audio.resample import check_rate

        check_max_duration(self.max_duration_s)
        check_threads(self.threads)
        if self.output == "":
            raise UsageError(Option("output"), ": the name is empty (an unset variable?)", option="output")
        if self.target is not None and os.path.realpath(self.output) == os.path.realpath(self.source):
            raise UsageError(f"{self.output}: is the input, too; choose another name for the output")
        check_rate(self.sample_rate_hz)
        check_format(self.format, self.subtype)

    @property
    def target(self) -> Path | None:
        """The file to write; None: standard output."""
        return None if self.output == STDOUT else Path(self.output)

    @property
    def format(self) -> str:
        """The format of the output."""
        return self.file_format or format_of(self.output, None)


@dataclass(frozen=True, slots=True)
class Vocoded:
    """What came of it. ``nepers``: mean difference of the 128 log-mel bands between input and output."""

    voice: str
    vocoder: str
    duration_s: float
    elapsed_s: float
    n_clipped: int
    nepers: float


def vocode_file(
    request: VocodeRequest,
    *,
    loading: AbstractContextManager[object] | None = None,
    on_progress: Callable[[int, int], None] = lambda n_done, n_samples: None,
) -> Vocoded:
    """Pass audio through a vocoder: written exactly as long as it came, in memory that does not grow with it.

    Args:
        loading: entered while weights are read.
        on_progress: told how many samples at 16 kHz are done, of how many.

    Raises:
        AudioFileError: the source cannot be read.
        WeightsError: the vocoder cannot be loaded.
        OutputError: the output cannot be written.
    """
    from specdiff_cli.audio.resample import Resampler

    resampler = Resampler(request.sample_rate_hz)
    _check_output(request)
    with _open_source(request.source, request.max_duration_s) as opened:  # told before anything heavy is loaded
        with loading or nullcontext():
            voice, vocoder = _load(request)
        start_s = time.perf_counter()
        with _open_writer(request, resampler, opened.n_samples) as writer:
            distance = pass_through(
                opened, vocoder, resampler, writer, lambda n_done: on_progress(n_done, opened.n_samples)
            )
        return Vocoded(
            voice=voice,
            vocoder=vocoder.name,
            duration_s=writer.levels.n_samples / request.sample_rate_hz,
            elapsed_s=time.perf_counter() - start_s,
            n_clipped=writer.levels.n_clipped,
            nepers=distance.nepers,
        )


class MelSource:
    """A spectrogram of ``render --save-mel``: (n_frames, 128) log-mel in feature range, read as it is needed.

    Raises AudioFileError with one line: missing, unreadable, of another shape or type, empty, too long, or with
    values that are not finite numbers.
    """

    def __init__(self, path: Path, max_duration_s: float, name: str | None = None) -> None:
        import numpy as np

        from specdiff_cli.audio.record import AudioFileError
        from specdiff_cli.constants import FRAMES_PER_SECOND, HOP_SAMPLES, N_MELS

        self._name = str(path) if name is None else name
        try:
            self._mel: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        except FileNotFoundError:
            raise AudioFileError(f"{self._name}: does not exist; check the name") from None
        except (OSError, ValueError, EOFError, SyntaxError, TokenError) as error:  # the latter two: of its header
            detail = getattr(error, "strerror", None) or "no NumPy array of numbers"
            raise AudioFileError(f"{self._name}: cannot be read ({detail})") from None
        if not isinstance(self._mel, np.ndarray) or self._mel.ndim != 2 or self._mel.shape[1] != N_MELS:
            shape = getattr(self._mel, "shape", "several arrays")
            what = f"{self._name}: is {shape}, not (frames, {N_MELS}) as "
            raise AudioFileError(what, Option("save_mel"), " writes it")
        if self._mel.dtype.kind != "f":
            what = f"{self._name}: holds {self._mel.dtype}, not float32 as "
            raise AudioFileError(what, Option("save_mel"), " writes it")
        if len(self._mel) == 0:
            raise AudioFileError(f"{self._name}: holds no frames")
        if len(self._mel) > max_duration_s * FRAMES_PER_SECOND:
            raise AudioFileError(
                f"{self._name}: is longer than {max_duration_s:g} seconds; raise ",
                Option("max_duration"),
                " to read it",
            )
        self.n_samples = len(self._mel) * HOP_SAMPLES

    def frames(self) -> "Iterator[torch.Tensor]":
        """The frames in order, (n, 128) float32 each."""
        import numpy as np
        import torch

        from specdiff_cli.audio.record import AudioFileError

        for start in range(0, len(self._mel), MEL_BLOCK_FRAMES):
            block = np.array(self._mel[start : start + MEL_BLOCK_FRAMES], dtype=np.float32)
            if not np.isfinite(block).all():
                at = start + int(np.argmin(np.isfinite(block).all(axis=1)))
                raise AudioFileError(f"{self._name}: holds values that are not numbers, the first in frame {at}")
            yield torch.from_numpy(block)


def _check_output(request: VocodeRequest) -> None:
    """Refuse an impossible output before any work."""
    from specdiff_cli.files import check_target

    if request.target is not None:
        check_target(request.target, request.overwrite)
    elif is_closed():
        raise OutputError(Option("output", STDOUT), ": standard output is closed; give a file name")
    else:
        _open_stream(request, SAMPLE_RATE_HZ)


def _open_stream(request: VocodeRequest, rate_hz: int) -> "StreamWriter":
    from specdiff_cli.audio.wav import StreamWriter

    return StreamWriter(sys.stdout.buffer, file_format=request.format, subtype=request.subtype, sample_rate_hz=rate_hz)


def _open_writer(request: VocodeRequest, resampler: "Resampler", n_samples: int) -> "AtomicWriter | StreamWriter":
    from specdiff_cli.audio.wav import AtomicWriter

    if request.target is None:
        return _open_stream(request, resampler.rate_hz)
    return AtomicWriter(
        request.target,
        file_format=request.format,
        subtype=request.subtype,
        overwrite=request.overwrite,
        expected_samples=resampler.count_samples(n_samples),
        sample_rate_hz=resampler.rate_hz,
    )


@contextmanager
def _open_source(path: Path, max_duration_s: float) -> "Iterator[AudioSource | MelSource]":
    """Sound or a spectrogram; of a pipe, which tells neither by its name, what it begins with decides."""
    from specdiff_cli.audio.record import AudioFileError
    from specdiff_cli.audio.source import AudioSource

    with ExitStack() as stack:
        try:
            copy = stack.enter_context(seekable(path))
        except OSError as error:
            raise AudioFileError(f"{path}: cannot be read ({reason(error)})") from None
        if path.suffix.lower() == MEL_SUFFIX or copy != path and _begins_with(copy, MEL_MAGIC):
            yield MelSource(copy, max_duration_s, name=str(path))
        else:
            yield stack.enter_context(AudioSource(copy, max_duration_s, name=str(path)))


def _begins_with(path: Path, magic: bytes) -> bool:
    """Raises OSError."""
    with path.open("rb") as file:
        return file.read(len(magic)) == magic


def _load(request: VocodeRequest) -> "tuple[str, Vocoder]":
    """The voice's name, and the vocoder."""
    from specdiff_cli.engine.devices import set_threads
    from specdiff_cli.engine.vocoders import load_vocoder
    from specdiff_cli.weights.load import load_voice

    set_threads(request.threads)
    voice = load_voice(request.model)
    return voice.name, load_vocoder(voice, request.vocoder)


def pass_through(
    source: "AudioSource | MelSource",
    vocoder: "Vocoder",
    resampler: "Resampler",
    writer: "Writer",
    on_progress: Callable[[int], None],
) -> "MelDistance":
    """Write the source as the vocoder makes it, exactly as long; returns how far it is from the source's log-mel.

    Nothing here grows with the length: the frames that wait are those of the vocoder's context and one block.
    """
    from specdiff_cli.audio.mel_stream import MelDistance, StreamingLogMel
    from specdiff_cli.audio.vocoder import LEAD_FRAMES, StreamingVocoder

    streaming = StreamingVocoder(vocoder, lead_frames=LEAD_FRAMES)
    heard, distance = StreamingLogMel(), MelDistance()
    n_written, n_samples = 0, 0

    def write(audio: "torch.Tensor") -> None:
        nonlocal n_written
        audio = audio[: n_samples - n_written].cpu()  # the last frame may reach beyond the end
        writer.write(resampler.push(audio.numpy()))
        n_written += len(audio)
        distance.push(second=heard.push(audio))
        on_progress(n_written)

    for mel, n_new in _log_mel_of(source):
        n_samples += n_new
        distance.push(first=mel)
        for audio in streaming.push_blocks(mel):
            write(audio)
    write(streaming.flush())
    writer.write(resampler.flush())
    distance.push(second=heard.flush())
    return distance


def _log_mel_of(source: "AudioSource | MelSource") -> "Iterator[tuple[torch.Tensor, int]]":
    """Frames (n, 128), and how many samples of the source came with them."""
    from specdiff_cli.constants import HOP_SAMPLES

    if isinstance(source, MelSource):
        for mel in source.frames():
            yield mel, len(mel) * HOP_SAMPLES
        return
    import torch

    from specdiff_cli.audio.mel_stream import StreamingLogMel

    analysis = StreamingLogMel()
    for block in source.blocks():
        yield analysis.push(torch.from_numpy(block)), len(block)
    yield analysis.flush(), 0
