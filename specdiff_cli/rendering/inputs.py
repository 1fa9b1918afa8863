"""What the user named, as a list of files."""

import codecs
import glob
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from specdiff_cli.errors import MidiError, Option, UsageError
from specdiff_cli.streams import DASH, input_path

if TYPE_CHECKING:
    from specdiff_cli.rendering.request import Inputs

MIDI_SUFFIXES = (".mid", ".midi", ".kar", ".smf", ".rmi")


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
    asked.check_any()
    listed = [] if asked.files_from is None else read_list(asked.files_from, null=asked.null)
    sources = list(find_sources(asked, listed))
    distinct: dict[Path, Source] = {}
    for source in sources:
        distinct.setdefault(identity(source.path), source)
    return list(distinct.values()), len(sources) - len(distinct)


def find_sources(asked: "Inputs", listed: Iterable[Path], *, in_order: bool = True) -> Iterator[Source]:
    """The files that are asked for, one after the other, as they are found; those named twice come twice.

    Args:
        listed: the names in the list of ``files_from``.
        in_order: sorted by name, for which the names in a folder are held; else as the system has them.

    Raises:
        UsageError, MidiError: as :func:`gather`, when it comes to it.
    """
    items = [(item, True) for item in named(asked.inputs)]
    is_alone = len(items) == 1 and asked.files_from is None
    for item, is_named in chain(items, ((item, False) for item in listed)):
        try:
            yield from _sources(item, asked.recursive, is_named=is_named, in_order=in_order)
        except MidiError:
            if is_alone:
                raise
            yield Source(item)  # fails like a file that is not there; the others are rendered


def identity(path: Path) -> Path:
    """One path for all ways to write it. A link with a name of its own is asked for under that name, so it is one."""
    return Path(os.path.realpath(path.parent)) / path.name


def named(items: Sequence[str]) -> list[Path]:
    """Arguments as paths. Raises UsageError for an empty one: it would mean the current folder."""
    if "" in items:
        raise UsageError("an input has an empty name (an unset variable?); a single . means the current folder")
    return [input_path(item) for item in items]


def _sources(item: Path, recursive: bool, *, is_named: bool, in_order: bool) -> Iterator[Source]:
    if not os.path.isdir(item) and not is_pattern(item):
        yield Source(item, is_named=is_named)
        return
    for part in [item] if os.path.isdir(item) else match(item):
        if os.path.isdir(part):
            found = _midi_files(part, recursive, in_order)
            yield from (Source(path, path.parent.relative_to(part)) for path in found)
        else:
            yield Source(part)


def expand(item: Path, *, recursive: bool = False) -> list[Path]:
    """The MIDI files an argument stands for: itself, or those inside a folder, sorted by name.

    Without ``recursive`` only those directly inside it. Links to folders are not followed: they may lead in circles.

    Raises:
        MidiError: a folder cannot be listed or holds no MIDI file. Whether a file exists is left to its reader.
    """
    return list(_midi_files(item, recursive)) if os.path.isdir(item) else [item]


def _midi_files(folder: Path, recursive: bool, in_order: bool = True) -> Iterator[Path]:
    is_empty = True
    try:
        for path in _walk(folder, recursive, in_order):
            is_empty = False
            yield path
    except OSError as error:
        raise MidiError(f"{error.filename or folder}: cannot be listed ({error.strerror})") from None
    if is_empty:
        hint = () if recursive else ("; ", Option("recursive"), " looks into its folders, too")
        raise MidiError(f"{folder}: this folder holds no MIDI file ({', '.join(MIDI_SUFFIXES)})", *hint)


def _walk(folder: Path, recursive: bool, in_order: bool) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        wanted = ((entry.name, entry.is_file()) for entry in entries if _is_wanted(entry, recursive))
        for name, is_file in sorted(wanted, key=lambda found: os.path.normcase(found[0])) if in_order else wanted:
            if is_file:
                yield folder / name
            else:
                yield from _walk(folder / name, recursive, in_order)


def _is_wanted(entry: os.DirEntry[str], recursive: bool) -> bool:
    if entry.is_file():
        return os.path.splitext(entry.name)[1].lower() in MIDI_SUFFIXES
    return recursive and entry.is_dir(follow_symlinks=False)


def is_pattern(item: Path) -> bool:
    """Is it a pattern that the shell left alone (quoted, or on Windows), rather than a file of such a name?"""
    return glob.has_magic(str(item)) and not os.path.exists(item)


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
        data = sys.stdin.buffer.read() if name == DASH else Path(name).read_bytes()
    except (OSError, AttributeError, ValueError) as error:  # no standard input; a NUL character in the name
        detail = error.strerror if isinstance(error, OSError) else "it is closed"
        raise UsageError.of("files_from", name, f"cannot be read ({detail})") from None
    names = list(_names(data.split(b"\0" if null else b"\n"), null))
    if not names:
        raise UsageError.of("files_from", name, "holds no names")
    for path in names:
        check_name(path, name)
    return names


def iterate_list(file: BinaryIO, name: str, *, null: bool) -> Iterator[Path]:
    """As :func:`read_list`, but one after the other. ``name``: what messages call the list."""
    for path in _names(_parts(file, b"\0") if null else file, null):
        check_name(path, name)
        yield path


def _parts(file: BinaryIO, end: bytes) -> Iterator[bytes]:
    rest = b""
    while block := file.read(1 << 16):
        *whole, rest = (rest + block).split(end)
        yield from whole
    yield rest


def check_name(path: Path, name: str) -> None:
    """Raises UsageError for a name out of a list of the other kind."""
    if b"\0" in os.fsencode(path):
        raise UsageError.of("files_from", name, "holds NUL characters; use ", Option("null"), " for lists of that kind")


def _names(parts: Iterable[bytes], null: bool) -> Iterator[Path]:
    for number, part in enumerate(parts):
        if not null:
            if number == 0:
                part = part.removeprefix(codecs.BOM_UTF8)  # Windows editors put it there
            part = part.rstrip(b"\r\n")
        text = os.fsdecode(part)  # keeps bytes that are not UTF-8, as the names on the command line do
        if text and (null or not text.isspace()):
            yield Path(text)
