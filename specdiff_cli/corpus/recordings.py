"""Recordings and their notes as a training corpus: pairs of one's own, and the layouts of published data sets.

The pieces are those of :mod:`specdiff_cli.corpus.pieces`, so training sees no difference. A recording is checked
against its notes first (:mod:`specdiff_cli.corpus.alignment`): what is not the same piece is left out and named.
"""

import csv
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from specdiff_cli.audio.loudness import LoudnessMeter
from specdiff_cli.audio.source import AudioSource
from specdiff_cli.constants import SAMPLE_RATE_HZ
from specdiff_cli.corpus.alignment import Alignment, Floats, align
from specdiff_cli.corpus.compose import note_table
from specdiff_cli.corpus.pieces import (
    CORPUS_FORMAT,
    check_validation_share,
    finished_s,
    is_validation_file,
    only_maker,
    store_piece,
)
from specdiff_cli.corpus.spread import Spread, shared_out
from specdiff_cli.errors import MidiError, Option, OutputError, SpecdiffError, UsageError
from specdiff_cli.files import files_below, files_in, make_folder
from specdiff_cli.wording import clock

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aif", ".aiff")
MIDI_SUFFIXES = (".mid", ".midi")
MUSICNET_RATE_HZ = 44_100
UNKNOWN_VELOCITY = 80  # of labels that have none
CORRECTED_S = 0.03  # what a recording is off by at its worst end before its notes are moved
N_LEVELLED = 24  # recordings that the corpus's gain is measured on
_SPLITS = {"train": False, "validation": True}


@dataclass(frozen=True)
class Recording:
    """A recording and where its notes are written."""

    name: str
    audio: Path
    notes: tuple[Path, ...]
    """MIDI files that sound together, or one CSV file of MusicNet's."""
    split: str | None = None
    """The data set's own: train, validation or test; None where it has none."""


@dataclass(frozen=True)
class Outcome:
    """What became of one recording."""

    name: str
    length_s: float = 0.0
    alignment: Alignment | None = None
    was_corrected: bool = False
    problem: str | None = None
    """Why it was left out, as a line; None where it was not."""

    def describe(self) -> str:
        """How it lies against its notes, in words."""
        lies = "made before"
        if self.alignment is not None:
            lies = f"offset {1000 * self.alignment.offset_s:+.0f} ms, drift {1000 * self.alignment.drift:+.2f} ms/s"
            lies += ", notes moved" if self.was_corrected else ""
        return f"{self.name}: {clock(self.length_s)}, {lies}"


def find_recordings(folder: Path) -> list[Recording]:
    """The pairs under a folder: MAESTRO's, Slakh's or MusicNet's layout, else every NAME.wav beside NAME.mid.

    Raises UsageError when there is no such folder, or no pair in it.
    """
    if not os.path.isdir(folder):
        raise UsageError(f"{folder}: is not a folder; give one with recordings and MIDI files")
    for find in (_maestro, _musicnet, _slakh, _beside):
        found = sorted(find(folder), key=lambda recording: recording.name)
        if found:
            return found
    raise UsageError(f"{folder}: holds no recording beside its notes (NAME.wav and NAME.mid)")


def _maestro(folder: Path) -> Iterator[Recording]:
    for table in files_in(folder, "maestro-v*.csv"):
        for row in _rows(table, ("audio_filename", "midi_filename", "split")):
            audio = folder / row["audio_filename"]
            yield Recording(str(Path(row["audio_filename"])), audio, (folder / row["midi_filename"],), row["split"])


def _musicnet(folder: Path) -> Iterator[Recording]:
    for split in ("train", "test"):
        for labels in files_in(folder / f"{split}_labels", "*.csv"):
            audio = folder / f"{split}_data" / f"{labels.stem}.wav"
            # There is no validation part: it comes out of the training part, by name.
            yield Recording(f"{split}/{labels.stem}", audio, (labels,), "test" if split == "test" else None)


def _slakh(folder: Path) -> Iterator[Recording]:
    for mix in files_below(folder, AUDIO_SUFFIXES):
        track = mix.parent
        if mix.stem != "mix" or not track.name.startswith("Track"):
            continue
        # Not every MIDI part was rendered: only those that have a sound of their own are in the mix.
        parts = [
            midi
            for midi in files_in(track / "MIDI", "*.mid")
            if any(os.path.exists((track / "stems" / midi.stem).with_suffix(suffix)) for suffix in AUDIO_SUFFIXES)
        ]
        split = track.parent.name if track.parent.name in ("train", "validation", "test") else None
        notes = tuple(parts) or (track / "all_src.mid",)
        yield Recording(str(track.relative_to(folder)), mix, notes, split)


def _beside(folder: Path) -> Iterator[Recording]:
    for audio in files_below(folder, AUDIO_SUFFIXES):
        for suffix in (*MIDI_SUFFIXES, *map(str.upper, MIDI_SUFFIXES)):
            midi = audio.with_suffix(suffix)
            if os.path.exists(midi):
                yield Recording(str(audio.relative_to(folder)), audio, (midi,))
                break


def _rows(table: Path, columns: Sequence[str]) -> Iterator[dict[str, str]]:
    """The rows of a CSV file with a header. Raises UsageError where a column is missing."""
    try:
        with open(table, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = [column for column in columns if column not in (reader.fieldnames or ())]
            if missing:
                raise UsageError(f"{table}: has no column '{missing[0]}'")
            yield from reader
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{table}: cannot be read ({error})") from None


def read_notes(recording: Recording) -> Floats:
    """(n, 6) as a corpus has them: start_s, end_s, pitch, velocity, program, is_drum. Raises MidiError."""
    if recording.notes[0].suffix.lower() == ".csv":
        return _musicnet_notes(recording.notes[0])
    table = np.concatenate([note_table(path) for path in recording.notes])
    return np.asarray(table[np.lexsort((table[:, 2], table[:, 0]))], dtype=np.float64)


def _musicnet_notes(labels: Path) -> Floats:
    try:
        rows = [
            # times are samples at 44.1 kHz, programs are counted from 1
            [int(row["start_time"]) / MUSICNET_RATE_HZ, int(row["end_time"]) / MUSICNET_RATE_HZ, int(row["note"])]
            + [UNKNOWN_VELOCITY, int(row["instrument"]) - 1, 0]
            for row in _rows(labels, ("start_time", "end_time", "instrument", "note"))
        ]
    except (ValueError, TypeError) as error:
        raise MidiError(f"{labels}: is not a table of MusicNet's ({error})") from None
    if not rows:
        raise MidiError(f"{labels}: holds no notes")
    table = np.array(rows, dtype=np.float64)
    if ((table[:, 2] < 0) | (table[:, 2] > 127) | (table[:, 4] < 0) | (table[:, 4] > 127)).any():
        raise MidiError(f"{labels}: has a note or an instrument that MIDI does not have")
    return np.asarray(table[np.lexsort((table[:, 2], table[:, 0]))], dtype=np.float64)


def read_audio(path: Path) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """All of a recording as 16 kHz mono. Raises AudioFileError."""
    with AudioSource(path) as source:
        return np.concatenate(list(source.blocks()))


def is_validation(recording: Recording, share: float) -> bool | None:
    """Which part a recording belongs to; None for the test part of a data set, which stays out of a corpus."""
    if recording.split is None:
        return is_validation_file(Path(recording.name), share)
    return _SPLITS.get(recording.split)


def make_recorded_corpus(
    folder: Path, source: Path, validation_share: float, loudness_lufs: float, workers: int | Spread
) -> Iterator[tuple[int, int, Outcome]]:
    """Make (or complete) a corpus of the recordings under ``source``; yields (done, planned, outcome) for each.

    A recording that cannot be read, or is not what its notes say, is an outcome with a problem. Raises UsageError for
    settings that differ from the folder's, OutputError when the folder cannot be written.
    """
    check_validation_share(validation_share)
    recordings = find_recordings(source)
    used = [recording for recording in recordings if is_validation(recording, validation_share) is not None]
    if not used:
        raise UsageError(f"{source}: holds the test part of a data set only")
    make_folder(folder)
    with only_maker(folder):
        gain = _check_settings(folder, used, validation_share, loudness_lufs)
        with closing(shared_out(workers)(RecordingWork, (folder, gain, validation_share), used)) as outcomes:
            for done, outcome in enumerate(outcomes, start=1):
                if isinstance(outcome, SpecdiffError):
                    raise outcome
                yield done, len(used), outcome


@dataclass(frozen=True)
class RecordingWork:
    """Makes the pieces of a corpus from recordings, at one gain."""

    folder: Path
    gain: float
    share: float

    def one(self, recording: Recording) -> "Outcome | SpecdiffError":
        """What became of a recording."""
        return _make(recording, self.folder, self.gain, self.share)


def _make(recording: Recording, folder: Path, gain: float, share: float) -> Outcome | SpecdiffError:
    part = "validation" if is_validation(recording, share) else "train"
    digest = hashlib.blake2b(recording.name.encode("utf-8", "surrogateescape"), digest_size=6).hexdigest()
    path = folder / part / f"recording-{digest}.npz"
    length_s = finished_s(path)
    if length_s is not None:
        return Outcome(recording.name, length_s)
    try:
        audio, notes = read_audio(recording.audio), read_notes(recording)
        alignment = align(audio, notes)
        if not alignment.is_same_piece:
            problem = (
                f"{recording.audio}: does not sound like its notes ({_misfit(alignment)}); is it another piece, or "
            )
            problem += "another performance? Give it a MIDI file of its own"
            return Outcome(recording.name, alignment=alignment, problem=problem)
        ends_s = np.array([0.0, len(audio) / SAMPLE_RATE_HZ])
        was_corrected = bool(np.abs(alignment.times(ends_s) - ends_s).max() > CORRECTED_S)
        if was_corrected:
            notes[:, :2] = np.maximum(alignment.times(notes[:, :2]), 0)
        notes = notes[notes[:, 0] < len(audio) / SAMPLE_RATE_HZ]
        store_piece(path, audio * np.float32(gain), notes)
        return Outcome(recording.name, len(audio) / SAMPLE_RATE_HZ, alignment, was_corrected)
    except OutputError as error:
        return error
    except SpecdiffError as error:
        return Outcome(recording.name, problem=str(error))


def _misfit(alignment: Alignment) -> str:
    if alignment.is_at_limit:
        return f"it would have to drift by {1000 * alignment.drift:+.0f} ms/s or more"
    return f"correlation {alignment.correlation:.2f}, {alignment.least_correlation:.2f} needed at its length"


def _check_settings(folder: Path, used: Sequence[Recording], share: float, loudness_lufs: float) -> float:
    """Write what the corpus is made of, or compare with what is there; returns the gain."""
    settings = {
        "format": CORPUS_FORMAT,
        "recordings": sorted(recording.name for recording in used),
        "validation_share": share,
        "loudness_lufs": loudness_lufs,
    }
    path = folder / "corpus.json"
    try:
        if os.path.exists(path):
            known = json.loads(path.read_text())
            gain = known.pop("gain", None)
            if known != settings or not isinstance(gain, float):
                what = f"{path} was made with other settings or recordings: give another "
                raise UsageError(what, Option("out"))
            return gain
        gain = _gain(used, loudness_lufs)
        path.write_text(json.dumps({**settings, "gain": gain}, indent=2) + "\n")
        return gain
    except (OSError, ValueError) as error:
        raise OutputError(f"cannot use {path}: {error}") from error


def _gain(used: Sequence[Recording], loudness_lufs: float) -> float:
    """One gain for all, since a velocity must be equally loud everywhere; of some recordings, evenly spread."""
    measured = []
    for recording in used[:: max(1, len(used) // N_LEVELLED)]:
        meter = LoudnessMeter(SAMPLE_RATE_HZ)
        try:
            with AudioSource(recording.audio) as source:
                for block in source.blocks():
                    meter.push(block)
        except SpecdiffError:
            continue
        loudness = meter.finish()
        if np.isfinite(loudness):
            measured.append(loudness)
    return float(10 ** ((loudness_lufs - np.mean(measured)) / 20)) if measured else 1.0
