"""A piece with everything in it, and the ids that the reference implementation gives its windows."""

from midi_files import Timed, control, midi_bytes, note, program, tempo
from windows_of_tokens import ids

from specdiff_cli.midi.notes import parse_midi


def golden_piece() -> bytes:
    """A type 1 file with a pedal, drums, program and tempo changes, overlaps, and notes tied over a window border."""
    conductor = [tempo(0, 500_000), tempo(1920, 405_405), tempo(4805, 731_707), tempo(4805, 612_244)]
    piano: list[Timed] = [
        control(0, 0, 64, 0),
        control(470, 0, 64, 64),
        control(1900, 0, 64, 63),
        control(4300, 0, 64, 127),
        control(6100, 0, 64, 0),
        control(7700, 0, 64, 90),
        *note(0, 470, 0, 60, 80),
        *note(0, 470, 0, 64, 81),
        *note(480, 700, 0, 60, 82),  # held by the pedal until its next onset
        *note(720, 960, 0, 60, 83),  # held until pedal-up
        *note(3800, 4000, 0, 67, 70),
        *note(4310, 4330, 0, 72, 70),  # held over the window border by the pedal
        program(6200, 0, 49),
        *note(6000, 6800, 0, 55, 60),  # begun on the piano, closed on the strings
        *note(7720, 7800, 0, 57, 60),
    ]
    others: list[Timed] = [
        program(0, 1, 38),
        program(0, 2, 75),
        *note(7, 2400, 1, 36, 100),
        *note(2400, 7100, 1, 36, 100),  # struck again on the tick of its note-off; tied over the border
        note(5000, 5600, 2, 79, 40)[0],
        *note(5200, 5600, 2, 79, 41),  # closes both
        *note(5003, 5004, 2, 84, 1),  # shorter than a step
    ]
    drums = [event for tick in range(0, 7900, 590) for event in note(tick, tick + 30, 9, 36 + tick % 7, 99)]
    return midi_bytes(conductor, piano, others, [*drums, control(600, 9, 64, 127)])


# Made once by Diffusers 0.31's MidiProcessor (note-seq 0.0.5, pretty_midi 0.2.11) from the bytes of `golden_piece`.
GOLDEN_TOKENS = [
    [
        1134,
        1135,
        1133,
        1064,
        1068,
        1299,
        4,
        1168,
        1040,
        53,
        1135,
        1132,
        1064,
        1133,
        1064,
        64,
        1301,
        78,
        1132,
        1064,
        1133,
        1064,
        126,
        1303,
        187,
        1305,
        201,
        1132,
        1064,
        1068,
        240,
        1133,
        1300,
        244,
        1168,
        1132,
        1040,
        1133,
        1040,
        290,
        1302,
        340,
        1304,
        362,
        1135,
        1071,
        379,
        1132,
        1071,
        390,
        1133,
        1299,
        405,
        1076,
        439,
        1301,
        472,
        1208,
        1083,
        1088,
        1132,
        1088,
        497,
        1133,
        1083,
        511,
        1303,
        1,
    ],
    [
        1135,
        1076,
        1168,
        1040,
        1208,
        1083,
        1134,
        36,
        1132,
        1083,
        1083,
        74,
        1133,
        1305,
        87,
        1183,
        1059,
        100,
        1135,
        1132,
        1076,
        150,
        1133,
        1300,
        189,
        1183,
        1132,
        1059,
        225,
        1133,
        1302,
        227,
        1168,
        1132,
        1040,
        300,
        1133,
        1304,
        306,
        1183,
        1061,
        317,
        1132,
        1061,
        1,
    ],
]


def test_ids_of_the_reference_implementation() -> None:
    assert ids(parse_midi(golden_piece(), "golden.mid", reader="reference").notes) == GOLDEN_TOKENS
