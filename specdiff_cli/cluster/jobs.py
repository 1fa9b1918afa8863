"""Inputs by the million: found, checked and planned without ever holding more than some of them."""

import hashlib
import os
import shutil
import sqlite3
import sys
import tempfile
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO

from specdiff_cli.errors import Option, OutputError, UsageError
from specdiff_cli.rendering.inputs import MIDI_SUFFIXES, LeftOut, Source, find_sources, identity, iterate_list
from specdiff_cli.rendering.jobs import Job, plan
from specdiff_cli.rendering.record import Settled
from specdiff_cli.streams import DASH

#: Up to so many inputs are held, sorted and planned together, as one process does.
MAX_HELD = 10_000
CHUNK = 1000
#: Of a table of names, so much is in memory.
CACHE_KIB = 4096


@dataclass(frozen=True, slots=True)
class Planned:
    """Jobs, which come one by one where there are many; how many there are, and what is none."""

    jobs: Iterable[Job]
    n_jobs: int
    left_out: LeftOut


class Seen:
    """Which texts came before, by 64 bits of their hashes, in a temporary file: however many, little memory holds them.

    Of a million texts, two are taken for one with a probability of 3 in 10^8.
    """

    def __init__(self) -> None:
        # SQLite's own temporary file: the system forgets it with the connection, or with the process
        self._table = sqlite3.connect("", isolation_level=None).cursor()
        self._table.executescript(
            f"PRAGMA cache_size = -{CACHE_KIB}; PRAGMA journal_mode = OFF; PRAGMA locking_mode = EXCLUSIVE;"
            "CREATE TABLE seen (key INTEGER PRIMARY KEY); BEGIN"
        )
        self._n = 0

    def __len__(self) -> int:
        return self._n

    def add(self, text: str) -> bool:
        """Whether it is new. Raises OutputError: there is no room for temporary files."""
        try:
            is_new = self._table.execute("INSERT OR IGNORE INTO seen VALUES (?)", (_key(text),)).rowcount == 1
        except sqlite3.OperationalError as error:
            raise OutputError(f"{tempfile.gettempdir()}: no room for the names of the inputs ({error})") from None
        self._n += is_new
        return is_new

    def __contains__(self, text: str) -> bool:
        return (
            self._n > 0
            and self._table.execute("SELECT 1 FROM seen WHERE key = ?", (_key(text),)).fetchone() is not None
        )


def _key(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(os.fsencode(text), digest_size=8).digest(), "little", signed=True)


@contextmanager
def planned(settled: Settled) -> Iterator[Planned]:
    """The jobs of a request. All are looked at once before anything starts, so that what is wrong shows at once.

    Many come in the order in which the system has them, unless their numbers are part of the outputs' names.

    Raises:
        UsageError, MidiError: as ``gather`` and ``plan``.
    """
    asked = settled.request.inputs
    asked.check_any()
    if DASH in asked.inputs:
        raise UsageError("standard input cannot be rendered by several workers; leave out ", Option("workers"))
    with ExitStack() as stack:
        listed = None
        if asked.files_from is not None:
            listed = stack.enter_context(_open_list(asked.files_from))
        sources = partial(_sources, settled, listed)
        n_some = sum(1 for _ in islice(sources(in_order=False), MAX_HELD + 1))  # sorting would hold a folder's names
        if n_some > MAX_HELD:
            yield _plan_many(settled, partial(sources, in_order=_is_numbered(settled)))
            return
        left_out = LeftOut()
        held = list(sources(in_order=True, left_out=left_out))
        distinct: dict[Path, Source] = {}
        for source in held:
            distinct.setdefault(identity(source.path), source)
        jobs = plan(list(distinct.values()), settled)
        left_out.n_repeated = len(held) - len(jobs)
        yield Planned(jobs, len(jobs), left_out)


def _plan_many(settled: Settled, sources: Callable[..., Iterator[Source]]) -> Planned:
    """Look at all inputs once, and plan them again when their turn comes. Raises UsageError: two share an output."""
    inputs, repeated, targets = Seen(), Seen(), Seen()
    left_out = LeftOut()
    is_midi = True  # by its name, whatever is an input
    for job in _plan(settled, _first_ones(sources(left_out=left_out), inputs, repeated)):
        assert job.target is not None  # noqa: S101 - several inputs never go to standard output
        is_midi = is_midi and _is_called_midi(job.source)
        if job.problem is not None:
            continue
        if _is_called_midi(job.target):
            raise _is_input(job.target)
        if not targets.add(_named(job.target)):
            raise UsageError(
                f"{job.source}: another input would be written to {job.target}, too; "
                "rename one, or tell them apart with ",
                Option("output_template"),
            )
    for source in () if is_midi else sources():
        if _named(source.path) in targets:
            raise _is_input(source.path)
    distinct = (source for number, source in enumerate(sources()) if str(number) not in repeated)
    left_out.n_repeated = len(repeated)
    return Planned(_plan(settled, distinct), len(inputs), left_out)


def _first_ones(sources: Iterable[Source], inputs: Seen, repeated: Seen) -> Iterator[Source]:
    """Those that did not come before; the numbers of the others are ``repeated``."""
    for number, source in enumerate(sources):
        if inputs.add(str(identity(source.path))):
            yield source
        else:
            repeated.add(str(number))


def _is_called_midi(path: Path) -> bool:
    return path.suffix.lower() in MIDI_SUFFIXES


def _is_input(path: Path) -> UsageError:
    return UsageError(f"{path}: is an input, and an output, too; choose another name for the output")


def _named(path: Path) -> str:
    """Equal for names that are one file on some system, as long as no links are in them."""
    return unicodedata.normalize("NFC", os.path.abspath(path)).casefold()


def _plan(settled: Settled, distinct: Iterator[Source]) -> Iterator[Job]:
    # one that is named is as good as any other here: an output that is a file is not for many
    sources = (replace(source, is_named=False) for source in distinct)
    first = 1
    while chunk := list(islice(sources, CHUNK)):
        yield from plan(chunk, settled, first)
        first += len(chunk)


def _is_numbered(settled: Settled) -> bool:
    return "{index" in (settled.request.output.output_template or "")


@contextmanager
def _open_list(name: str) -> Iterator[BinaryIO]:
    """The list of names, to be read more than once. Raises UsageError."""
    try:
        if name != DASH:
            with open(name, "rb") as file:
                yield file
            return
        with tempfile.TemporaryFile() as copy:
            shutil.copyfileobj(sys.stdin.buffer, copy)
            yield copy
    except (OSError, AttributeError, ValueError) as error:
        detail = error.strerror if isinstance(error, OSError) else "it is closed"
        raise UsageError.of("files_from", name, f"cannot be read ({detail})") from None


def _sources(
    settled: Settled, listed: BinaryIO | None, *, in_order: bool, left_out: LeftOut | None = None
) -> Iterator[Source]:
    asked = settled.request.inputs
    names: Iterable[Path] = ()
    if listed is not None and asked.files_from is not None:
        listed.seek(0)
        names = iterate_list(listed, asked.files_from, null=asked.null)
        first = next(iter(names), None)
        if first is None:
            raise UsageError.of("files_from", asked.files_from, "holds no names")
        names = chain([first], names)
    return find_sources(asked, names, in_order=in_order, left_out=left_out)
