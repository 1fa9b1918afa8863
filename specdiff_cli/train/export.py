"""Turn a finished training run into a voice folder, and write its hashes into ``weights.lock``.

    python -m specdiff_cli.train.export --run RUN --voice specdiff_cli/voices/tiny --lock weights.lock

The lock's section of the voice is replaced; everything else in it stays as it is.
"""

import argparse
import json
import re
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from specdiff_cli.errors import UsageError
from specdiff_cli.weights.lock import file_sha256
from specdiff_cli.weights.voice_file import read_voice_file

TEMPLATE = """\
name = "{name}"
description = "{description}"
license = "Apache-2.0"
prefers_bfloat16 = true

[model]
{model}

[sampling]
steps = {steps}
sampler = "{sampler}"
schedule = "magenta"
guidance = 1.0

[vocoder]
{vocoder}

[plays]
programs = [0]
drums = false
"""


def export(run: Path, voice: Path, description: str, steps: int, sampler: str, vocoder_run: Path | None = None) -> None:
    """Write ``model.safetensors`` (float16), perhaps ``vocoder.safetensors``, and ``voice.toml``."""
    config: dict[str, Any] = json.loads((run / "config.json").read_text())["model"]
    voice.mkdir(parents=True, exist_ok=True)
    _save_half(run / "model.safetensors", voice / "model.safetensors")
    vocoder: dict[str, Any] = {"name": "griffin-lim"}
    if vocoder_run is not None:
        _save_half(vocoder_run / "vocoder.safetensors", voice / "vocoder.safetensors")
        vocoder = {"name": "melgan", **json.loads((vocoder_run / "vocoder.json").read_text())["sizes"]}
    text = TEMPLATE.format(
        name=voice.name,
        description=description,
        model=_toml(config),
        steps=steps,
        sampler=sampler,
        vocoder=_toml(vocoder),
    )
    (voice / "voice.toml").write_text(text, encoding="utf-8")
    read_voice_file(voice / "voice.toml")  # what we wrote must be what we read


def update_lock(lock: Path, voice: Path, description: str) -> None:
    """Replace the ``[bundled.NAME]`` section of the lock by the hashes of the folder's files."""
    lines = [f"[bundled.{voice.name}]", f'description = "{description}"', 'license = "Apache-2.0"', ""]
    for path in sorted(path for path in voice.iterdir() if path.suffix in (".toml", ".safetensors")):
        lines += [
            f"[[bundled.{voice.name}.files]]",
            f'path = "{path.name}"',
            f"size_bytes = {path.stat().st_size}",
            f'sha256 = "{file_sha256(path)}"',
            "",
        ]
    text = lock.read_text(encoding="utf-8")
    section = re.compile(
        rf"^\[bundled\.{re.escape(voice.name)}\]\n.*?(?=^\[(?!\[?bundled\.{re.escape(voice.name)}\b)|\Z)", re.M | re.S
    )
    if not section.search(text):
        raise UsageError(f"{lock}: has no section [bundled.{voice.name}] to replace; add an empty one")
    lock.write_text(section.sub("\n".join(lines), text), encoding="utf-8")


def _save_half(source: Path, target: Path) -> None:
    save_file({key: tensor.half().contiguous() for key, tensor in load_file(source).items()}, target)
    target.chmod(0o644)  # the writer's temporary file was private, a package's files are not


def _toml(values: dict[str, Any]) -> str:
    # JSON's booleans, numbers and texts are TOML's, too.
    return "\n".join(f"{key} = {json.dumps(value)}" for key, value in values.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--voice", type=Path, required=True)
    parser.add_argument("--lock", type=Path, required=True)
    parser.add_argument("--vocoder-run", type=Path)
    parser.add_argument("--description", default="solo piano, trained from scratch; ships inside the package")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--sampler", default="ddim")
    args = parser.parse_args()
    export(args.run, args.voice, args.description, args.steps, args.sampler, args.vocoder_run)
    update_lock(args.lock, args.voice, args.description)


if __name__ == "__main__":
    main()
