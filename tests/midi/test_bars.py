"""Bars: where they begin. Times are worked out by hand: 480 ticks are a quarter note, half a second at first."""

import mido
import pytest
from hypothesis import given
from hypothesis import strategies as st
from midi_files import Timed, midi_bytes, midi_header, midi_track, note, tempo

from specdiff_cli.midi.bars import BarMap
from specdiff_cli.midi.notes import parse_midi

BEAT = 480


def meter(tick: int, numerator: int, denominator: int) -> Timed:
    return (tick, mido.MetaMessage("time_signature", numerator=numerator, denominator=denominator))


def bars_of(*tracks: list[Timed], n_beats: int = 32) -> BarMap:
    bars = parse_midi(midi_bytes(note(0, n_beats * BEAT, 0, 60), *tracks), "x.mid").bars
    assert bars is not None
    return bars


def starts(bars: BarMap, *numbers: int) -> list[float]:
    return [round(bars.start_s(number), 9) for number in numbers]


def test_without_a_time_signature_four_quarters_are_a_bar() -> None:
    assert starts(bars_of(), 1, 2, 3, 100) == [0, 2, 4, 198]


@pytest.mark.parametrize(("numerator", "denominator", "bar_s"), [(3, 4, 1.5), (6, 8, 1.5), (2, 2, 2), (7, 16, 0.875)])
def test_time_signatures(numerator: int, denominator: int, bar_s: float) -> None:
    assert starts(bars_of([meter(0, numerator, denominator)]), 1, 2, 5) == [0, bar_s, 4 * bar_s]


def test_changes_of_time_signature_and_tempo_in_any_track() -> None:
    # bars 1 and 2 of 4/4 at 120 bpm, then 3/4; from the middle of bar 3 on at 60 bpm
    bars = bars_of([meter(8 * BEAT, 3, 4)], [tempo(9 * BEAT + BEAT // 2, 1_000_000)])
    assert starts(bars, 2, 3, 4, 5) == [2, 4, 4 + 0.75 + 1.5, 4 + 0.75 + 1.5 + 3]


def test_a_pickup_written_as_a_short_bar_is_bar_one() -> None:
    assert starts(bars_of([meter(0, 1, 4), meter(BEAT, 4, 4)]), 1, 2, 3) == [0, 0.5, 2.5]


def test_a_change_in_the_middle_of_a_bar_begins_a_bar() -> None:
    assert starts(bars_of([meter(5 * BEAT, 3, 4)]), 1, 2, 3, 4) == [0, 2, 2.5, 4]


def test_what_is_repeated_or_said_at_one_time_changes_nothing() -> None:
    assert starts(bars_of([meter(0, 4, 4), meter(5 * BEAT, 4, 4)]), 2, 3) == [2, 4]
    assert starts(bars_of([meter(0, 3, 4)], [meter(0, 2, 4)]), 2, 3) == [1, 2]  # the later track counts, as with tempo
    assert starts(bars_of([meter(0, 3, 4), meter(0, 4, 4)]), 2, 3) == [2, 4]


def test_which_bar_is_under_way() -> None:
    bars = bars_of([meter(8 * BEAT, 3, 4)])
    assert [bars.bar_at(time_s) for time_s in (-1.0, 0.0, 1.9, 2.0, 3.9, 4.0, 5.4, 5.5)] == [1, 1, 1, 2, 2, 3, 3, 4]


def test_bars_of_a_song_end_with_its_last_note() -> None:
    bars = bars_of()
    assert [bars.count(end_s) for end_s in (0.1, 2.0, 2.005, 2.5, 4.0)] == [1, 1, 1, 2, 2]


def test_the_smpte_clock_has_no_bars() -> None:
    data = midi_bytes(note(0, 500, 0, 60))
    assert parse_midi(data[:12] + (0xE728).to_bytes(2, "big") + data[14:], "x.mid").bars is None


def test_billions_of_bars_cost_nothing() -> None:
    # 1 tick per quarter, bars of 1/128: each of a fraction of a tick
    body = b"\0\xff\x58\x04\x01\x07\x18\x08" + b"\0\x90\x3c\x40\xff\xff\xff\x7f\x80\x3c\0"
    song = parse_midi(midi_header(0, 1, 1) + midi_track(body), "x.mid", max_duration_s=1e12)
    assert song.bars is not None
    assert song.bars.count(song.end_s) == pytest.approx(0x0FFF_FFFF * 32, rel=1e-6)


def test_a_signature_of_no_beats_is_passed_over() -> None:
    body = b"\0\xff\x58\x04\0\x02\x18\x08" + b"\0\x90\x3c\x40\x60\x80\x3c\0"
    bars = parse_midi(midi_header(0, 1, 96) + midi_track(body), "x.mid").bars
    assert bars is not None
    assert bars.start_s(2) == pytest.approx(2.0)


CHANGES = st.lists(st.tuples(st.integers(0, 20 * BEAT), st.integers(1, 7), st.sampled_from([2, 4, 8])), max_size=6)


@given(CHANGES, st.lists(st.tuples(st.integers(0, 20 * BEAT), st.integers(100_000, 2_000_000)), max_size=4))
def test_bars_follow_each_other_and_are_found_again(
    changes: list[tuple[int, int, int]], tempi: list[tuple[int, int]]
) -> None:
    bars = bars_of([meter(*change) for change in changes], [tempo(*change) for change in tempi])
    times_s = [bars.start_s(number) for number in range(1, 60)]
    assert all(one < other for one, other in zip(times_s, times_s[1:], strict=False))
    for number, (start_s, end_s) in enumerate(zip(times_s, times_s[1:], strict=False), 1):
        assert bars.bar_at((start_s + end_s) / 2) == number
    moved = bars.retimed(start_s=1.0, speed=2.0)
    assert [moved.start_s(number) for number in range(1, 60)] == pytest.approx([(at - 1.0) / 2 for at in times_s])
