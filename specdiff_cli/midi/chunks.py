"""The chunks around MIDI events: which bytes are the tracks, also where a file's own numbers are a little wrong.

Standard MIDI File specification 1.0 (RP-001): chunks other than MThd and MTrk are to be passed over. RIFF files of the
form RMID hold a whole MIDI file in a chunk named ``data``.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from specdiff_cli.errors import MidiError

_SYSEX, _SYSEX_CONTINUED, _META = 0xF0, 0xF7, 0xFF
# Data bytes behind a status byte: of channel messages by their upper half, of system messages by the whole byte.
N_CHANNEL_DATA = {0x8: 2, 0x9: 2, 0xA: 2, 0xB: 2, 0xC: 1, 0xD: 1, 0xE: 2}
N_SYSTEM_DATA = {0xF1: 1, 0xF2: 2, 0xF3: 1, 0xF6: 0, 0xF8: 0, 0xFA: 0, 0xFB: 0, 0xFC: 0, 0xFE: 0}
_SYSTEM_BYTE = re.compile(rb"[\xf0-\xfe]")
_END_OF_TRACK = b"\xff\x2f\x00"
_HEADER = b"MThd"
_TRACK = b"MTrk"
_MAX_PREAMBLE_BYTES = 1024  # what transfers put before a file: MacBinary has 128 bytes


@dataclass(slots=True)
class TrackChunks:
    """The contents of a file's track chunks, in order, and how many were not as their chunks say.

    Attributes:
        bodies: the bytes of each.
        n_wrong_lengths: tracks whose length was found by their events.
        n_foreign: chunks of others.
        is_cut: the file ends within its last track.
    """

    bodies: list[bytes] = field(default_factory=list)
    n_wrong_lengths: int = 0
    n_foreign: int = 0
    is_cut: bool = False


def is_riff(data: bytes) -> bool:
    """Does it begin as a RIFF file that holds MIDI?"""
    return data[:4] == b"RIFF" and data[8:12] == b"RMID"


def unwrap_riff(data: bytes, name: str) -> bytes:
    """The MIDI file inside a RIFF file. Raises MidiError if there is none.

    RIFF pads chunks to even lengths; some writers do not, and some leave the length of their data open.
    """
    content = b""
    for is_padded in (True, False):
        for kind, start, end in _riff_chunks(data, 12, is_padded=is_padded):
            if kind == b"data":
                content = data[start:end]
                if content[:4] == _HEADER:
                    return content
    start = data.find(_HEADER)
    if start < 0 and not content:
        raise MidiError(f"{name}: is a RIFF file without MIDI data; export it again")
    return content if start < 0 else data[start:]


def _riff_chunks(data: bytes, at: int, *, is_padded: bool) -> Iterator[tuple[bytes, int, int]]:
    """(kind, start and end of its content) of each chunk from ``at`` on."""
    while at + 8 <= len(data):
        n_bytes = int.from_bytes(data[at + 4 : at + 8], "little")
        yield data[at : at + 4], at + 8, min(len(data), at + 8 + n_bytes)
        at += 8 + n_bytes + (n_bytes % 2 if is_padded else 0)


def strip_preamble(data: bytes) -> bytes:
    """The data from its MIDI header on, if something short stands before it."""
    start = data.find(_HEADER, 0, _MAX_PREAMBLE_BYTES)
    return data[start:] if start > 0 else data


def find_tracks(data: bytes, at: int) -> TrackChunks:
    """The tracks of a file whose chunks begin at ``at``.

    A track ends where its chunk says, if something can end there: the file, another chunk, or the track by its own
    end mark. Elsewhere the length is wrong, and the events themselves say where the track ends.
    """
    found = TrackChunks()
    while at + 8 <= len(data):
        n_bytes = int.from_bytes(data[at + 4 : at + 8], "big")
        begin, end = at + 8, at + 8 + n_bytes
        if data[at : at + 4] != _TRACK:
            found.n_foreign += 1
            at = end if end <= len(data) else _next_track(data, at + 1)
        elif _can_end(data, end):
            found.bodies.append(data[begin:end])
            at = end
        else:
            end_mark = _find_end(data, begin)
            found.is_cut = end_mark is None
            found.n_wrong_lengths += end_mark is not None
            end = len(data) if end_mark is None else end_mark
            found.bodies.append(data[begin:end])
            at = _next_track(data, end)
    return found


def _next_track(data: bytes, at: int) -> int:
    start = data.find(_TRACK, at)
    return len(data) if start < 0 else start


def _can_end(data: bytes, end: int) -> bool:
    """Can a track end here?"""
    if end > len(data):
        return False
    if end == len(data) or data[end : end + 4] == _TRACK or data[end - 3 : end] == _END_OF_TRACK:
        return True
    kind = data[end : end + 4]
    n_bytes = int.from_bytes(data[end + 4 : end + 8], "big")
    return len(kind) == 4 and kind.isalnum() and kind.isascii() and end + 8 + n_bytes <= len(data)


def _find_end(data: bytes, begin: int) -> int | None:
    """Where the track that begins here ends by its own end mark; None: it has none, or no events."""
    at = begin
    status = 0
    while at < len(data):
        _, at = read_number(data, at)
        if at >= len(data):
            break
        if data[at] >= 0x80:
            status_byte = data[at]
            at += 1
        elif status:
            status_byte = status
        else:
            break
        if status_byte == _META:
            is_end_mark = data[at : at + 1] == b"\x2f" and at + 1 < len(data)
            n_bytes, at = read_number(data, at + 1)
            at += n_bytes
            if is_end_mark and at <= len(data):
                return at
        elif status_byte in (_SYSEX, _SYSEX_CONTINUED):
            n_bytes, at = read_number(data, at)
            at += n_bytes
        elif status_byte >= 0xF0:
            at += N_SYSTEM_DATA.get(status_byte, 0)
        else:
            status = status_byte
            at += N_CHANNEL_DATA[status >> 4]
    return None


def restate_status(body: bytes) -> bytes:
    """The events of a track, with channel statuses repeated after system messages.

    A system exclusive message ends running status by the letter of the specification. Files that rely on it going on
    exist, and are unambiguous.
    """
    if not _SYSTEM_BYTE.search(body):
        return body
    parts: list[bytes] = []
    copied = at = 0
    channel_status = 0
    is_interrupted = False
    while at < len(body):
        _, at = read_number(body, at)  # the time
        if at >= len(body):
            break
        status = body[at]
        if status < 0x80:
            if not channel_status:
                return body  # no status yet: damaged
            if is_interrupted:
                parts += [body[copied:at], bytes([channel_status])]
                copied = at
                is_interrupted = False
            at += N_CHANNEL_DATA[channel_status >> 4]
        elif status < 0xF0:
            channel_status, is_interrupted = status, False
            at += 1 + N_CHANNEL_DATA[status >> 4]
        elif status == _META:
            n_bytes, at = read_number(body, at + 2)
            at += n_bytes
        elif status in (_SYSEX, _SYSEX_CONTINUED):
            n_bytes, at = read_number(body, at + 1)
            at += n_bytes
            is_interrupted = True
        else:
            at += 1 + N_SYSTEM_DATA.get(status, 0)
            is_interrupted = True
    return b"".join([*parts, body[copied:]])


def read_number(body: bytes, at: int) -> tuple[int, int]:
    """A variable-length quantity and where it ends."""
    value = 0
    while at < len(body):
        byte = body[at]
        at += 1
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            break
    return value, at
