"""Songs to render and the pieces of sound that come of them: windows of a spectrogram in, samples out."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic

import numpy as np
import numpy.typing as npt
import torch

from specdiff_cli import lengths
from specdiff_cli.audio.vocoder import SoundStream, StreamingVocoder
from specdiff_cli.engine.songs import FailedSong, FinishedWindow, Key, Progress, SampledWindow, StepState
from specdiff_cli.midi.expression import ChannelExpression
from specdiff_cli.midi.notes import MidiSong, Note
from specdiff_cli.midi.timeline import Part

TAIL_S = 1.0  # after the last note, where no duration is given; as `specdiff render`

#: A MIDI file, a song read from one, or notes as they are to be played.
Music = str | os.PathLike[str] | MidiSong | Sequence[Note]
Audio = npt.NDArray[np.float32]
Mel = npt.NDArray[np.float32]
ProgressCallback = Callable[[Progress], None]
StepCallback = Callable[[StepState], None]
MelCallback = Callable[[Mel], None]
WindowCallback = Callable[[FinishedWindow], None]


@dataclass(frozen=True, slots=True)
class Song(Generic[Key]):
    """One of many songs to render; ``key`` is the caller's own mark, handed back with the audio.

    ``expression``: what each (port, channel) is asked for over time, for voices that follow it; without it the notes'
    own levels and pans hold. The rest is as in :meth:`Synthesizer.stream`.
    """

    key: Key
    notes: Sequence[Note]
    duration_s: float
    seed: int = 0
    expression: Mapping[Part, ChannelExpression] | None = field(default=None, kw_only=True)
    finished: Iterable[FinishedWindow] = field(default=(), kw_only=True)
    on_progress: ProgressCallback | None = field(default=None, kw_only=True)
    on_step: StepCallback | None = field(default=None, kw_only=True)
    on_mel: MelCallback | None = field(default=None, kw_only=True)
    on_window: WindowCallback | None = field(default=None, kw_only=True)


@dataclass(frozen=True, slots=True)
class Piece(Generic[Key]):
    """Audio of one of many songs: the next (n,) samples of the song ``key``, or (n, 2) in stereo; n may be 0.

    ``error`` is why a song ends before its end; there is no audio with it.
    """

    key: Key
    audio: Audio
    is_last: bool
    n_dropped_events: int  # of the song so far
    error: Exception | None = None


class SongSound(Generic[Key]):
    """A song's spectrogram to its audio, window by window, cut to its length."""

    def __init__(self, stream: SoundStream, song: Song[Key], n_samples: int, n_channels: int) -> None:
        self._song = song
        self._stream = stream
        self._n_channels = n_channels
        self._n_frames = lengths.count_frames(song.duration_s)  # to come
        self._n_samples = n_samples  # to come

    def piece(self, window: SampledWindow[Key] | FailedSong[Key]) -> Piece[Key]:
        """What the next window makes certain, and who wants to know is told of it."""
        if isinstance(window, FailedSong):
            return self._failed(window.error, window.n_dropped_events)
        new = window.mel[window.n_known :][: self._n_frames]
        try:
            if self._song.on_window is not None and window.is_new:
                self._song.on_window(FinishedWindow(window.mel.cpu().numpy(), window.noise_state))
            if self._song.on_mel is not None:
                self._song.on_mel(new.cpu().numpy())
        except Exception as error:  # of this song: the others have nothing to do with it
            return self._failed(error, window.n_dropped_events)
        self._n_frames -= len(new)
        is_last = self._n_frames == 0
        audio = self._stream.push(new)
        if is_last:
            audio = torch.cat([audio, self._stream.flush()], dim=1)
        audio = audio[:, : self._n_samples].cpu()
        self._n_samples -= audio.shape[1]
        chunk: Audio = (audio[0] if self._n_channels == 1 else audio.T.contiguous()).numpy()
        return Piece(self._song.key, chunk, is_last, window.n_dropped_events)

    def _failed(self, error: Exception, n_dropped_events: int) -> Piece[Key]:
        nothing = np.zeros(0 if self._n_channels == 1 else (0, self._n_channels), dtype=np.float32)
        return Piece(self._song.key, nothing, True, n_dropped_events, error)


class MonoStream:
    """A vocoder without notes as a stream of one channel."""

    def __init__(self, streaming: StreamingVocoder) -> None:
        self._streaming = streaming

    def push(self, mel: torch.Tensor) -> torch.Tensor:
        return self._streaming.push(mel)[None]

    def flush(self) -> torch.Tensor:
        return self._streaming.flush()[None]
