"""Whether a second worker pays: songs rendered with --workers 1 and with --workers 2, Ray's start included.

    python benchmarks/workers.py [--songs 40] [--seconds 20] [--model tiny] [--rounds 2] [-- --device cuda ...]

The songs are scales of chords, made here; every round runs both settings, and the least of each is taken. Exit code 1
says that two workers were slower than one, or that their files differ. Options behind -- are those of `specdiff
render`. Needs the extra `cluster`; run it on a machine that does nothing else.
"""

import argparse
import filecmp
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import mido

from specdiff_cli.evaluation.processor import describe_processor

TICKS_PER_BEAT, BEAT_S, CHORD = 480, 0.5, (0, 4, 7)


def write_song(path: Path, first_pitch: int, seconds: float) -> None:
    """Chords of a beat each, one semitone up each time."""
    track = mido.MidiTrack()
    for beat in range(max(1, round(seconds / BEAT_S))):
        pitches = [first_pitch + beat % 24 + step for step in CHORD]
        track += [mido.Message("note_on", note=pitch, velocity=80) for pitch in pitches]
        for k, pitch in enumerate(pitches):
            track.append(mido.Message("note_off", note=pitch, time=0 if k else TICKS_PER_BEAT))
    mido.MidiFile(ticks_per_beat=TICKS_PER_BEAT, tracks=[track]).save(path)


def seconds_of(songs: Path, output: Path, n_workers: int, options: list[str]) -> float:
    """A whole command, from process start to the last file."""
    command = [sys.executable, "-m", "specdiff_cli", "render", str(songs), "-o", str(output), *options]
    start_s = time.perf_counter()
    if subprocess.run([*command, "--workers", str(n_workers), "--threads", "1", "--quiet"], check=False).returncode:
        raise SystemExit("a render failed")
    return time.perf_counter() - start_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--songs", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each song")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("options", nargs="*", help="of render")
    arguments = parser.parse_args()
    print(describe_processor())
    options = ["--model", arguments.model, *arguments.options]
    least = {1: float("inf"), 2: float("inf")}
    with tempfile.TemporaryDirectory() as name:
        songs = Path(name) / "songs"
        songs.mkdir()
        for k in range(arguments.songs):
            write_song(songs / f"{k:03d}.mid", 40 + k % 24, arguments.seconds)
        for turn in range(arguments.rounds):
            for n_workers in least:
                took_s = seconds_of(songs, Path(name) / f"out-{turn}-{n_workers}", n_workers, options)
                least[n_workers] = min(least[n_workers], took_s)
                print(f"round {turn + 1}: {n_workers} worker(s) {took_s:.1f} s", flush=True)
        names = sorted(path.name for path in (Path(name) / "out-0-1").iterdir())
        _, differ, lacking = filecmp.cmpfiles(Path(name) / "out-0-1", Path(name) / "out-0-2", names, shallow=False)
    print(f"{len(names) - len(differ + lacking)} of {len(names)} files are equal")
    ratio = least[1] / least[2]
    print(f"two workers are {ratio:.2f} x as fast as one")
    raise SystemExit(ratio < 1.0 or bool(differ or lacking))


if __name__ == "__main__":
    main()
