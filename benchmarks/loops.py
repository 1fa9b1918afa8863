"""How well a loop closes: what the sound does where its end meets its start.

    python benchmarks/loops.py FOLDER_OR_MIDI... [--model tiny] [--bars 3 7]

Looked at as the joins of windows are (joins.py): the step of the spectrogram at the seam depends on what the music does
there, so the same moment is looked at in a plain render of the section played twice, where it lies in the middle and
nothing was cut. The ratio of the two is 1 where the seam cannot be told. A click would show itself in the samples: the
jump from the last sample to the first, over the mean of the sample-to-sample differences around it. Beside both stands
what the same section does that is rendered without --loop and cut to its length.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray

from specdiff_cli import Request, SpecdiffError, Synthesizer, load_voice, read_midi, render_files
from specdiff_cli.audio.mel import log_mel
from specdiff_cli.constants import FRAMES_PER_SECOND, SAMPLE_RATE_HZ
from specdiff_cli.evaluation.processor import describe_processor
from specdiff_cli.midi.edits import Edits, apply_edits
from specdiff_cli.midi.loops import find_loop, play_twice
from specdiff_cli.rendering.events import Failed

NEAR_FRAMES = 2  # an attack may begin a little before or after the bar line
NEAR_SAMPLES = 400


def step_at(audio: NDArray[np.float32], time_s: float) -> float:
    """The largest step of the log-mel from frame to frame near a time, in nepers, of (n,) samples at 16 kHz."""
    steps = log_mel(torch.from_numpy(audio)).diff(dim=0).abs().mean(dim=1)
    frame = round(time_s * FRAMES_PER_SECOND)
    return float(steps[max(0, frame - NEAR_FRAMES) : frame + NEAR_FRAMES].max())


def jump_at(audio: NDArray[np.float32], sample: int) -> float:
    """The difference that leads to a sample, over the mean of those around it."""
    moves = np.abs(np.diff(audio))
    around = moves[sample - NEAR_SAMPLES : sample + NEAR_SAMPLES].mean()
    return float(moves[sample - 1] / max(around, 1e-9))


def measure(path: Path, synthesizer: Synthesizer, model: str, bars: tuple[int, int]) -> list[float]:
    """Steps at the seam as a loop, when cut, and in a plain render; jumps of the samples as a loop, and when cut.

    Raises:
        SpecdiffError: it cannot be rendered, or has no such bars.
    """
    start, end = (f"bar:{bar}" for bar in bars)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "loop.wav"
        options = {"start": start, "end": end, "loop": True, "sample_rate": SAMPLE_RATE_HZ, "stereo": False}
        request = Request.of({**options, "output": str(target)})
        *_, last = render_files(str(path), model, request, synthesizer=synthesizer)
        if isinstance(last, Failed):
            raise last.error
        loop, _ = soundfile.read(target, dtype="float32")
    section, _ = apply_edits(read_midi(path), Edits(start=start, end=end), path.name)
    span = find_loop(section, None, path.name)
    plain = synthesizer.render(play_twice(section, span))
    cut = synthesizer.render(section)[: len(loop)]
    seam_s = len(loop) / SAMPLE_RATE_HZ
    looped, repeated = np.tile(loop, 2), np.tile(cut, 2)
    steps = [step_at(audio, seam_s) for audio in (looped, repeated, plain)]
    return [*steps, jump_at(looped, len(loop)), jump_at(repeated, len(loop))]


def main() -> None:
    """Print a line for each song (loop, cut, plain render), and the means."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("inputs", nargs="+", type=Path)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--bars", nargs=2, type=int, default=(3, 7), metavar=("FIRST", "END"))
    asked = parser.parse_args()
    synthesizer = Synthesizer(load_voice(asked.model))
    paths = [p for item in asked.inputs for p in (sorted(item.glob("*.mid")) if item.is_dir() else [item])]
    found = []
    for path in paths:
        try:
            found.append(measure(path, synthesizer, asked.model, tuple(asked.bars)))
        except SpecdiffError as error:
            print(f"{path.name}: left out ({error})")
            continue
        print(f"{path.name}: steps {' '.join(f'{x:.3f}' for x in found[-1][:3])}; "
              f"samples {' '.join(f'{x:.2f}' for x in found[-1][3:])}", flush=True)  # fmt: skip
    if not found:
        return
    seam, cut, plain, *jumps = np.array(found).T
    print(f"{len(found)} loops, voice {asked.model}, {describe_processor()}")
    for name, steps, jump in (("loop", seam, jumps[0]), ("cut", cut, jumps[1])):
        ratios = steps / plain
        spread = ratios.std(ddof=1) / np.sqrt(len(ratios)) if len(ratios) > 1 else float("nan")
        print(f"{name}: step at the seam against a plain render {ratios.mean():.2f} ± {spread:.2f}; "
              f"samples at the seam against those around {jump.mean():.2f}, at most {jump.max():.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
