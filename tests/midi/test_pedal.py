"""The reference reader's pedal: how long notes are held, rule by rule, and any notes against rules read one by one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from midi_files import Timed, control, midi_bytes, note, program

from specdiff_cli.midi.notes import MidiSong, Note, parse_midi
from specdiff_cli.midi.pedal import PedalledNotes, apply_sustain

TICKS_PER_S = 960  # of `midi_bytes` without a tempo


def notes_of(*tracks: list[Timed]) -> list[tuple[int, int, int, int]]:
    """(start tick, end tick, pitch, program) of every note of a file, in the reader's order."""
    return [
        (round(note.start_s * TICKS_PER_S), round(note.end_s * TICKS_PER_S), note.pitch, note.program)
        for note in song_of(*tracks).notes
    ]


def song_of(*tracks: list[Timed]) -> MidiSong:
    return parse_midi(midi_bytes(*tracks), "test.mid", reader="reference")


def pedal(tick: int, value: int, channel: int = 0) -> Timed:
    return control(tick, channel, 64, value)


def test_note_is_held_to_pedal_up() -> None:
    assert notes_of([pedal(0, 127), *note(10, 100, 0, 60), pedal(300, 0)]) == [(10, 300, 60, 0)]


@pytest.mark.parametrize(("value", "end"), [(63, 100), (64, 300)])
def test_pedal_is_down_from_64(value: int, end: int) -> None:
    assert notes_of([pedal(0, value), *note(10, 100, 0, 60), pedal(300, 0)])[0][1] == end


def test_note_released_before_the_pedal_is_not_held() -> None:
    assert notes_of([*note(0, 100, 0, 60), pedal(101, 127), pedal(300, 0)]) == [(0, 100, 60, 0)]


def test_note_released_after_the_pedal_is_not_shortened() -> None:
    assert notes_of([pedal(0, 127), *note(0, 400, 0, 60), pedal(300, 0)]) == [(0, 400, 60, 0)]


def test_held_note_ends_at_the_next_onset_of_its_pitch() -> None:
    track = [pedal(0, 127), *note(0, 100, 0, 60), *note(150, 180, 0, 61), *note(200, 220, 0, 60), pedal(300, 0)]
    assert notes_of(track) == [(0, 200, 60, 0), (150, 300, 61, 0), (200, 300, 60, 0)]


def test_at_one_time_the_pedal_moves_before_notes_end_and_down_before_up() -> None:
    assert notes_of([pedal(100, 127), *note(0, 100, 0, 60), pedal(300, 0)])[0][1] == 300  # down, then the note-off
    assert notes_of([pedal(0, 127), *note(0, 100, 0, 60), pedal(100, 0), pedal(300, 127)])[0][1] == 100
    both = [pedal(100, 0), pedal(100, 127)]  # whatever their order in the file, the pedal is up afterwards
    assert notes_of([pedal(0, 127), *note(0, 90, 0, 60), *both, *note(110, 120, 0, 62), pedal(200, 0)]) == [
        (0, 100, 60, 0),
        (110, 120, 62, 0),
    ]


def test_notes_still_held_at_the_end_last_until_the_last_event_of_any_instrument() -> None:
    held = [pedal(0, 127), *note(0, 100, 0, 60)]
    assert notes_of(held)[0][1] == 100
    assert notes_of(held, note(0, 900, 1, 40))[0][1] == 900
    assert notes_of([*held, pedal(950, 127)], note(0, 900, 1, 40))[0][1] == 950
    assert notes_of(held, note(0, 900, 9, 40))[0][1] == 100  # drums have no ends to wait for


def test_pedal_acts_on_its_own_channel_and_track_only() -> None:
    tracks = [pedal(0, 127), *note(0, 100, 0, 60), *note(0, 100, 1, 61)], [*note(0, 100, 0, 62), *note(0, 500, 2, 9)]
    assert [found[1] for found in notes_of(*tracks)] == [500, 100, 100, 500]


def test_drums_are_not_held() -> None:
    assert notes_of([pedal(0, 127, 9), *note(0, 100, 9, 36), *note(0, 500, 0, 60), pedal(500, 0, 9)])[0][1] == 100


def test_pedal_pressed_before_a_program_change_still_holds() -> None:
    # Moves before an instrument's first closed note are shared by all programs of that track and channel.
    track = [pedal(0, 127), program(10, 0, 40), *note(20, 100, 0, 60), pedal(300, 0)]
    assert notes_of(track) == [(20, 300, 60, 40)]


def test_pedal_of_one_program_does_not_hold_the_next() -> None:
    track = [*note(0, 50, 0, 60), pedal(60, 127), program(70, 0, 40), *note(80, 100, 0, 60), *note(200, 300, 0, 61)]
    assert notes_of(track) == [(0, 50, 60, 0), (80, 100, 60, 40), (200, 300, 61, 40)]


def test_of_two_onsets_of_one_pitch_at_one_time_one_stays() -> None:
    (on, off), (on_again, _) = note(0, 100, 0, 60, 10), note(0, 100, 0, 60, 20)
    song = song_of([pedal(0, 127), on, on_again, off, pedal(300, 0)])
    assert [(found.velocity, round(found.end_s * TICKS_PER_S)) for found in song.notes] == [(20, 300)]


Moves = list[tuple[float, bool]]


def is_down(moves: Moves, time_s: float) -> bool:
    """Whether the pedal is down once everything up to and including ``time_s`` has happened; up wins a tie."""
    past = [(at, not down) for at, down in moves if at <= time_s]
    return bool(past) and not max(past)[1]


def held_by_the_rules(instruments: list[tuple[list[Note], Moves]]) -> list[Note]:
    """The pedal rules read note by note, in quadratic time: where does this note end?"""
    last_event_s = max(
        [note.end_s for notes, _ in instruments for note in notes if not note.is_drum]
        + [at for _, moves in instruments for at, _ in moves],
        default=0.0,
    )
    result = []
    for notes, moves in instruments:
        for index, this in enumerate(notes):
            if this.is_drum:
                result.append(this)
                continue
            released_s = this.end_s
            if is_down(moves, this.end_s):
                released_s = min((at for at, down in moves if not down and at > this.end_s), default=last_event_s)
            onsets_s = [
                other.start_s
                for other_index, other in enumerate(notes)
                if other.pitch == this.pitch
                and (other.start_s, other_index) > (this.start_s, index)
                and other.start_s <= released_s
                and is_down(moves, other.start_s)
            ]
            end_s = min([released_s, *onsets_s])
            if end_s > this.start_s:
                result.append(Note(this.start_s, end_s, this.pitch, this.velocity, this.program, this.is_drum))
    return result


TIMES = st.integers(0, 12).map(lambda step: step / 4)
NOTES = st.builds(
    lambda start_s, length, pitch, velocity: Note(start_s, start_s + length / 4, pitch, velocity, 0, False),
    TIMES,
    st.integers(1, 6),
    st.integers(60, 61),
    st.integers(1, 127),
)
MOVES = st.lists(st.tuples(TIMES, st.booleans()), max_size=8)


@given(st.lists(st.tuples(st.lists(NOTES, min_size=1, max_size=8), MOVES, st.booleans()), min_size=1, max_size=3))
def test_linear_pedal_equals_the_rules_read_one_by_one(drawn: list[tuple[list[Note], Moves, bool]]) -> None:
    instruments = []
    for notes, moves, are_drums in drawn:
        for note_ in notes:
            note_.is_drum = are_drums
        instruments.append((notes, moves))
    expected = held_by_the_rules(instruments)
    assert apply_sustain([PedalledNotes(notes, moves) for notes, moves in instruments]) == expected
