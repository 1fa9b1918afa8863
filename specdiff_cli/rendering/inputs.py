"""What the user named, as a list of files."""

import codecs
import glob
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from specdiff_cli.errors import MidiError, Option, UsageError
from specdiff_cli.streams import DASH, input_path
from specdiff_cli.wording import count

if TYPE_CHECKING:
    from specdiff_cli.rendering.request import Inputs

#: ``**`` as a part of a path, with the separator behind it.
_ANY_FOLDERS = re.compile(r"(?:^|(?<=[/\\]))\*\*(?:[/\\]+|$)" if os.name == "nt" else r"(?:^|(?<=/))\*\*(?:/+|$)")
MIDI_SUFFIXES = (".mid", ".midi", ".kar", ".smf", ".rmi")


@dataclass(frozen=True, slots=True)
class Source:
    """One input file. ``subfolder``: where it lay below the folder that was named, which outputs mirror.

    ``is_named``: the user gave this very file, and it alone, as an argument: not a folder, a pattern or a list.
    ``problem``: what is wrong with it, where that is known already; it fails with this line, and the others go on.
    """

    path: Path
    subfolder: Path = Path()
    is_named: bool = False
    problem: str | None = None


@dataclass(slots=True)
class LeftOut:
    """What was found and is no input of its own."""

    n_repeated: int = 0
    n_companions: int = 0
    """AppleDouble files (``._song.mid``): macOS puts a file's attributes there where a file system has no place."""

    def remarks(self) -> list[str]:
        """A line about each kind."""
        lines = []
        if self.n_repeated:
            lines.append(f"{count(self.n_repeated, 'input')} named more than once: rendered once")
        if self.n_companions:
            lines.append(f"{count(self.n_companions, 'file')} of macOS (._*.mid) passed over: no music is in them")
        return lines


def gather(asked: "Inputs") -> tuple[list[Source], LeftOut]:
    """Every input once, in the order given; also what was left out.

    Raises:
        UsageError: nothing named, an empty name, a list that cannot be read.
        MidiError: a folder or a pattern without MIDI files.
    """
    asked.check_any()
    if asked.files_from == DASH and DASH in asked.inputs:
        raise UsageError.of("files_from", DASH, "standard input is the list, and cannot be a song, too")
    listed = [] if asked.files_from is None else read_list(asked.files_from, null=asked.null)
    left_out = LeftOut()
    sources = list(find_sources(asked, listed, left_out=left_out))
    distinct: dict[Path, Source] = {}
    for source in sources:
        distinct.setdefault(identity(source.path), source)
    left_out.n_repeated = len(sources) - len(distinct)
    return list(distinct.values()), left_out


def find_sources(
    asked: "Inputs", listed: Iterable[Path], *, in_order: bool = True, left_out: LeftOut | None = None
) -> Iterator[Source]:
    """The files that are asked for, one after the other, as they are found; those named twice come twice.

    Args:
        listed: the names in the list of ``files_from``.
        in_order: sorted by name, for which the names in a folder are held; else as the system has them.
        left_out: counts what is passed over.

    Raises:
        UsageError, MidiError: as :func:`gather`, when it comes to it.
    """
    items = [(item, True) for item in named(asked.inputs)]
    is_alone = len(items) == 1 and asked.files_from is None
    for item, is_named in chain(items, ((item, False) for item in listed)):
        try:
            yield from _sources(item, _Walk(asked.recursive, in_order, left_out), is_named=is_named)
        except MidiError as error:
            if is_alone:
                raise
            yield Source(item, problem=str(error.args[0]))  # the others are rendered


def identity(path: Path) -> Path:
    """One path for all ways to write it. A link with a name of its own is asked for under that name, so it is one."""
    return Path(os.path.realpath(path.parent)) / path.name


def named(items: Sequence[str]) -> list[Path]:
    """Arguments as paths. Raises UsageError for an empty one: it would mean the current folder."""
    if "" in items:
        raise UsageError("an input has an empty name (an unset variable?); a single . means the current folder")
    return [input_path(item) for item in items]


@dataclass(frozen=True, slots=True)
class _Walk:
    """How folders are gone through."""

    is_recursive: bool
    in_order: bool = True
    left_out: LeftOut | None = None

    def files(self, folder: Path, subfolder: Path = Path()) -> Iterator[Source]:
        """The MIDI files in a folder, and what looked like one. Raises OSError: it cannot be listed."""
        with os.scandir(folder) as entries:
            wanted = ((entry.name, is_folder) for entry in entries if (is_folder := self._is_folder(entry)) is not None)
            for name, is_folder in sorted(wanted, key=_by_name) if self.in_order else wanted:
                path = folder / name
                if not is_folder:
                    yield Source(path, subfolder, problem=_problem_of_link(path))
                    continue
                try:
                    yield from self.files(path, subfolder / name)
                except OSError as error:
                    yield Source(path, subfolder, problem=_not_listed(path, error))

    def _is_folder(self, entry: os.DirEntry[str]) -> bool | None:
        """True: a folder to go into; False: a file to be rendered; None: neither."""
        try:
            if self.is_recursive and entry.is_dir(follow_symlinks=False):
                return True
            if os.path.splitext(entry.name)[1].lower() not in MIDI_SUFFIXES:
                return None
            # A link to nothing, or to itself, is told; other things that are no files (folders, pipes) are passed over.
            if not entry.is_file() and os.path.exists(entry.path):
                return None
        except OSError:  # of a link: it leads in circles, or where nobody may look
            pass
        if entry.name.startswith("._"):
            if self.left_out is not None:
                self.left_out.n_companions += 1
            return None
        return False


def _by_name(found: tuple[str, bool]) -> str:
    return os.path.normcase(found[0])


def _problem_of_link(path: Path) -> str | None:
    if not os.path.islink(path) or os.path.exists(path):
        return None
    leads_to = ""
    try:
        leads_to = os.readlink(path)
        os.stat(path)
    except FileNotFoundError:
        return f"{path}: is a link to nothing ({leads_to})"
    except OSError as error:
        return f"{path}: cannot be read ({error.strerror})"
    return None


def _not_listed(folder: Path, error: OSError) -> str:
    return f"{error.filename or folder}: cannot be listed ({error.strerror})"


def _sources(item: Path, walk: _Walk, *, is_named: bool) -> Iterator[Source]:
    if os.path.isdir(item):
        yield from _midi_files(item, walk)
    elif not is_pattern(item):
        yield Source(item, is_named=is_named)
    else:
        for part in match(item):
            if not os.path.isdir(part):
                yield Source(part, problem=_problem_of_link(part))
                continue
            try:
                yield from _midi_files(part, walk)
            except MidiError as error:
                yield Source(part, problem=str(error.args[0]))


def expand(item: Path, left_out: LeftOut | None = None) -> list[Source]:
    """The MIDI files an argument stands for: itself, or those directly inside a folder, sorted by name.

    Raises:
        MidiError: a folder cannot be listed or holds no MIDI file. Whether a file exists is left to its reader.
    """
    walk = _Walk(is_recursive=False, left_out=left_out)
    return list(_midi_files(item, walk)) if os.path.isdir(item) else [Source(item)]


def each_once(items: Iterable[Path]) -> tuple[list[Path | MidiError], LeftOut]:
    """The MIDI files that arguments stand for, each once, in the order given; also what was left out.

    What cannot be listed or holds none stands as its error, so that others get their turn.
    """
    sources: dict[Path, Path | MidiError] = {}
    left_out = LeftOut()
    for item in items:
        try:
            for found in expand(item, left_out):
                problem = None if found.problem is None else MidiError(found.problem)
                sources.setdefault(identity(found.path), problem or found.path)
        except MidiError as error:
            sources.setdefault(identity(item), error)
    return list(sources.values()), left_out


def _midi_files(folder: Path, walk: _Walk) -> Iterator[Source]:
    is_empty = True
    try:
        for source in walk.files(folder):
            is_empty = False
            yield source
    except OSError as error:
        raise MidiError(_not_listed(folder, error)) from None
    if is_empty:
        hint = () if walk.is_recursive else ("; ", Option("recursive"), " looks into its folders, too")
        raise MidiError(f"{folder}: this folder holds no MIDI file ({', '.join(MIDI_SUFFIXES)})", *hint)


def is_pattern(item: Path) -> bool:
    """Is it a pattern that the shell left alone (quoted, or on Windows), rather than a file of such a name?"""
    return glob.has_magic(str(item)) and not os.path.exists(item)


def match(item: Path) -> list[Path]:
    """The files and folders that a pattern matches, and links to nothing, sorted; ``**`` stands for any folders.

    Pipes and devices are passed over, as in folders: reading them might never end. Raises MidiError: nothing matches.
    """
    names = list(_matches(str(item)))
    is_odd = {name: os.path.exists(name) and not (os.path.isfile(name) or os.path.isdir(name)) for name in names}
    found = sorted(Path(name) for name in names if not is_odd[name])
    if not found:
        raise MidiError(f"{item}: no such file, and nothing matches it as a pattern")
    return found


def _matches(pattern: str) -> Iterator[str]:
    """As ``glob.glob`` with ``recursive`` does, which never ends where two links to folders lead in circles."""
    before, *rest = _ANY_FOLDERS.split(pattern, maxsplit=1)
    if not rest:
        yield from glob.glob(pattern)
        return
    for top in glob.glob(before) if before else [""]:
        for folder, folders, _ in os.walk(top or os.curdir):
            folders[:] = [name for name in folders if not name.startswith(".")]  # what a star passes over
            below = os.path.relpath(folder, top or os.curdir)
            start = top if below == os.curdir else os.path.join(top, below, "")
            yield from _matches(glob.escape(start) + (rest[0] or "*"))


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
    raw = os.fsencode(path)
    if b"\0" in raw and raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # so PowerShell writes them
        raise UsageError.of("files_from", name, "is a text in UTF-16; save it as UTF-8")
    if b"\0" in raw:
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


def names_beginning(start: str) -> list[str]:
    """MIDI files whose names begin so, sorted; none where a folder's name does, which may be meant as well."""
    folder, beginning = os.path.split(start)
    found = []
    try:
        with os.scandir(folder or ".") as entries:
            for entry in entries:
                if not entry.name.startswith(beginning) or (entry.name.startswith(".") and not beginning):
                    continue
                if entry.is_dir():
                    return []
                if entry.name.lower().endswith(MIDI_SUFFIXES):
                    found.append(os.path.join(folder, entry.name))
    except (OSError, ValueError):
        return []
    return sorted(found)
