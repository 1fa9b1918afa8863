"""Inputs by the million: found, checked and planned without ever holding more than some of them."""

import hashlib
import os
import shutil
import sys
import tempfile
import unicodedata
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO

from specdiff_cli.errors import Option, UsageError
from specdiff_cli.rendering.inputs import MIDI_SUFFIXES, Source, find_sources, identity, iterate_list
from specdiff_cli.rendering.jobs import Job, plan
from specdiff_cli.rendering.record import Settled
from specdiff_cli.streams import DASH

#: Up to so many inputs are held, sorted and planned together, as one process does.
MAX_HELD = 10_000
CHUNK = 1000


@dataclass(frozen=True, slots=True)
class Planned:
    """Jobs, which come one by one where there are many; how many there are, and how many inputs were named again."""

    jobs: Iterable[Job]
    n_jobs: int
    n_repeated: int


class Seen:
    """Which texts came before, by 64 bits of their hashes: 16 bytes each, where a set would need 100.

    Of a million texts, two are taken for one with a probability of 3 in 10^8.
    """

    def __init__(self) -> None:
        self._slots = array("Q", bytes(8 * 1024))
        self._n = 0

    def __len__(self) -> int:
        return self._n

    def add(self, text: str) -> bool:
        """Whether it is new."""
        if not self._put(self._slots, self._key(text)):
            return False
        self._n += 1
        if 2 * self._n > len(self._slots):
            grown = array("Q", bytes(16 * len(self._slots)))
            for key in filter(None, self._slots):
                self._put(grown, key)
            self._slots = grown
        return True

    def __contains__(self, text: str) -> bool:
        key, mask = self._key(text), len(self._slots) - 1
        at = key & mask
        while self._slots[at] not in (0, key):
            at = (at + 1) & mask
        return self._slots[at] == key

    @staticmethod
    def _key(text: str) -> int:
        digest = hashlib.blake2b(os.fsencode(text), digest_size=8).digest()
        return int.from_bytes(digest, "little") or 1  # 0 is an empty slot

    @staticmethod
    def _put(slots: "array[int]", key: int) -> bool:
        mask = len(slots) - 1  # a power of two
        at = key & mask
        while slots[at]:
            if slots[at] == key:
                return False
            at = (at + 1) & mask
        slots[at] = key
        return True


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
        held = list(islice(sources(in_order=True), MAX_HELD + 1))
        if len(held) > MAX_HELD:
            del held
            yield _plan_many(settled, partial(sources, in_order=_is_numbered(settled)))
            return
        distinct: dict[Path, Source] = {}
        for source in held:
            distinct.setdefault(identity(source.path), source)
        jobs = plan(list(distinct.values()), settled)
        yield Planned(jobs, len(jobs), len(held) - len(jobs))


def _plan_many(settled: Settled, sources: Callable[[], Iterator[Source]]) -> Planned:
    """Look at all inputs once, and plan them again when their turn comes. Raises UsageError: two share an output."""
    inputs, others, targets = Seen(), Seen(), Seen()
    repeated: set[int] = set()
    for number, source in enumerate(sources()):
        if not inputs.add(str(identity(source.path))):
            repeated.add(number)
        elif source.path.suffix.lower() not in MIDI_SUFFIXES:
            others.add(_named(source.path))
    for job in _plan(settled, sources(), repeated):
        assert job.target is not None  # noqa: S101 - several inputs never go to standard output
        if job.problem is not None:
            continue
        if job.target.suffix.lower() in MIDI_SUFFIXES or _named(job.target) in others:
            raise UsageError(f"{job.target}: may be an input, too; choose another name for the output")
        if not targets.add(_named(job.target)):
            raise UsageError(
                f"{job.source}: another input would be written to {job.target}, too; "
                "rename one, or tell them apart with ",
                Option("output_template"),
            )
    return Planned(_plan(settled, sources(), repeated), len(inputs), len(repeated))


def _named(path: Path) -> str:
    """Equal for names that are one file on some system, as long as no links are in them."""
    return unicodedata.normalize("NFC", os.path.abspath(path)).casefold()


def _plan(settled: Settled, sources: Iterator[Source], repeated: Collection[int]) -> Iterator[Job]:
    # one that is named is as good as any other here: an output that is a file is not for many
    distinct = (replace(source, is_named=False) for number, source in enumerate(sources) if number not in repeated)
    first = 1
    while chunk := list(islice(distinct, CHUNK)):
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


def _sources(settled: Settled, listed: BinaryIO | None, *, in_order: bool) -> Iterator[Source]:
    asked = settled.request.inputs
    names: Iterable[Path] = ()
    if listed is not None and asked.files_from is not None:
        listed.seek(0)
        names = iterate_list(listed, asked.files_from, null=asked.null)
        first = next(iter(names), None)
        if first is None:
            raise UsageError.of("files_from", asked.files_from, "holds no names")
        names = chain([first], names)
    return find_sources(asked, names, in_order=in_order)
