"""Notes as a player hears them: what belongs to a channel acts on its notes, whatever track it stands in."""

from collections.abc import Callable

import mido
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from midi_files import Timed, control, midi_bytes, note, program

from specdiff_cli.midi.notes import MidiSong, parse_midi
from specdiff_cli.midi.sections import change_tempo, cut_section, parse_moment

TICKS_PER_S = 960
Found = tuple[int, int, int, int]


def song_of(*tracks: list[Timed], kind: int = 1) -> MidiSong:
    return parse_midi(midi_bytes(*tracks, kind=kind), "x.mid")


def found_in(song: MidiSong) -> list[Found]:
    """(start tick, end tick, pitch, program) of the notes, by time."""
    return sorted(
        (round(note.start_s * TICKS_PER_S), round(note.end_s * TICKS_PER_S), note.pitch, note.program)
        for note in song.notes
    )


def found(*tracks: list[Timed]) -> list[Found]:
    return found_in(song_of(*tracks))


def port(number: int) -> Timed:
    return (0, mido.MetaMessage("midi_port", port=number))


def device(name: str) -> Timed:
    return (0, mido.MetaMessage("device_name", name=name))


def sysex(tick: int, dump: str) -> Timed:
    return (tick, mido.Message("sysex", data=bytes.fromhex(dump)))


# --- programs --------------------------------------------------------------------------------------------------------


def test_a_program_of_another_track_counts_for_tracks_that_set_none() -> None:
    assert found([program(0, 0, 46)], note(0, 96, 0, 60), note(96, 192, 0, 48)) == [(0, 96, 60, 46), (96, 192, 48, 46)]
    # whatever the order of the tracks
    assert found(note(0, 96, 0, 60), [program(0, 0, 46)]) == [(0, 96, 60, 46)]
    assert found(note(0, 96, 0, 60), note(96, 192, 0, 62), [program(96, 0, 46)]) == [(0, 96, 60, 0), (96, 192, 62, 46)]


def test_a_tracks_own_program_stays_its_own_beside_another_with_notes() -> None:
    violin = [program(0, 0, 40), *note(0, 96, 0, 60), *note(96, 192, 0, 62)]
    flute = [program(0, 0, 73), *note(0, 96, 0, 72)]
    assert found(violin, flute) == [(0, 96, 60, 40), (0, 96, 72, 73), (96, 192, 62, 40)]


def test_a_conductors_later_program_counts_for_tracks_with_their_own() -> None:
    own = [program(0, 0, 40), *note(0, 96, 0, 60), *note(96, 192, 0, 62)]
    assert found([program(96, 0, 73)], own) == [(0, 96, 60, 40), (96, 192, 62, 73)]


def test_the_program_is_the_one_in_force_as_a_note_begins() -> None:
    assert found([*note(0, 300, 0, 60), program(100, 0, 40), *note(300, 400, 0, 62)]) == [
        (0, 300, 60, 0),
        (300, 400, 62, 40),
    ]
    # within a track and tick the order of the file holds
    on, off = note(0, 96, 0, 60)
    assert found([on, program(0, 0, 40), off]) == [(0, 96, 60, 0)]


# --- pedals and silence ----------------------------------------------------------------------------------------------


def test_the_pedal_of_one_track_holds_the_notes_of_all_on_its_channel() -> None:
    pedal = [control(0, 0, 64, 127), control(500, 0, 64, 0)]
    assert found(pedal, note(10, 100, 0, 60), note(20, 100, 0, 48), note(30, 100, 1, 50)) == [
        (10, 500, 60, 0),
        (20, 500, 48, 0),
        (30, 100, 50, 0),
    ]


def test_the_pedal_does_not_care_about_programs() -> None:
    track = [control(0, 0, 64, 127), *note(10, 100, 0, 60), program(200, 0, 40), control(300, 0, 64, 0)]
    assert found([*track, *note(400, 500, 0, 62)]) == [(10, 300, 60, 0), (400, 500, 62, 40)]


@pytest.mark.parametrize(
    ("lift", "end"),
    [(control(300, 0, 121, 0), 300), (control(300, 0, 120, 0), 300), (sysex(300, "7E 7F 09 01"), 300)],
)
def test_what_lifts_the_pedal_or_silences(lift: Timed, end: int) -> None:
    held = [control(0, 0, 64, 127), *note(10, 100, 0, 60)]
    assert found(held, [lift], note(0, 900, 1, 40)) == [
        (0, 900 if lift[1].type != "sysex" else end, 40, 0),
        (10, end, 60, 0),
    ]


@pytest.mark.parametrize("number", [123, 124, 125, 126, 127])
def test_all_notes_off_releases_keys_and_leaves_the_pedal_its_notes(number: int) -> None:
    off = [control(300, 0, number, 0)]
    assert found(note(0, 500, 0, 60), off) == [(0, 300, 60, 0)]
    pedal = [control(0, 0, 64, 127), control(400, 0, 64, 0)]
    assert found([*pedal, *note(0, 500, 0, 60)], off) == [(0, 400, 60, 0)]
    assert found(note(0, 500, 1, 60), off) == [(0, 500, 60, 0)]


def test_a_note_pressed_again_under_the_pedal_ends_the_one_before() -> None:
    pedal = [control(0, 0, 64, 127), control(900, 0, 64, 0)]
    assert found([*pedal, *note(0, 100, 0, 60)], note(300, 400, 0, 60)) == [(0, 300, 60, 0), (300, 900, 60, 0)]


def test_sostenuto_holds_what_sounds_as_it_goes_down() -> None:
    pedal = [control(50, 0, 66, 127), control(800, 0, 66, 0)]
    assert found([*pedal, *note(0, 100, 0, 48), *note(60, 200, 0, 60), *note(10, 20, 0, 50)]) == [
        (0, 800, 48, 0),
        (10, 20, 50, 0),
        (60, 200, 60, 0),
    ]


def test_the_soft_pedal_is_told_as_notes_begin() -> None:
    song = song_of([control(0, 0, 67, 127), *note(0, 96, 0, 60), control(96, 0, 67, 0), *note(96, 192, 0, 60)])
    assert [note.soft for note in song.notes] == [1.0, 0.0]


# --- note-offs -------------------------------------------------------------------------------------------------------


def test_a_note_off_in_another_track_counts() -> None:
    assert found([note(0, 0, 0, 60)[0]], [note(0, 300, 0, 60)[1]], note(0, 900, 1, 40)) == [
        (0, 300, 60, 0),
        (0, 900, 40, 0),
    ]


def test_first_in_first_out() -> None:
    first, second = note(0, 490, 0, 60), note(480, 970, 0, 60)
    assert found([*first, *second]) == [(0, 490, 60, 0), (480, 970, 60, 0)]
    chain = [item for step in range(40) for item in note(480 * step, 480 * step + 490, 0, 60)]
    assert found(chain) == [(480 * step, 480 * step + 490, 60, 0) for step in range(40)]


def test_two_parts_in_unison_on_one_channel_keep_their_lengths() -> None:
    assert found(note(0, 1920, 0, 60), note(480, 960, 0, 60)) == [(0, 1920, 60, 0), (480, 960, 60, 0)]


def test_a_lost_note_off_costs_one_note_and_not_all_that_follow() -> None:
    lost = note(0, 0, 0, 60)[0]
    later = [item for step in range(1, 30) for item in note(4000 * step, 4000 * step + 900, 0, 60)]
    ends = [(4000 * step, 4000 * step + 900, 60, 0) for step in range(1, 30)]
    assert found([lost, *later]) == [(0, 4000, 60, 0), *ends]
    stray = note(0, 130_000, 0, 60)[1]  # as many as there are notes, at last
    assert found([lost, *later, stray]) == [(0, 4000, 60, 0), *ends]


# --- drums, lengths, levels ------------------------------------------------------------------------------------------


def test_drums_need_no_length_and_melodies_do() -> None:
    song = song_of([*note(100, 100, 9, 36), *note(100, 100, 0, 60), note(200, 0, 9, 38)[0]])
    assert [(note.pitch, note.is_drum) for note in song.notes] == [(36, True), (38, True)]
    assert all(note.end_s > note.start_s for note in song.notes)
    assert (song.n_zero_length_notes, song.n_unclosed_notes) == (1, 0)


def test_a_note_that_nothing_ends_does_not_ring_for_hours() -> None:
    on = note(0, 0, 0, 60)[0]
    song = parse_midi(midi_bytes([on, *note(0, 960, 1, 62)], end_tick=20_000 * TICKS_PER_S), "x.mid")
    assert song.end_s == pytest.approx(11.0)  # ten seconds behind the last message
    assert song.n_unclosed_notes == 1


def test_what_a_track_says_before_it_names_its_port_means_that_port() -> None:
    band = [control(0, 9, 7, 127), program(0, 9, 8), port(1), *note(0, 96, 9, 36)]
    song = song_of([port(0), control(0, 9, 7, 50), *note(0, 96, 9, 38)], band)
    assert sorted((it.port, it.program, it.level) for it in song.notes) == [(0, 0, 0.5), (1, 8, 1.27)]
    late = song_of(
        [control(0, 0, 7, 50), *note(0, 96, 0, 60), (96, mido.MetaMessage("midi_port", port=1)), *note(96, 192, 0, 62)]
    )
    assert [(it.port, it.level) for it in late.notes] == [(0, 0.5), (1, 1.0)]


def test_in_mono_mode_the_key_pressed_last_sounds() -> None:
    held = [*note(100, 900, 0, 60), *note(300, 500, 0, 64), *note(300, 800, 0, 67), *note(1000, 1100, 0, 60)]
    ends = [(60, 900), (64, 500), (67, 800), (60, 1100)]

    def ends_in(*messages: Timed) -> list[tuple[int, int]]:
        return [(pitch, end) for _, end, pitch, _ in found([*messages, *held])]

    assert ends_in() == ends
    assert ends_in(control(0, 0, 126, 1)) == [(60, 300), (64, 500), (67, 800), (60, 900), (60, 1100)]
    assert (800, 900, 60, 0) in found([control(0, 0, 126, 1), *held])  # still held when the others are let go
    assert ends_in(control(0, 0, 126, 1), control(50, 0, 127, 0)) == ends
    assert ends_in(control(0, 0, 126, 1), sysex(50, "7E 7F 09 01")) == ends
    assert ends_in(control(0, 1, 126, 1)) == ends


def test_all_sound_off_cuts_what_sounds_or_rings() -> None:
    cut = control(960, 0, 120, 0)
    song = song_of([*note(0, 96, 0, 60), *note(0, 1920, 0, 64), *note(1920, 2000, 0, 67), cut])
    assert [(found.pitch, found.end_s, found.cut_s) for found in song.notes] == [
        (60, 0.1, 1.0),
        (64, 1.0, 1.0),
        (67, pytest.approx(2000 / 960), None),
    ]
    cymbal = song_of([*note(0, 96, 9, 49), control(960, 9, 120, 0)]).notes[0]
    assert (cymbal.end_s, cymbal.cut_s) == (0.1, 1.0)
    assert song_of([*note(0, 96, 9, 49), control(9600, 9, 120, 0)]).notes[0].cut_s is None  # long faded
    assert song_of([*note(0, 96, 9, 49), control(960, 9, 123, 0)]).notes[0].cut_s is None  # notes off: drums ring on
    reset = song_of([*note(0, 1920, 0, 60), sysex(960, "7E 7F 09 01")]).notes[0]
    assert (reset.end_s, reset.cut_s) == (1.0, 1.0)


def test_a_notes_own_times_move_with_it() -> None:
    shut = [control(0, 0, 11, 0), control(1440, 0, 11, 127)]
    song = song_of([*shut, *note(960, 3840, 0, 60), control(2880, 0, 120, 0)])
    cut, _ = cut_section(song, parse_moment("start", "1.25"), None, "x.mid")
    assert [(it.start_s, it.end_s, it.audible_s, it.cut_s) for it in cut.notes] == [(0.0, 1.75, 0.25, 1.75)]
    fast = change_tempo(song, 2.0).notes[0]
    assert (fast.start_s, fast.end_s, fast.audible_s, fast.cut_s) == (0.5, 1.5, 0.75, 1.5)


def test_a_note_whose_expression_opens_late_sounds_from_there_on() -> None:
    song = song_of([control(0, 0, 11, 0), *note(0, 960, 0, 60), control(720, 0, 11, 127)])
    assert (song.notes[0].start_s, song.notes[0].audible_s, song.notes[0].level) == (0.0, 0.75, 1.0)
    assert song_of([control(0, 0, 11, 0), *note(0, 960, 0, 60)]).notes[0].audible_s is None


def test_portamento_says_where_a_note_glides_from() -> None:
    glide = [control(0, 0, 65, 127), control(0, 0, 5, 64)]
    song = song_of([*glide, *note(0, 96, 0, 60), *note(96, 192, 0, 67), control(192, 0, 65, 0), *note(192, 288, 0, 60)])
    assert [note.glide_from for note in song.notes] == [None, 60, None]
    assert song.notes[1].glide_s == pytest.approx(5 * (64 / 127) ** 3)
    told = song_of([control(0, 0, 84, 48), *note(0, 96, 0, 60), *note(96, 192, 0, 62)])
    assert [note.glide_from for note in told.notes] == [48, None]


def test_a_tuned_scale_moves_its_pitch_classes() -> None:
    cents = " ".join(f"{0x40 + 10 * (pitch_class == 4):02x}" for pitch_class in range(12))
    song = song_of([sysex(0, f"7E 7F 08 08 00 00 01 {cents}"), *note(0, 96, 0, 64), *note(0, 96, 1, 64)])
    assert [note.tuning_semitones for note in song.notes] == [pytest.approx(0.1), 0.0]


# --- ports -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [port, lambda number: device(f"Device {number}")])
def test_state_belongs_to_port_and_channel(name: Callable[[int], Timed]) -> None:
    first = [name(0), program(0, 0, 73), control(0, 0, 7, 50), control(0, 0, 64, 127), *note(0, 96, 0, 60)]
    second = [name(1), program(0, 0, 40), *note(0, 96, 0, 62), *note(900, 960, 0, 64)]
    song = song_of(first, second)
    assert [(note.pitch, note.port, note.program, note.level) for note in song.notes] == [
        (60, 0, 73, 0.5),
        (62, 1, 40, 1.0),
        (64, 1, 40, 1.0),
    ]
    assert found_in(song) == [(0, 96, 62, 40), (0, 960, 60, 73), (900, 960, 64, 40)]


def test_device_names_mean_nothing_where_a_playing_track_has_none() -> None:
    song = song_of([device("A"), program(0, 0, 40), *note(0, 96, 0, 60)], [control(0, 0, 64, 127), *note(0, 96, 0, 62)])
    assert {note.port for note in song.notes} == {0}


# --- one track or many -----------------------------------------------------------------------------------------------

TICKS = st.integers(0, 900)
CONTROLLERS = st.sampled_from((7, 10, 11, 64, 66, 67, 120, 121, 123))
MESSAGES = st.one_of(
    st.builds(
        lambda tick, pitch, length: note(tick, tick + length, 0, pitch), TICKS, st.integers(60, 72), st.integers(1, 200)
    ),
    st.builds(lambda tick, number, value: [control(tick, 0, number, value)], TICKS, CONTROLLERS, st.integers(0, 127)),
    st.builds(lambda tick, number: [program(tick, 0, number)], TICKS, st.integers(0, 127)),
)


@settings(deadline=None)
@given(st.lists(st.tuples(MESSAGES, st.booleans()), min_size=1, max_size=20))
def test_controllers_programs_and_note_offs_may_stand_in_any_track(drawn: list[tuple[list[Timed], bool]]) -> None:
    """Everything but the onsets moved to another track, or not: the notes are the same. At distinct ticks, that is."""
    timed = [item for messages, _ in drawn for item in messages]
    moved = {index for index, (_, is_moved) in enumerate(drawn) if is_moved}
    parts: tuple[list[Timed], list[Timed]] = ([], [])
    number = 0
    spread: list[Timed] = []
    for index, (messages, _) in enumerate(drawn):
        for tick, message in messages:
            own = (tick * 64 + number, message)  # no two at one tick
            number += 1
            spread.append(own)
            is_onset = message.type == "note_on"
            parts[index in moved and not is_onset].append(own)
    if not any(message.type == "note_on" for _, message in timed):
        return

    def heard(*tracks: list[Timed], kind: int) -> object:
        try:
            song = song_of(*tracks, kind=kind)
        except Exception as error:  # compared, not hidden
            return str(error)
        return sorted((n.start_s, n.end_s, n.pitch, n.program, n.level, n.pan, n.soft) for n in song.notes)

    assert heard(spread, kind=0) == heard(*parts, kind=1)
