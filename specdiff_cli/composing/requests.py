"""What a user asks of the composer, in words, as the numbers that it works with."""

import re
from dataclasses import dataclass, replace

from specdiff_cli.composing.composer import Wish
from specdiff_cli.composing.score import METRE_NAMES
from specdiff_cli.composing.vocabulary import DENSITY_EDGES, TEMPO_EDGES_BPM
from specdiff_cli.errors import UsageError
from specdiff_cli.midi.instruments import find_instrument
from specdiff_cli.midi.sections import Moment, check_section, parse_moment

_KEY = re.compile(r"([A-Ga-g])\s*(#|b|♯|♭|sharp|flat)?\s*(m|min|minor|maj|major)?", re.IGNORECASE)
_NATURAL = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11}
KEY_NAMES = (
    *(f"{name} major" for name in ("C", "D♭", "D", "E♭", "E", "F", "F♯", "G", "A♭", "A", "B♭", "B")),
    *(f"{name} minor" for name in ("C", "C♯", "D", "E♭", "E", "F", "F♯", "G", "G♯", "A", "B♭", "B")),
)


@dataclass(frozen=True)
class Conditions:
    """What is asked for; None leaves it to chance. ``density``: 0 (few notes) to 7."""

    metre: int | None = None
    key: int | None = None
    tempo_bpm: float | None = None
    density: int | None = None

    def applied(self, wish: Wish) -> Wish:
        """The wish with these in it."""
        tempo = None if self.tempo_bpm is None else sum(edge <= self.tempo_bpm for edge in TEMPO_EDGES_BPM.tolist())
        asked = {"metre": self.metre, "key": self.key, "tempo": tempo, "density": self.density}
        return replace(wish, **{name: value for name, value in asked.items() if value is not None})


def parse_key(text: str) -> int:
    """The key called so: 0 to 11 major from C, 12 to 23 minor. ``Am``, ``F# minor``, ``Eb``. Raises UsageError."""
    match = _KEY.fullmatch(text.strip())
    if match is None:
        raise UsageError.of("key", text, "is no key; write it as C, F#, Am or 'E flat minor'")
    shift = {"#": 1, "♯": 1, "sharp": 1, "b": -1, "♭": -1, "flat": -1}.get((match[2] or "").lower(), 0)
    mode = match[3] or ""
    is_minor = mode == "m" or mode.lower().startswith("min")
    return (_NATURAL[match[1].lower()] + shift) % 12 + 12 * is_minor


def parse_metre(text: str) -> int:
    """A time signature as an index. Raises UsageError."""
    name = {"2/2": "4/4", "6/4": "3/2", "C": "4/4"}.get(text.strip(), text.strip())
    if name not in METRE_NAMES:
        raise UsageError.of("metre", text, f"is not one of {', '.join(METRE_NAMES)}")
    return METRE_NAMES.index(name)


def parse_program(option: str, text: str) -> int:
    """A melodic instrument's program. Raises UsageError."""
    try:
        instrument = find_instrument(text)
    except ValueError as error:
        raise UsageError.of(option, text, str(error)) from None
    if instrument.program < 0:
        rule = "is no melodic instrument; name one, or give a program from 0 to 127"
        raise UsageError.of(option, text, rule)
    return instrument.program


def parse_range(text: str) -> tuple[Moment, Moment]:
    """Two moments with a colon or a dash between them: ``12.5:20``, ``bar:9-bar:13``, ``1:30-1:45``.

    Raises UsageError where there are not two, or where it cannot be told which colon stands between them.
    """
    found: list[tuple[Moment, Moment]] = []
    for index, sign in enumerate(text):
        if sign not in "-:":
            continue
        try:
            found.append((parse_moment("fill", text[:index]), parse_moment("fill", text[index + 1 :])))
        except UsageError:
            continue
        if sign == "-":
            found = found[-1:]
            break
    if len(found) != 1:
        problem = "is no range" if not found else "can be read in several ways"
        raise UsageError.of("fill", text, f"{problem}; write it as 12.5-20, 1:30-1:45 or bar:9-bar:13")
    check_section(*found[0])
    return found[0]


def check_density(density: int | None) -> None:
    """Raises UsageError for a class of density that there is not."""
    if density is not None and not 0 <= density <= len(DENSITY_EDGES):
        rule = f"must be between 0 (few notes) and {len(DENSITY_EDGES)} (many)"
        raise UsageError.of("density", density, rule)
