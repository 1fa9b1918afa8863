"""What people type who know other programs, and what it is called here."""

import re
from collections.abc import Mapping

from typer import Context

from specdiff_cli.choices import STEMS_BY
from specdiff_cli.cli.short_help import ShortHelpCommand

_LEVEL = "--normalize sets the level of the result, as -16LUFS"
_PLAYS = "--program piano:trumpet changes an instrument, --only violin picks one, --model chooses the voice"
_PLAIN = "specdiff adds no effects; give the audio to an editor or to sox"
#: Option of other programs -> what does that here.
OPTION_HINTS: Mapping[str, str] = {
    "--gain": _LEVEL,
    "--volume": _LEVEL,
    "--loudness": _LEVEL,
    "--normalise": "it is spelt --normalize",
    "--instrument": _PLAYS,
    "--patch": _PLAYS,
    "--soundfont": "voices take the place of soundfonts: --model chooses one, specdiff models lists them",
    "--reverb": _PLAIN,
    "--chorus": _PLAIN,
    "--rate": "--sample-rate is the rate of the result",
    "--speed": "--tempo-scale makes it faster or slower",
    "--tempo": "--tempo-scale makes it faster or slower",
    "--voice": "--model chooses the voice",
    "--out": "-o or --output names the result",
    "--cpu": "it is --device cpu",
    "--gpu": "it is --device cuda",
    "--force": "-f or --overwrite replaces files",
}


def hint_for(error: Exception) -> str | None:
    """A remedy for a command line that could not be parsed; None where there is none to tell."""
    option = str(getattr(error, "option_name", None))
    if option in OPTION_HINTS:
        return OPTION_HINTS[option]
    context = getattr(error, "ctx", None)
    unknown = re.match(r"No such command '([^']+)'", str(getattr(error, "message", "")))
    if context is not None and context.info_name == "models" and unknown is not None:
        return f"specdiff models show {unknown[1]} tells about one voice"
    return None


class RenderCommand(ShortHelpCommand):
    """``render``, whose ``--stems`` may be followed by what a stem is: ``--stems tracks``."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Parse, with ``--stems tracks`` and ``--stems=tracks`` taken for ``--stems --stems-by tracks``."""
        return super().parse_args(ctx, _with_plain_stems(args))


def _with_plain_stems(args: list[str]) -> list[str]:
    plain: list[str] = []
    for index, argument in enumerate(args):
        if argument == "--":
            return plain + args[index:]
        if argument in STEMS_BY and plain and plain[-1] == "--stems":
            plain += ["--stems-by", argument]
        elif argument.startswith("--stems="):
            plain += ["--stems", "--stems-by", argument.removeprefix("--stems=")]
        else:
            plain.append(argument)
    return plain
