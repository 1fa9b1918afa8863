"""How good a voice is: held-out music rendered by it, against the soundfont that it learned from.

Each piece gives several recordings. The *reference* is FluidSynth's, with the song's true instruments. *Vocoder only*
is the reference's spectrogram passed through the voice's vocoder: as good as the voice can sound. A *render* is the
voice's, window after window on its own context, as ``specdiff render`` makes it. All are measured alike
(:mod:`specdiff_cli.evaluation.measures`), and what does not depend on the voice is done once.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import mido
import numpy as np
import torch
from numpy.typing import NDArray

from specdiff_cli.audio.mel import log_mel
from specdiff_cli.audio.source import AudioSource
from specdiff_cli.audio.vocoder import Vocoder, checked_mel, vocode
from specdiff_cli.constants import SAMPLE_RATE_HZ, WINDOW_S
from specdiff_cli.corpus.soundfont import FluidSynth
from specdiff_cli.engine.pieces import TAIL_S
from specdiff_cli.engine.synthesizer import Sampling, Synthesizer
from specdiff_cli.errors import MidiError, Option, UsageError
from specdiff_cli.evaluation.embedding import Embedding
from specdiff_cli.evaluation.frechet import Moments, frechet_distance
from specdiff_cli.evaluation.measures import (
    Jump,
    Measured,
    Recording,
    as_pcm16,
    boundary_jump,
    compare,
    mel_distance,
    written_onsets,
)
from specdiff_cli.evaluation.opinion import Opinion, OpinionScores
from specdiff_cli.evaluation.transcriber import Onset, Transcriber, onset_scores
from specdiff_cli.midi.adapt import fit_to_voice
from specdiff_cli.midi.notes import MidiSong, Note, read_midi
from specdiff_cli.midi.summary import summarize_instruments
from specdiff_cli.wording import count

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3")
REFERENCE = "reference"


@dataclass(frozen=True)
class Piece:
    """Held-out music. ``audio`` is its ready reference, None if one is to be rendered."""

    name: str
    source: Path
    song: MidiSong
    audio: Path | None

    def duration_s(self, max_seconds: float) -> float:
        """How much of it is evaluated."""
        return min(self.song.end_s + TAIL_S, max_seconds)


@dataclass(frozen=True)
class Subject:
    """A voice to be judged, once for each way of sampling it."""

    label: str
    synthesizer: Synthesizer
    samplings: tuple[Sampling, ...]

    def run_label(self, sampling: Sampling) -> str:
        """The voice and its number of steps."""
        return f"{self.label}, {sampling.steps} step{'' if sampling.steps == 1 else 's'}"

    @property
    def vocoder_label(self) -> str:
        """The voice's upper bound."""
        return f"{self.label}: vocoder only"


@dataclass(eq=False)
class Column:
    """One kind of recording over all pieces."""

    label: str
    kind: str  # "reference", "vocoder-only" or "render"
    subject: Subject | None = None
    sampling: Sampling | None = None
    measured: list[Measured] = field(default_factory=list)  # one for each piece, in order
    moments: Moments | None = None  # of the features that are compared, if any are


@dataclass(frozen=True)
class Made:
    """A recording of a piece, measured. ``column``: its number among the columns; ``features``: to be compared."""

    column: int
    recording: Recording
    measured: Measured
    features: NDArray[np.float64] | None


@dataclass(frozen=True)
class Judges:
    """What hears the recordings, besides plain measures; None is not asked."""

    transcriber: Transcriber | None = None
    opinion: Opinion | None = None
    features: Embedding | None = None


@dataclass(frozen=True)
class Event:
    """Progress: a recording of a piece was made and measured."""

    piece: str
    index: int  # from 0
    n_pieces: int
    label: str
    measured: Measured

    def lines(self) -> list[str]:
        """The same in words."""
        measured = self.measured
        parts = [f"log-mel L1 {measured.likeness.log_mel_l1:.3f}"]
        if measured.onsets is not None:
            parts.append(f"onset F1 {measured.onsets.f1:.3f}")
        if measured.elapsed_s:
            parts.append(f"{measured.duration_s / measured.elapsed_s:.1f} × realtime")
        line = f"[{self.index + 1}/{self.n_pieces}] {self.piece} · {self.label}: {', '.join(parts)}"
        return [line, *(f"    {change}" for change in measured.changes)]


EventCallback = Callable[[Event], object]
RecordingCallback = Callable[[Piece, Column, Recording], None]


def read_pieces(files: Sequence[Path], max_duration_s: float, recordings: Path | None = None) -> list[Piece]:
    """Read the held-out songs, each with the reference audio that lies beside it, or by its name in ``recordings``.

    Raises:
        MidiError: a file cannot be read.
        UsageError: two files have one name, which is all that a report tells them apart by; or ``recordings`` has none
            of a song.
    """
    pieces: dict[str, Piece] = {}
    for path in files:
        place = path if recordings is None else recordings / path.name
        audio = next(
            (place.with_suffix(suffix) for suffix in AUDIO_SUFFIXES if os.path.isfile(place.with_suffix(suffix))), None
        )
        if audio is None and recordings is not None:
            raise UsageError(f"{recordings}: has no recording of {path.name} ({path.stem}.wav, .flac …)")
        piece = Piece(path.stem, path, read_midi(path, max_duration_s=max_duration_s), audio)
        other = pieces.setdefault(piece.name.casefold(), piece)
        if other is not piece:
            raise UsageError(f"{path} and {other.source} have the same name; rename one")
    return list(pieces.values())


def read_audio(path: Path) -> NDArray[np.float32]:
    """An audio file as (n,) float32 mono at 16 kHz. Raises AudioFileError when it cannot be read."""
    with AudioSource(path) as source:
        return np.concatenate([np.zeros(0, np.float32), *source.blocks()])


class Evaluation:
    """Runs everything, piece by piece; ``columns`` and ``pieces`` hold the results."""

    def __init__(
        self,
        pieces: Sequence[Piece],
        subjects: Sequence[Subject],
        soundfont: FluidSynth | None,
        judges: Judges,
        max_seconds: float,
    ) -> None:
        """Raises UsageError when a piece has no reference audio and there is no soundfont, MidiError when a voice
        plays none of a piece's notes."""
        self.pieces = list(pieces)
        self.max_seconds = max_seconds
        self._soundfont = soundfont
        self._judges = judges
        self._reference = Column(REFERENCE, "reference")
        self._subjects = [(s, Column(s.vocoder_label, "vocoder-only", s), _render_columns(s)) for s in subjects]
        for piece in pieces:
            if piece.audio is None and soundfont is None:
                what = f"{piece.source}: has no {piece.name}.wav beside it; give a "
                raise UsageError(what, Option("soundfont"), " to render one")
            for subject in subjects:
                if not self._playable(piece, subject)[0]:
                    raise MidiError(
                        f"{piece.source}: {subject.label} plays nothing in its first {max_seconds:g} s; leave it out"
                    )

    @property
    def outlook(self) -> str:
        """How much there is to do, in words."""
        n_renders = sum(len(subject.samplings) for subject, _, _ in self._subjects)
        total_s = sum(piece.duration_s(self.max_seconds) for piece in self.pieces)
        return f"{count(len(self.pieces), 'piece')}, {total_s:.0f} s; {count(n_renders, 'render')} of each"

    @property
    def columns(self) -> list[Column]:
        """The reference, then for each voice what its vocoder can do and its renders."""
        rest = [column for _, ceiling, renders in self._subjects for column in (ceiling, *renders)]
        return [self._reference, *rest]

    def ceiling_of(self, column: Column) -> Column | None:
        """The vocoder-only column of a render's voice."""
        return next((ceiling for _, ceiling, renders in self._subjects if column in renders), None)

    def run(self, on_event: EventCallback | None = None, on_recording: RecordingCallback | None = None) -> None:
        """Make and measure every recording; nothing but the measurements is kept."""
        self.warm_up()
        for index in range(len(self.pieces)):
            self.take(index, self.judged(index), on_event, on_recording)

    def take(
        self,
        index: int,
        made: Iterable[Made],
        on_event: EventCallback | None = None,
        on_recording: RecordingCallback | None = None,
    ) -> None:
        """Add the recordings of a piece to the columns; pieces come in their order."""
        piece, columns = self.pieces[index], self.columns
        for one in made:
            column = columns[one.column]
            column.measured.append(one.measured)
            if one.features is not None:
                if column.moments is None:
                    column.moments = Moments(one.features.shape[1])
                column.moments.add(one.features)
            if on_recording is not None:
                on_recording(piece, column, one.recording)
            if on_event is not None:
                on_event(Event(piece.name, index, len(self.pieces), column.label, one.measured))

    def warm_up(self) -> None:
        """The first windows after loading are slow, and are not measured."""
        for subject, _, _ in self._subjects:
            self._warm_up(subject)

    def _warm_up(self, subject: Subject) -> None:
        """The first windows after loading are slow while PyTorch specialises the network; speed is measured after."""
        notes, _ = self._playable(self.pieces[0], subject)
        sampling = subject.samplings[0]
        if subject.synthesizer.config.denoises:  # others know no fewer
            sampling = replace(sampling, steps=1)
        for _ in subject.synthesizer.stream(notes, 2 * WINDOW_S, sampling):
            pass

    def judged(self, index: int) -> Iterator[Made]:
        """Every recording of a piece, measured; none of it is kept here."""
        piece, columns = self.pieces[index], self.columns
        duration_s = piece.duration_s(self.max_seconds)
        n_samples = Synthesizer.count_samples(duration_s)
        written = written_onsets(piece.song.notes, duration_s)
        reference = self._record(self._reference_audio(piece), n_samples)
        yield self._made(
            0,
            reference,
            _measured(reference, reference, written, duration_s=duration_s, jump=boundary_jump(reference.mel)),
        )
        made: list[tuple[Vocoder, Recording]] = []  # voices of one vocoder share what it makes of the reference
        for subject, ceiling, renders in self._subjects:
            vocoder = subject.synthesizer.mel_vocoder
            encoded = next((recording for used, recording in made if used is vocoder), None)
            if encoded is None:
                encoded = self._record(vocode(vocoder, reference.mel).numpy(), n_samples)
                made.append((vocoder, encoded))
            measured = _measured(reference, encoded, written, duration_s=duration_s)
            opinion = self._opinion(reference, encoded)
            yield self._made(columns.index(ceiling), encoded, replace(measured, opinion=opinion))
            for column in renders:
                recording, measured = self._render(piece, column, reference, written, duration_s)
                yield self._made(columns.index(column), recording, measured)

    def _render(
        self, piece: Piece, column: Column, reference: Recording, written: list[Onset], duration_s: float
    ) -> tuple[Recording, Measured]:
        subject, sampling = column.subject, column.sampling
        if subject is None or sampling is None:
            raise ValueError("not the column of a render")
        notes, changes = self._playable(piece, subject)
        mels: list[NDArray[np.float32]] = []
        start_s = time.perf_counter()
        chunks = list(
            subject.synthesizer.stream(
                notes, duration_s, sampling, expression=piece.song.expression, on_mel=mels.append
            )
        )
        elapsed_s = time.perf_counter() - start_s
        recording = self._record(np.concatenate(chunks), len(reference.audio))
        mel = checked_mel(torch.from_numpy(np.concatenate(mels)))
        return recording, replace(
            _measured(reference, recording, written, duration_s=duration_s, jump=boundary_jump(mel)),
            opinion=self._opinion(reference, recording),
            elapsed_s=elapsed_s,
            generated_mel_l1=mel_distance(reference.mel, mel),
            n_dropped_events=subject.synthesizer.n_dropped_events,
            changes=tuple(changes),
            instruments=tuple(instruments_of(notes)),
        )

    def _made(self, column: int, recording: Recording, measured: Measured) -> Made:
        features = self._judges.features
        return Made(column, recording, measured, None if features is None else features.features(recording.audio))

    def _opinion(self, reference: Recording, recording: Recording) -> OpinionScores | None:
        if self._judges.opinion is None:
            return None
        return self._judges.opinion.scores(reference.audio, recording.audio, SAMPLE_RATE_HZ)

    def frechet_distance(self, column: Column) -> float | None:
        """Between a column's recordings and the references, all pieces together; None if it was not asked for."""
        if self._reference.moments is None or column.moments is None or column is self._reference:
            return None
        return frechet_distance(self._reference.moments, column.moments)

    def _playable(self, piece: Piece, subject: Subject) -> tuple[list[Note], list[str]]:
        """The evaluated part of a song as the voice plays it, and what it plays otherwise."""
        end_s = piece.duration_s(self.max_seconds)
        notes = [note for note in piece.song.notes if note.start_s < end_s]
        voice = subject.synthesizer.voice
        return fit_to_voice(notes, voice.programs, voice.plays_drums, voice.follows_velocity, voice.follows_gain)

    def _reference_audio(self, piece: Piece) -> NDArray[np.float32]:
        if piece.audio is not None:
            return read_audio(piece.audio)
        if self._soundfont is None:
            raise ValueError("no soundfont")
        try:
            return self._soundfont.render(mido.MidiFile(piece.source, clip=True))
        except (OSError, EOFError, ValueError) as error:
            raise MidiError(f"{piece.source}: cannot be played by FluidSynth ({error}); leave it out") from None

    def _record(self, audio: NDArray[np.float32], n_samples: int) -> Recording:
        fitted = as_pcm16(audio, n_samples)
        transcriber = self._judges.transcriber
        onsets = None if transcriber is None else transcriber.onsets(fitted)
        return Recording(fitted, log_mel(torch.from_numpy(fitted)), onsets)


def instruments_of(notes: Sequence[Note]) -> list[str]:
    """The model classes that play, the busiest first."""
    counts: dict[str, int] = {}
    for item in summarize_instruments(notes):
        counts[item.class_name] = counts.get(item.class_name, 0) + item.n_notes
    return sorted(counts, key=lambda name: (-counts[name], name))


def _render_columns(subject: Subject) -> list[Column]:
    return [Column(subject.run_label(sampling), "render", subject, sampling) for sampling in subject.samplings]


def _measured(
    reference: Recording, recording: Recording, written: list[Onset], *, duration_s: float, jump: Jump | None = None
) -> Measured:
    scores = None
    if recording.onsets is not None and written:  # a piece of drums alone has no onsets to be found
        scores = onset_scores(written, recording.onsets)
    return Measured(compare(reference, recording), scores, jump, duration_s)
