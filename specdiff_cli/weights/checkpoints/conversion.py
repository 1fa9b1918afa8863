"""A checkpoint of any layout to a voice, or to the Diffusers layout. No torch until a checkpoint is read."""

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from specdiff_cli.choices import LAYOUTS, check_choice
from specdiff_cli.errors import Message, Option, UsageError

if TYPE_CHECKING:
    from specdiff_cli.weights.checkpoints.source import Source


@dataclass(frozen=True, slots=True)
class ConvertRequest:
    """What is converted to what. Raises UsageError.

    ``to``: ``voice`` or ``diffusers``. ``name``, ``licence`` and ``origin`` are written into a voice; None: the target
    folder's name, and what the checkpoint says.
    """

    source: str
    target: Path
    to: str = "voice"
    name: str | None = None
    licence: str | None = None
    origin: str | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        check_choice("to", self.to, LAYOUTS)
        for option, text in (("name", self.name), ("licence", self.licence), ("source", self.origin)):
            if text is not None and self.to != "voice":
                raise UsageError(Option(option), f" {text!r}: goes with ", Option("to", "voice"))
            if text is not None and not (text.strip() and text.isprintable()):
                raise UsageError(Option(option), f" {text!r}: must be a text of one line")


@dataclass(frozen=True, slots=True)
class Converted:
    """What was read and written. ``written``: file -> sha256."""

    request: ConvertRequest
    read: "Source"
    licence: str
    written: Mapping[str, str]

    def lines(self) -> list[str]:
        """The same in words, and what is to be done about a licence that nobody stated."""
        from specdiff_cli.weights.voice_file import UNKNOWN_LICENCE

        unknown = "the licence of these weights is not known here; "
        remedies = [Message(unknown, Option("licence"), " writes it into the voice")]
        return [
            f"layout        {self.read.layout}",
            f"architecture  {self.read.architecture}, {self.read.n_parameters / 1e6:.1f} M parameters",
            f"licence       {self.licence}",
            f"source        {self.read.origin}",
            *(f"read          {file}, sha256 {sha256}" for file, sha256 in self.read.hashes.items()),
            *(f"message       {line}" for line in self.read.voice.messages),
            *(f"written       {self.request.target / file}, sha256 {sha256}" for file, sha256 in self.written.items()),
            *(remedies if self.request.to == "voice" and self.licence == UNKNOWN_LICENCE else ()),
        ]

    def to_json(self) -> dict[str, Any]:
        """The same in plain types."""
        return {
            "source": self.request.source,
            "layout": self.read.layout,
            "architecture": self.read.architecture,
            "n_parameters": self.read.n_parameters,
            "model": asdict(self.read.voice.network.config),
            "licence": self.licence,
            "origin": self.read.origin,
            "read": dict(self.read.hashes),
            "target": str(self.request.target),
            "to": self.request.to,
            "written": dict(self.written),
            "messages": list(self.read.voice.messages),
        }


def convert_checkpoint(request: ConvertRequest, on_message: Callable[[str], None] = lambda line: None) -> Converted:
    """Read a checkpoint and write it; the folder is there when it is complete, and not before.

    Raises:
        WeightsError: no checkpoint, or a damaged one.
        OutputError: the folder cannot be written, or is there.
        UsageError: the checkpoint is what it should become.
    """
    from specdiff_cli.weights.checkpoints import target as writing
    from specdiff_cli.weights.checkpoints.source import VOICE, read_source

    writing.check_target(request.target, request.overwrite)
    on_message(f"reading {request.source}")
    read = read_source(request.source)
    if request.to == "diffusers":
        written = writing.write_diffusers(request.target, read.voice, overwrite=request.overwrite)
    elif read.layout == VOICE:
        raise UsageError(
            f"{request.source}: is a voice already; ", Option("to", "diffusers"), " writes the other layout"
        )
    else:
        about = writing.About(
            name=request.name or Path(os.path.realpath(request.target)).name,
            description=f"{read.architecture}, converted from {read.layout}",
            licence=request.licence or read.licence,
            origin=request.origin or read.origin,
        )
        written = writing.write_voice(request.target, read.voice, about, overwrite=request.overwrite)
    return Converted(request, read, request.licence or read.licence, written)
