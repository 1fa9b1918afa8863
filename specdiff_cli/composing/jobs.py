"""An order to the composer, carried out piece by piece or in batches."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from specdiff_cli.composing.requests import KEY_NAMES, Conditions
from specdiff_cli.errors import MidiError, Option, UsageError, listed
from specdiff_cli.midi.sections import Moment
from specdiff_cli.streams import input_path

LARGEST_BATCH = 8  # pieces of a batch are ready together: an interruption costs no more; larger ones gain nothing
DTYPES = ("auto", "float32", "bfloat16")
Advance = Callable[[float], None]


@dataclass(frozen=True)
class Songs:
    """Which song is worked on, and how; at most one of these."""

    continued: Path | None = None
    filled: tuple[tuple[Moment, Moment], Path] | None = None
    reharmonised: Path | None = None
    accompanied: Path | None = None

    @property
    def chosen(self) -> dict[str, Path]:
        """Name of the option -> song, of those that were given."""
        paths = {
            "continue": self.continued,
            "fill": None if self.filled is None else self.filled[1],
            "reharmonise": self.reharmonised,
            "accompany": self.accompanied,
        }
        return {option: input_path(path) for option, path in paths.items() if path is not None}

    @property
    def stem(self) -> str:
        """The song's name without its suffix."""
        return next((path.stem for path in self.chosen.values()), "sample")

    def check(self, *, has_notes: bool, has_metre: bool, has_tempo: bool) -> None:
        """Raises UsageError for several songs, and for options that a song decides."""
        options = list(self.chosen)
        if len(options) > 1:
            raise UsageError(
                *listed(map(Option, options), " and "), ": are different tasks; give one", option=options[-1]
            )
        if not options:
            return
        task = Option(options[0])
        if has_notes and task.name != "continue":
            rule = " takes as many notes as the song asks for; leave it out"
            raise UsageError(Option("notes"), ": ", task, rule, option="notes")
        for option, is_given in (("metre", has_metre), ("tempo", has_tempo)):
            if is_given:
                rule = ": the song given with "
                raise UsageError(Option(option), rule, task, " has its own; leave it out", option=option)

    def read(self) -> Any:
        """The song, None where there is none. Raises MidiError."""
        from specdiff_cli.midi.notes import read_midi

        for option, path in self.chosen.items():
            song = read_midi(path)
            if song.bars is None:
                raise MidiError(f"{path}: runs by the SMPTE clock and has no beats; ", Option(option), " needs them")
            if all(note.is_drum for note in song.notes):
                raise MidiError(f"{path}: has drums alone; ", Option(option), " needs melodic notes")
            return song
        return None


@dataclass(frozen=True)
class Order:
    """What is to be composed. ``programs``: of melody, upper and lower part.

    ``dtype``: of :data:`DTYPES`; "auto" is bfloat16 for the token model where a brief measurement finds it faster here.
    """

    n_notes: int = 128
    seed: int = 0
    programs: tuple[int, int, int] = (0, 0, 0)
    conditions: Conditions = Conditions()
    temperature: float = 1.0
    n_steps: int | None = None
    dtype: str = "auto"
    songs: Songs = field(default_factory=Songs)


@dataclass(frozen=True)
class Made:
    """A piece as the bytes of a MIDI file, and what it is. ``n_notes``: those that were composed."""

    data: bytes
    n_notes: int
    duration_s: float
    description: str
    facts: dict[str, Any] = field(default_factory=dict)

    def about(self) -> dict[str, Any]:
        """Plain values."""
        return {"n_notes": self.n_notes, "duration_s": round(self.duration_s, 3), **self.facts}


def make_pieces(
    composer: Any, order: Order, song: Any, n: int, batch: int | None, advance: Advance
) -> Iterator[tuple[int, Made]]:
    """(index, piece) of ``n`` pieces, as soon as each is there; ``batch`` of them at once.

    Raises MidiError, UsageError.
    """
    batch = min(n, LARGEST_BATCH if batch is None else batch)
    if composer.kind == "unet":
        from specdiff_cli.composing.unet_jobs import make_unet_pieces

        yield from make_unet_pieces(composer, order, n, batch, advance)
    elif song is None:
        yield from _out_of_nothing(composer, order, n, batch, advance)
    else:
        for index in range(n):
            yield index, _of_song(composer, order, song, index)
            advance(1.0)


def rng_of(order: Order, index: int) -> np.random.Generator:
    """Every piece has its own: it does not depend on how many are composed with it."""
    return np.random.default_rng([order.seed, index])


def manner_of(order: Order) -> Any:
    """How to draw."""
    from dataclasses import replace

    from specdiff_cli.composing.generation import Manner
    from specdiff_cli.model.precision import is_faster_in_bfloat16

    dtype = order.dtype
    if dtype == "auto":
        dtype = "bfloat16" if is_faster_in_bfloat16() else "float32"
    manner = replace(Manner().warmed(order.temperature), dtype=dtype)
    return manner if order.n_steps is None else replace(manner, n_steps=order.n_steps)


def in_batches(
    n: int, batch: int, make: Callable[[list[int]], list[Made]], shrink: Callable[[], None] = lambda: None
) -> Iterator[tuple[int, Made]]:
    """Pieces in batches, which become half as large whenever memory does not suffice. Raises DeviceError for one."""
    from specdiff_cli.errors import DeviceError, is_out_of_memory

    first = 0
    while first < n:
        indices = list(range(first, min(first + batch, n)))
        try:
            made = make(indices)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            if batch == 1:
                raise DeviceError("out of memory; lower ", Option("notes")) from None
            batch = max(1, len(indices) // 2)
            shrink()
            continue
        yield from zip(indices, made, strict=True)
        first += len(indices)


def _out_of_nothing(composer: Any, order: Order, n: int, batch: int, advance: Advance) -> Iterator[tuple[int, Made]]:
    from specdiff_cli.composing.composer import CONTEXT_NOTES, WINDOW_NOTES, compose, draw_wish
    from specdiff_cli.composing.network import MASKABLE
    from specdiff_cli.composing.score import METRE_NAMES, STEPS_PER_BEAT
    from specdiff_cli.composing.writing import piece_bytes

    manner = manner_of(order)
    n_windows = 1 + max(0, -(-(order.n_notes - WINDOW_NOTES) // (WINDOW_NOTES - CONTEXT_NOTES)))
    n_passes = n_windows * sum(manner.passes(field) for field in MASKABLE)

    def make(indices: list[int]) -> list[Made]:
        rngs = [rng_of(order, index) for index in indices]
        wishes = [order.conditions.applied(draw_wish(composer.repertoire, rng)) for rng in rngs]
        share = len(indices) / n_passes
        scores = compose(composer.network, wishes, order.n_notes, rngs, manner, lambda done: advance(done * share))
        made = []
        for wish, score in zip(wishes, scores, strict=True):
            tempo_bpm = order.conditions.tempo_bpm or wish.tempo_bpm
            length_s = float((score.onset + score.duration).max()) / STEPS_PER_BEAT * 60 / tempo_bpm
            facts = {"key": KEY_NAMES[wish.key], "metre": METRE_NAMES[wish.metre], "tempo_bpm": tempo_bpm}
            description = f"{facts['metre']} in {facts['key']}, {tempo_bpm:g} beats per minute"
            made.append(Made(piece_bytes(score, order.programs, tempo_bpm), len(score), length_s, description, facts))
        return made

    yield from in_batches(n, batch, make)


def _of_song(composer: Any, order: Order, song: Any, index: int) -> Made:
    from specdiff_cli.composing.song_jobs import work_on_song

    return work_on_song(composer, order, song, rng_of(order, index), manner_of(order))
