from pathlib import Path

import pytest
from midi_files import control, midi_bytes, note, program

from specdiff_cli.midi.adapt import fit_to_voice, sounding_name
from specdiff_cli.midi.edits import Edits, apply_edits
from specdiff_cli.midi.notes import MidiSong, Note, parse_midi
from specdiff_cli.midi.programs import MODEL_CLASSES, N_PROGRAMS
from specdiff_cli.serving.uploads import PlayedInstrument, played_instruments


def _song(*tracks: object) -> MidiSong:
    return parse_midi(midi_bytes(*tracks), "song")  # type: ignore[arg-type]


def _notes_of(song: MidiSong, item: PlayedInstrument) -> list[tuple[float, int]]:
    only, _ = apply_edits(song, Edits(only=(item.selector,)), "song")
    return [(found.start_s, found.pitch) for found in only.notes]


def test_two_hands_of_one_piano_are_rows_of_their_own() -> None:
    song = _song(note(0, 480, 0, 72) + note(480, 960, 0, 74), note(0, 960, 0, 40))
    right, left = played_instruments(song)
    assert (right.n_notes, right.tracks, right.channels, right.pitch_range) == (2, (1,), (1,), "C5–D5")
    assert (left.n_notes, left.tracks, left.pitch_range) == (1, (2,), "E2")
    assert _notes_of(song, right) == [(0.0, 72), (0.5, 74)]
    assert _notes_of(song, left) == [(0.0, 40)]


def test_every_row_is_picked_by_its_name_alone() -> None:
    song = _song(
        [program(0, 0, 40), *note(0, 480, 0, 60), program(480, 0, 73), *note(480, 960, 0, 61)],
        [program(0, 1, 40), *note(0, 480, 1, 62)],
        [*note(0, 480, 9, 36), *note(0, 480, 9, 42)],
        [control(0, 2, 7, 90), program(0, 2, 12), *note(0, 480, 2, 63)],
    )
    rows = played_instruments(song)
    assert sum(row.n_notes for row in rows) == len(song.notes)
    picked = [picked for row in rows for picked in _notes_of(song, row)]
    assert sorted(picked) == sorted((found.start_s, found.pitch) for found in song.notes)
    by_name = {row.name: row for row in rows}
    assert by_name["Drums"].pitch_range == "36–42"
    # Both violins: the first shares its channel and track with a flute, so no name tells it from the second.
    assert by_name["Violin"].tracks == (1, 2) and by_name["Violin"].channels == (1, 2)
    assert by_name["Flute"].selector == "73"


def test_of_very_many_parts_those_of_one_instrument_share_a_row() -> None:
    song = _song(*([program(0, 0, 40 * (track % 2)), *note(0, 480, 0, 60)] for track in range(300)))
    rows = played_instruments(song)
    assert [(row.name, row.n_notes, len(row.tracks), row.selector) for row in rows] == [
        ("Acoustic Grand Piano", 150, 150, "0"),
        ("Violin", 150, 150, "40"),
    ]


def test_rows_of_real_songs_part_their_notes(shared_midi: Path) -> None:
    for path in sorted((shared_midi / "songs").glob("*.mid"))[::4]:
        song = parse_midi(path.read_bytes(), path.name)
        picked = [picked for row in played_instruments(song) for picked in _notes_of(song, row)]
        assert sorted(picked) == sorted((found.start_s, found.pitch) for found in song.notes), path.name


@pytest.mark.parametrize("programs", [None, tuple(MODEL_CLASSES), (0, 40), tuple(range(N_PROGRAMS)), tuple(range(8))])
def test_what_a_program_sounds_as_is_where_its_notes_go(programs: tuple[int, ...] | None) -> None:
    for number in range(N_PROGRAMS):
        (played,), _ = fit_to_voice([Note(0, 1, 60, 64, number, False)], programs, plays_drums=True)
        assert sounding_name(number, programs) == sounding_name(played.program, programs)


def test_voices_that_know_each_program_and_those_of_classes_name_them_so() -> None:
    assert sounding_name(6, tuple(range(N_PROGRAMS))) == "Harpsichord"
    assert sounding_name(6, None) == sounding_name(6, tuple(MODEL_CLASSES)) == "electric piano"
    assert sounding_name(6, (40, 0)) == "violin"
