"""What precision, and reuse of inner features, do to the spectrogram: against whole steps in float32, same noise.

    python benchmarks/precision.py FOLDER_OR_MIDI... --model VOICE [--dtypes bfloat16 int8] [--reuse 1 2] [--steps 1 10]

Distances are mean absolute differences of log-mels in nepers. The last column is another seed in float32: what chance
alone does.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from held_out import midi_files

from specdiff_cli import Sampling, Synthesizer, load_voice
from specdiff_cli.audio.griffin_lim import GriffinLim
from specdiff_cli.evaluation.processor import describe_processor

Mel = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Way:
    """A precision, and how often the inner blocks are evaluated."""

    dtype: str
    reuse_every: int = 1

    def __str__(self) -> str:
        return self.dtype if self.reuse_every == 1 else f"{self.dtype}, reuse every {self.reuse_every}"


def paint(files: Sequence[Path], synthesizer: Synthesizer, seconds: float, sampling: Sampling) -> list[Mel]:
    """The spectrogram (n_frames, 128) of each file's first seconds."""
    return [synthesizer.spectrogram(file, seconds, sampling) for file in files]


def distance(ones: Sequence[Mel], others: Sequence[Mel]) -> float:
    """Mean absolute difference over all files."""
    return float(np.mean(np.concatenate([np.abs(a - b).ravel() for a, b in zip(ones, others, strict=True)])))


def distances(
    model: str, files: Sequence[Path], ways: Sequence[Way], sampling: Sampling, seconds: float = 15.36
) -> list[float]:
    """Nepers from whole steps in float32 with the same noise: of each way, and of another seed."""
    # Each has a voice of its own: a loaded voice is compiled for one precision.
    synthesizers = {
        dtype: Synthesizer(load_voice(model), GriffinLim(), "cpu", dtype)
        for dtype in dict.fromkeys(["float32", *(way.dtype for way in ways)])
    }
    exact = paint(files, synthesizers["float32"], seconds, sampling)
    others = [
        paint(files, synthesizers[way.dtype], seconds, replace(sampling, reuse_every=way.reuse_every)) for way in ways
    ]
    others.append(paint(files, synthesizers["float32"], seconds, replace(sampling, seed=sampling.seed + 1)))
    return [distance(exact, other) for other in others]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("midi", nargs="+", type=Path)
    parser.add_argument("--model", required=True, help="a voice with a diffusion network")
    parser.add_argument("--dtypes", nargs="+", default=["bfloat16", "int8"])
    parser.add_argument("--reuse", nargs="+", type=int, default=[1], metavar="N", help="whole steps: one in N")
    parser.add_argument("--steps", nargs="+", type=int, default=[1, 10])
    parser.add_argument("--sampler", default="dpm++2m")
    parser.add_argument("--schedule", default="magenta")
    parser.add_argument("--seconds", type=float, default=15.36, help="of each piece")
    args = parser.parse_args()
    files = midi_files(args.midi)
    ways = [Way(dtype, n) for dtype in args.dtypes for n in args.reuse]
    print(describe_processor())
    print(f"{args.model}, {len(files)} pieces, {args.sampler}, {args.schedule}\n")
    print(f"| steps | {' | '.join(map(str, ways))} | another seed |\n|---|{'---|' * len(ways)}---|")
    for steps in args.steps:
        nepers = distances(args.model, files, ways, Sampling(steps, args.sampler, args.schedule), args.seconds)
        print(f"| {steps} | {' | '.join(f'{value:.4f}' for value in nepers)} |", flush=True)


if __name__ == "__main__":
    main()
