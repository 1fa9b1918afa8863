"""What GS and XG say to parts and devices by system exclusive messages: bytes as the makers' manuals print them."""

import mido
import pytest
from midi_files import Timed, control, midi_bytes, note, program

from specdiff_cli.midi.expression import ChannelExpression
from specdiff_cli.midi.notes import MidiSong, parse_midi


def gs(address: str, *values: int) -> Timed:
    body = bytes.fromhex(address) + bytes(values)
    return (0, mido.Message("sysex", data=bytes.fromhex("41 10 42 12") + body + bytes([-sum(body) % 128])))


def xg(address: str, *values: int) -> Timed:
    return (0, mido.Message("sysex", data=bytes.fromhex("43 10 4C " + address) + bytes(values)))


def song_of(*messages: Timed, channel: int = 0) -> MidiSong:
    return parse_midi(midi_bytes([*messages, *note(0, 960, channel, 60)]), "x.mid")


def expression_of(*messages: Timed, channel: int = 0) -> ChannelExpression:
    return song_of(*messages, channel=channel).expression[0, channel]


@pytest.mark.parametrize("message", [gs("40 11 19", 50), xg("08 00 0B", 50)], ids=["GS", "XG"])
def test_a_parts_volume_is_controller_7(message: Timed) -> None:
    assert expression_of(message).gain.at(0) == pytest.approx(0.25)
    assert expression_of(control(0, 3, 7, 100), message, channel=3).gain.at(0) == 1.0


def test_a_parts_place_is_controller_10_and_0_leaves_it() -> None:
    assert [expression_of(gs("40 11 1C", value)).pan.at(0) for value in (1, 64, 127)] == [-1.0, 0.0, 1.0]
    assert expression_of(control(0, 0, 10, 127), gs("40 11 1C", 0)).pan.at(0) == 1.0
    assert expression_of(xg("08 00 0E", 1)).pan.at(0) == -1.0


@pytest.mark.parametrize(
    "message", [gs("40 11 00", 0, 73), xg("08 00 03", 73), xg("08 00 01", 0, 0, 73)], ids=["GS", "XG", "XG in a row"]
)
def test_a_parts_program(message: Timed) -> None:
    assert [found.program for found in song_of(program(0, 0, 5), message).notes] == [73]


def test_xg_makes_a_part_drums_by_its_bank() -> None:
    drums = song_of(xg("00 00 7E", 0), xg("08 02 01", 127, 0, 0), channel=2)
    assert [found.is_drum for found in drums.notes] == [True]


@pytest.mark.parametrize("message", [gs("40 11 16", 0x40 + 7), xg("08 00 08", 0x40 + 7)], ids=["GS", "XG"])
def test_a_parts_key_shift_adds_to_its_tuning(message: Timed) -> None:
    coarse = [control(0, 0, 101, 0), control(0, 0, 100, 2), control(0, 0, 6, 0x40 - 2)]
    assert expression_of(message, *coarse).pitch_semitones.at(0) == 5.0
    assert expression_of(message, (0, mido.Message("pitchwheel", channel=3)), channel=3).pitch_semitones.at(0) == 0.0


@pytest.mark.parametrize("message", [gs("40 21 10", 0x40 + 12), xg("08 00 23", 0x40 + 12)], ids=["GS", "XG"])
def test_a_parts_bend_range(message: Timed) -> None:
    bend = (0, mido.Message("pitchwheel", pitch=-8192))
    assert expression_of(message, bend).pitch_semitones.at(0) == -12.0


@pytest.mark.parametrize(
    ("message", "semitones"),
    [
        (gs("40 00 05", 0x40 - 3), -3.0),
        (xg("00 00 06", 0x40 + 3), 3.0),
        (gs("40 00 00", 0, 4, 0xC, 8), 0.2),  # 4C8 hex is 200 tenths of a cent above 400 hex
        (xg("00 00 00", 0, 3, 0x3, 8), -0.2),
    ],
)
def test_the_devices_own_pitch(message: Timed, semitones: float) -> None:
    assert expression_of(message).pitch_semitones.at(0) == pytest.approx(semitones)


@pytest.mark.parametrize(
    "dump",
    [
        "41 10 42 12 40 11 19 19",  # no value
        "41 10 42 11 40 11 19 00 00 00 01",  # a request
        "41 10 42 12 40 11 16 00 19",  # 64 semitones down
        "43 10 4C 08 10 0B 00",  # part 17
        "43 10 4C 08 00 23 38",  # bends that reach 8 semitones below nothing
    ],
)
def test_what_is_malformed_or_absurd_changes_nothing(dump: str) -> None:
    found = expression_of(
        (0, mido.Message("sysex", data=bytes.fromhex(dump))), (0, mido.Message("pitchwheel", pitch=8191))
    )
    assert (found.gain.at(0), found.pitch_semitones.at(0)) == (1.0, 2.0)
