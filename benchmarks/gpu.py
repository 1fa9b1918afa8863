"""All figures of docs/performance.md that need a GPU, in one run.

    python benchmarks/gpu.py [--dtype bfloat16] [--json FILE]

Random weights of the paper's size; nothing is downloaded. "network" is what the denoising steps alone would allow.
``--rehearse --device cpu`` goes the same way from end to end with a smaller network and a few seconds of music.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from specdiff_cli.evaluation.processor import describe_processor

ROWS = {
    "base, `paper`, 1 song": (1.0, ["--preset", "paper", "--seconds", "20"]),
    "base, `balanced`, 1 song": (100.0, ["--preset", "balanced", "--seconds", "120"]),
    "base, `balanced`, 32 songs": (1000.0, ["--preset", "balanced", "--seconds", "120", "--batch", "32"]),
}
ALWAYS = ["benchmark", "--random-weights", "--json"]
#: The same rows in a minute; of options given twice the last counts.
REHEARSAL = ["--steps", "2", "--sampler", "ddim", "--seconds", "6"]


def measured(words: list[str]) -> dict[str, Any]:
    """One report. Raises SystemExit when the program fails; it has then said why."""
    done = subprocess.run([sys.executable, "-m", "specdiff_cli", *ALWAYS, *words], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(done.returncode)
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def row(name: str, target: float, report: dict[str, Any]) -> str:
    """A line of the table."""
    network = report["times_realtime"] * report["window_s"] / (report["steps"] * report["step_s"])
    speed = report["flops_per_s"] / report["matmul_flops_per_s"]
    cells = [
        name,
        f"≥ {target:g} ×",
        f"**{report['times_realtime']:.1f} ×**",
        f"{network:.1f} ×",
        f"{1000 * report['step_s']:.2f} ms",
        f"{report['flops_per_s'] / 1e12:.0f} TFLOP/s, {100 * speed:.0f} %",
        f"{report['first_sound_s']:.1f} s",
        f"{(report['peak_device_bytes'] or 0) / 1e9:.1f} GB",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument(
        "--rehearse", action="store_true", help="small instead of base, two steps, six seconds, two songs"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the reports as JSON lines")
    args = parser.parse_args()
    headings = [
        "what",
        "target",
        "measured",
        "network",
        "a step",
        "decoder, of a matrix product",
        "first sound",
        "memory",
    ]
    lines = []
    for name, (target, words) in ROWS.items():
        size = ["--model", "base"]
        if args.rehearse:
            size = ["--model", "small", *REHEARSAL, *(["--batch", "2"] if "--batch" in words else [])]
        report = measured([*words, *size, "--device", args.device, "--dtype", args.dtype])
        lines.append(json.dumps({"what": name, **report}))
        if len(lines) == 1:
            name_of_device = torch.cuda.get_device_name(args.device) if args.device.startswith("cuda") else args.device
            print(describe_processor())
            print(f"{name_of_device}, {report['dtype']}; {report['vocoder']} on {report['n_threads']} CPU threads\n")
            print(f"| {' | '.join(headings)} |\n|{'---|' * len(headings)}")
        print(row(name.replace("base", "small") if args.rehearse else name, target, report), flush=True)
    if args.json is not None:
        args.json.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
