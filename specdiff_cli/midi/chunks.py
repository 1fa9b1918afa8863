"""The chunks around MIDI events: what real files put there and mido's reader does not take.

Standard MIDI File specification 1.0 (RP-001): chunks other than MThd and MTrk are to be passed over. RIFF files of the
form RMID hold a whole MIDI file in a chunk named ``data``.
"""

import re
from collections.abc import Iterator

from specdiff_cli.errors import MidiError

_SYSEX, _SYSEX_CONTINUED, _META = 0xF0, 0xF7, 0xFF
# Data bytes behind a status byte: of channel messages by their upper half, of system messages by the whole byte.
_N_CHANNEL_DATA = {0x8: 2, 0x9: 2, 0xA: 2, 0xB: 2, 0xC: 1, 0xD: 1, 0xE: 2}
_N_SYSTEM_DATA = {0xF1: 1, 0xF2: 2, 0xF3: 1}
_SYSTEM_BYTE = re.compile(rb"[\xf0-\xfe]")


def is_riff(data: bytes) -> bool:
    """Does it begin as a RIFF file that holds MIDI?"""
    return data[:4] == b"RIFF" and data[8:12] == b"RMID"


def unwrap_riff(data: bytes, name: str) -> bytes:
    """The MIDI file inside a RIFF file. Raises MidiError if there is none."""
    for kind, _, start, end in _chunks(data, 12, "little"):
        if kind == b"data":
            return data[start:end]
    raise MidiError(f"{name}: is a RIFF file without MIDI data; export it again")


def plain_tracks(data: bytes) -> bytes:
    """A MIDI file of its header and track chunks alone, with a status byte wherever system messages interrupt one.

    Chunks that the file does not hold to their end are kept as they are: that is for the reader to tell.
    """
    start = 8 + int.from_bytes(data[4:8], "big")
    parts = [data[:start]]
    for kind, n_bytes, begin, end in _chunks(data, start, "big"):
        if kind != b"MTrk":
            continue
        body = data[begin:end]
        if len(body) == n_bytes:
            body = _restate_status(body)
            n_bytes = len(body)
        parts += [kind, n_bytes.to_bytes(4, "big"), body]
    return b"".join(parts)


def _chunks(data: bytes, at: int, byteorder: str) -> Iterator[tuple[bytes, int, int, int]]:
    """(kind, length it claims, start and end of its content) of each chunk from ``at`` on."""
    is_little = byteorder == "little"
    while at + 8 <= len(data):
        n_bytes = int.from_bytes(data[at + 4 : at + 8], "little" if is_little else "big")
        yield data[at : at + 4], n_bytes, at + 8, min(len(data), at + 8 + n_bytes)
        at += 8 + n_bytes + (n_bytes % 2 if is_little else 0)  # RIFF pads to even lengths


def _restate_status(body: bytes) -> bytes:
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
        _, at = _number(body, at)  # the time
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
            at += _N_CHANNEL_DATA[channel_status >> 4]
        elif status < 0xF0:
            channel_status, is_interrupted = status, False
            at += 1 + _N_CHANNEL_DATA[status >> 4]
        elif status == _META:
            n_bytes, at = _number(body, at + 2)
            at += n_bytes
        elif status in (_SYSEX, _SYSEX_CONTINUED):
            n_bytes, at = _number(body, at + 1)
            at += n_bytes
            is_interrupted = True
        else:
            at += 1 + _N_SYSTEM_DATA.get(status, 0)
            is_interrupted = True
    return b"".join([*parts, body[copied:]])


def _number(body: bytes, at: int) -> tuple[int, int]:
    """A variable-length quantity and where it ends."""
    value = 0
    while at < len(body):
        byte = body[at]
        at += 1
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            break
    return value, at
