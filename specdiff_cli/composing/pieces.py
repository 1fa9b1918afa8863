"""Pieces as they are judged: plain notes in beats, with nothing rounded."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from specdiff_cli.composing.dataset import midi_files
from specdiff_cli.composing.score import DEFAULT_TEMPO_BPM
from specdiff_cli.errors import MidiError, Option
from specdiff_cli.midi.notes import MidiSong, read_midi
from specdiff_cli.wording import count

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
_FINEST_BEATS = 1 / 480  # notes this close begin together: their order says nothing


@dataclass(frozen=True)
class Piece:
    """Notes in the order of onset, then pitch. All arrays (n_notes,); beats are quarter notes."""

    onset_beats: Floats
    duration_beats: Floats
    pitch: Ints
    beats_per_bar: float = 4.0

    def __len__(self) -> int:
        return len(self.pitch)


def piece_of(song: MidiSong) -> Piece:
    """The notes of a song, drums aside."""
    notes = [note for note in song.notes if not note.is_drum]
    starts = _beats(song, [note.start_s for note in notes])
    ends = _beats(song, [note.end_s for note in notes])
    pitch = np.array([note.pitch for note in notes], dtype=np.int64)
    order = np.lexsort((pitch, np.round(starts / _FINEST_BEATS)))
    meter = song.bars.meters[0] if song.bars is not None else None
    per_bar = 4.0 if meter is None else 4.0 * meter.numerator / meter.denominator
    return Piece(starts[order], (ends - starts)[order], pitch[order], per_bar)


def _beats(song: MidiSong, seconds: list[float]) -> Floats:
    if song.bars is None:
        return np.array(seconds) * DEFAULT_TEMPO_BPM / 60
    tempo_map = song.bars.tempo_map
    return np.array([tempo_map.tick(time_s) / tempo_map.ticks_per_beat for time_s in seconds])


def excerpts(piece: Piece, n_notes: int) -> list[Piece]:
    """Consecutive parts of ``n_notes`` notes; what is left at the end is dropped. Bars are counted from each first."""
    parts = []
    for first in range(0, len(piece) - n_notes + 1, n_notes):
        chosen = slice(first, first + n_notes)
        bar_beat = np.floor(piece.onset_beats[first] / piece.beats_per_bar) * piece.beats_per_bar
        onset = piece.onset_beats[chosen] - bar_beat
        parts.append(Piece(onset, piece.duration_beats[chosen], piece.pitch[chosen], piece.beats_per_bar))
    return parts


@dataclass(frozen=True)
class Collection:
    """Excerpts of a folder, and what was left out of it."""

    pieces: list[Piece]
    n_files: int
    n_unreadable: int
    n_short: int

    @property
    def left_out(self) -> str | None:
        """What was left out, in words; None where nothing was."""
        if not self.n_unreadable and not self.n_short:
            return None
        return (
            f"of {count(self.n_files, 'MIDI file')}, {self.n_unreadable} cannot be read and "
            f"{self.n_short} have too few notes"
        )


def read_collection(
    folder: Path, n_notes: int, on_file: Callable[[int, int], None] = lambda done, total: None
) -> Collection:
    """Every excerpt of ``n_notes`` notes in a folder; damaged and shorter files are counted.

    Raises UsageError for a folder without MIDI files, MidiError where no file has enough notes.
    """
    pieces: list[Piece] = []
    n_unreadable = n_short = 0
    files = midi_files(folder)
    for index, path in enumerate(files):
        on_file(index + 1, len(files))
        try:
            found = excerpts(piece_of(read_midi(path)), n_notes)
        except MidiError:
            n_unreadable += 1
            continue
        n_short += not found
        pieces += found
    if not pieces:
        what = f"{folder}: none of its MIDI files has {n_notes} notes (drums aside); lower "
        raise MidiError(what, Option("notes"), option="notes", value=n_notes)
    return Collection(pieces, len(files), n_unreadable, n_short)


def read_whole(folder: Path) -> list[Piece]:
    """Every readable file of a folder, uncut. Raises UsageError for a folder without MIDI files."""
    found = []
    for path in midi_files(folder):
        try:
            piece = piece_of(read_midi(path))
        except MidiError:
            continue
        if len(piece) > 1:
            found.append(piece)
    return found


def durations_in_steps(pieces: Iterable[Piece], steps_per_beat: int) -> list[Ints]:
    """Note lengths rounded to steps, at least one."""
    return [np.maximum(1, np.round(piece.duration_beats * steps_per_beat)).astype(np.int64) for piece in pieces]
