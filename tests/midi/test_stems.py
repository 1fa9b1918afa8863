"""Notes by instrument."""

import re

import mido
import pytest
from hypothesis import given
from hypothesis import strategies as st
from midi_files import control, midi_bytes, note, program

from specdiff_cli.midi.notes import Note, parse_midi
from specdiff_cli.midi.stems import split_stems


def tone(start_s: float, program: int, channel: int = 0, pan: float = 0.0, length_s: float = 1.0) -> Note:
    return Note(start_s, start_s + length_s, 60, 64, program, is_drum=False, channel=channel, pan=pan)


def hit(start_s: float, channel: int = 9) -> Note:
    return Note(start_s, start_s + 0.1, 36, 64, 0, is_drum=True, channel=channel)


def test_one_stem_for_each_instrument_in_the_order_of_first_notes() -> None:
    notes = [tone(3, 0, 0), hit(2), tone(1, 40, 1), tone(5, 40, 1), tone(0, 0, 3)]
    stems = split_stems(notes)
    assert [(stem.name, stem.slug) for stem in stems] == [
        ("Acoustic Grand Piano", "acoustic-grand-piano"),
        ("Violin", "violin"),
        ("Drums", "drums"),
    ]
    assert [stem.notes for stem in stems] == [[notes[0], notes[4]], [notes[2], notes[3]], [notes[1]]]


def test_programs_that_a_voice_plays_alike_are_one_stem() -> None:
    (stem,) = split_stems([tone(0, 48, 0), tone(1, 49, 1)])
    assert (stem.name, stem.slug, len(stem.notes)) == ("String ensemble", "string-ensemble", 2)
    assert split_stems([tone(0, 64)])[0].slug == "soprano-sax"
    assert split_stems([tone(0, 64), tone(1, 65)])[0].slug == "soprano-alto-sax"


def test_channels_in_different_places_are_stems_of_their_own() -> None:
    left, right, also_left = tone(0, 40, 0, -0.5), tone(0, 40, 1, 0.5), tone(1, 40, 2, -0.5)
    stems = split_stems([right, left, also_left])
    assert [(stem.slug, stem.pan, stem.notes) for stem in stems] == [
        ("violin", 0.5, [right]),
        ("violin-2", -0.5, [left, also_left]),
    ]
    assert len(split_stems([tone(0, 40, 0, -0.5), tone(1, 40, 0, 0.5)])) == 1  # one channel that moves


def test_pan_is_the_mean_over_the_time_that_notes_sound() -> None:
    (stem,) = split_stems([tone(0, 40, 0, -1.0, length_s=3.0), tone(5, 40, 0, 1.0, length_s=1.0)])
    assert stem.pan == pytest.approx(-0.5)


def test_names_that_meet_get_numbers_of_their_own() -> None:
    # the class "synth strings" a second time, beside General MIDI's "Synth Strings 2"
    notes = [tone(0, 50, 0), tone(0, 51, 0), tone(1, 51, 1, 0.5), tone(2, 50, 2, 1.0), tone(2, 51, 2, 1.0)]
    assert [stem.slug for stem in split_stems(notes)] == ["synth-strings", "synth-strings-2", "synth-strings-3"]


def test_pan_comes_from_the_file() -> None:
    first = [program(0, 0, 40), control(0, 0, 10, 0), *note(0, 480, 0, 70)]
    second = [program(0, 1, 40), control(0, 1, 10, 127), *note(0, 480, 1, 60)]
    stems = split_stems(parse_midi(midi_bytes(first, second), "x.mid").notes)
    assert [(stem.slug, stem.pan) for stem in stems] == [("violin", -1.0), ("violin-2", 1.0)]


def test_no_notes_no_stems() -> None:
    assert split_stems([]) == []


NOTES = st.lists(
    st.builds(
        lambda start, length, program, is_drum, channel, pan: Note(
            start, start + length, 60, 64, program, is_drum, channel, pan=pan
        ),
        st.floats(0, 9),
        st.floats(0.1, 3),
        st.sampled_from([0, 3, 4, 40, 50, 51, 127]),
        st.booleans(),
        st.integers(0, 15),
        st.sampled_from([-1.0, 0.0, 0.3, 1.0]),
    ),
    max_size=30,
)


@given(NOTES)
def test_every_note_is_in_one_stem_in_its_order(notes: list[Note]) -> None:
    stems = split_stems(notes)
    position = {id(found): index for index, found in enumerate(notes)}
    places = [[position[id(found)] for found in stem.notes] for stem in stems]
    assert sorted(index for own in places for index in own) == list(range(len(notes)))
    assert all(own == sorted(own) for own in places)
    assert len({stem.slug for stem in stems}) == len(stems)
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", stem.slug) for stem in stems)
    assert all(-1 <= stem.pan <= 1 for stem in stems)
    firsts = [min(found.start_s for found in stem.notes) for stem in stems]
    assert firsts == sorted(firsts)


def test_stems_by_track_bear_the_names_of_the_tracks() -> None:
    tracks = [
        [(0, mido.MetaMessage("track_name", name=name)), program(0, number, 24), *note(10 * number, 100, number, 60)]
        for number, name in enumerate(("Guitar L", "Guitar R", "", "Guitar L"))
    ]
    song = parse_midi(midi_bytes(*tracks), "x.mid")
    stems = split_stems(song.notes, by="tracks", track_names=[track.name for track in song.tracks])
    assert [(stem.name, stem.slug) for stem in stems] == [
        ("Guitar L", "guitar-l"),
        ("Guitar R", "guitar-r"),
        ("Track 3", "track-3"),
        ("Guitar L", "guitar-l-2"),
    ]
    assert [note for stem in stems for note in stem.notes] == song.notes
    assert len(split_stems(song.notes)) == 1  # one instrument, in one place
