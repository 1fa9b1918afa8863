"""How well a render gets along with other work on the same processor: with a second render, and with a busy process.

    python benchmarks/neighbours.py [SONG.mid] [--model tiny] [--rounds 3] [--environment GOMP_SPINCOUNT=0 ...]

Threads that wait for each other by spinning are quickest alone and slow each other down as soon as there are more of
them than processors. Each setting is an environment that renders run in ("-" is none: what specdiff sets by itself).
Every round runs every setting once, in turn, so that whatever else the machine does falls upon all of them; the least
of each is taken. Printed are seconds of wall-clock time of whole processes, and ratios:

    side by side   two renders one after the other, over the same two at once: below 1 they hinder each other
    beside busy    one render alone, over one beside a process that computes without end: 0.5 is a fair share of a core
"""

import argparse
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from specdiff_cli.evaluation.processor import describe_processor

# PyTorch for Linux comes with libgomp, which by itself looks 300 000 times before a thread sleeps.
DEMO = Path(__file__).parent.parent / "examples" / "demo_song.py"
SETTINGS = ("-", "GOMP_SPINCOUNT=300000", "GOMP_SPINCOUNT=10000", "GOMP_SPINCOUNT=0", "OMP_WAIT_POLICY=passive")
CHOOSERS = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "KMP_BLOCKTIME")


def start(song: Path, output: Path, model: str, setting: str) -> "subprocess.Popen[bytes]":
    """A render as a process of its own."""
    environment = {name: value for name, value in os.environ.items() if name not in CHOOSERS}
    environment |= dict([setting.split("=", 1)]) if setting != "-" else {}
    command = [sys.executable, "-m", "specdiff_cli", "render", str(song), "-o", str(output), "--model", model]
    return subprocess.Popen([*command, "--quiet", "--overwrite"], env=environment)


def seconds_of(song: Path, folder: Path, model: str, setting: str, n_processes: int) -> float:
    """Until the last of so many renders, begun together, is done."""
    start_s = time.perf_counter()
    processes = [start(song, folder / f"{i}.wav", model, setting) for i in range(n_processes)]
    if any([process.wait() for process in processes]):
        raise SystemExit("a render failed")
    return time.perf_counter() - start_s


def compute_without_end() -> None:
    """What a busy neighbour does."""
    while True:
        sum(range(10_000))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("song", nargs="?", type=Path, help="a MIDI file (default: the demo, 28 s)")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--environment", nargs="+", default=SETTINGS, metavar="NAME=VALUE")
    arguments = parser.parse_args()
    print(describe_processor())
    times: dict[str, dict[str, list[float]]] = {setting: {} for setting in arguments.environment}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        song = arguments.song or folder / "demo.mid"
        if arguments.song is None:
            subprocess.run([sys.executable, DEMO, song], check=True)
        for _ in range(arguments.rounds):
            for setting, found in times.items():
                for label, n_processes in (("alone", 1), ("two", 2)):
                    found.setdefault(label, []).append(seconds_of(song, folder, arguments.model, setting, n_processes))
                neighbour = multiprocessing.Process(target=compute_without_end, daemon=True)
                neighbour.start()
                try:
                    found.setdefault("busy", []).append(seconds_of(song, folder, arguments.model, setting, 1))
                finally:
                    neighbour.kill()
                    neighbour.join()
    print(
        f"{'environment':28s} {'alone s':>8s} {'two s':>8s} {'side by side':>13s} {'busy s':>8s} {'beside busy':>12s}"
    )
    for setting, found in times.items():
        alone, two, busy = (min(found[label]) for label in ("alone", "two", "busy"))
        print(f"{setting:28s} {alone:8.2f} {two:8.2f} {2 * alone / two:13.2f} {busy:8.2f} {alone / busy:12.2f}")


if __name__ == "__main__":
    main()
