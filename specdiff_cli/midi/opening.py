"""Bytes to tracks of messages: by mido wherever it can, by our own reader where mido refuses what holds music."""

import io
import os
import re
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import mido
from mido.midifiles.meta import KeySignatureError

from specdiff_cli.errors import MidiError
from specdiff_cli.files import reason, shown_path
from specdiff_cli.midi import chunks
from specdiff_cli.midi.events import MAX_DELTA_TICKS, TrackDamage, TrackParser
from specdiff_cli.midi.remarks import Remark
from specdiff_cli.midi.text import decode_texts
from specdiff_cli.streams import STDIN, open_input
from specdiff_cli.wording import count

MAX_FILE_BYTES = 16 * 1024 * 1024  # millions of notes; mido needs about a hundred bytes of memory for each byte
MAX_TRACKS = 4096
MAX_DETAIL_CHARS = 120
_HEADER_BYTES = 14

# A run of bytes with the high bit set reads as one number, and mido's time for it grows with the square of its
# length. Nothing in real files comes near this length: numbers have four bytes, text and data have gaps.
_ENDLESS_NUMBER = re.compile(rb"[\x80-\xff]{1024}")

_UNPACK = "unpack it first"
_EXPORT = "open it in its program and export it as MIDI"
#: How other files begin that are taken for MIDI, and what to do with them.
_OTHER_FILES = [
    (re.compile(beginning, re.DOTALL), what)
    for beginning, what in (
        (rb"\x1f\x8b", f"it is packed by gzip; {_UNPACK}"),
        (rb"PK\x03\x04", f"it is a zip file; {_UNPACK}, or if it is a score, {_EXPORT}"),
        (rb"Rar!|7z\xbc\xaf|\xfd7zXZ|BZh", f"it is an archive; {_UNPACK}"),
        (rb"\s*<(?:!doctype html|html|HTML|!DOCTYPE html|!DOCTYPE HTML)", "it is a web page; download the file itself"),
        (rb"(?:\xef\xbb\xbf)?\s*<", f"it is XML, perhaps a score; {_EXPORT}"),
        (rb"RIFF....WAVE|fLaC|OggS|ID3|FORM....AIF|....ftyp", "it is sound, and holds no notes"),
        (rb".?FICHIER GUITAR PRO|FLhd|ptab|BCFZ|BCFS", f"it is the project of another program; {_EXPORT}"),
        (rb"%PDF", "it is a PDF; a score has to be exported as MIDI by the program it was made with"),
    )
]

# What mido raises on files that it cannot take; anything else would be a bug of ours.
_MIDO_ERRORS = (
    OSError,
    EOFError,
    ValueError,
    IndexError,
    KeyError,
    TypeError,
    KeySignatureError,
    ZeroDivisionError,
    OverflowError,
    UnicodeError,
)


@dataclass(frozen=True, slots=True)
class OpenedMidi:
    """A file's messages, the names of its tracks as text, and what was odd about its bytes."""

    midi: mido.MidiFile
    names: list[str]
    remarks: list[Remark]


def read_bytes(path: Path) -> bytes:
    """The bytes of a file that may be MIDI. Raises MidiError where they cannot be read, or are far too many."""
    try:
        if os.path.isdir(path):
            raise MidiError(f"{path}: is a folder, not a MIDI file")
        with ExitStack() as stack:
            file = open_input(path)
            if path != STDIN:
                stack.enter_context(file)
            data = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise MidiError(f"{path}: no such file; check the path") from None
    except OSError as error:
        raise MidiError(f"{shown_path(path)}: cannot be read ({reason(error)})") from None
    except ValueError:
        raise MidiError(f"{path!s:.200}: is not a usable file name") from None
    if len(data) > MAX_FILE_BYTES:
        raise MidiError(f"{path}: is larger than {MAX_FILE_BYTES >> 20} MiB, too large for a MIDI file")
    return data


def open_midi(data: bytes, name: str, *, clips: bool = False) -> OpenedMidi:
    """The messages of a MIDI file; ``clips`` lets data bytes above 127 pass as 127, as mido does.

    Raises:
        MidiError: it is not MIDI, or damaged: bytes that are no messages, or a track that the file does not hold.
    """
    if not data:
        raise MidiError(f"{name}: is empty; export it again")
    if chunks.is_riff(data):
        data = chunks.unwrap_riff(data, name)
    data = chunks.strip_preamble(data)
    if data[:4] != b"MThd":
        raise MidiError(f"{name}: is not a standard MIDI file ({_what_it_is(data)})")
    if len(data) < _HEADER_BYTES:
        raise damaged(name, "it ends too early")
    if _ENDLESS_NUMBER.search(data):
        raise damaged(name, "it holds a number of more than a thousand bytes")
    kind, n_claimed, division = (int.from_bytes(data[at : at + 2], "big") for at in (8, 10, 12))
    found = chunks.find_tracks(data, 8 + int.from_bytes(data[4:8], "big"))
    n_tracks = len(found.bodies)
    if n_tracks > MAX_TRACKS:
        raise MidiError(f"{name}: has {n_tracks} tracks, more than the limit of {MAX_TRACKS}; export it again")
    if found.is_cut or n_claimed and not n_tracks:
        raise damaged(name, "it ends too early")
    if kind not in (0, 1, 2):
        raise MidiError(f"{name}: says it is a type {kind} MIDI file; only types 0, 1 and 2 exist")
    if division == 0:
        raise damaged(name, "its header says 0 ticks per beat")
    if division >> 15 and division & 0xFF == 0:
        raise damaged(name, "its header says 0 ticks per SMPTE frame")
    midi, odd = _parse(data[:4], kind, division, found.bodies, name, clips=clips)
    if any(message.time > MAX_DELTA_TICKS for track in midi.tracks for message in track):
        raise damaged(name, "it holds a time of more than four bytes")
    names = decode_texts([track.name.encode("latin-1", "replace") for track in midi.tracks])
    return OpenedMidi(midi, names, _remarks(found, n_claimed, odd))


def _what_it_is(data: bytes) -> str:
    """What bytes are that are no MIDI file, with the way to one."""
    for beginning, what in _OTHER_FILES:
        if beginning.match(data):
            return what
    return "it does not begin with MThd"


def damaged(name: str, detail: str) -> MidiError:
    """The error about a file that cannot be played."""
    return MidiError(f"{name}: is a damaged MIDI file ({detail[:MAX_DETAIL_CHARS]}); export it again")


def _parse(
    magic: bytes, kind: int, division: int, bodies: list[bytes], name: str, *, clips: bool
) -> tuple[mido.MidiFile, Counter[str]]:
    """The file by mido or, where mido refuses it, by our own reader, and what was odd."""
    header = [value.to_bytes(2, "big") for value in (kind, len(bodies), division)]
    plain = [magic, (6).to_bytes(4, "big"), *header]
    for body in bodies:
        restated = chunks.restate_status(body)
        plain += [b"MTrk", len(restated).to_bytes(4, "big"), restated]
    try:
        return mido.MidiFile(file=io.BytesIO(b"".join(plain)), clip=clips), Counter()
    except _MIDO_ERRORS:
        pass
    parser = TrackParser(clips=clips)
    midi = mido.MidiFile(type=kind)
    midi.ticks_per_beat = division - 0x10000 if division >> 15 else division
    try:
        for body in bodies:
            midi.tracks.append(parser.read(body))
    except TrackDamage as damage:
        raise damaged(name, str(damage)) from None
    return midi, parser.odd


def _remarks(found: chunks.TrackChunks, n_claimed: int, odd: Counter[str]) -> list[Remark]:
    n_tracks, n_notes, n_lengths = len(found.bodies), odd["illegal_note"], found.n_wrong_lengths
    n_data, n_meta, n_meters, n_foreign = odd["illegal_data"], odd["metadata"], odd["meter"], found.n_foreign
    n_miscounted = abs(n_claimed - n_tracks)
    counted = f"its header says {count(n_claimed, 'track')}, {n_tracks} are there and played"
    lengths = f"{count(n_lengths, 'track')} longer or shorter than the file says: played to the end mark"
    remarks = [
        Remark("track_count", n_miscounted, counted),
        Remark("track_length", n_lengths, lengths),
        Remark("illegal_note", n_notes, f"{count(n_notes, 'note')} of pitches that do not exist left out"),
        Remark("illegal_data", n_data, f"{count(n_data, 'message')} with impossible data left out"),
        Remark("metadata", n_meta, f"{count(n_meta, 'odd meta event')} passed over", is_heard=False),
        Remark("meter", n_meters, f"{count(n_meters, 'impossible time signature')} passed over", is_heard=False),
        Remark("foreign_chunk", n_foreign, f"{count(n_foreign, 'foreign chunk')} passed over", is_heard=False),
    ]
    return [remark for remark in remarks if remark.count]
