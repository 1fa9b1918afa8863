"""Ticks to seconds: tempo changes in every track, SMPTE clocks, damaged tempi."""

import io

import mido
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from midi_files import Timed, midi_bytes, note, tempo

from specdiff_cli.midi.notes import parse_midi
from specdiff_cli.midi.tempo import TempoMap, ticks_per_second


def tempo_map(*tracks: list[Timed], ticks_per_beat: int = 100) -> TempoMap:
    data = midi_bytes(*tracks, ticks_per_beat=ticks_per_beat, end_tick=10_000)
    return TempoMap.from_midi(mido.MidiFile(file=io.BytesIO(data)))


def test_without_tempo_a_beat_lasts_half_a_second() -> None:
    assert tempo_map([]).seconds(300) == pytest.approx(1.5)
    np.testing.assert_allclose(tempo_map([]).changes(), [(0.0, 120.0)])
    assert tempo_map([]).tracks == []


def test_segments_follow_each_other() -> None:
    changes = tempo_map([tempo(0, 1_000_000), tempo(200, 250_000), tempo(600, 2_000_000)])
    assert changes.seconds(0) == 0.0
    assert changes.seconds(199) == pytest.approx(1.99)
    assert changes.seconds(200) == pytest.approx(2.0)
    assert changes.seconds(600) == pytest.approx(3.0)
    assert changes.seconds(700) == pytest.approx(5.0)
    np.testing.assert_allclose(changes.changes(), [(0.0, 60.0), (2.0, 240.0), (3.0, 30.0)])


def test_tempo_counts_in_whatever_track_it_stands() -> None:
    changes = tempo_map([], note(0, 100, 0, 60), [tempo(0, 1_000_000), tempo(100, 500_000)])
    assert changes.seconds(200) == pytest.approx(1.5)
    assert changes.tracks == [2]


def test_tracks_are_merged_by_time() -> None:
    changes = tempo_map([tempo(0, 1_000_000), tempo(300, 1_000_000)], [tempo(100, 100_000)])
    assert changes.seconds(400) == pytest.approx(1.0 + 0.2 + 1.0)
    assert changes.tracks == [0, 1]


def test_at_one_tick_the_last_tempo_holds() -> None:
    assert tempo_map([tempo(0, 1_000_000), tempo(0, 250_000)]).seconds(100) == pytest.approx(0.25)
    assert tempo_map([tempo(50, 1_000_000)], [tempo(50, 250_000)]).seconds(150) == pytest.approx(0.25 + 0.25)


def test_a_repeated_tempo_is_no_change() -> None:
    assert len(tempo_map([tempo(0, 400_000), tempo(100, 400_000), tempo(200, 400_000)]).changes()) == 1


def test_tempo_of_zero_is_passed_over() -> None:
    assert tempo_map([tempo(0, 1_000_000), tempo(100, 0)]).seconds(200) == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("division", "expected"),
    [
        (-25 * 256 + 40, 1000.0),  # the usual millisecond clock
        (-24 * 256 + 4, 96.0),
        (-30 * 256 + 80, 2400.0),
        (-29 * 256 + 100, 100 * 30_000 / 1001),  # 29 stands for drop-frame: 29.97 frames per second
    ],
)
def test_smpte_divisions(division: int, expected: float) -> None:
    assert ticks_per_second(division) == pytest.approx(expected)


def test_smpte_time_is_free_of_tempo() -> None:
    data = midi_bytes([tempo(0, 1_000_000), *note(500, 1500, 0, 60)], ticks_per_beat=480)
    data = data[:12] + (0xE728).to_bytes(2, "big") + data[14:]  # -25 frames per second, 40 ticks per frame
    song = parse_midi(data, "smpte.mid")
    np.testing.assert_allclose([(found.start_s, found.end_s) for found in song.notes], [(0.5, 1.5)])
    assert song.tempo_changes == []


@given(
    st.lists(st.tuples(st.integers(0, 5000), st.integers(1, 0xFFFFFF)), max_size=6),
    st.lists(st.integers(0, 6000), min_size=2, max_size=6),
)
def test_time_grows_with_ticks_and_agrees_with_mido(changes: list[tuple[int, int]], ticks: list[int]) -> None:
    events = [tempo(tick, us_per_beat) for tick, us_per_beat in sorted(changes)]
    found = tempo_map(events)
    seconds = [found.seconds(tick) for tick in sorted(set(ticks))]
    assert all(earlier < later for earlier, later in zip(seconds, seconds[1:], strict=False))
    length_s = mido.MidiFile(file=io.BytesIO(midi_bytes(events, ticks_per_beat=100, end_tick=10_000))).length
    assert found.seconds(10_000) == pytest.approx(length_s)
