"""Sections of a song: which notes are in them, and when."""

import mido
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from midi_files import Timed, midi_bytes, note, program, tempo

from specdiff_cli.errors import MidiError, UsageError
from specdiff_cli.midi.notes import MidiSong, parse_midi
from specdiff_cli.midi.sections import check_section, cut_section, parse_moment


def song(*tracks: list[Timed]) -> MidiSong:
    return parse_midi(midi_bytes(*tracks), "x.mid")


def scale(n_notes: int = 16) -> MidiSong:
    """Quarter notes of half a second, upwards from 60."""
    return song([event for index in range(n_notes) for event in note(480 * index, 480 * (index + 1), 0, 60 + index)])


def cut(whole: MidiSong, start: str | None = None, end: str | None = None) -> MidiSong:
    return told(whole, start, end)[0]


def told(whole: MidiSong, start: str | None = None, end: str | None = None) -> tuple[MidiSong, list[str]]:
    first = None if start is None else parse_moment("start", start)
    last = None if end is None else parse_moment("end", end)
    check_section(first, last)
    return cut_section(whole, first, last, "x.mid")


def times(whole: MidiSong) -> list[tuple[int, float, float]]:
    return [(found.pitch, round(found.start_s, 9), round(found.end_s, 9)) for found in whole.notes]


@pytest.mark.parametrize(
    ("text", "time_s"),
    [
        *(("0", 0), ("12.5", 12.5), (".5", 0.5), ("3.", 3), ("12 s", 12), (" 7 ", 7)),
        *(("1:30", 90), ("90:00", 5400), ("1:30.25", 90.25), ("1:02:03.5", 3723.5), ("0:00:01", 1)),
    ],
)
def test_times(text: str, time_s: float) -> None:
    assert parse_moment("start", text).time_s == time_s
    assert parse_moment("start", text).bar is None


@pytest.mark.parametrize("text", ["bar 17", "bar:17", "bar17", "Bar 17", "bar: 17", "BAR 017"])
def test_bars(text: str) -> None:
    assert parse_moment("start", text).bar == 17


@pytest.mark.parametrize(
    "text",
    ["", "-1", "1e3", "nan", "inf", "1:60", "1:60:00", "1:2:3:4", "bar", "bar 0", "bar -1", "bar 1.5", "17 bars", "²"],
)
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(UsageError, match="^end "):
        parse_moment("end", text)


def test_a_section_begins_at_zero() -> None:
    assert times(cut(scale(), "1", "2.5")) == [(62, 0, 0.5), (63, 0.5, 1), (64, 1, 1.5)]
    assert cut(scale(), "1", "2.5").end_s == pytest.approx(1.5)


def test_from_a_time_on_and_up_to_a_time() -> None:
    assert times(cut(scale(), "7")) == [(74, 0, 0.5), (75, 0.5, 1)]
    assert times(cut(scale(), None, "1")) == [(60, 0, 0.5), (61, 0.5, 1)]


def test_what_sounds_at_the_edges_is_cut_there() -> None:
    assert times(cut(scale(), "0.75", "1.25")) == [(61, 0, 0.25), (62, 0.25, 0.5)]


def test_bars_end_where_the_next_begins() -> None:
    assert times(cut(scale(), "bar 2", "bar 3")) == [(64, 0, 0.5), (65, 0.5, 1), (66, 1, 1.5), (67, 1.5, 2)]
    assert [found[0] for found in times(cut(scale(), "bar 4"))] == [72, 73, 74, 75]
    assert [found[0] for found in times(cut(scale(), "1.5", "bar 2"))] == [63]


def test_bars_follow_tempo_and_time_signature() -> None:
    whole = song(
        [event for index in range(16) for event in note(480 * index, 480 * (index + 1), 0, 60 + index)],
        [(1920, mido.MetaMessage("time_signature", numerator=3, denominator=4)), tempo(1920, 1_000_000)],
    )
    assert times(cut(whole, "bar 3", "bar 4")) == [(67, 0, 1), (68, 1, 2), (69, 2, 3)]


def test_silence_before_the_first_note_stays() -> None:
    whole = song([*note(0, 480, 0, 60), *note(1920, 2400, 0, 62)])
    assert times(cut(whole, "1")) == [(62, 1, 1.5)]


def test_held_notes_begin_with_the_section_but_drums_rang_before() -> None:
    whole = song([*note(0, 4800, 0, 60), *note(0, 4800, 9, 49), *note(1000, 1010, 9, 36)])
    assert sorted(times(cut(whole, "1"))) == [(36, round(40 / 960, 9), round(50 / 960, 9)), (60, 0, 4)]


def test_a_drum_a_little_early_is_of_the_section_it_announces() -> None:
    whole = song([*note(0, 4800, 0, 60), *note(960 - 20, 960 - 10, 9, 36), *note(1920 - 20, 1930, 9, 38)])
    first, second = cut(whole, None, "1"), cut(whole, "1", "2")
    assert [found.pitch for found in first.notes if found.is_drum] == []
    assert [(found.pitch, found.start_s) for found in second.notes if found.is_drum] == [(36, 0.0)]
    assert [found.pitch for found in cut(whole, "2").notes if found.is_drum] == [38]
    assert [found.pitch for found in cut(whole, None, "9").notes if found.is_drum] == [36, 38]


def test_tempo_and_bars_move_along() -> None:
    whole = song(
        [event for index in range(16) for event in note(480 * index, 480 * (index + 1), 0, 60 + index)],
        [tempo(0, 500_000), tempo(960, 250_000), tempo(3840, 1_000_000)],
    )
    part = cut(whole, "1.5", "3")  # the changes are at 1 s and 2.5 s
    np.testing.assert_allclose(part.tempo_changes, [(0.0, 240.0), (1.0, 60.0)])
    assert part.bars is not None
    assert part.bars.start_s(2) == pytest.approx(0.0)  # bars keep their numbers
    np.testing.assert_allclose(cut(whole, "1.5", "2").tempo_changes, [(0.0, 240.0)])


def test_an_end_past_the_end_is_only_mentioned() -> None:
    part, messages = told(scale(), "7", "1:00")
    assert len(part.notes) == 2
    assert messages == ["end 1:00 is past the end (0:08.00, 4 bars): played to the end"]
    assert told(scale(), "7", "bar 5")[1] == []  # the bar line behind the last bar
    assert told(song(note(0, 900, 0, 60)), None, "bar 2")[1] == []
    assert len(told(scale(), None, "bar 6")[1]) == 1


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        ("8", None, "start 8 is past its end (0:08.00, 4 bars)"),
        ("bar 5", None, "start 'bar 5' is past its end (0:08.00, 4 bars)"),
        ("bar:999999999", None, "is past its end"),
        ("bar 2", "1", "end 1 (1.00 s) does not come after start 'bar 2' (2.00 s)"),
    ],
)
def test_sections_that_a_song_has_not(start: str, end: str | None, expected: str) -> None:
    with pytest.raises(MidiError) as caught:
        cut(scale(), start, end)
    assert str(caught.value) == f"x.mid: {expected}" or expected in str(caught.value)
    assert str(caught.value).startswith("x.mid: ")


def test_a_section_without_notes() -> None:
    whole = song([*note(0, 480, 0, 60), *note(4800, 5280, 0, 62)])
    with pytest.raises(MidiError, match=r"x.mid: holds no notes in this section \(start 1 to end 2\)"):
        cut(whole, "1", "2")
    with pytest.raises(MidiError, match=r"\(end 0.5\)"):
        cut(song(note(960, 1920, 0, 60)), None, "0.5")


@pytest.mark.parametrize(
    ("start", "end"), [("2", "2"), ("2", "1"), ("bar 3", "bar 3"), ("bar 3", "bar 2"), (None, "0"), (None, "bar 1")]
)
def test_sections_that_no_song_has(start: str | None, end: str) -> None:
    with pytest.raises(UsageError, match="^end "):
        cut(scale(), start, end)


def test_the_smpte_clock_knows_seconds_only() -> None:
    data = midi_bytes(note(0, 5000, 0, 60))
    whole = parse_midi(data[:12] + (0xE728).to_bytes(2, "big") + data[14:], "x.mid")
    assert times(cut(whole, "1", "3")) == [(60, 0, 2)]
    assert cut(whole, "1").tempo_changes == []
    with pytest.raises(MidiError, match="no bars; give start 'bar 2' in seconds"):
        cut(whole, "bar 2")


@given(st.lists(st.tuples(st.integers(0, 4000), st.integers(1, 2000), st.integers(0, 127)), min_size=1, max_size=12))
def test_sections_side_by_side_hold_what_the_song_holds(drawn: list[tuple[int, int, int]]) -> None:
    events = [event for start, length, pitch in drawn for event in note(start, start + length, 0, pitch)]
    whole = song([program(0, 0, 40), *events])
    total_s = sum(found.end_s - found.start_s for found in whole.notes)
    edges = ["1", "2.2", "3.3"]
    found_s = 0.0
    for start, end in zip([None, *edges], [*edges, None], strict=True):
        try:
            part = cut(whole, start, end)
        except MidiError:
            continue
        found_s += sum(found.end_s - found.start_s for found in part.notes)
    assert found_s == pytest.approx(total_s, abs=1e-4)
