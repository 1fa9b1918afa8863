"""What a soundfont holds: its presets, read from its list of preset headers.

Source: SoundFont Technical Specification 2.04, section 7.2 (the PHDR sub-chunk).
"""

import struct
from pathlib import Path

from specdiff_cli.errors import Option, UsageError
from specdiff_cli.midi.programs import N_PROGRAMS

MELODIC_BANK, DRUM_BANK = 0, 128
#: Standard, room, power, electronic, analogue, jazz, brush, orchestra, and what fonts put in place of sound effects.
DRUM_KITS = (0, 8, 16, 24, 25, 32, 40, 48, 56)
FAMILY_PROGRAMS = 8  # General MIDI's programs come in families of eight
_RECORD = struct.Struct("<20sHHHIII")


def read_presets(soundfont: Path) -> dict[tuple[int, int], str]:
    """(bank, program) -> name of every preset. Raises UsageError for a file that is no soundfont."""
    try:
        with open(soundfont, "rb") as file:
            data = _preset_headers(file.read())
    except OSError as error:
        raise UsageError(f"cannot read the soundfont {soundfont}: {error.strerror or error}") from None
    if data is None:
        what = f"cannot read the soundfont {soundfont}: give an .sf2 or .sf3 file with "
        raise UsageError(what, Option("soundfont"), option="soundfont", value=str(soundfont))
    records = [_RECORD.unpack_from(data, at) for at in range(0, len(data) - _RECORD.size + 1, _RECORD.size)]
    # The last record is a terminator.
    return {(bank, program): _text(name) for name, program, bank, *_ in records[:-1]}


def _preset_headers(data: bytes) -> bytes | None:
    """The PHDR sub-chunk: RIFF 'sfbk' > LIST 'pdta' > 'phdr'."""
    if data[:4] != b"RIFF" or data[8:12] != b"sfbk":
        return None
    at = 12
    while at + 12 <= len(data):
        (size,) = struct.unpack_from("<I", data, at + 4)
        if data[at : at + 4] == b"LIST" and data[at + 8 : at + 12] == b"pdta":
            if data[at + 12 : at + 16] != b"phdr":
                return None
            (n_bytes,) = struct.unpack_from("<I", data, at + 16)
            return data[at + 20 : at + 20 + n_bytes]
        at += 8 + size
        if size % 2 and data[at : at + 4] != b"LIST":  # some writers leave the byte of padding out
            at += 1
    return None


def _text(name: bytes) -> str:
    return name.split(b"\0")[0].decode("latin-1").strip()


def stand_ins(presets: dict[tuple[int, int], str]) -> dict[int, int]:
    """General MIDI programs that the font lacks -> the programs that play for them.

    The nearest one of the same family, or else the nearest of all. Raises UsageError for a font without any.
    """
    present = sorted(program for bank, program in presets if bank == MELODIC_BANK and program < N_PROGRAMS)
    if not present:
        what = "the soundfont has no General MIDI programs (bank 0): give another with "
        raise UsageError(what, Option("soundfont"), option="soundfont")
    missing = sorted(set(range(N_PROGRAMS)) - set(present))
    return {program: min(present, key=lambda other: _distance(program, other)) for program in missing}


def _distance(program: int, other: int) -> tuple[bool, int, int]:
    return program // FAMILY_PROGRAMS != other // FAMILY_PROGRAMS, abs(program - other), other


def drum_kits(presets: dict[tuple[int, int], str]) -> list[int]:
    """Drum programs of General MIDI 2 and GS that the font has kits for; their variations are not asked for."""
    return [kit for kit in DRUM_KITS if (DRUM_BANK, kit) in presets]
