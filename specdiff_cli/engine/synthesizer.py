"""The one loop: windows of notes in, spectrogram out, the previous window as context, audio as it goes."""

import copy
import os
from collections.abc import Callable, Container, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from itertools import islice
from pathlib import Path
from threading import Event

import numpy as np
import torch

from specdiff_cli import lengths
from specdiff_cli.audio.mel import FEATURE_RANGE
from specdiff_cli.audio.vocoder import LEAD_FRAMES, NoteVocoder, SoundStream, StreamingVocoder, Vocoder, vocode
from specdiff_cli.constants import SAMPLE_RATE_HZ
from specdiff_cli.diffusion.sampling import FIXED_SAMPLING, Sampling
from specdiff_cli.engine.ahead import running_ahead
from specdiff_cli.engine.devices import resolve_device
from specdiff_cli.engine.networks import dtype_for, ready_network, window_sampler
from specdiff_cli.engine.pieces import (
    TAIL_S,
    Audio,
    Mel,
    MelCallback,
    MonoStream,
    Music,
    Piece,
    ProgressCallback,
    Song,
    SongSound,
    StepCallback,
    WindowCallback,
)
from specdiff_cli.engine.songs import (
    ActiveSong,
    FailedSong,
    FinishedWindow,
    Key,
    Progress,
    SampledWindow,
    StepState,
    sample_all,
)
from specdiff_cli.engine.timbres import NoteTimbres, SongNotes
from specdiff_cli.engine.vocoders import knows_notes, load_note_vocoder, load_vocoder
from specdiff_cli.errors import MidiError, UsageError
from specdiff_cli.midi.adapt import fit_to_voice
from specdiff_cli.midi.expression import ChannelExpression
from specdiff_cli.midi.notes import MidiSong, Note, read_midi
from specdiff_cli.midi.timeline import Part
from specdiff_cli.midi.windows import empty_windows, tokenize
from specdiff_cli.model.note_frames import NoteFrames
from specdiff_cli.threads import one_thread
from specdiff_cli.weights.load import Voice

__all__ = ["FinishedWindow", "Music", "Piece", "Progress", "Sampling", "Song", "StepState", "Synthesizer"]


class Synthesizer:
    """A voice compiled for one device and precision, able to render any number of songs.

    Synthesizers of one :class:`Voice` share its network.
    """

    def __init__(
        self,
        voice: Voice,
        vocoder: Vocoder | NoteVocoder | str | None = None,
        device: torch.device | str = "auto",
        dtype: torch.dtype | str = "auto",
        *,
        overlap: bool | None = None,
        sample_rate_hz: int = SAMPLE_RATE_HZ,
        n_channels: int = 1,
    ) -> None:
        """
        Args:
            voice: from :func:`specdiff_cli.load_voice`.
            vocoder: an object that follows the protocol :class:`specdiff_cli.audio.vocoder.Vocoder` or ``NoteVocoder``,
                or a name; the voice's own by default.
            device: auto, cpu, cuda, cuda:N or mps.
            dtype: auto, float32, bfloat16, float16 or int8.
            overlap: sample the next window while the last one is turned into sound. The audio is the same. By default
                where the network leaves a core to the vocoder: it computes elsewhere, or is made of note templates.
            sample_rate_hz, n_channels: of the audio, where the vocoder is ``partials``: 16000, 44100 or 48000, and 1 or
                2. All others give 16 kHz mono; the attributes of these names say what there is.

        Raises:
            UsageError: an unknown name, or the voice is in use on another device or in another precision.
            DeviceError: the machine has no such device, or not this precision.
            WeightsError: the voice has no weights for this vocoder.
        """
        self.voice = voice
        self.device = resolve_device(device) if isinstance(device, str) else device
        self.dtype = dtype if isinstance(dtype, torch.dtype) else dtype_for(voice, dtype, self.device)
        self._format = sample_rate_hz, n_channels
        self.vocoder = self._vocoder_for(vocoder)
        self._mel_vocoder: Vocoder | None = None
        self.config = voice.network.config
        self._is_light = self.device.type == "cpu" and self.config.is_templates
        self._n_threads = torch.get_num_threads()
        leaves_cores = self.device.type != "cpu" or (self._is_light and self._n_threads > 1)
        self.overlap = leaves_cores if overlap is None else overlap
        self.network = ready_network(voice, self.device, self.dtype)
        self.n_dropped_events = 0  # of the song rendered last

    @property
    def sampling(self) -> Sampling:
        """How the voice is sampled by default."""
        return self.voice.sampling

    def with_vocoder(self, vocoder: Vocoder | NoteVocoder | str) -> "Synthesizer":
        """The same network with another vocoder; both synthesizers can be used."""
        other = copy.copy(self)
        other.vocoder = other._vocoder_for(vocoder)
        return other

    def giving(self, vocoder: str, sample_rate_hz: int, n_channels: int) -> "Synthesizer":
        """This synthesizer if it has that vocoder and gives such audio, or else another one of the same network."""
        wanted = sample_rate_hz, n_channels
        if self.vocoder.name == vocoder and wanted in (self._format, (self.sample_rate_hz, self.n_channels)):
            return self
        other = copy.copy(self)
        other._format = wanted
        return other.with_vocoder(vocoder)

    def count_samples_made(self, duration_s: float) -> int:
        """Samples (per channel) of a render of ``duration_s`` seconds at this synthesizer's rate; at least one."""
        return max(1, round(duration_s * self.sample_rate_hz))

    @property
    def mel_vocoder(self) -> Vocoder:
        """What makes sound of a spectrogram without notes: the vocoder, or the voice's other one if it needs them.

        Raises WeightsError: the weights of that one are missing or damaged.
        """
        if not isinstance(self.vocoder, NoteVocoder):
            return self.vocoder
        if self._mel_vocoder is None:
            self._mel_vocoder = load_vocoder(self.voice, device=self.device)
        return self._mel_vocoder

    @property
    def sample_rate_hz(self) -> int:
        """Of the audio that this synthesizer gives."""
        return getattr(self.vocoder, "rate_hz", SAMPLE_RATE_HZ)

    @property
    def n_channels(self) -> int:
        """Of the audio: 1, or 2 where each note is placed by its pan."""
        return getattr(self.vocoder, "n_channels", 1)

    def describe(self) -> str:
        """Voice, vocoder, device, precision and CPU threads, for a summary line."""
        dtype = str(self.dtype).removeprefix("torch.")
        n_threads = torch.get_num_threads()
        threads = f", {n_threads} thread{'s' if n_threads > 1 else ''}" if self.device.type == "cpu" else ""
        return f"{self.voice.name} + {self.vocoder.name} · {self.device} {dtype}{threads}"

    count_samples = staticmethod(lengths.count_samples)
    count_frames = staticmethod(lengths.count_frames)
    count_windows = staticmethod(lengths.count_windows)

    def playable(self, notes: Sequence[Note]) -> tuple[list[Note], list[str]]:
        """Notes as this voice plays them, and one sentence for each kind of change.

        Instruments that it was not trained on are given to others, drums may be left out.
        """
        voice = self.voice
        return fit_to_voice(notes, voice.programs, voice.plays_drums, voice.follows_velocity, voice.follows_gain)

    def render(self, music: Music, duration_s: float | None = None, sampling: Sampling | None = None) -> Audio:
        """The whole audio at once, (n,) or (n, 2) float32; arguments as in :meth:`stream`."""
        return np.concatenate(list(self.stream(music, duration_s, sampling)))

    def spectrogram(self, music: Music, duration_s: float | None = None, sampling: Sampling | None = None) -> Mel:
        """What the network paints, (n_frames, 128) float32 log-mel in feature range, 50 frames a second; not clipped.

        Arguments as in :meth:`stream`. :meth:`vocode` makes sound of it.
        """
        notes, expression, duration_s = self._heard(music, duration_s)
        sampling = sampling or self.sampling
        active = self._activate(Song(None, notes, duration_s, sampling.seed, expression=expression), sampling)
        mels: list[Mel] = []
        for windows in sample_all([active], window_sampler(self.voice, self.network, sampling, None)):
            for window in windows:
                if isinstance(window, FailedSong):
                    raise window.error
                self.n_dropped_events = window.n_dropped_events
                mels.append(window.mel[window.n_known :].cpu().numpy())
        return np.concatenate(mels)[: self.count_frames(duration_s)]

    def vocode(self, mel: Mel) -> Audio:
        """Sound of a spectrogram by :attr:`mel_vocoder`.

        (n_frames, 128) log-mel in feature range: (320 n_frames,) float32 at 16 kHz.

        Raises:
            ValueError: another shape.
        """
        audio: Audio = vocode(self.mel_vocoder, torch.from_numpy(np.asarray(mel, dtype=np.float32))).numpy()
        return audio

    def stream(
        self,
        music: Music,
        duration_s: float | None = None,
        sampling: Sampling | None = None,
        *,
        expression: Mapping[Part, ChannelExpression] | None = None,
        on_progress: ProgressCallback | None = None,
        on_step: StepCallback | None = None,
        on_mel: MelCallback | None = None,
        finished: Iterable[FinishedWindow] = (),
        on_window: WindowCallback | None = None,
    ) -> Generator[Audio, None, None]:
        """Render music to audio, chunk by chunk; memory does not grow with the song.

        Args:
            music: a MIDI file or a song read from one, which is made :meth:`playable`; or notes, in the order of
                :func:`specdiff_cli.read_midi`, which are played as they are.
            duration_s: length of the audio; later notes are cut. By default one second more than the notes.
            sampling: steps, sampler, schedule, guidance, seed and overlap; the voice's own by default. The same seed
                on the same device gives the same bytes.
            expression: what each (port, channel) is asked for over time; by default what a file or song says itself.
            on_progress: called after every denoising step (on another thread where ``overlap`` is on).
            on_step: called with what each window looks like before the first step and after every step (on the same
                thread as ``on_progress``).
            on_mel: called with the spectrogram of each window, as far as it is new: (frames, 128) float32 log-mel in
                feature range.
            finished: the song's first windows, from an earlier run with the same arguments; taken one by one, and not
                sampled again. The audio is that of an uninterrupted run, from its first sample.
            on_window: called with each window that was sampled now, before its audio is yielded.

        Yields:
            (n,) float32, or (n, 2) in stereo, at ``sample_rate_hz``, nominally within [-1, 1];
            ``round(sample_rate_hz * duration_s)`` samples in all.

        Raises:
            MidiError: the file cannot be read, or the voice plays nothing of it.
            UsageError: a sampling that cannot be.
            DeviceError: not enough memory.
        """
        notes, own_expression, duration_s = self._heard(music, duration_s)
        sampling = sampling or self.sampling
        song = Song(
            None,
            notes,
            duration_s,
            sampling.seed,
            expression=own_expression if expression is None else expression,
            finished=finished,
            on_progress=on_progress,
            on_step=on_step,
            on_mel=on_mel,
            on_window=on_window,
        )
        pieces = self.stream_many([song], sampling, batch=1)
        try:
            for piece in pieces:
                self.n_dropped_events = piece.n_dropped_events
                if piece.error is not None:
                    raise piece.error
                if len(piece.audio):
                    yield piece.audio
        finally:
            pieces.close()

    def stream_many(
        self,
        songs: Iterable[Song[Key]],
        sampling: Sampling | None = None,
        *,
        batch: int,
        on_message: Callable[[str], None] | None = None,
        given_up: Container[Key] = (),
        stop: Event | None = None,
    ) -> Generator[Piece[Key], None, None]:
        """Render songs side by side: up to ``batch`` of them advance together, window by window.

        A song that ends makes room for the next, which is taken from ``songs`` only then. Give the longest ones first:
        those that end last are then short, and the batch stays full. Each song has the noise of its own seed
        (``sampling.seed`` is not used), so it sounds as it does alone, up to the rounding of larger matrix products.
        What fails in the notes, the finished windows, ``on_mel`` or ``on_window`` of a song ends this song alone.

        Args:
            songs: may be a generator; memory depends on ``batch`` and not on how many songs there are.
            sampling: as in :meth:`stream`, the same for all.
            on_message: called with a line for the user when a batch did not fit into memory and is made smaller.
            given_up: keys of songs that nobody wants any more; asked before each window. They yield nothing more.
            stop: set from another thread, ends it all after the step it is in, with :class:`Stopped`.

        Yields:
            Pieces of all songs in turn; the last one of each song says so.

        Raises:
            UsageError: a sampling that cannot be.
            DeviceError: not even one song fits into memory.
        """
        sampling = sampling or self.sampling
        sounds: dict[Key, SongSound[Key]] = {}
        failed: set[Key] = set()

        def has_ended(key: Key) -> bool:
            return key in failed or key in given_up

        def active_songs() -> Iterator[ActiveSong[Key]]:
            for song in songs:
                score = self._score(song)
                n_samples = self.count_samples_made(song.duration_s)
                sounds[song.key] = SongSound(self._opened(song, score), song, n_samples, self.n_channels)
                yield self._activate(song, sampling, score)

        def sample(stop: Event | None) -> Generator[list[SampledWindow[Key] | FailedSong[Key]], None, None]:
            sampler = window_sampler(self.voice, self.network, sampling, stop)
            return sample_all(active_songs(), sampler, batch=batch, on_message=on_message, has_ended=has_ended)

        threads = one_thread() if self._is_light else nullcontext()
        with threads, closing(running_ahead(sample) if self.overlap else sample(stop)) as sampled:
            for windows in sampled:
                for window in windows:
                    if has_ended(window.key):
                        sounds.pop(window.key, None)
                        continue
                    piece = sounds[window.key].piece(window)
                    if piece.error is not None:
                        failed.add(piece.key)
                    if piece.is_last:
                        del sounds[piece.key]
                    yield piece

    def _heard(
        self, music: Music, duration_s: float | None
    ) -> tuple[Sequence[Note], Mapping[Part, ChannelExpression] | None, float]:
        """The notes to play, what their channels are asked for, and for how long."""
        music = read_midi(Path(music)) if isinstance(music, str | os.PathLike) else music
        notes: Sequence[Note]
        expression = None
        if isinstance(music, MidiSong):
            notes, _ = self.playable(music.notes)
            expression = music.expression
            if music.notes and not notes:
                raise MidiError(f"the song holds nothing that the voice {self.voice.name} plays; use another voice")
        else:
            notes = music
        if duration_s is None:
            duration_s = max((note.end_s for note in notes), default=0.0) + TAIL_S
        return notes, expression, duration_s

    def _score(self, song: Song[Key]) -> SongNotes | None:
        """The song's notes, for what adds up or shapes the sounds of notes; None where nothing asks for them."""
        if isinstance(self.network, NoteFrames):
            return SongNotes.of(song.notes, self.network, song.expression)
        if isinstance(timbres := getattr(self.vocoder, "timbres", None), NoteTimbres):
            return SongNotes.of(song.notes, timbres.frames)  # such a network follows no expression
        return None

    def _opened(self, song: Song[Key], score: SongNotes | None) -> SoundStream:
        """What turns the song's spectrogram into sound."""
        vocoder = self.vocoder
        if not isinstance(vocoder, NoteVocoder):
            return MonoStream(StreamingVocoder(vocoder, lead_frames=LEAD_FRAMES))
        played = () if score is None else score.played
        is_own = isinstance(self.network, NoteFrames)
        expected = None if score is None or is_own else score.log_mel
        return vocoder.open(played, song.seed, expected, self._n_threads if self.overlap else 1)

    def _vocoder_for(self, vocoder: Vocoder | NoteVocoder | str | None) -> Vocoder | NoteVocoder:
        if vocoder is not None and not isinstance(vocoder, str):
            return vocoder
        if knows_notes(self.voice, vocoder):
            return load_note_vocoder(self.voice, vocoder, self.device, *self._format)
        return load_vocoder(self.voice, vocoder, device=self.device)

    def _activate(self, song: Song[Key], sampling: Sampling, score: SongNotes | None = None) -> ActiveSong[Key]:
        if song.on_step is not None and not self.config.denoises:
            what = FIXED_SAMPLING[self.config.kind][1]
            raise UsageError(f"the voice {self.voice.name} {what}: it has no diffusion steps to be shown")
        n_windows = self.count_windows(song.duration_s, sampling.overlap_frames)
        vocabulary, hop_frames = self.config.vocabulary, sampling.hop_frames
        if self.config.is_templates:  # its notes are read as they are
            windows = empty_windows(song.duration_s)
        else:
            windows = tokenize(song.notes, vocabulary, total_s=song.duration_s, hop_frames=hop_frames, joins_keys=True)
        return ActiveSong(
            song.key,
            islice(windows, n_windows),
            n_windows,
            song.seed,
            overlap_frames=sampling.overlap_frames,
            finished=song.finished,
            feature_range=self.config.feature_range or FEATURE_RANGE,
            score=score or self._score(song),
            on_progress=song.on_progress,
            on_step=song.on_step,
        )
