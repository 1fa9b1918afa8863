"""Folders of MIDI files as training data for the composer."""

import hashlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from specdiff_cli.composing.score import Score, score_of
from specdiff_cli.errors import MidiError, UsageError
from specdiff_cli.files import files_below
from specdiff_cli.midi.notes import read_midi
from specdiff_cli.rendering.inputs import MIDI_SUFFIXES
from specdiff_cli.wording import count

VALIDATION_SHARE = 0.08
Rng = np.random.Generator
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Songs:
    """What a folder holds: its readable songs that are long enough, by training and validation."""

    training: list[Score]
    validation: list[Score]
    training_files: list[Path]
    fingerprint: str
    n_unreadable: int
    n_short: int

    @property
    def n_notes(self) -> int:
        """Of the training songs."""
        return sum(map(len, self.training))


def midi_files(folder: Path) -> list[Path]:
    """MIDI files in a folder and below it, in the order of their names.

    Raises UsageError where there are none, or a folder cannot be listed.
    """
    if not os.path.isdir(folder):
        problem = "is not a folder" if os.path.exists(folder) else "no such folder"
        raise UsageError(f"{folder}: {problem}; give one that holds MIDI files")
    files = files_below(folder, MIDI_SUFFIXES)
    if not files:
        raise UsageError(f"{folder}: holds no MIDI files ({', '.join(MIDI_SUFFIXES)})")
    return files


def is_held_out(path: Path) -> bool:
    """Whether a song is for validation: a function of its name alone, so that a growing folder moves none."""
    digest = hashlib.sha256(path.name.encode()).digest()
    return int.from_bytes(digest[:4], "big") < VALIDATION_SHARE * 2**32


def read_songs(folder: Path, n_notes: int, on_file: Callable[[int, int], None] = lambda done, total: None) -> Songs:
    """Read every song of a folder that has at least ``n_notes`` notes.

    Damaged files are left out, and counted. Raises UsageError where nothing is left for training or validation.
    """
    files = midi_files(folder)
    training: list[Score] = []
    validation: list[Score] = []
    training_files: list[Path] = []
    names = hashlib.sha256()
    n_unreadable = n_short = 0
    for index, path in enumerate(files):
        on_file(index + 1, len(files))
        try:
            score = score_of(read_midi(path), aligns_bars=True)
        except MidiError:
            n_unreadable += 1
            continue
        if len(score) < n_notes:
            n_short += 1
            continue
        names.update(f"{path.relative_to(folder).as_posix()}:{len(score)}\n".encode())
        held_out = is_held_out(path)
        (validation if held_out else training).append(score)
        if not held_out:
            training_files.append(path)
    if len(training) + len(validation) < 2:
        raise UsageError(
            f"{folder}: of {count(len(files), 'MIDI file')}, {len(training) + len(validation)} can be read and have "
            f"{n_notes} notes or more (drums aside); at least 2 are needed"
        )
    if not training or not validation:  # so few songs that the draw took all: the last one is moved
        source, target = (validation, training) if not training else (training, validation)
        target.append(source.pop())
        training_files = training_files[: len(training)] or [files[-1]]
    return Songs(training, validation, training_files, names.hexdigest(), n_unreadable, n_short)


def draw_excerpt(
    songs: list[Score], weights: Floats, n_notes: int, rng: Rng, edge_share: float
) -> tuple[Score, int, int]:
    """A random excerpt, and how many notes of its song come before and after it. It begins with a chord's first note.

    ``edge_share``: how many of the excerpts begin with their song, and how many end with it.
    """
    song = songs[int(rng.choice(len(songs), p=weights))]
    place = rng.random()
    last = len(song) - n_notes
    first = 0 if place < edge_share else last if place < 2 * edge_share else int(rng.integers(last + 1))
    while 0 < first < last and song.onset[first - 1] == song.onset[first]:
        first -= 1
    return song.part_of(slice(first, first + n_notes)), first, last - first


def song_weights(songs: Iterable[Score]) -> Floats:
    """Probabilities of songs, in proportion to their length."""
    lengths = np.array([len(song) for song in songs], dtype=np.float64)
    shares: Floats = lengths / lengths.sum()
    return shares
