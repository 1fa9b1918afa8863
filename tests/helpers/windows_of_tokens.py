"""Notes, and the ids of their windows, as the tests of windows write them down."""

from collections.abc import Iterable

from specdiff_cli.midi.notes import Note
from specdiff_cli.midi.windows import tokenize

# Ids worked out by hand: 3 special ids, then shift 0-1000, pitch 0-127, velocity 0-1, tie, program 0-127, drum 0-127.
END, OFF, ON, TIE = 1, 1132, 1133, 1134


def shift(steps: int) -> int:
    """Id of a moment, in steps of 10 ms from the window's start."""
    return 3 + steps


def pitch(number: int) -> int:
    """Id of a key."""
    return 1004 + number


def prog(number: int) -> int:
    """Id of a program."""
    return 1135 + number


def drum(number: int) -> int:
    """Id of a drum's key."""
    return 1263 + number


def tone(start_s: float, end_s: float, number: int = 60, program: int = 0) -> Note:
    """A pitched note."""
    return Note(start_s, end_s, number, 64, program, is_drum=False)


def ids(notes: Iterable[Note], **options: float) -> list[list[int]]:
    """The tokens of each window."""
    return [window.tokens.tolist() for window in tokenize(list(notes), **options)]  # type: ignore[arg-type]
