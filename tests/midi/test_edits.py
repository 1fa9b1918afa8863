"""Re-orchestration: what becomes of the notes of a song, and how the impossible is refused."""

from dataclasses import asdict, replace
from typing import Any

import mido
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from midi_files import Timed, control, midi_bytes, note, program, tempo

from specdiff_cli.errors import MidiError, UsageError
from specdiff_cli.midi.edits import Edits, apply_edits, check_edits
from specdiff_cli.midi.notes import MidiSong, parse_midi
from specdiff_cli.midi.windows import tokenize

PIANO, BRIGHT, CELLO, VIOLIN, TRUMPET, OBOE, E_PIANO = 0, 1, 42, 40, 56, 68, 4


def trio() -> MidiSong:
    """Piano on channels 1 and 4 (a bright one), cello on 2, violin on 3, drums; two notes each, a second long."""
    tracks: list[list[Timed]] = [[tempo(0, 1_000_000)]]
    for channel, number, pitch in ((0, PIANO, 60), (1, CELLO, 40), (2, VIOLIN, 80), (3, BRIGHT, 62), (9, 0, 36)):
        tracks.append([program(0, channel, number), *note(0, 480, channel, pitch), *note(480, 960, channel, pitch + 1)])
    return parse_midi(midi_bytes(*tracks), "trio.mid")


def played(song: MidiSong) -> dict[int, int]:
    """Program of each pitch; drums are -1."""
    return {found.pitch: -1 if found.is_drum else found.program for found in song.notes}


def edited(song: MidiSong | None = None, **edits: Any) -> MidiSong:
    return apply_edits(song or trio(), Edits(**edits), "trio.mid")[0]


def told(**edits: Any) -> list[str]:
    return apply_edits(trio(), Edits(**edits), "trio.mid")[1]


def refusal(kind: type[Exception], **edits: Any) -> str:
    with pytest.raises(kind) as caught:
        apply_edits(trio(), Edits(**edits), "trio.mid")
    line = str(caught.value)
    assert "\n" not in line
    if kind is UsageError:  # needs no file
        with pytest.raises(UsageError) as early:
            check_edits(Edits(**edits))
        assert str(early.value) == line
    else:
        check_edits(Edits(**edits))
        assert line.startswith("trio.mid: ")
    return line


def test_without_edits_nothing_changes() -> None:
    song = trio()
    assert apply_edits(song, Edits(), "trio.mid") == (song, [])
    check_edits(Edits())


def test_edits_go_into_a_record_as_they_were_typed() -> None:
    given = {"swaps": ("Piano=cello",), "programs": (), "only": (), "mute": ("drums",), "transpose": -2}
    assert asdict(Edits(**given)) == given | {"tempo_scale": 1.0, "start": None, "end": None}  # type: ignore[arg-type]


# --- instruments -----------------------------------------------------------------------------------------------------


def test_piano_and_cello_swapped() -> None:
    expected = {60: CELLO, 61: CELLO, 40: PIANO, 41: PIANO, 80: VIOLIN, 81: VIOLIN, 62: CELLO, 63: CELLO}
    assert played(edited(swaps=("piano=cello",))) == expected | {61: CELLO, 36: -1, 37: -1}
    assert played(edited(swaps=("CELLO = acoustic piano",))) == played(edited(swaps=("piano=cello",)))
    assert "2 notes of Cello played on Acoustic Grand Piano" in told(swaps=("piano=cello",))


def test_a_swap_gives_the_others_what_this_file_plays() -> None:
    song = apply_edits(trio(), Edits(mute=("ch1",)), "x")[0]  # a bright piano is left
    assert played(edited(song, swaps=("piano=cello",)))[40] == BRIGHT


def test_swapped_twice_is_as_it_was() -> None:
    once = edited(swaps=("violin=cello",))
    assert edited(once, swaps=("cello=violin",)).notes == trio().notes


def test_electric_piano_trumpet_and_oboe() -> None:
    song = edited(programs=("piano:electric piano", "violin:trumpet", "cello:oboe"))
    assert set(played(song).items()) == {
        *((pitch, E_PIANO) for pitch in (60, 61, 62, 63)),
        *((pitch, TRUMPET) for pitch in (80, 81)),
        *((pitch, OBOE) for pitch in (40, 41)),
        *((pitch, -1) for pitch in (36, 37)),
    }
    assert song.notes == edited(programs=("piano:4, violin:56", "42:oboe")).notes


def test_programs_by_number_and_channels_by_name() -> None:
    assert played(edited(programs=("0:56",))) == played(trio()) | {60: TRUMPET, 61: TRUMPET}
    assert played(edited(programs=("ch1:trumpet",))) == played(trio()) | {60: TRUMPET, 61: TRUMPET}
    assert played(edited(programs=("ch4:56",))) == played(trio()) | {62: TRUMPET, 63: TRUMPET}


def test_a_channel_counts_before_an_instrument_and_that_before_a_swap() -> None:
    song = edited(programs=("ch1:trumpet", "piano:oboe"), swaps=("piano=cello",))
    assert played(song) == played(trio()) | {60: TRUMPET, 61: TRUMPET, 62: OBOE, 63: OBOE, 40: PIANO, 41: PIANO}


@pytest.mark.parametrize("wanted", [("cello", "ch10"), ("cello,drums",), ("ch2", "drums"), (" 42 , percussion",)])
def test_only(wanted: tuple[str, ...]) -> None:
    assert played(edited(only=wanted)) == {40: CELLO, 41: CELLO, 36: -1, 37: -1}


def test_mute() -> None:
    assert played(edited(mute=("piano", "drums"))) == {40: CELLO, 41: CELLO, 80: VIOLIN, 81: VIOLIN}
    assert played(edited(only=("piano",), mute=("ch4",))) == {60: PIANO, 61: PIANO}
    assert told(mute=("drums",)) == ["2 notes left out: drums"]
    assert told(mute=("tuba",)) == ["mute tuba: there is none in this file"]


def test_names_mean_what_the_file_has() -> None:
    song = edited(swaps=("piano=cello",), only=("piano",))
    assert played(song) == {pitch: CELLO for pitch in (60, 61, 62, 63)}


def test_the_order_of_notes_stays() -> None:
    song = edited(swaps=("piano=cello",), mute=("violin",), transpose=1)
    assert [found.track for found in song.notes] == [found.track for found in trio().notes if found.track != 3]
    assert [window.n_dropped_events for window in tokenize(song.notes)] == [0]


def test_the_song_that_is_given_stays_as_it_is() -> None:
    song = trio()
    edited(song, swaps=("piano=cello",), transpose=3, tempo_scale=2.0, start="0.5")
    assert song == trio()


def test_only_what_is_in_the_section_is_told_but_names_mean_the_whole_file() -> None:
    edits = {"swaps": ("piano=cello",), "mute": ("drums",), "end": "1"}
    assert told(**edits) == [
        "1 note left out: drums",
        "1 note of Acoustic Grand Piano played on Cello",
        "1 note of Cello played on Acoustic Grand Piano",
        "1 note of Bright Acoustic Piano played on Cello",
    ]
    data = midi_bytes(note(0, 480, 0, 60), [program(0, 1, 42), *note(960, 1920, 1, 40)])
    song = apply_edits(parse_midi(data, "x.mid"), Edits(swaps=("piano=cello",), end="0.5"), "x.mid")[0]
    assert played(song) == {60: CELLO}  # the cello itself is not in the section
    with pytest.raises(MidiError, match="x.mid: what is left to play has no notes in this section"):
        apply_edits(parse_midi(data, "x.mid"), Edits(only=("cello",), end="0.5"), "x.mid")


# --- pitch and tempo -------------------------------------------------------------------------------------------------


def test_transposing_moves_all_but_drums() -> None:
    before, after = trio(), edited(transpose=-3)
    for one, other in zip(before.notes, after.notes, strict=True):
        assert other == (one if one.is_drum else replace(one, pitch=one.pitch - 3))


def test_notes_that_leave_the_range_are_counted() -> None:
    song, messages = apply_edits(trio(), Edits(transpose=47), "trio.mid")
    assert max(found.pitch for found in song.notes) == 127  # 80 + 47; 81 is gone
    assert messages == ["1 note left out: transposed beyond MIDI's range of pitches"]


def test_twice_as_fast() -> None:
    song = edited(tempo_scale=2.0)
    assert [(found.start_s, found.end_s) for found in song.notes[:2]] == [(0.0, 0.5), (0.5, 1.0)]
    assert song.end_s == 1.0
    np.testing.assert_allclose(song.tempo_changes, [(0.0, 120.0)])
    assert song.bars is not None
    assert song.bars.start_s(2) == pytest.approx(2.0)


def test_the_length_is_that_of_what_is_left() -> None:
    data = midi_bytes(note(0, 480, 0, 60), [program(0, 1, 42), *note(0, 4800, 1, 40)])
    song = apply_edits(parse_midi(data, "x.mid"), Edits(mute=("cello",)), "x.mid")[0]
    assert song.end_s == pytest.approx(0.5)


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("edits", "expected"),
    [
        ({"swaps": ("piano=chello",)}, "swap piano=chello: no instrument is called 'chello'; did you mean cello?"),
        ({"swaps": ("piano",)}, "swap piano: write two instruments with '=' between them, such as piano=cello"),
        ({"swaps": ("piano=cello=oboe",)}, "write two instruments"),
        ({"swaps": ("piano=",)}, "write two instruments"),
        ({"swaps": ("piano=0",)}, "swap piano=0: both sides named Acoustic Grand Piano; be more precise"),
        ({"swaps": ("piano=cello", "cello=oboe")}, "swap cello=oboe: swap piano=cello, too, named Cello"),
        ({"swaps": ("ch1=cello",)}, "takes instruments; program ch1:cello"),
        ({"swaps": ("drums=cello",)}, "drums stay drums"),
        ({"programs": ("piano=cello",)}, "program piano=cello: write two instruments with ':'"),
        ({"programs": ("piano:ch2",)}, "takes instruments"),
        ({"programs": ("drums:cello",)}, "drums stay drums"),
        ({"programs": ("0:128",)}, "program 0:128: there is no program 128"),
        ({"programs": ("ch17:0",)}, "there is no channel 17"),
        ({"only": ("horn",)}, "only horn: 'horn' can mean french horn or english horn"),
        ({"only": ("",)}, "only: names nothing"),
        ({"mute": ("piano,",)}, "mute: names nothing"),
        ({"transpose": 128}, "transpose 128: must be -127 to 127 semitones"),
        ({"tempo_scale": 0.0}, "tempo_scale 0: must be 0.1 to 10"),
        ({"tempo_scale": -1.0}, "tempo_scale"),
        ({"tempo_scale": float("nan")}, "tempo_scale"),
        ({"tempo_scale": float("inf")}, "tempo_scale"),
        ({"start": "soon"}, "start soon: is no time"),
        ({"start": "2", "end": "1"}, "end 1 does not come after start 2"),
    ],
)
def test_what_no_file_could_satisfy(edits: dict[str, Any], expected: str) -> None:
    assert expected in refusal(UsageError, **edits)


@pytest.mark.parametrize(
    ("edits", "expected"),
    [
        (
            {"swaps": ("piano=tuba",)},
            "no instrument called 'tuba' (swap piano=tuba); "
            "this file has Acoustic Grand Piano, Cello, Violin, Bright Acoustic Piano, drums; "
            "program piano:tuba does not need it",
        ),
        ({"programs": ("56:0",)}, "no instrument of program 56 (program 56:0); this file has Acoustic"),
        ({"only": ("piano", "tuba")}, "no instrument called 'tuba' (only tuba); this file has"),
        ({"only": ("ch16",)}, "has no notes on channel 16 (only ch16), only on 1, 2, 3, 4, 10"),
        ({"programs": ("ch10:tuba",)}, "program ch10:tuba: this channel plays drums, which stay drums"),
        (
            {"only": ("piano",), "mute": ("piano",)},
            "nothing is left to play (only piano, mute piano); this file has",
        ),
        ({"transpose": 127, "mute": ("drums",)}, "transpose 127 leaves no note within MIDI's range"),
        ({"start": "1:00"}, "start 1:00 is past its end (0:02.00, 1 bar)"),
        ({"only": ("cello",), "start": "2"}, "start 2 is past its end"),
    ],
)
def test_what_this_file_lacks(edits: dict[str, Any], expected: str) -> None:
    assert expected in refusal(MidiError, **edits)


def test_a_swap_of_what_is_not_there_at_all_hints_at_nothing() -> None:
    assert "program" not in refusal(MidiError, swaps=("oboe=tuba",))


def test_a_channel_of_drums_and_melody_keeps_its_drums() -> None:
    drums, melody = [control(0, 3, 0, 120), program(0, 3, 0)], [control(480, 3, 0, 121), program(480, 3, 5)]
    track = [*drums, *note(0, 240, 3, 36), *melody, *note(480, 960, 3, 60)]
    song = edited(parse_midi(midi_bytes(track), "x.mid"), programs=("ch4:trumpet",))
    assert played(song) == {36: -1, 60: TRUMPET}


TRIO = trio()
TEXTS = st.text(max_size=8) | st.sampled_from(["piano", "ch1", "drums", "0", "42", "strings", "bar 2", "1:00"])
ITEMS = st.lists(TEXTS | st.builds("{}={}".format, TEXTS, TEXTS) | st.builds("{}:{}".format, TEXTS, TEXTS), max_size=2)


@settings(max_examples=60)
@given(
    st.builds(
        Edits,
        swaps=ITEMS.map(tuple),
        programs=ITEMS.map(tuple),
        only=ITEMS.map(tuple),
        mute=ITEMS.map(tuple),
        transpose=st.integers(-130, 130),
        tempo_scale=st.floats(),
        start=st.none() | TEXTS,
        end=st.none() | TEXTS,
    )
)
def test_whatever_is_typed_is_done_or_refused_in_one_line(edits: Edits) -> None:
    try:
        song, messages = apply_edits(TRIO, edits, "trio.mid")
    except (UsageError, MidiError):
        return
    check_edits(edits)
    assert song.notes
    assert all(0 <= found.start_s < found.end_s <= song.end_s and 0 <= found.pitch <= 127 for found in song.notes)
    assert all("\n" not in message for message in messages)


def test_a_section_with_an_end_is_as_long_as_asked_for() -> None:
    song = parse_midi(midi_bytes([*note(0, 480, 0, 60), *note(5760, 6720, 0, 62)]), "x.mid")  # 0 to 0.5 s, 6 to 7 s
    lengths = {
        (): 7.0, (("end", "4"),): 4.0, (("start", "0.25"), ("end", "3")): 2.75, (("start", "0.25"),): 6.75,
        (("end", "4"), ("tempo_scale", 2.0)): 2.0, (("end", "100"),): 7.0,
    }  # fmt: skip
    for options, length_s in lengths.items():
        edited_song, _ = apply_edits(song, Edits(**dict(options)), "x.mid")  # type: ignore[arg-type]
        assert edited_song.end_s == pytest.approx(length_s), options


# --- tracks, ports, channels made drums ------------------------------------------------------------------------------


def two_hands() -> MidiSong:
    """Two tracks of one piano, named; and a flute on the same channel of another port."""
    named = [(0, mido.MetaMessage("track_name", name=name)) for name in ("Right, upper", "Left hand")]
    tracks = [[named[0], *note(0, 480, 0, 72)], [named[1], *note(0, 480, 0, 48)]]
    flute = [(0, mido.MetaMessage("midi_port", port=1)), program(0, 0, 73), *note(0, 480, 0, 84)]
    return parse_midi(midi_bytes(*tracks, flute), "two.mid")


@pytest.mark.parametrize(
    ("edits", "pitches"),
    [
        ({"only": ("track:2",)}, [48]),
        ({"only": ("track 2", "TRACK:3")}, [48, 84]),
        ({"only": ("track:Left hand",)}, [48]),
        ({"only": ('track "left HAND"',)}, [48]),
        ({"mute": ('track:"Right, upper"',)}, [48, 84]),
        ({"only": ("ch1",)}, [72, 48, 84]),  # of every port
        ({"only": ("port2:ch1",)}, [84]),
        ({"mute": ("port 1 ch 1",)}, [84]),
    ],
)
def test_tracks_and_ports_are_picked(edits: dict[str, Any], pitches: list[int]) -> None:
    edited, _ = apply_edits(two_hands(), Edits(**edits), "two.mid")
    assert [note.pitch for note in edited.notes] == pitches


def test_a_track_and_a_ports_channel_get_another_program() -> None:
    edited, told = apply_edits(two_hands(), Edits(programs=("track:2:cello", "port2:ch1:oboe")), "two.mid")
    assert [(note.pitch, note.program) for note in edited.notes] == [(72, 0), (48, 42), (84, 68)]
    assert told == ["1 note of Acoustic Grand Piano played on Cello", "1 note of Flute played on Oboe"]


@pytest.mark.parametrize("given", ["ch1:drums", "track:1:drums", "flute:drums"])
def test_a_channel_is_made_drums(given: str) -> None:
    edited, _ = apply_edits(two_hands(), Edits(programs=(given,)), "two.mid")
    assert [note.pitch for note in edited.notes if note.is_drum] == {
        "ch1:drums": [72, 48, 84],
        "track:1:drums": [72],
        "flute:drums": [84],
    }[given]
    assert all(note.program == 0 for note in edited.notes if note.is_drum)


def test_tracks_that_are_not_there() -> None:
    for named in ("track:4", "track:Middle"):
        with pytest.raises(MidiError) as caught:
            apply_edits(two_hands(), Edits(only=(named,)), "two.mid")
        assert f'(only {named}); those with notes are 1 "Right, upper", 2 "Left hand", 3' in str(caught.value)
    for named, told in (("track:0", "tracks are counted from 1"), ("track:", "no instrument"), ("port0:ch1", "port 0")):
        with pytest.raises(UsageError, match=told):
            check_edits(Edits(only=(named,)))
    with pytest.raises(UsageError, match="takes instruments"):
        check_edits(Edits(swaps=("track:1=cello",)))
