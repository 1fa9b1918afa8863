"""The one loop: windows of notes in, spectrogram out, the previous window as context, audio as it goes."""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from threading import Event
from typing import Generic

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from specdiff_cli.audio.vocoder import StreamingVocoder, Vocoder
from specdiff_cli.background import running_ahead
from specdiff_cli.constants import HOP_SAMPLES, SAMPLE_RATE_HZ, WINDOW_FRAMES
from specdiff_cli.lockstep import FinishedWindow, Key, Progress, SampledWindow, Sampling, Track, sample_all
from specdiff_cli.midi.notes import Note
from specdiff_cli.midi.windows import TokenWindow, tokenize
from specdiff_cli.model.compiled import CompiledNetwork
from specdiff_cli.weights.load import Voice

__all__ = ["FinishedWindow", "Piece", "Progress", "Sampling", "Song", "Synthesizer"]


@dataclass(frozen=True, slots=True)
class Song(Generic[Key]):
    """One of many songs to render; ``key`` is the caller's own mark, handed back with the audio."""

    key: Key
    notes: Sequence[Note]
    duration_s: float
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Piece(Generic[Key]):
    """Audio of one of many songs: the next (n,) samples of the song ``key``; n may be 0."""

    key: Key
    audio: npt.NDArray[np.float32]
    is_last: bool
    n_dropped_events: int  # of the song so far


ProgressCallback = Callable[[Progress], None]
MelCallback = Callable[[npt.NDArray[np.float32]], None]
WindowCallback = Callable[[FinishedWindow], None]


class Synthesizer:
    """A voice compiled for one device and precision, able to render any number of songs.

    ``overlap``: sample the next window while the last one is turned into sound and written. The audio is the same. By
    default where the network does not compute on the CPU, which the vocoder needs.
    """

    def __init__(
        self,
        voice: Voice,
        vocoder: Vocoder,
        device: torch.device,
        dtype: torch.dtype,
        *,
        overlap: bool | None = None,
    ) -> None:
        self.voice = voice
        self.vocoder = vocoder
        self.device = device
        self.dtype = dtype
        self.overlap = device.type != "cpu" if overlap is None else overlap
        self.config = voice.network.config
        self.network = CompiledNetwork(voice.network, device, dtype)
        self.n_dropped_events = 0  # of the song rendered last

    def describe(self) -> str:
        """Voice, vocoder, device, precision and CPU threads, for a summary line."""
        dtype = str(self.dtype).removeprefix("torch.")
        n_threads = torch.get_num_threads()
        threads = f", {n_threads} thread{'s' if n_threads > 1 else ''}" if self.device.type == "cpu" else ""
        return f"{self.voice.name} + {self.vocoder.name} · {self.device} {dtype}{threads}"

    @staticmethod
    def count_samples(duration_s: float) -> int:
        """Samples of a render of ``duration_s`` seconds; at least one."""
        return max(1, round(duration_s * SAMPLE_RATE_HZ))

    @staticmethod
    def count_frames(duration_s: float) -> int:
        """Spectrogram frames of such a render."""
        return -(-Synthesizer.count_samples(duration_s) // HOP_SAMPLES)

    @staticmethod
    def count_windows(duration_s: float) -> int:
        """Windows of such a render."""
        return -(-Synthesizer.count_frames(duration_s) // WINDOW_FRAMES)

    def stream(
        self,
        notes: Sequence[Note],
        duration_s: float,
        sampling: Sampling,
        *,
        on_progress: ProgressCallback | None = None,
        on_mel: MelCallback | None = None,
        finished: Iterable[FinishedWindow] = (),
        on_window: WindowCallback | None = None,
    ) -> Iterator[npt.NDArray[np.float32]]:
        """Render notes to audio, chunk by chunk; memory does not grow with the song.

        Args:
            notes: in the order of :func:`specdiff_cli.midi.notes.read_midi`.
            duration_s: length of the audio; later notes are cut.
            sampling: steps, sampler, schedule, guidance and seed. The same seed on the same device gives the same
                bytes.
            on_progress: called after every denoising step (on another thread where ``overlap`` is on).
            on_mel: called with each window's spectrogram, (frames, 128) float32 log-mel in feature range.
            finished: the song's first windows, from an earlier run with the same arguments; taken one by one, and not
                sampled again. The audio is that of an uninterrupted run, from its first sample.
            on_window: called with each window that was sampled now, before its audio is yielded.

        Yields:
            (n,) float32 at 16 kHz, nominally within [-1, 1]; ``round(16000 * duration_s)`` samples in all.
        """
        track = self._track(Song(None, notes, duration_s, sampling.seed), finished, on_progress)
        sound = _Sound(self.vocoder, duration_s)
        sampled = self._sampled([track], sampling)
        try:
            for (window,) in sampled:
                self.n_dropped_events = window.n_dropped_events
                if on_window is not None and window.is_new:
                    on_window(FinishedWindow(window.mel.numpy(), window.noise_state))
                chunk = sound.add(window.mel, on_mel)
                if len(chunk):
                    yield chunk
        finally:
            sampled.close()

    def stream_many(
        self,
        songs: Iterable[Song[Key]],
        sampling: Sampling,
        *,
        batch: int,
        on_progress: Callable[[Key, Progress], None] | None = None,
        on_note: Callable[[str], None] | None = None,
    ) -> Iterator[Piece[Key]]:
        """Render songs side by side: up to ``batch`` of them advance together, window by window.

        A song that ends makes room for the next, which is taken from ``songs`` only then. Give the longest ones first:
        those that end last are then short, and the batch stays full. Each song has the noise of its own seed
        (``sampling.seed`` is not used), so it sounds as it does alone, up to the rounding of larger matrix products.

        Args:
            songs: may be a generator; memory depends on ``batch`` and not on how many songs there are.
            sampling: as in :meth:`stream`, the same for all.
            on_progress: called with the song's key after every denoising step.
            on_note: called with a line for the user when a batch did not fit into memory and is made smaller.

        Yields:
            Pieces of all songs in turn; the last one of each song says so.

        Raises:
            DeviceError: not even one song fits into memory.
        """
        sounds: dict[Key, _Sound] = {}

        def tracks() -> Iterator[Track[Key]]:
            for song in songs:
                sounds[song.key] = _Sound(self.vocoder, song.duration_s)
                yield self._track(song, (), _with_key(on_progress, song.key))

        sampled = self._sampled(tracks(), sampling, batch, on_note)
        try:
            for windows in sampled:
                for window in windows:
                    sound = sounds[window.key]
                    audio = sound.add(window.mel, None)
                    if sound.is_complete:
                        del sounds[window.key]
                    yield Piece(window.key, audio, sound.is_complete, window.n_dropped_events)
        finally:
            sampled.close()

    def spectrogram(
        self,
        windows: Iterable[TokenWindow],
        n_windows: int,
        sampling: Sampling,
        *,
        on_progress: ProgressCallback | None = None,
    ) -> Iterator[Tensor]:
        """Sample window after window; yields (256, 128) float32 log-mel in feature range on the CPU, un-clipped."""
        track = Track(None, windows, n_windows, sampling.seed, (), on_progress)
        for (window,) in sample_all([track], self.network, self.config, sampling):
            self.n_dropped_events = window.n_dropped_events
            yield window.mel

    def _track(
        self, song: Song[Key], finished: Iterable[FinishedWindow], on_progress: ProgressCallback | None
    ) -> Track[Key]:
        windows = tokenize(song.notes, self.config.vocabulary, total_s=song.duration_s)
        n_windows = self.count_windows(song.duration_s)
        return Track(song.key, islice(windows, n_windows), n_windows, song.seed, finished, on_progress)

    def _sampled(
        self,
        tracks: Iterable[Track[Key]],
        sampling: Sampling,
        batch: int = 1,
        on_note: Callable[[str], None] | None = None,
    ) -> Generator[list[SampledWindow[Key]], None, None]:
        def sample(stop: Event | None) -> Generator[list[SampledWindow[Key]], None, None]:
            return sample_all(tracks, self.network, self.config, sampling, batch=batch, on_note=on_note, stop=stop)

        return running_ahead(sample) if self.overlap else sample(None)


class _Sound:
    """A song's spectrogram to its audio, window by window, cut to its length."""

    def __init__(self, vocoder: Vocoder, duration_s: float) -> None:
        self._streaming = StreamingVocoder(vocoder)
        self._n_frames = Synthesizer.count_frames(duration_s)  # to come
        self._n_samples = Synthesizer.count_samples(duration_s)  # to come

    @property
    def is_complete(self) -> bool:
        return self._n_frames == 0

    def add(self, mel: Tensor, on_mel: MelCallback | None) -> npt.NDArray[np.float32]:
        """The audio that the next window (256, 128) makes certain, (n,) float32."""
        kept = mel[: self._n_frames]
        self._n_frames -= len(kept)
        if on_mel is not None:
            on_mel(kept.numpy())
        audio = self._streaming.push(kept)
        if self.is_complete:
            audio = torch.cat([audio, self._streaming.flush()])
        chunk: npt.NDArray[np.float32] = audio[: self._n_samples].numpy()
        self._n_samples -= len(chunk)
        return chunk


def _with_key(on_progress: Callable[[Key, Progress], None] | None, key: Key) -> ProgressCallback | None:
    if on_progress is None:
        return None
    return lambda at: on_progress(key, at)
