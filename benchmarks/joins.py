"""How well windows join, with and without overlap: what the spectrogram does from frame to frame where they meet.

    python benchmarks/joins.py FOLDER_OR_MIDI... [--model tiny] [--overlap 0 16 32 64] [--steps 1 4 10]

The step at joins over the step elsewhere says how it sounds, but depends on what the music does there. So the same
frames are looked at in a second render, whose windows begin half a window earlier: there they lie within a window. The
ratio of the two is 1 where a join cannot be told from any other frame. A recording beside a MIDI file (song.wav beside
song.mid) tells whether overlap brings the spectrogram closer to it.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from held_out import Piece, read
from torch import Tensor

from specdiff_cli import Sampling, Synthesizer, load_voice
from specdiff_cli.audio.griffin_lim import GriffinLim
from specdiff_cli.audio.mel import to_model_range
from specdiff_cli.constants import FRAMES_PER_SECOND, WINDOW_FRAMES
from specdiff_cli.evaluation.measures import mel_distance
from specdiff_cli.evaluation.processor import describe_processor

SHIFT_FRAMES = WINDOW_FRAMES // 2
SHIFT_S = SHIFT_FRAMES / FRAMES_PER_SECOND


@dataclass(frozen=True)
class Steps:
    """How far a spectrogram moves from frame to frame: at joins, elsewhere, and at the same joins within a window."""

    joins: Tensor
    elsewhere: Tensor
    within: Tensor


@dataclass(frozen=True)
class Result:
    """One way of sampling, over all pieces."""

    jump: float  # at joins over elsewhere
    against_within: float  # at joins over the same frames within a window
    error: float  # standard error of that
    log_mel_l1: float | None  # nepers, to the recordings


def steps_of(mel: Tensor) -> Tensor:
    """Mean absolute steps of a (n_frames, 128) log-mel in the network's range; item i leads to frame i + 1."""
    return to_model_range(mel).diff(dim=0).abs().mean(dim=1).double()


def joins_of(n_frames: int, hop_frames: int, first_join: int = WINDOW_FRAMES) -> Tensor:
    """(n_frames - 1,) bool: whether what ``steps_of`` has there leads from one window to the next."""
    after_first = torch.arange(1, n_frames) - first_join
    return (after_first >= 0) & (after_first % hop_frames == 0)


def earlier(piece: Piece, synthesizer: Synthesizer, sampling: Sampling) -> Tensor:
    """The spectrogram (n_frames, 128) of a render whose windows begin half a window earlier, without overlap."""
    notes = [replace(note, start_s=note.start_s + SHIFT_S, end_s=note.end_s + SHIFT_S) for note in piece.notes]
    mel = synthesizer.spectrogram(notes, piece.duration_s + SHIFT_S, replace(sampling, overlap_frames=0))
    return torch.from_numpy(mel)[SHIFT_FRAMES:]


def compare(mel: Tensor, within: Tensor, sampling: Sampling) -> Steps:
    """The steps of one piece; joins that are joins in the second render, too, are left out."""
    n_frames = min(len(mel), len(within))
    steps, steps_within = steps_of(mel[:n_frames]), steps_of(within[:n_frames])
    joins = joins_of(n_frames, sampling.hop_frames)
    chosen = joins & ~joins_of(n_frames, WINDOW_FRAMES, WINDOW_FRAMES - SHIFT_FRAMES)
    return Steps(steps[chosen], steps[~joins], steps_within[chosen])


def measure(pieces: Sequence[Piece], within: Sequence[Tensor], synthesizer: Synthesizer, sampling: Sampling) -> Result:
    """Paint every piece and look at its joins."""
    steps, distances = [], []
    for piece, other in zip(pieces, within, strict=True):
        mel = torch.from_numpy(synthesizer.spectrogram(piece.notes, piece.duration_s, sampling))
        steps.append(compare(mel, other, sampling))
        if piece.recording is not None:
            n_frames = min(len(mel), len(piece.recording))
            distances.append(mel_distance(piece.recording[:n_frames], mel[:n_frames]))
    joins = torch.cat([item.joins for item in steps])
    elsewhere = torch.cat([item.elsewhere for item in steps])
    at_same = torch.cat([item.within for item in steps])
    if not len(joins):
        raise SystemExit("no piece is longer than a window")
    ratio = float(joins.mean() / at_same.mean())
    spread = float((joins - ratio * at_same).std()) / float(at_same.mean())
    return Result(
        jump=float(joins.mean() / elsewhere.mean()),
        against_within=ratio,
        error=spread / len(joins) ** 0.5,
        log_mel_l1=float(np.mean(distances)) if distances else None,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("midi", nargs="+", type=Path)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--overlap", nargs="+", type=int, default=[0, 16, 32, 64])
    parser.add_argument("--steps", nargs="+", type=int, default=[1, 4, 10])
    parser.add_argument("--sampler", help="the voice's by default")
    parser.add_argument("--schedule", help="the voice's by default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each piece")
    args = parser.parse_args()
    synthesizer = Synthesizer(load_voice(args.model), GriffinLim())
    pieces = read(args.midi, synthesizer, args.seconds)
    default = replace(synthesizer.sampling, seed=args.seed)
    default = replace(default, sampler=args.sampler or default.sampler, schedule=args.schedule or default.schedule)
    seconds = sum(piece.duration_s for piece in pieces)
    print(describe_processor())
    print(f"{synthesizer.voice.name}, {default.sampler}, {default.schedule}: {len(pieces)} pieces, {seconds:.0f} s\n")
    print("| steps | overlap | jump | against within a window | log-mel L1 |\n|---|---|---|---|---|")
    for n_steps in args.steps:
        sampling = replace(default, steps=n_steps)
        within = [earlier(piece, synthesizer, sampling) for piece in pieces]
        for overlap in args.overlap:
            row = measure(pieces, within, synthesizer, replace(sampling, overlap_frames=overlap))
            distance = "" if row.log_mel_l1 is None else f"{row.log_mel_l1:.4f}"
            print(
                f"| {n_steps} | {overlap} | {row.jump:.3f} | {row.against_within:.3f} ± {row.error:.3f} | {distance} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
