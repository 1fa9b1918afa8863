"""What one song leaves behind: its audio, and what was asked for beside it. All of it appears together, or nothing."""

import contextlib
import os
import sys
import tempfile
import time
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from specdiff_cli.errors import OutputError
from specdiff_cli.rendering.mel_file import MelWriter
from specdiff_cli.rendering.prepare import Prepared
from specdiff_cli.rendering.record import Settled, render_record
from specdiff_cli.rendering.resume import Sidecar

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from specdiff_cli.audio.looping import LoopingWriter
    from specdiff_cli.audio.normalise import NormalisingWriter
    from specdiff_cli.audio.resample import Resampler
    from specdiff_cli.audio.stereo import MelMixer, StemMixer
    from specdiff_cli.audio.wav import AtomicWriter, StreamWriter
    from specdiff_cli.engine.synthesizer import Synthesizer
    from specdiff_cli.rendering.plots import PagePlot
    from specdiff_cli.rendering.snapshots import SnapshotWriter

    Audio = npt.NDArray[np.float32]
    Writer = AtomicWriter | StreamWriter | NormalisingWriter | LoopingWriter

ENDING_S = 0.2  # of the tail's end: what still rings fades to silence in it


@dataclass(frozen=True, slots=True)
class _Channel:
    """One file or pipe of audio: the synthesizer's rate in, the one that was asked for out."""

    writer: "Writer"
    resampler: "Resampler | None"

    def write(self, audio: "Audio") -> "Audio":
        ready = audio if self.resampler is None else self.resampler.push(audio)
        self.writer.write(ready)
        return ready

    def settle(self) -> None:
        """Complete all but the name: a full disk shows here."""
        if self.resampler is not None:
            self.writer.write(self.resampler.flush())
        self.writer.settle()


class SongOutput:
    """Where a song goes; a context manager. Whatever goes wrong inside, none of its files appears.

    ``write`` takes parts: the stems of a song that is rendered by stems, else there is the one part 0.

    Raises (from ``with``, ``write`` and the end of the block): OutputError; BrokenPipeError where the reader of
    standard output has ended.
    """

    def __init__(self, prepared: Prepared, synthesizer: "Synthesizer", settled: Settled) -> None:
        from specdiff_cli.audio.fading import FadeOut

        self.prepared = prepared
        self.sidecar: Sidecar | None = None
        self.start_s = time.perf_counter()
        self.n_clipped = 0  # samples beyond full scale that were cut, those of stems included
        self.peak = 0.0
        self.message: str | None = None  # about the loudness
        self.stem_paths: list[Path] = []
        self.snapshots: SnapshotWriter | None = None
        self._synthesizer = synthesizer
        self._sound = settled.sound
        self._request = settled.request
        self._stack = ExitStack()
        self._new_files: list[Path] = []  # companions that have their names by now, and had none before
        self._stems: list[_Channel] = []
        self._mixer: StemMixer | None = None
        self._mel_mixer: MelMixer | None = None
        self._mel: MelWriter | None = None
        self._plot: PagePlot | None = None
        # a cymbal is not cut off; a loop has no end
        ending_s = 0.0 if self._sound.loop else min(ENDING_S, self._sound.tail_s)
        n_faded = round(max(self._sound.fade_out_s, ending_s) * synthesizer.sample_rate_hz)
        n_samples = synthesizer.count_samples_made(prepared.duration_s)
        self._fades = [FadeOut(n_samples, n_faded) for _ in range(prepared.n_parts)]

    def __enter__(self) -> Self:
        job = self.prepared.job
        if job.target is not None and job.makes_folder:
            _make_folder(job.target.parent)
        record = self._record()
        try:
            # Contexts end in the reverse of this order: the audio gets its name last, and then stands for the rest.
            if job.target is not None and self._request.batching.resume:
                self.sidecar = self._stack.enter_context(self._open_sidecar(job.target, record))
            self._song = self._channel(job.target, record, self._sound.normalize)
            self._stack.enter_context(self._song.writer)
            self._open_companions(record)
        except BaseException:
            self._stack.__exit__(*sys.exc_info())
            raise
        return self

    def write(self, part: int, audio: "Audio") -> "Audio":
        """Take the next samples (n,) or (n, 2) of one part; returns what went to the song's file, (m,) or (m, 2)."""
        mixed = audio = self._fades[part].push(audio)
        if self._mixer is not None:
            mixed = self._mixer.push(part, audio)
            if self._stems:
                self._stems[part].write(self._mixer.placed(part, audio))
        if self._plot is not None:
            self._plot.add_audio(mixed)
        return self._song.write(mixed)

    def add_mel(self, part: int, mel: "Audio") -> None:
        """Take the next frames (n, 128) of the spectrogram of one part."""
        if self._mel_mixer is not None:
            mel = self._mel_mixer.push(part, mel)
        if self._mel is not None:
            self._mel.write(mel)
        if self._plot is not None:
            self._plot.add_mel(mel)

    @property
    def wants_mel(self) -> bool:
        """Whether :meth:`add_mel` has any use for frames."""
        return self._mel is not None or self._plot is not None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._stack.__exit__(kind, error, trace)
            return
        try:
            with self._stack:
                for channel in (*self._stems, self._song):
                    channel.settle()
                levels = [channel.writer.levels for channel in (*self._stems, self._song)]
                self.n_clipped = sum(level.n_clipped for level in levels)
                self.peak = max(level.peak for level in levels)
                self.message = getattr(self._song.writer, "message", None)
                self._draw()
                self._write_snapshots()
        except BaseException:  # Ctrl-C, too
            for path in self._new_files:
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)
            raise
        if self.sidecar is not None:
            self.sidecar.remove()

    def _record(self) -> dict[str, Any]:
        dtype = str(self._synthesizer.dtype).removeprefix("torch.")
        record = render_record(self.prepared.facts, str(self._synthesizer.device), dtype)
        if self._sound.stems:
            record["stems"] = [path.name for path in self.prepared.stem_targets(self._request.output.format)]
        return record

    def _channel(self, target: Path | None, record: dict[str, Any], normalize: str | None = None) -> _Channel:
        from specdiff_cli.audio.looping import LoopingWriter
        from specdiff_cli.audio.normalise import NormalisingWriter, parse_normalise
        from specdiff_cli.audio.resample import Resampler
        from specdiff_cli.audio.wav import AtomicWriter, StreamWriter

        sound = self._sound
        rate_hz, n_channels = sound.sample_rate_hz, 2 if sound.stereo else 1
        n_samples = self._synthesizer.count_samples_made(self.prepared.duration_s)
        resampler = None
        if rate_hz != sound.made_rate_hz:
            resampler = Resampler(rate_hz, n_channels)
            n_samples = resampler.count_samples(n_samples)
        plan = self.prepared.loop
        loop = None if plan is None else plan.loop(rate_hz)
        if loop is not None:
            n_samples = loop.end
        writer: Writer
        if target is None:
            writer = StreamWriter(
                sys.stdout.buffer,
                file_format=self._request.output.format,
                subtype=sound.subtype,
                sample_rate_hz=rate_hz,
                n_channels=n_channels,
                compression=sound.compression,
                loop=loop,
            )
        else:
            writer = AtomicWriter(
                target,
                file_format=self._request.output.format,
                subtype=sound.subtype,
                overwrite=self.prepared.overwrite,
                expected_samples=n_samples,
                record=record,
                sample_rate_hz=rate_hz,
                n_channels=n_channels,
                compression=sound.compression,
                loop=loop,
            )
        if normalize is not None:
            folder = Path(tempfile.gettempdir()) if target is None else target.parent
            writer = NormalisingWriter(writer, parse_normalise(normalize), folder, limits=loop is None)
        if plan is not None:
            writer = LoopingWriter(writer, plan)
        return _Channel(writer, resampler)

    def _open_sidecar(self, target: Path, record: dict[str, Any]) -> Sidecar:
        import torch

        # More threads add up in another order, which can change the last bit.
        return Sidecar(target, {**record, "threads": torch.get_num_threads()}, self.prepared.n_windows)

    def _open_companions(self, record: dict[str, Any]) -> None:
        job, prepared, sound = self.prepared.job, self.prepared, self._sound
        if job.mel_target is not None:
            n_frames = self._synthesizer.count_frames(prepared.duration_s)
            self._mel = MelWriter(job.mel_target, n_frames, overwrite=prepared.overwrite)
            self._enter_companion(self._mel, job.mel_target)
        if prepared.stems is not None:
            from specdiff_cli.audio.stereo import MelMixer, StemMixer

            self._mel_mixer = MelMixer(len(prepared.stems))
            self._mixer = StemMixer(
                len(prepared.stems), [stem.pan for stem in prepared.stems] if sound.stereo else None
            )
            self.stem_paths = prepared.stem_targets(self._request.output.format) if sound.stems else []
            if self.stem_paths:
                folder = self.stem_paths[0].parent
                _make_folder(folder)
                self._stack.push(lambda kind, error, trace: _remove_empty(folder) if kind else None)
            for path, stem in zip(self.stem_paths, prepared.stems, strict=False):  # no paths with --stereo alone
                self._stems.append(self._channel(path, {**record, "stem": stem.name}))
                self._enter_companion(self._stems[-1].writer, path)
        if job.plot_target is not None:
            from specdiff_cli.rendering.plots import PagePlot

            if job.makes_folder:
                _make_folder(job.plot_target.parent)
            self._plot = PagePlot(n_channels=2 if sound.stereo else 1)
        if self._request.output.snapshots and job.target is not None:
            from specdiff_cli.rendering.snapshots import SnapshotWriter

            self.snapshots = SnapshotWriter(
                job.target.with_suffix(""),
                self._request.output.snapshots,
                n_steps=sound.steps,
                window=self._request.output.snapshot_window - 1,
                n_windows=prepared.n_windows,
                vocoder=self._synthesizer.mel_vocoder,
                overwrite=prepared.overwrite,
            )

    def _enter_companion(self, writer: AbstractContextManager[object], path: Path) -> None:
        is_new = not os.path.exists(path)

        def remember(kind: type[BaseException] | None, error: object, trace: object) -> None:
            if kind is None and is_new:
                self._new_files.append(path)

        self._stack.push(remember)  # called once the writer has given the file its name
        self._stack.enter_context(writer)

    def _draw(self) -> None:
        """Draw the page of ``--plot``, before anything has its name."""
        path, prepared = self.prepared.job.plot_target, self.prepared
        if self._plot is not None and path is not None:
            is_new = not os.path.exists(path)
            title, bars = prepared.job.source.name, prepared.song.bars
            self._plot.write(path, prepared.notes, prepared.duration_s, title, prepared.overwrite, bars)
            if is_new:
                self._new_files.append(path)

    def _write_snapshots(self) -> None:
        if self.snapshots is not None:
            self._new_files += [path for path in self.snapshots.paths if not os.path.exists(path)]
            self.snapshots.write()


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        what = "is a link to nothing" if os.path.islink(folder) else "is a file"
        raise OutputError(f"{folder}: {what}, not a folder; choose another name") from None
    except OSError as error:
        raise OutputError(f"{folder}: cannot be created ({error.strerror}); choose another folder") from None


def _remove_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()
