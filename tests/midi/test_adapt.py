"""What a voice cannot play is moved or left out, and said."""

import pytest
from midi_files import midi_bytes, note, program

from specdiff_cli.midi.adapt import fit_to_voice
from specdiff_cli.midi.description import describe_song
from specdiff_cli.midi.notes import Note, parse_midi
from specdiff_cli.midi.programs import MODEL_CLASSES, N_PROGRAMS


def tone(program: int, pitch: int = 60, *, is_drum: bool = False) -> Note:
    return Note(0.0, 1.0, pitch, 64, program, is_drum)


def test_a_voice_that_plays_everything_changes_nothing() -> None:
    notes = [tone(0), tone(40), tone(0, 36, is_drum=True)]
    assert fit_to_voice(notes, None, plays_drums=True) == (notes, [])


def test_classes_decide_not_single_programs() -> None:
    notes = [tone(1), tone(3)]  # bright and honky-tonk piano play as acoustic piano
    assert fit_to_voice(notes, (0,), plays_drums=True) == (notes, [])


def test_other_instruments_go_to_the_first_the_voice_knows() -> None:
    notes = [tone(40, 60), tone(73, 61), tone(40, 62), tone(33, 63)]
    kept, messages = fit_to_voice(notes, (33, 0), plays_drums=True)
    assert [(found.program, found.pitch) for found in kept] == [(33, 60), (33, 61), (33, 62), (33, 63)]
    assert messages == ["3 notes played on electric bass, the voice was not trained on: violin, pipe"]
    assert [found.program for found in notes] == [40, 73, 40, 33]  # the song keeps its own


def test_instruments_without_a_class_of_their_own_are_named() -> None:
    notes = [tone(104), tone(104), tone(118), tone(88)]
    kept, messages = fit_to_voice(notes, (0, 88), plays_drums=True)
    assert kept == notes  # as the published models take them
    assert messages == ["3 notes played on synth pad, standing in for: Sitar, Synth Drum"]
    assert fit_to_voice(notes, None, plays_drums=True) == (notes, messages)


def test_drums_are_left_out_of_a_voice_without_them() -> None:
    kept, messages = fit_to_voice([tone(0), tone(0, 36, is_drum=True)], (0,), plays_drums=False)
    assert kept == [tone(0)]
    assert len(messages) == 1
    assert "left out" in messages[0]


def test_drums_keep_their_kit_whatever_the_voice_plays() -> None:
    kit = [tone(16, 36, is_drum=True)]
    assert fit_to_voice(kit, (0,), plays_drums=True) == (kit, [])


def test_stand_ins_are_named_for_voices_that_tell_classes_apart() -> None:
    written = [tone(45), tone(45), tone(59), tone(0), tone(43)]
    named = [
        "2 notes played on contrabass, standing in for: Pizzicato Strings",
        "1 note played on tuba, standing in for: Muted Trumpet",
    ]
    assert fit_to_voice(written, None, plays_drums=True)[1] == named
    assert fit_to_voice(written, (0, 43, 58), plays_drums=True)[1] == named
    assert fit_to_voice(written, tuple(range(128)), plays_drums=True)[1] == []


def test_a_note_that_expression_opens_late_begins_there_unless_the_voice_follows_gain() -> None:
    written = [Note(0.0, 2.0, 60, 90, 0, False, level=0.5, audible_s=1.5)]
    played, _ = fit_to_voice(written, None, plays_drums=True, follows_velocity=True)
    assert [(note.start_s, note.end_s, note.velocity) for note in played] == [(1.5, 2.0, 45)]
    assert fit_to_voice(written, None, plays_drums=True, follows_velocity=True, follows_gain=True)[0] == written


@pytest.mark.parametrize("number", range(N_PROGRAMS))
def test_inspection_and_render_agree_about_what_stands_in(number: int) -> None:
    song = parse_midi(midi_bytes([program(0, 0, number), *note(0, 480, 0, 60)]), "x.mid")
    (described,) = describe_song("x.mid", song, with_tokens=False)["instruments"]
    _, told = fit_to_voice(song.notes, tuple(MODEL_CLASSES), plays_drums=True)
    assert described["stands_in"] == (told != [])
    assert all(f"on {described['model_class']}, standing in for: {described['name']}" in line for line in told)
    # a voice that knows every program needs no stand-in
    assert fit_to_voice(song.notes, tuple(range(N_PROGRAMS)), plays_drums=True)[1] == []
