"""``specdiff vocode``: audio to log-mel and back, to hear what a vocoder alone does to it."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from specdiff_cli.choices import check_threads
from specdiff_cli.cli import completion as complete
from specdiff_cli.cli.progress import can_draw, clock, one_line, say, stderr_console, working
from specdiff_cli.constants import SAMPLE_RATE_HZ
from specdiff_cli.errors import OutputError, UsageError
from specdiff_cli.rendering.jobs import STDOUT, format_of
from specdiff_cli.wording import count

if TYPE_CHECKING:
    import numpy.typing as npt
    import torch

    from specdiff_cli.audio.mel_stream import MelDistance
    from specdiff_cli.audio.resample import Resampler
    from specdiff_cli.audio.source import AudioSource
    from specdiff_cli.audio.vocoder import Vocoder
    from specdiff_cli.audio.wav import AtomicWriter, StreamWriter, Writer

MEL_SUFFIX = ".npy"
MEL_BLOCK_FRAMES = 128


def vocode(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT", help="An audio file, or a spectrogram of render --save-mel (.npy).", show_default=False
        ),
    ],
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE|-",
            help="Output file; - streams WAV to standard output.",
            show_default=False,
        ),
    ],
    model: Annotated[
        str,
        typer.Option("--model", "-m", help="The voice whose vocoder to use.", autocompletion=complete.models),
    ] = "tiny",
    vocoder: Annotated[
        str | None,
        typer.Option(
            help="spectral, soundstream or griffin-lim.", show_default="the voice's", autocompletion=complete.vocoders
        ),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(metavar="N", help="CPU threads.", show_default="one per physical core")
    ] = None,
    file_format: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="wav, flac, ogg, opus or mp3.",
            show_default="by the output's suffix, else wav",
            autocompletion=complete.formats,
        ),
    ] = None,
    subtype: Annotated[str, typer.Option(help="pcm16, pcm24 or float.", autocompletion=complete.subtypes)] = "pcm16",
    sample_rate: Annotated[
        int, typer.Option(metavar="HZ", help="16000, 44100 or 48000.", autocompletion=complete.sample_rates)
    ] = SAMPLE_RATE_HZ,
    max_duration: Annotated[float, typer.Option(metavar="SECONDS", help="Refuse audio longer than this.")] = 3 * 3600.0,
    overwrite: Annotated[bool, typer.Option("--overwrite", "-f", help="Replace an existing output file.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Pass audio through a vocoder alone: to log-mel and back.

    What comes out is the best that a voice with this vocoder can sound.
    Audio of any rate is read as 16 kHz mono, stereo as the mean of both
    sides. The summary says how far the output's log-mel is from the
    input's: 0 is alike, 1 dB is a mean difference of 1 dB in each of the
    128 bands.

    \b
    Examples:
      specdiff vocode in.wav -o out.wav
      specdiff vocode in.mp3 -o out.flac --vocoder griffin-lim
      specdiff vocode mel.npy -o out.wav
      specdiff vocode in.wav -o - | aplay

    \b
    Exit codes: 0 done, 2 usage, 3 input that cannot be read, 4 weights,
    5 output, 6 device or memory, 130 interrupted.
    """
    if not max_duration > 0:
        raise UsageError(f"--max-duration {max_duration:g}: must be above 0 seconds")
    check_threads(threads)
    target = None if output == STDOUT else _target(source, output)
    chosen_format = file_format or format_of(output, None)
    from specdiff_cli.audio.resample import Resampler, check_rate

    resampler = Resampler(check_rate(sample_rate))
    _check_output(target, chosen_format, subtype, overwrite)
    with _open_source(source, max_duration) as opened:  # a bad file is reported before anything heavy is loaded
        with working(f"loading {model}", quiet):
            voice_name, loaded = _load(model, vocoder, threads)
        start_s = time.perf_counter()
        with (
            _open_writer(target, chosen_format, subtype, overwrite, resampler, opened.n_samples) as writer,
            _display(source.name, opened.n_samples, quiet) as show,
        ):
            distance = _pass_through(opened, loaded, resampler, writer, show)
        elapsed_s = time.perf_counter() - start_s
    if quiet:
        return
    if writer.levels.n_clipped:
        say(f"{source.name}: {count(writer.levels.n_clipped, 'sample')} clipped; --subtype float keeps them")
    duration_s = writer.levels.n_samples / sample_rate
    say(_summary(output, duration_s, elapsed_s, f"{voice_name} + {loaded.name}", distance))


class MelSource:
    """A spectrogram of ``render --save-mel``: (n_frames, 128) log-mel in feature range, read as it is needed.

    Raises AudioFileError with one line: missing, unreadable, of another shape or type, empty, too long, or with
    values that are not finite numbers.
    """

    def __init__(self, path: Path, max_duration_s: float) -> None:
        import numpy as np

        from specdiff_cli.audio.record import AudioFileError
        from specdiff_cli.constants import FRAMES_PER_SECOND, HOP_SAMPLES, N_MELS

        try:
            self._mel: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        except FileNotFoundError:
            raise AudioFileError(f"{path}: does not exist; check the name") from None
        except (OSError, ValueError, EOFError) as error:
            detail = getattr(error, "strerror", None) or "no NumPy array of numbers"
            raise AudioFileError(f"{path}: cannot be read ({detail})") from None
        if not isinstance(self._mel, np.ndarray) or self._mel.ndim != 2 or self._mel.shape[1] != N_MELS:
            shape = getattr(self._mel, "shape", "several arrays")
            raise AudioFileError(f"{path}: is {shape}, not (frames, {N_MELS}) as render --save-mel writes it")
        if self._mel.dtype.kind != "f":
            raise AudioFileError(f"{path}: holds {self._mel.dtype}, not float32 as render --save-mel writes it")
        if len(self._mel) == 0:
            raise AudioFileError(f"{path}: holds no frames")
        if len(self._mel) > max_duration_s * FRAMES_PER_SECOND:
            raise AudioFileError(f"{path}: is longer than {max_duration_s:g} seconds; raise --max-duration to read it")
        self._path = path
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
                raise AudioFileError(f"{self._path}: holds values that are not numbers, the first in frame {at}")
            yield torch.from_numpy(block)


def _target(source: Path, output: str) -> Path:
    if output == "":
        raise UsageError("-o: the name is empty (an unset variable?)")
    if os.path.realpath(output) == os.path.realpath(source):
        raise UsageError(f"{output}: is the input, too; choose another name for the output")
    return Path(output)


def _check_output(target: Path | None, file_format: str, subtype: str, overwrite: bool) -> None:
    """Refuse an impossible output before any work."""
    from specdiff_cli.audio.encoding import check_format
    from specdiff_cli.files import check_target

    check_format(file_format, subtype)
    if target is not None:
        check_target(target, overwrite)
    elif sys.stdout is None:
        raise OutputError("-o -: standard output is closed; give a file name")
    else:
        _open_stream(file_format, subtype, SAMPLE_RATE_HZ)


def _open_stream(file_format: str, subtype: str, rate_hz: int) -> "StreamWriter":
    from specdiff_cli.audio.wav import StreamWriter

    return StreamWriter(sys.stdout.buffer, file_format=file_format, subtype=subtype, sample_rate_hz=rate_hz)


def _open_writer(
    target: Path | None, file_format: str, subtype: str, overwrite: bool, resampler: "Resampler", n_samples: int
) -> "AtomicWriter | StreamWriter":
    from specdiff_cli.audio.wav import AtomicWriter

    if target is None:
        return _open_stream(file_format, subtype, resampler.rate_hz)
    return AtomicWriter(
        target,
        file_format=file_format,
        subtype=subtype,
        overwrite=overwrite,
        expected_samples=resampler.count_samples(n_samples),
        sample_rate_hz=resampler.rate_hz,
    )


def _open_source(path: Path, max_duration_s: float) -> Any:
    """An ``AudioSource`` or a ``MelSource``, as a context."""
    if path.suffix.lower() == MEL_SUFFIX:
        return nullcontext(MelSource(path, max_duration_s))
    from specdiff_cli.audio.source import AudioSource

    return AudioSource(path, max_duration_s)


def _load(model: str, vocoder_name: str | None, threads: int | None) -> "tuple[str, Vocoder]":
    """The voice's name, and the vocoder."""
    from specdiff_cli.engine.devices import set_threads
    from specdiff_cli.engine.vocoders import load_vocoder
    from specdiff_cli.weights.load import load_voice

    n_threads = set_threads(threads)
    voice = load_voice(model)
    return voice.name, load_vocoder(voice, vocoder_name, n_threads=n_threads)


def _pass_through(
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
    from specdiff_cli.audio.vocoder import StreamingVocoder

    streaming, heard, distance = StreamingVocoder(vocoder), StreamingLogMel(), MelDistance()
    n_written, n_samples = 0, 0

    def write(audio: "torch.Tensor") -> None:
        nonlocal n_written
        audio = audio[: n_samples - n_written]  # the last frame may reach beyond the end
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


@contextmanager
def _display(label: str, n_samples: int, quiet: bool) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, nothing elsewhere; it is given the number of samples that are done."""
    if quiet or not can_draw():
        yield lambda n_done: None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=None), TimeElapsedColumn())
    with Progress(
        *columns, TextColumn("left"), TimeRemainingColumn(), console=stderr_console(), transient=True
    ) as progress:
        task = progress.add_task(one_line(label), total=n_samples)
        yield lambda n_done: progress.update(task, completed=n_done)


def _summary(output: str, duration_s: float, elapsed_s: float, described: str, distance: "MelDistance") -> str:
    from specdiff_cli.audio.mel_stream import DECIBELS_PER_NEPER

    return (
        f"{'stdout' if output == STDOUT else output}: {clock(duration_s)} of audio in {elapsed_s:.1f} s, "
        f"{duration_s / elapsed_s:.1f} × realtime · {described} · "
        f"log-mel L1 to the input {distance.nepers:.3f} nepers ({distance.nepers * DECIBELS_PER_NEPER:.2f} dB)"
    )
