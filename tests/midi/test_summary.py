"""Notes per instrument, polyphony and names."""

import pytest

from specdiff_cli.midi.notes import Note
from specdiff_cli.midi.programs import GM_NAMES, MODEL_CLASSES, model_class
from specdiff_cli.midi.summary import max_polyphony, pitch_name, summarize_instruments


def tone(start_s: float, end_s: float, pitch: int = 60, program: int = 0, channel: int = 0, track: int = 0) -> Note:
    return Note(start_s, end_s, pitch, 64, program, channel == 9, channel, track)


def test_instruments_are_told_apart_by_track_channel_and_program() -> None:
    notes = [
        tone(0, 1, 70, program=40, track=1),
        tone(0, 1, 60),
        tone(0.5, 2, 64),
        tone(0, 1, 50, program=5),
        tone(0, 1, 36, program=16, channel=9, track=2),
    ]
    found = summarize_instruments(notes)
    assert [(item.track, item.channel, item.program, item.n_notes) for item in found] == [
        (0, 0, 0, 2),
        (0, 0, 5, 1),
        (1, 0, 40, 1),
        (2, 9, 16, 1),
    ]
    assert (found[0].lowest_pitch, found[0].highest_pitch, found[0].polyphony) == (60, 64, 2)
    assert [item.name for item in found] == ["Acoustic Grand Piano", "Electric Piano 2", "Violin", "Drums (kit 16)"]
    assert [item.class_name for item in found] == ["acoustic piano", "electric piano", "violin", "drums"]


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        ([], 0),
        ([(0, 1)], 1),
        ([(0, 1), (1, 2)], 1),  # one ends as the other starts
        ([(0, 2), (1, 3), (1.5, 1.7), (2, 4)], 3),
        ([(0, 1)] * 5, 5),
    ],
)
def test_polyphony(spans: list[tuple[float, float]], expected: int) -> None:
    assert max_polyphony([tone(*span) for span in spans]) == expected


def test_pitch_names() -> None:
    assert [pitch_name(pitch) for pitch in (0, 21, 60, 61, 127)] == ["C-1", "A0", "C4", "C#4", "G9"]


def test_programs_have_names_and_classes() -> None:
    assert len(GM_NAMES) == 128
    assert len(set(GM_NAMES)) == 128
    assert (GM_NAMES[0], GM_NAMES[40], GM_NAMES[73], GM_NAMES[127]) == (
        "Acoustic Grand Piano",
        "Violin",
        "Flute",
        "Gunshot",
    )
    assert len(MODEL_CLASSES) == 34
    folded = [model_class(program) for program in range(128)]
    assert folded == sorted(folded)
    assert all(model_class(program) == program for program in MODEL_CLASSES)
    assert [model_class(program) for program in (3, 7, 31, 45, 54, 79, 87, 127)] == [0, 4, 29, 43, 52, 73, 80, 88]
