"""Songs with a tune and two hands, made by rule, for tests of the composer."""

from pathlib import Path

import mido
import numpy as np
from midi_files import Timed, midi_bytes, note, program, tempo

from specdiff_cli.composing.pieces import Piece

TICKS = 480


def song_bytes(seed: int, n_bars: int = 12) -> bytes:
    """In 3/4 at 100 beats per minute: a tune on a flute, chords in the right hand, a bass note in each bar."""
    rng = np.random.default_rng(seed)
    signature: Timed = (0, mido.MetaMessage("time_signature", numerator=3, denominator=4))
    tune, right, left = [program(0, 0, 73)], [program(0, 1, 0)], [program(0, 2, 0)]
    for bar in range(n_bars):
        start = bar * 3 * TICKS
        root = int(rng.choice([0, 5, 7])) if bar < n_bars - 1 else 0
        left += note(start, start + 3 * TICKS, 2, 36 + root)
        for beat in range(3):
            at = start + beat * TICKS
            tune += note(at, at + TICKS, 0, 72 + int(rng.choice([0, 2, 4, 5, 7])))
            if beat:
                for step in (0, 4, 7):
                    right += note(at, at + TICKS // 2, 1, 48 + root + step)
    return midi_bytes([signature, tempo(0, 600_000)], tune, right, left, ticks_per_beat=TICKS)


def write_songs(folder: Path, n: int, n_bars: int = 12) -> Path:
    """``n`` such songs."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(n):
        (folder / f"song{index}.mid").write_bytes(song_bytes(index, n_bars))
    return folder


def piece(pitches: list[int], onsets: list[float] | None = None, lengths: list[float] | None = None) -> Piece:
    """Notes of a beat each, one after the other unless said otherwise."""
    n = len(pitches)
    starts = np.arange(n, dtype=float) if onsets is None else np.array(onsets, dtype=float)
    return Piece(starts, np.ones(n) if lengths is None else np.array(lengths, dtype=float), np.array(pitches))
