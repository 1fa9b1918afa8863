"""What the user named, as a list of files."""

import codecs
import glob
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from specdiff_cli.errors import MidiError, Option, UsageError

if TYPE_CHECKING:
    from specdiff_cli.rendering.request import Inputs

MIDI_SUFFIXES = (".mid", ".midi", ".kar", ".smf", ".rmi")
STDIN = "-"


@dataclass(frozen=True, slots=True)
class Source:
    """One input file. ``subfolder``: where it lay below the folder that was named, which outputs mirror.

    ``is_named``: the user gave this very file, and it alone, as an argument: not a folder, a pattern or a list.
    """

    path: Path
    subfolder: Path = Path()
    is_named: bool = False


def gather(asked: "Inputs") -> tuple[list[Source], int]:
    """Every input once, in the order given; also how many were named again and left out.

    Raises:
        UsageError: nothing named, an empty name, a list that cannot be read.
        MidiError: a folder or a pattern without MIDI files.
    """
    if not asked.inputs and asked.files_from is None:
        raise UsageError("Missing argument 'INPUT...': name MIDI files or folders; see specdiff render --help")
    listed = [] if asked.files_from is None else read_list(asked.files_from, null=asked.null)
    sources: list[Source] = []
    for item in named(asked.inputs):
        sources.extend(_sources(item, asked.recursive, is_named=True))
    for item in listed:
        sources.extend(_sources(item, asked.recursive, is_named=False))
    distinct: dict[Path, Source] = {}
    for source in sources:
        distinct.setdefault(identity(source.path), source)
    return list(distinct.values()), len(sources) - len(distinct)


def identity(path: Path) -> Path:
    """One path for all ways to write it. A link with a name of its own is asked for under that name, so it is one."""
    return Path(os.path.realpath(path.parent)) / path.name


def named(items: Sequence[str]) -> list[Path]:
    """Arguments as paths. Raises UsageError for an empty one: it would mean the current folder."""
    if "" in items:
        raise UsageError("an input has an empty name (an unset variable?); a single . means the current folder")
    return [Path(item) for item in items]


def _sources(item: Path, recursive: bool, *, is_named: bool) -> Iterator[Source]:
    if not item.is_dir() and not is_pattern(item):
        yield Source(item, is_named=is_named)
        return
    for part in [item] if item.is_dir() else match(item):
        if part.is_dir():
            yield from (Source(path, path.parent.relative_to(part)) for path in expand(part, recursive=recursive))
        else:
            yield Source(part)


def expand(item: Path, *, recursive: bool = False) -> list[Path]:
    """The MIDI files an argument stands for: itself, or those inside a folder, sorted by name.

    Without ``recursive`` only those directly inside it. Links to folders are not followed: they may lead in circles.

    Raises:
        MidiError: a folder cannot be listed or holds no MIDI file. Whether a file exists is left to its reader.
    """
    if not item.is_dir():
        return [item]
    try:
        found = sorted(path for path in _walk(item, recursive) if path.suffix.lower() in MIDI_SUFFIXES)
    except OSError as error:
        raise MidiError(f"{error.filename or item}: cannot be listed ({error.strerror})") from None
    if not found:
        hint = () if recursive else ("; ", Option("recursive"), " looks into its folders, too")
        raise MidiError(f"{item}: this folder holds no MIDI file ({', '.join(MIDI_SUFFIXES)})", *hint)
    return found


def _walk(folder: Path, recursive: bool) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_file():
                yield folder / entry.name
            elif recursive and entry.is_dir(follow_symlinks=False):
                yield from _walk(folder / entry.name, recursive)


def is_pattern(item: Path) -> bool:
    """Is it a pattern that the shell left alone (quoted, or on Windows), rather than a file of such a name?"""
    return glob.has_magic(str(item)) and not item.exists()


def match(item: Path) -> list[Path]:
    """What a pattern matches, sorted; ``**`` stands for any folders. Raises MidiError when that is nothing."""
    found = sorted(Path(name) for name in glob.glob(str(item), recursive=True))
    if not found:
        raise MidiError(f"{item}: no such file, and nothing matches it as a pattern")
    return found


def read_list(name: str, *, null: bool) -> list[Path]:
    """The names in a file, or ``-`` for standard input: one per line, or separated by NUL characters.

    Raises:
        UsageError: the list cannot be read, or holds no names.
    """
    try:
        data = sys.stdin.buffer.read() if name == STDIN else Path(name).read_bytes()
    except (OSError, AttributeError, ValueError) as error:  # no standard input; a NUL character in the name
        detail = error.strerror if isinstance(error, OSError) else "it is closed"
        raise UsageError.of("files_from", name, f"cannot be read ({detail})") from None
    if not null:
        data = data.removeprefix(codecs.BOM_UTF8)  # Windows editors put it there
    names = list(_names(data.split(b"\0" if null else b"\n"), null))
    if not names:
        raise UsageError.of("files_from", name, "holds no names")
    for path in names:
        if b"\0" in os.fsencode(path):
            raise UsageError.of(
                "files_from", name, "holds NUL characters; use ", Option("null"), " for lists of that kind"
            )
    return names


def _names(parts: Iterable[bytes], null: bool) -> Iterator[Path]:
    for part in parts:
        # os.fsdecode keeps bytes that are not UTF-8, as the names on the command line do
        text = os.fsdecode(part if null else part.rstrip(b"\r"))
        if text and (null or not text.isspace()):
            yield Path(text)
