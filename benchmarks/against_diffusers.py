"""Seconds per step and per window, beside the Diffusers pipeline on the same cores in one run.

    python benchmarks/against_diffusers.py --peer .peer/bin/python ../shared/peers/diffusers_peer.py

The two take turns, so that whatever else the machine does meets both; medians and their ratios are printed. Both have
random weights of the same size, about 600 tokens of notes, and no guidance. See benchmarks/README.md.

``--reuse-every 2`` adds a column for each of our precisions, in which the inner blocks are evaluated in every second
step alone (of ``--steps``; the last is always whole). What that and the precision cost is measured with a network that
was trained: ``--trained VOICE FOLDER_OF_MIDI`` prints how far its spectrograms are from whole steps in float32.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from held_out import midi_files
from precision import Way, distances

from specdiff_cli import Sampling
from specdiff_cli.evaluation.processor import describe_processor

PEER_LINE = re.compile(r"(?P<step>[\d.]+) s per decoder step, (?P<encoders>[\d.]+) s for the encoders")
WINDOWS_S = 2 * 5.12


def run(words: list[str], n_threads: int) -> str:
    """Standard output of a command. Raises CalledProcessError, with what it said, when it fails."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(n_threads)}
    return subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout


def peer(python: str, script: str, size: str, n_steps: int, n_threads: int) -> dict[str, float]:
    """One measurement of the peer: seconds per step, and for the encoders of one window."""
    output = run([python, script, "bench", "--size", size, "--steps", str(n_steps)], n_threads)
    match = PEER_LINE.search(output)
    if match is None:
        raise SystemExit(f"{script}: said {output!r}, in which there are no times")
    return {name: float(value) for name, value in match.groupdict().items()}


def ours(size: str, way: Way, n_steps: int, n_threads: int) -> dict[str, Any]:
    """One measurement of specdiff."""
    words = ["benchmark", "--model", size, "--random-weights", "--dtype", way.dtype, "--device", "cpu", "--json"]
    words += ["--steps", str(n_steps), "--seconds", str(WINDOWS_S), "--threads", str(n_threads)]
    words += ["--reuse-every", str(way.reuse_every)]
    report: dict[str, Any] = json.loads(run([sys.executable, "-m", "specdiff_cli", *words], n_threads))
    report["encoders"] = report["share"]["encoders"] * report["window_s"]
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", nargs=2, metavar=("PYTHON", "SCRIPT"), required=True, help="the peer and its Python")
    parser.add_argument("--size", default="base", choices=["small", "base"])
    parser.add_argument("--dtypes", nargs="+", default=["bfloat16", "int8"], help="ours; the peer computes in float32")
    parser.add_argument("--reuse-every", nargs="+", type=int, default=[1], metavar="N", help="ours: columns for each N")
    parser.add_argument("--trained", nargs="+", metavar=("VOICE", "MIDI"), help="also what each way costs this network")
    parser.add_argument("--trained-steps", type=int, default=20, help="of dpm++2m, for --trained")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8, help="steps per measurement")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    theirs: list[dict[str, float]] = []
    ways = [Way(dtype, n) for dtype in args.dtypes for n in args.reuse_every]
    mine: dict[Way, list[dict[str, Any]]] = {way: [] for way in ways}
    for number in range(args.rounds):
        theirs.append(peer(args.peer[0], args.peer[1], args.size, args.steps, args.threads))
        said = [f"{theirs[-1]['step']:.3f} s"]
        for way, reports in mine.items():
            reports.append(ours(args.size, way, args.steps, args.threads))
            said.append(f"{reports[-1]['step_s']:.3f} s")
        print(f"round {number + 1}: {', '.join(said)} a step", file=sys.stderr)
    reports = next(iter(mine.values()))
    print(describe_processor())
    print(f"\n{args.size}, {args.threads} threads, medians of {args.rounds}, {reports[0]['n_keys']:.0f} keys\n")
    print(f"| | Diffusers float32 | {' | '.join(f'specdiff {way}' for way in mine)} |")
    print(f"|---|---|{'---|' * len(mine)}")
    their_step_s, their_encoders_s = (statistics.median(r[key] for r in theirs) for key in ("step", "encoders"))
    our_steps_s = [statistics.median(r["step_s"] for r in reports) for reports in mine.values()]
    our_encoders_s = [statistics.median(r["encoders"] for r in reports) for reports in mine.values()]
    row("one decoder step", their_step_s, our_steps_s)
    row("encoders of a window", their_encoders_s, our_encoders_s)
    whole_s = [encoders_s + 100 * step_s for encoders_s, step_s in zip(our_encoders_s, our_steps_s, strict=True)]
    row("a window of 100 steps", their_encoders_s + 100 * their_step_s, whole_s)
    if args.trained is not None:
        voice, *midi = args.trained
        files = midi_files([Path(path) for path in midi])
        nepers = distances(voice, files, ways, Sampling(args.trained_steps, "dpm++2m", "magenta"))
        costs = " | ".join(f"{cost:.4f} nepers" for cost in nepers[:-1])
        print(f"| {voice}, {args.trained_steps} steps of dpm++2m | another seed: {nepers[-1]:.3f} | {costs} |")
    print()
    for way in ways:
        if way.reuse_every == 1:
            speed = statistics.median(r["flops_per_s"] / r["matmul_flops_per_s"] for r in mine[way])
            print(f"our decoder in {way}: {100 * speed:.0f} % of a plain matrix product's speed in the same run")


def row(name: str, their_s: float, our_s: list[float]) -> None:
    """One line of the table."""
    print(f"| {name} | {their_s:.3f} s | {' | '.join(f'{s:.3f} s, {their_s / s:.1f} ×' for s in our_s)} |")


if __name__ == "__main__":
    main()
