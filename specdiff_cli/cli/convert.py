"""``specdiff convert``: checkpoints of other programs to a voice, and voices to the Diffusers layout."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from specdiff_cli.cli import shared_options as shared
from specdiff_cli.cli.progress import say
from specdiff_cli.errors import UsageError

if TYPE_CHECKING:
    from specdiff_cli.weights.checkpoints.source import Source

LAYOUTS = ("voice", "diffusers")


def convert(
    source: Annotated[
        str, typer.Argument(metavar="SRC", help="Checkpoint: a folder, zip or file, or a downloaded model's name.")
    ],
    target: Annotated[Path, typer.Argument(metavar="DST", help="Folder to write.")],
    layout: Annotated[str, typer.Option("--to", metavar="LAYOUT", help="voice or diffusers.")] = "voice",
    name: Annotated[str | None, typer.Option(help="Name of the voice; by default the folder's.")] = None,
    licence: Annotated[
        str | None, typer.Option("--licence", "--license", help="Licence of the weights, where you know it.")
    ] = None,
    origin: Annotated[str | None, typer.Option("--source", help="Where the weights come from, in a few words.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", "-f", help="Replace a voice that is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="What was read and written, as one line of JSON.")] = False,
    quiet: shared.Quiet = False,
    debug: shared.Debug = False,
) -> None:
    """Convert a checkpoint to a voice, or a voice to the Diffusers layout.

    Reads T5X checkpoints (MessagePack or Zarr; from the zip or the folder),
    Diffusers folders, PyTorch Lightning checkpoints of
    music-spectrogram-diffusion-pytorch, and voices. Every array must have its
    place and its shape. The folder is there when it is complete, and not before.

    \b
    Examples:
      specdiff convert base_with_context.zip voices/base
      specdiff render song.mid --model voices/base
      specdiff convert voices/base base-diffusers --to diffusers

    \b
    Exit codes: 0 done, 2 usage, 4 weights, 5 output.
    """
    if layout not in LAYOUTS:
        raise UsageError(f"--to {layout}: is not one of {', '.join(LAYOUTS)}")
    for option, text in (("--name", name), ("--licence", licence), ("--source", origin)):
        if text is not None and (layout != "voice" or not text.strip() or not text.isprintable()):
            problem = "goes with --to voice" if layout != "voice" else "must be a text of one line"
            raise UsageError(f"{option} {text!r}: {problem}")

    from specdiff_cli.weights.checkpoints import target as writing
    from specdiff_cli.weights.checkpoints.source import VOICE, read_source
    from specdiff_cli.weights.voice_file import UNKNOWN_LICENCE

    writing.check_target(target, overwrite)
    if not quiet:
        say(f"reading {source}")
    read = read_source(source)
    if layout == "diffusers":
        written = writing.write_diffusers(target, read.voice, overwrite=overwrite)
    elif read.layout == VOICE:
        raise UsageError(f"{source}: is a voice already; --to diffusers writes the other layout")
    else:
        about = writing.About(
            name=name or Path(os.path.realpath(target)).name,
            description=f"{read.architecture}, converted from {read.layout}",
            licence=licence or read.licence,
            origin=origin or read.origin,
        )
        written = writing.write_voice(target, read.voice, about, overwrite=overwrite)
    if not quiet:
        for line in _summary(read, target, licence or read.licence, written):
            say(line)
        if layout == "voice" and (licence or read.licence) == UNKNOWN_LICENCE:
            say("the licence of these weights is not known here; --licence writes it into the voice")
    if as_json:
        typer.echo(json.dumps(_described(source, read, target, layout, licence or read.licence, written)))


def _summary(read: "Source", target: Path, licence: str, written: Mapping[str, str]) -> list[str]:
    return [
        f"layout        {read.layout}",
        f"architecture  {read.architecture}, {read.n_parameters / 1e6:.1f} M parameters",
        f"licence       {licence}",
        f"source        {read.origin}",
        *(f"read          {file}, sha256 {sha256}" for file, sha256 in read.hashes.items()),
        *(f"message       {line}" for line in read.voice.messages),
        *(f"written       {target / file}, sha256 {sha256}" for file, sha256 in written.items()),
    ]


def _described(
    source: str, read: "Source", target: Path, layout: str, licence: str, written: Mapping[str, str]
) -> dict[str, Any]:
    return {
        "source": source,
        "layout": read.layout,
        "architecture": read.architecture,
        "n_parameters": read.n_parameters,
        "model": asdict(read.voice.network.config),
        "licence": licence,
        "origin": read.origin,
        "read": dict(read.hashes),
        "target": str(target),
        "to": layout,
        "written": dict(written),
        "messages": list(read.voice.messages),
    }
