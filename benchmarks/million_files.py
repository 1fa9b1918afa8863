"""What a folder of a million files costs the driver of --workers: its memory all the way, and files per second.

    python benchmarks/million_files.py [--files 1000000] [--workers 2] [--list] [--folder DIR]

The tree is made of hard links to a few small MIDI files, 1000 in a folder; with --list its names come from a list. The
command is the real one, with Ray's real workers, but a worker answers at once and writes nothing, so what is measured
is finding, checking, planning, handing out and telling (as --json). Needs the extra `cluster`, and Linux's /proc.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import mido

from specdiff_cli.evaluation.processor import describe_processor
from specdiff_cli.rendering.events import Done, Event
from specdiff_cli.rendering.jobs import Job

PER_FOLDER = 1000
#: A file system allows some 65 000 links to a file.
LINKS_PER_SONG = 50_000
KIB_PER_MIB = 1024
FIRST_SHOWN = 1000


class InstantWork:
    """A worker that has rendered every file already."""

    description = "a worker that answers at once"
    messages: tuple[str, ...] = ()

    def do(self, items: Sequence[tuple[Job, int]], stopped: Callable[[], bool]) -> list[list[Event]]:
        """Three minutes of audio each."""
        return [
            [Done(job, duration_s=180.0, elapsed_s=0.001, realtime_factor=180_000.0, n_windows=36, how="at once")]
            for job, _ in items
        ]


def make_instant_work(*_: Any) -> InstantWork:
    """Runs in the worker, in place of loading a voice."""
    return InstantWork()


def drive(words: Sequence[str]) -> None:
    """The command, with that worker."""
    import million_files  # this very file, under the name by which workers import it, too

    from specdiff_cli.cli.app import app
    from specdiff_cli.cluster import rendering

    rendering.make_render_work = million_files.make_instant_work  # type: ignore[assignment]
    app(list(words))


def make_tree(folder: Path, n_files: int) -> None:
    """Hard links to songs of one to some notes."""
    songs = folder.parent / "songs"
    songs.mkdir()
    for number in range(-(-n_files // LINKS_PER_SONG)):
        notes = [mido.Message(kind, note=60 + number % 24, time=48) for kind in ("note_on", "note_off")] * (number + 1)
        mido.MidiFile(tracks=[mido.MidiTrack(notes)]).save(songs / f"{number}.mid")
    for number in range(n_files):
        part = folder / f"{number // PER_FOLDER:05d}"
        if number % PER_FOLDER == 0:
            part.mkdir(parents=True)
        os.link(songs / f"{number // LINKS_PER_SONG}.mid", part / f"{number:07d}.mid")


def memory_mib(pid: int, field: str = "VmRSS") -> float:
    """Of a process: what it holds now, or at most held (``VmHWM``); 0 once it is gone."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / KIB_PER_MIB
    return 0.0


def marks(n_files: int) -> Iterator[int]:
    """1000, 3000, 10 000, 30 000 and so on, and the last."""
    power = FIRST_SHOWN
    while power < n_files:
        yield from (mark for mark in (power, 3 * power) if mark < n_files)
        power *= 10
    yield n_files


def watch(pid: int, lines: IO[bytes], n_files: int) -> None:
    """Print the driver's memory and pace whenever enough files are told."""
    wanted = marks(n_files)
    mark = next(wanted)
    start_s = first_s = time.perf_counter()
    peak_mib = 0.0
    n_told = 0
    print("| files told | seconds | files/s | driver now | driver at most |\n|---:|---:|---:|---:|---:|")
    for _ in lines:
        n_told += 1
        if n_told == 1:
            first_s = time.perf_counter()
            print(
                f"| looked at, 1 told | {first_s - start_s:.1f} | | {memory_mib(pid):.0f} MiB | "
                f"{memory_mib(pid, 'VmHWM'):.0f} MiB |",
                flush=True,
            )
        if n_told == mark:
            took_s = time.perf_counter() - first_s
            peak_mib = memory_mib(pid, "VmHWM")
            print(
                f"| {n_told} | {took_s:.1f} | {n_told / max(took_s, 1e-9):.0f} | {memory_mib(pid):.0f} MiB | "
                f"{peak_mib:.0f} MiB |",
                flush=True,
            )
            mark = next(wanted, 0)
    if n_told != n_files:
        raise SystemExit(f"{n_told} of {n_files} files were told")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--list", action="store_true", help="give the names by --files-from")
    parser.add_argument("--folder", type=Path, help="where the tree is made; by default a temporary folder")
    parser.add_argument("--drive", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.drive:
        drive(arguments.drive)
        return
    print(describe_processor())
    folder = Path(tempfile.mkdtemp(prefix="specdiff-million-", dir=arguments.folder))
    try:
        start_s = time.perf_counter()
        make_tree(folder / "in", arguments.files)
        words = [str(folder / "in"), "-r"]
        if arguments.list:
            names = folder / "names"
            with names.open("w") as file:
                for path in sorted((folder / "in").iterdir()):
                    file.writelines(f"{entry.path}\n" for entry in os.scandir(path))
            words = ["--files-from", str(names), "--output-template", "{parent}/{stem}.wav"]
        print(f"{arguments.files} links made in {time.perf_counter() - start_s:.1f} s", flush=True)
        command = [
            sys.executable,
            __file__,
            "--drive",
            "render",
            *words,
            "-o",
            str(folder / "out"),
            "--json",
            "--quiet",
        ]
        here = os.pathsep.join(filter(None, (str(Path(__file__).parent), os.environ.get("PYTHONPATH"))))
        with subprocess.Popen(
            [*command, "--workers", str(arguments.workers)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": here},
        ) as driver:
            assert driver.stdout is not None
            watch(driver.pid, driver.stdout, arguments.files)
        raise SystemExit(driver.returncode)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
