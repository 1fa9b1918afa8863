"""Damage to MIDI files, drawn at random: used by the script beside this file and by the default tests."""

import random
import re
import struct

#: Bytes that mean something: statuses, metas, lengths at their edges, chunk names.
TELLING = [
    *(bytes([status]) for status in range(0x80, 0x100, 0x08)),
    *(bytes([value]) for value in (0x00, 0x01, 0x7F, 0x80, 0xF0, 0xF7, 0xFF)),
    b"\xff\x2f\x00",
    b"\x00\xff\x51\x03\x00\x00\x00",
    b"\x00\xff\x51\x03\x00\x00\x01",
    b"\x00\xff\x51\x03\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\xff" * 40,
    b"MTrk\xff\xff\xff\xff",
    b"MTrk\x00\x00\x00\x00",
    b"MThd",
    b"\x00\xb0\x40\x7f",
    b"\x00\xb0\x7b\x00",
    b"\x00\xc0\x28",
    b"\x60\x90\x3c\x40",
    b"\x83\xff\xff\x7f\x90\x3c\x00",
    b"\x00\xf0\x0a\x41\x10\x42\x12\x40\x11\x15\x02\x18\xf7",
]


def mutate(data: bytes, rng: random.Random, max_bytes: int) -> bytes:
    """``data`` with one to eight damages, at most ``max_bytes`` long.

    Mostly few, and mostly with the lengths of the tracks put right: what the reader refuses at its door tests no more
    than the door.
    """
    damaged = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 1, 2, 3, 8))):
        if not damaged:
            break
        rng.choice(_DAMAGES)(damaged, rng)
    del damaged[max_bytes:]
    if rng.random() < 0.7:
        _put_lengths_right(damaged)
    return bytes(damaged)


def _put_lengths_right(data: bytearray) -> None:
    starts = [match.start() for match in re.finditer(b"MTrk", data) if match.start() <= len(data) - 8]
    for start, end in zip(starts, [*starts[1:], len(data)], strict=False):
        if end >= start + 8:
            struct.pack_into(">L", data, start + 4, end - start - 8)


def _flip(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _cut(data: bytearray, rng: random.Random) -> None:
    del data[rng.randrange(len(data)) :]


def _remove(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(data))
    del data[at : at + rng.choice((1, 2, 3, 16, 256))]


def _insert(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(data) + 1)
    data[at:at] = rng.choice(TELLING) if rng.random() < 0.7 else rng.randbytes(rng.choice((1, 2, 5, 100)))


def _overwrite(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(data))
    piece = rng.choice(TELLING)
    data[at : at + len(piece)] = piece


def _repeat(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(data))
    piece = data[at : at + rng.choice((1, 4, 8, 200))]
    data[at:at] = piece * rng.choice((1, 10, 1000, 20_000))
    del data[200_000:]


def _header(data: bytearray, rng: random.Random) -> None:
    if len(data) >= 14:
        values = (0, 1, 2, 3, 96, 255, 4096, 4097, 0x7FFF, 0x8000, 0xE764, 0xE728, 0xFFFF)
        struct.pack_into(">H", data, rng.choice((8, 10, 12)), rng.choice(values))


def _length(data: bytearray, rng: random.Random) -> None:
    at = data.find(b"MTrk", rng.randrange(len(data)))
    at = data.find(b"MTrk") if at < 0 else at
    if 0 <= at <= len(data) - 8:
        struct.pack_into(">L", data, at + 4, rng.choice((0, 1, 7, len(data), 0x7FFF_FFFF, 0xFFFF_FFFF)))


_DAMAGES = (_flip, _flip, _cut, _remove, _insert, _insert, _overwrite, _repeat, _header, _length)
