"""What the shell offers for the values of options: ``autocompletion=`` of typer's options and arguments.

Called at every press of Tab, so nothing here loads PyTorch or numpy, and no failure says anything. A value that is
offered keeps the shell from offering files, so where a file may be meant as well, nothing is offered that is no match.
"""

import re
from collections.abc import Callable, Iterable

from specdiff_cli.choices import (
    DEVICES,
    DTYPES,
    LENGTHS,
    READERS,
    SAMPLERS,
    SCHEDULES,
    STEMS_BY,
    VOCODERS,
    Format,
    Subtype,
)

Offer = Callable[[str], list[tuple[str, str]]]

# Names that no shell takes apart; for others the shell's own completion knows how to quote them.
_PLAIN_NAME = re.compile(r"[\w./+@%-]+")


def one_of(*values: str) -> Offer:
    """Offers fixed values."""

    def offer(incomplete: str) -> list[tuple[str, str]]:
        return _matching(((value, "") for value in values), incomplete)

    return offer


def models(incomplete: str) -> list[tuple[str, str]]:
    """The names that ``--model`` takes; folders are left to the shell."""
    from specdiff_cli.errors import SpecdiffError
    from specdiff_cli.weights.lock import load_lock

    try:
        known = load_lock()
    except SpecdiffError:
        return []
    named = [(name, voice.description) for name, voice in known.bundled.items()]
    named += [(name, model.description) for name, model in known.models.items()]
    return _matching(named, incomplete)


def presets(incomplete: str) -> list[tuple[str, str]]:
    """The names that ``--preset`` takes, with what they are for."""
    from specdiff_cli.diffusion.presets import PRESETS

    return _matching(((name, preset.meaning) for name, preset in PRESETS.items()), incomplete)


def midi_files(incomplete: str) -> list[tuple[str, str]]:
    """MIDI files, where nothing else can be meant; with folders among the matches the shell offers what it always does.

    Only the shell can complete a folder without a blank behind it.
    """
    from specdiff_cli.rendering.inputs import names_beginning

    found = names_beginning(incomplete)
    return [(name, "") for name in found] if all(map(_PLAIN_NAME.fullmatch, found)) else []


samplers = one_of(*SAMPLERS)
schedules = one_of(*SCHEDULES)
vocoders = one_of(*VOCODERS)
devices = one_of(*DEVICES)
dtypes = one_of(*DTYPES)
formats = one_of(*Format)
subtypes = one_of(*Subtype)
readers = one_of(*READERS)
lengths = one_of(*LENGTHS)
stems_by = one_of(*STEMS_BY)
sample_rates = one_of("16000", "44100", "48000")


def _matching(offers: Iterable[tuple[str, str]], incomplete: str) -> list[tuple[str, str]]:
    return [(value, meaning) for value, meaning in offers if value.startswith(incomplete)]
