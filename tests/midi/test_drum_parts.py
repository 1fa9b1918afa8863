"""Channels that a file makes drum parts: the messages are those printed in the makers' manuals."""

import mido
import pytest
from midi_files import Timed, control, midi_bytes, note, program

from specdiff_cli.midi.notes import parse_midi

GS_ON = "41 10 42 12 40 00 7F 00 41"
XG_ON = "43 10 4C 00 00 7E 00"
GM2_ON = "7E 7F 09 03"


def sysex(tick: int, dump: str) -> Timed:
    return (tick, mido.Message("sysex", data=bytes.fromhex(dump)))


def gs_part(tick: int, part: int, mode: int) -> Timed:
    checksum = (128 - (0x40 + 0x10 + part + 0x15 + mode) % 128) % 128
    return sysex(tick, f"41 10 42 12 40 {0x10 + part:02x} 15 {mode:02x} {checksum:02x}")


def drum_onsets(*messages: Timed, channel: int) -> list[bool]:
    """Whether notes of ``channel`` at ticks 100, 300 and 500 are drums, the messages being in a track of their own."""
    notes = [item for tick in (100, 300, 500) for item in note(tick, tick + 100, channel, 60)]
    song = parse_midi(midi_bytes(list(messages), notes), "x.mid")
    return [found.is_drum for found in sorted(song.notes, key=lambda found: found.start_s)]


@pytest.mark.parametrize(
    ("part", "channel"), [(1, 0), (9, 8), (10, 10), (15, 15)]
)  # Roland's part numbers jump over channel 10
def test_gs_rhythm_parts(part: int, channel: int) -> None:
    messages = [sysex(0, GS_ON), gs_part(200, part, 2), program(210, channel, 8), gs_part(400, part, 0)]
    assert drum_onsets(*messages, channel=channel) == [False, True, False]
    assert drum_onsets(*messages, channel=7) == [False, False, False]


def test_gs_makes_channel_ten_melodic() -> None:
    assert drum_onsets(sysex(0, GS_ON), gs_part(200, 0, 0), channel=9) == [True, False, False]


@pytest.mark.parametrize("bank", [126, 127])
def test_xg_drum_banks_count_from_the_program_change_on(bank: int) -> None:
    messages = [
        sysex(0, XG_ON),
        control(150, 3, 0, bank),
        program(200, 3, 0),
        control(400, 3, 0, 0),
        program(400, 3, 9),
    ]
    assert drum_onsets(*messages, channel=3) == [False, True, False]
    assert drum_onsets(*messages[1:], channel=3) == [False, False, False]  # this bank is something else elsewhere


def test_xg_part_mode() -> None:
    part_mode = "43 10 4C 08 03 07 "
    messages = [sysex(0, XG_ON), sysex(200, part_mode + "02"), sysex(400, part_mode + "00")]
    assert drum_onsets(*messages, channel=3) == [False, True, False]


@pytest.mark.parametrize("system", [[], [sysex(0, GM2_ON)]])
def test_gm2_banks(system: list[Timed]) -> None:
    messages = [*system, control(200, 3, 0, 120), program(200, 3, 0), control(400, 3, 0, 121), program(400, 3, 0)]
    assert drum_onsets(*messages, channel=3) == [False, True, False]
    assert drum_onsets(sysex(0, GS_ON), *messages[len(system) :], channel=3) == [False, False, False]


def test_a_reset_makes_channel_ten_the_only_drums() -> None:
    assert drum_onsets(gs_part(0, 4, 1), sysex(200, GS_ON), channel=3) == [True, False, False]
    assert drum_onsets(gs_part(0, 0, 0), sysex(200, GS_ON), channel=9) == [False, True, True]


def test_other_messages_of_the_makers_change_nothing() -> None:
    for dump in ("41 10 42 12 40 11 16 02 00", "41 10 42 12 40 21 15 02 00", "43 10 4C 08 03 08 02", "43", "41", ""):
        assert drum_onsets(sysex(0, dump), channel=0) == [False, False, False]


def test_channel_ten_stays_drums_under_bank_121_unless_the_file_speaks_gm2() -> None:
    melodic = [control(50, 9, 0, 121), program(50, 9, 0)]
    assert drum_onsets(*melodic, channel=9) == [True, True, True]
    assert drum_onsets(sysex(0, GS_ON), *melodic, channel=9) == [True, True, True]
    assert drum_onsets(sysex(0, GM2_ON), *melodic, channel=9) == [False, False, False]
    # a file that makes another channel drums by bank 120 means what it says
    spoken = [control(0, 0, 0, 120), program(0, 0, 0)]
    assert drum_onsets(*spoken, *melodic, channel=9) == [False, False, False]
