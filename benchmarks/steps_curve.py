"""Quality against steps: what presets are chosen from.

    python benchmarks/steps_curve.py FOLDER_OR_MIDI... --model VOICE [--samplers ddim unipc] [--steps 8] [--reuse 1 2]

Each way of sampling paints the same pieces from the same noise. Its spectrogram is compared with the voice's own result
of many steps (--anchor), which is what the sampler aims at, and with the recording beside a MIDI file (song.wav beside
song.mid), which is what the voice aims at. Distances are mean absolute differences of log-mels in nepers.
"""

import argparse
import itertools
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from held_out import Piece, read
from torch import Tensor

from specdiff_cli import Sampling, Synthesizer, load_voice
from specdiff_cli.audio.griffin_lim import GriffinLim
from specdiff_cli.diffusion.sampling import EVERYWHERE, parse_guidance_interval
from specdiff_cli.evaluation.processor import describe_processor


@dataclass(frozen=True)
class Row:
    """One way of sampling, over all pieces; nepers, and seconds of processor time per second of audio."""

    sampler: str
    steps: int
    guidance: float
    guidance_interval: tuple[float, float]
    reuse_every: int
    to_anchor: float
    to_recording: float | None
    seconds_per_s: float


def paint(pieces: Sequence[Piece], synthesizer: Synthesizer, sampling: Sampling) -> list[Tensor]:
    """The spectrogram (n_frames, 128) of each piece."""
    return [torch.from_numpy(synthesizer.spectrogram(p.notes, p.duration_s, sampling)) for p in pieces]


def distance(ones: Sequence[Tensor], others: Sequence[Tensor | None]) -> float | None:
    """Mean absolute difference over all frames that both have; None where there is nothing to compare with."""
    pairs = [(one, other) for one, other in zip(ones, others, strict=True) if other is not None]
    differences = [(one[: len(other)] - other[: len(one)]).abs().flatten() for one, other in pairs]
    return float(torch.cat(differences).mean()) if differences else None


def measure(pieces: Sequence[Piece], anchors: Sequence[Tensor], synthesizer: Synthesizer, sampling: Sampling) -> Row:
    """Paint the pieces in one way and compare."""
    start_s = time.process_time()
    mels = paint(pieces, synthesizer, sampling)
    elapsed_s = time.process_time() - start_s
    to_anchor = distance(mels, anchors)
    return Row(
        sampler=str(sampling.sampler),
        steps=sampling.steps,
        guidance=sampling.guidance,
        guidance_interval=sampling.guidance_interval,
        reuse_every=sampling.reuse_every,
        to_anchor=float("nan") if to_anchor is None else to_anchor,
        to_recording=distance(mels, [piece.recording for piece in pieces]),
        seconds_per_s=elapsed_s / sum(piece.duration_s for piece in pieces),
    )


def parse_guidance(text: str) -> tuple[float, tuple[float, float]]:
    """``2`` or ``2@0.2-0.8``: a weight, and the times between which it is applied."""
    weight, at, interval = text.partition("@")
    return float(weight), parse_guidance_interval(interval) if at else EVERYWHERE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("midi", nargs="+", type=Path)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--samplers", nargs="+", default=["ddim", "dpm++2m", "ddpm"])
    parser.add_argument("--steps", nargs="+", type=int, default=[1, 2, 4, 10, 20, 50])
    parser.add_argument(
        "--guidance", nargs="+", type=parse_guidance, default=[(1.0, EVERYWHERE)], metavar="WEIGHT[@LOW-HIGH]"
    )
    parser.add_argument("--reuse", nargs="+", type=int, default=[1], metavar="EVERY", help="see render --reuse-every")
    parser.add_argument("--anchor", nargs=2, default=["ddim", "1000"], metavar=("SAMPLER", "STEPS"))
    parser.add_argument("--schedule", default="magenta")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each piece")
    parser.add_argument("--json", action="store_true", help="one JSON object per row instead of a table")
    args = parser.parse_args()
    synthesizer = Synthesizer(load_voice(args.model), GriffinLim(), "auto", args.dtype)
    pieces = read(args.midi, synthesizer, args.seconds)
    seconds = sum(piece.duration_s for piece in pieces)
    anchor = Sampling(int(args.anchor[1]), args.anchor[0], args.schedule, seed=args.seed)
    print(describe_processor(), file=sys.stderr)
    print(
        f"{synthesizer.voice.name}: {len(pieces)} pieces, {seconds:.0f} s; anchor: {' '.join(args.anchor)}",
        file=sys.stderr,
    )
    start_s = time.process_time()
    anchors = paint(pieces, synthesizer, anchor)
    anchor_s = time.process_time() - start_s
    if not args.json:
        headings = ["sampler", "steps", "guidance", "one whole step in", f"to {' '.join(args.anchor)}"]
        headings += ["to the recording", "CPU seconds for a second"]
        print(f"| {' | '.join(headings)} |\n|{'---|' * len(headings)}")
        of_anchor = distance(anchors, [p.recording for p in pieces])
        show(Row(args.anchor[0], anchor.steps, 1.0, EVERYWHERE, 1, 0.0, of_anchor, anchor_s / seconds))
    ways = itertools.product(args.guidance, args.samplers, args.reuse, args.steps)
    for (weight, interval), sampler, every, steps in ways:
        sampling = Sampling(steps, sampler, args.schedule, weight, args.seed, interval, reuse_every=every)
        row = measure(pieces, anchors, synthesizer, sampling)
        if args.json:
            print(json.dumps(asdict(row)), flush=True)
        else:
            show(row)


def show(row: Row) -> None:
    """One line of the table."""
    low, high = row.guidance_interval
    guidance = f"{row.guidance:g}" + ("" if (low, high) == EVERYWHERE else f" from {low:g} to {high:g}")
    recording = "" if row.to_recording is None else f"{row.to_recording:.3f}"
    cells = [row.sampler, row.steps, guidance, row.reuse_every, f"{row.to_anchor:.3f}", recording]
    print(f"| {' | '.join(map(str, cells))} | {row.seconds_per_s:.3f} |", flush=True)


if __name__ == "__main__":
    main()
