"""Time and memory against the length of a song and the number of files.

    python benchmarks/scaling.py [--minutes 1 10 60] [--files 1 8 32]

Renders made-up piano pieces with ``specdiff render``, one process per row, and prints seconds, seconds per second of
audio, and the most memory that the process held. Work should be linear, memory flat. See benchmarks/README.md.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import mido

from specdiff_cli.evaluation.processor import describe_processor

NOTES_PER_SECOND = 8
TICKS_PER_SECOND = 960  # 480 a beat at 120 beats per minute
ALWAYS = ("--quiet", "--tail", "0")
FILE_S = 20.0  # of each file where their number is what varies


def write_piece(path: Path, duration_s: float) -> None:
    """A piano piece of that length: an even stream of notes."""
    track = mido.MidiTrack()
    length = TICKS_PER_SECOND // NOTES_PER_SECOND
    for i in range(int(duration_s * NOTES_PER_SECOND)):
        pitch = 36 + i * 7 % 48
        track.append(mido.Message("note_on", note=pitch, velocity=80, time=0))
        track.append(mido.Message("note_off", note=pitch, velocity=0, time=length))
    mido.MidiFile(tracks=[track], ticks_per_beat=480).save(path)


def measured(words: list[str]) -> tuple[float, float]:
    """Seconds and peak megabytes of a command. Raises SystemExit when it fails."""
    start_s = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "specdiff_cli", *words])
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"specdiff {' '.join(words)}: ended with {process.returncode}")
    n_bytes = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return time.perf_counter() - start_s, n_bytes / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, nargs="*", default=[1, 10, 60])
    parser.add_argument("--files", type=int, nargs="*", default=[1, 8, 32])
    parser.add_argument("options", nargs="*", help="options for specdiff render, after --")
    args = parser.parse_args()
    print(describe_processor())
    print("| what | audio | time | per second of audio | peak memory |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for minutes in args.minutes:
            song = folder / f"{minutes:g}_minutes.mid"
            write_piece(song, 60 * minutes)
            words = ["render", str(song), "-o", str(folder / f"{minutes:g}.wav"), *ALWAYS, *args.options]
            row(f"{minutes:g} minutes", 60 * minutes, *measured(words))
        for count in args.files:
            songs = folder / f"{count}_files"
            songs.mkdir()
            for i in range(count):
                write_piece(songs / f"{i}.mid", FILE_S)
            words = ["render", str(songs), "-o", str(folder / f"{count}_out"), *ALWAYS, *args.options]
            row(f"{count} files", count * FILE_S, *measured(words))


def row(name: str, audio_s: float, seconds: float, megabytes: float) -> None:
    """One line of the table."""
    print(
        f"| {name} | {audio_s:.0f} s | {seconds:.1f} s | {seconds / audio_s:.4f} s | {megabytes:.0f} MB |", flush=True
    )


if __name__ == "__main__":
    main()
