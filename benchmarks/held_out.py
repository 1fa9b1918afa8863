"""Held-out pieces for the benchmarks: MIDI files, and what recordings beside them sound like."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from specdiff_cli import Synthesizer
from specdiff_cli.audio.mel import log_mel
from specdiff_cli.evaluation.evaluate import read_audio, read_pieces
from specdiff_cli.midi.notes import Note


@dataclass(frozen=True)
class Piece:
    """What is rendered, and the recording's spectrogram (n_frames, 128) where there is one."""

    notes: Sequence[Note]
    duration_s: float
    recording: Tensor | None


def midi_files(paths: Sequence[Path]) -> list[Path]:
    """Files as they are, folders as the MIDI files in them."""
    return [file for path in paths for file in (sorted(path.glob("*.mid")) if path.is_dir() else [path])]


def read(paths: Sequence[Path], synthesizer: Synthesizer, max_seconds: float) -> list[Piece]:
    """The pieces as the voice plays them; the recording of song.mid is song.wav beside it."""
    pieces = []
    for piece in read_pieces(midi_files(paths), 24 * 3600.0):
        duration_s = piece.duration_s(max_seconds)
        notes, _ = synthesizer.playable([note for note in piece.song.notes if note.start_s < duration_s])
        recording = None
        if piece.audio is not None:
            audio = torch.from_numpy(read_audio(piece.audio)[: synthesizer.count_samples(duration_s)])
            recording = log_mel(audio)
        pieces.append(Piece(notes, duration_s, recording))
    return pieces
