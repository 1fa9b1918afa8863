"""What precision does to the spectrogram: every dtype against float32, with the same noise.

    python benchmarks/precision.py FOLDER_OR_MIDI... [--model tiny] [--dtypes bfloat16 int8] [--steps 1 10]

Distances are mean absolute differences of log-mels in nepers. The last column is another seed in float32: what chance
alone does.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from held_out import midi_files

from specdiff_cli import Sampling, Synthesizer, load_voice
from specdiff_cli.audio.griffin_lim import GriffinLim
from specdiff_cli.evaluation.processor import describe_processor

Mel = npt.NDArray[np.float32]


def paint(files: Sequence[Path], synthesizer: Synthesizer, seconds: float, sampling: Sampling) -> list[Mel]:
    """The spectrogram (n_frames, 128) of each file's first seconds."""
    return [synthesizer.spectrogram(file, seconds, sampling) for file in files]


def distance(ones: Sequence[Mel], others: Sequence[Mel]) -> float:
    """Mean absolute difference over all files."""
    return float(np.mean(np.concatenate([np.abs(a - b).ravel() for a, b in zip(ones, others, strict=True)])))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("midi", nargs="+", type=Path)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--dtypes", nargs="+", default=["bfloat16", "int8"])
    parser.add_argument("--steps", nargs="+", type=int, default=[1, 10])
    parser.add_argument("--sampler", default="dpm++2m")
    parser.add_argument("--schedule", default="magenta")
    parser.add_argument("--seconds", type=float, default=15.36, help="of each piece")
    args = parser.parse_args()
    files = midi_files(args.midi)
    # Each has a voice of its own: a loaded voice is compiled for one precision.
    synthesizers = {
        dtype: Synthesizer(load_voice(args.model), GriffinLim(), "cpu", dtype) for dtype in ["float32", *args.dtypes]
    }
    print(describe_processor())
    print(f"{args.model}, {len(files)} pieces, {args.sampler}, {args.schedule}\n")
    print(f"| steps | {' | '.join(args.dtypes)} | another seed |\n|---|{'---|' * len(args.dtypes)}---|")
    for steps in args.steps:
        sampling = Sampling(steps, args.sampler, args.schedule)
        exact = paint(files, synthesizers["float32"], args.seconds, sampling)
        others = [paint(files, synthesizers[dtype], args.seconds, sampling) for dtype in args.dtypes]
        others.append(paint(files, synthesizers["float32"], args.seconds, replace(sampling, seed=1)))
        print(f"| {steps} | {' | '.join(f'{distance(exact, other):.4f}' for other in others)} |", flush=True)


if __name__ == "__main__":
    main()
