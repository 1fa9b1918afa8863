"""Curves, and what bends, tunings, volumes and pans make of them: values from the MIDI specification by hand."""

from itertools import pairwise

import mido
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from midi_files import Timed, control, midi_bytes, note

from specdiff_cli.midi.expression import ChannelExpression, Curve
from specdiff_cli.midi.notes import MidiSong, parse_midi
from specdiff_cli.midi.sections import change_tempo, cut_section, parse_moment

TICKS_PER_S = 960


def bend(tick: int, value: int, channel: int = 0) -> Timed:
    return (tick, mido.Message("pitchwheel", channel=channel, pitch=value))


def sysex(tick: int, dump: str) -> Timed:
    return (tick, mido.Message("sysex", data=bytes.fromhex(dump)))


def rpn(tick: int, number: int, msb: int, lsb: int | None = None, channel: int = 0) -> list[Timed]:
    data = [control(tick, channel, 101, 0), control(tick, channel, 100, number), control(tick, channel, 6, msb)]
    return data if lsb is None else [*data, control(tick, channel, 38, lsb)]


def song_of(*tracks: list[Timed]) -> MidiSong:
    return parse_midi(midi_bytes(*tracks), "x.mid")


def expression_of(*messages: Timed, channel: int = 0) -> ChannelExpression:
    """Of a song whose only note lasts four seconds."""
    return song_of([*messages, *note(0, 4 * TICKS_PER_S, channel, 60)]).expression[0, channel]


# --- curves ----------------------------------------------------------------------------------------------------------


def test_a_curve_holds_each_value_until_the_next() -> None:
    curve = Curve.from_changes(1.0, [(0.5, 2.0), (0.5, 3.0), (1.0, 3.0), (2.0, 1.0)])
    assert curve == Curve((0.0, 0.5, 2.0), (1.0, 3.0, 1.0))
    assert [curve.at(time_s) for time_s in (-1, 0, 0.49, 0.5, 1.9, 2.0, 99)] == [1, 1, 1, 3, 3, 1, 1]
    assert not curve.is_constant
    np.testing.assert_array_equal(curve.sampled(np.array([[-1.0, 0.5], [1.99, 2.0]])), [[1, 3], [3, 1]])


def test_a_change_at_the_very_start_is_the_first_value() -> None:
    assert Curve.from_changes(1.0, [(0.0, 4.0)]) == Curve.constant(4.0)
    assert Curve.from_changes(1.0, [(0.5, 4.0), (0.5, 1.0)]) == Curve.constant(1.0)
    np.testing.assert_array_equal(Curve.constant(4.0).sampled(np.zeros((2, 3))), np.full((2, 3), 4.0))


CHANGES = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3)), max_size=12).map(sorted)


@given(CHANGES, st.lists(st.integers(-1, 11), min_size=1, max_size=9), st.integers(0, 9))
def test_curves_agree_with_their_changes_read_one_by_one(
    changes: list[tuple[float, float]], times: list[float], start: float
) -> None:
    changes.sort(key=lambda change: change[0])
    curve = Curve.from_changes(9.0, changes)

    def value(time_s: float) -> float:
        return [9.0, *(found for at, found in changes if at <= max(time_s, 0))][-1]

    assert [curve.at(time_s) for time_s in times] == [value(time_s) for time_s in times]
    assert curve.sampled(np.array(times, dtype=np.float64)).tolist() == [value(time_s) for time_s in times]
    assert all(before < after for before, after in pairwise(curve.times_s))
    assert all(before != after for before, after in pairwise(curve.values))
    moved = curve.retimed(start_s=start, speed=2)
    assert [moved.at(time_s / 2) for time_s in range(9)] == [value(start + time_s) for time_s in range(9)]
    assert curve.changes_within(start, start + 3) == any(
        curve.at(start) != found
        for at, found in zip(curve.times_s, curve.values, strict=True)
        if start < at < start + 3
    )


# --- pitch -----------------------------------------------------------------------------------------------------------


def test_a_full_bend_is_two_semitones_unless_the_file_says_otherwise() -> None:
    pitch = expression_of(bend(0, 8191), bend(960, -8192), bend(1920, 0)).pitch_semitones
    assert pitch == Curve((0.0, 1.0, 2.0), (2.0, -2.0, 0.0))


def test_the_bend_range_has_semitones_and_cents() -> None:
    assert expression_of(*rpn(0, 0, 12, 50), bend(0, 8191)).pitch_semitones.at(1) == 12.5
    assert expression_of(*rpn(0, 0, 12), bend(0, 8191)).pitch_semitones.at(1) == 12
    # a range that changes while the wheel is held moves the pitch at once
    assert expression_of(bend(0, 8191), *rpn(960, 0, 7)).pitch_semitones == Curve((0.0, 1.0), (2.0, 7.0))


def test_fine_and_coarse_tuning_add_up_with_the_bend() -> None:
    fine, coarse = rpn(0, 1, 0x60, 0), rpn(0, 2, 0x40 - 12)
    assert expression_of(*fine, *coarse, bend(0, 4096)).pitch_semitones.at(0) == pytest.approx(0.5 - 12 + 1, abs=1e-3)
    assert expression_of(*rpn(0, 1, 0, 0)).pitch_semitones.at(0) == -1
    assert expression_of(*rpn(0, 1, 0x40, 0x40)).pitch_semitones.at(0) == pytest.approx(64 / 8192)


@pytest.mark.parametrize(
    "before_data",
    [
        [control(0, 0, 101, 127), control(0, 0, 100, 127)],  # the null parameter
        [control(0, 0, 99, 0), control(0, 0, 98, 0)],  # one that is not registered
        [control(0, 0, 100, 77)],  # one that does not exist
        [control(0, 0, 121, 0)],
    ],
)
def test_data_for_other_parameters_changes_nothing(before_data: list[Timed]) -> None:
    messages = [*rpn(0, 0, 5)[:2], *before_data, control(0, 0, 6, 24), bend(0, 8191)]
    assert expression_of(*messages).pitch_semitones.at(0) == 2


def test_ranges_beyond_any_use_are_clamped() -> None:
    assert expression_of(*rpn(0, 0, 127, 127), bend(0, 8191)).pitch_semitones.at(0) == 96
    assert expression_of(*rpn(0, 2, 0)).pitch_semitones.at(0) == -48


def test_master_tuning_is_that_of_all_channels_from_its_time_on() -> None:
    device = [sysex(960, "7F 7F 04 03 00 60"), sysex(1920, "7F 7F 04 04 00 43")]
    song = song_of(device, note(0, 3840, 0, 60), [control(0, 5, 7, 90), *note(2000, 3840, 5, 60)])
    for part in ((0, 0), (0, 5)):
        assert song.expression[part].pitch_semitones == Curve((0.0, 1.0, 2.0), (0.0, 0.5, 3.5))


# --- loudness, vibrato, place ----------------------------------------------------------------------------------------


def test_gain_is_the_square_of_volume_and_of_expression() -> None:
    gain = expression_of(control(960, 0, 7, 50), control(1920, 0, 11, 64), control(2880, 0, 121, 0)).gain
    assert gain.times_s == (0.0, 1.0, 2.0, 3.0)
    assert gain.values == pytest.approx((1.0, 0.25, 0.25 * (64 / 127) ** 2, 0.25))
    assert expression_of(control(0, 0, 7, 127)).gain.at(0) == pytest.approx(1.27**2)


@pytest.mark.parametrize(
    ("dump", "gain"),
    [
        ("7F 7F 04 01 00 00", 0.0),
        ("7F 7F 04 01 7F 7F", 1.0),
        ("7F 7F 04 01 00 40", 0.25),
        ("41 10 42 12 40 00 04 40 7C", (64 / 127) ** 2),
        ("43 10 4C 00 00 04 40", (64 / 127) ** 2),
    ],
)
def test_master_volume(dump: str, gain: float) -> None:
    assert expression_of(sysex(0, dump)).gain.at(1) == pytest.approx(gain, rel=1e-3)


def test_the_modulation_wheel_with_its_depth() -> None:
    assert expression_of(control(0, 0, 1, 127)).modulation.at(0) == 1
    assert expression_of(*rpn(0, 5, 1, 0), control(0, 0, 1, 127)).modulation.at(0) == 2  # a semitone, not 50 cents
    assert expression_of(*rpn(0, 5, 0, 32), control(0, 0, 1, 127)).modulation.at(0) == 0.5
    assert expression_of(control(0, 0, 1, 127), control(960, 0, 121, 0)).modulation.at(1) == 0


def test_pan_runs_from_left_to_right() -> None:
    messages = [control(tick, 0, 10, value) for tick, value in ((0, 0), (960, 1), (1920, 64), (2880, 127))]
    assert expression_of(*messages).pan == Curve((0.0, 2.0, 3.0), (-1.0, 0.0, 1.0))


def test_a_channel_that_asks_for_nothing_is_constant() -> None:
    found = song_of(note(0, 960, 3, 60)).expression[0, 3]
    assert found == ChannelExpression()
    assert found.pitch_semitones.is_constant and found.gain.is_constant


def test_a_system_reset_restores_everything() -> None:
    messages = [control(0, 0, 7, 50), control(0, 0, 10, 0), *rpn(0, 0, 12), bend(0, 8191), sysex(960, "7E 7F 09 01")]
    found = expression_of(*messages, bend(1920, 8191))
    assert found.gain == Curve((0.0, 1.0), (0.25, 1.0))
    assert found.pan == Curve((0.0, 1.0), (-1.0, 0.0))
    assert found.pitch_semitones == Curve((0.0, 1.0, 2.0), (12.0, 0.0, 2.0))


# --- ports, zones, sections ------------------------------------------------------------------------------------------


def test_ports_have_channels_of_their_own() -> None:
    def on_port(port: int, volume: int) -> list[Timed]:
        return [(0, mido.MetaMessage("midi_port", port=port)), control(0, 0, 7, volume), *note(0, 960, 0, 60)]

    song = song_of(on_port(0, 50), on_port(1, 100))
    assert [song.expression[port, 0].gain.at(0) for port in (0, 1)] == [0.25, 1.0]
    assert [found.port for found in song.notes] == [0, 1]


def test_members_of_an_mpe_zone_bend_by_48_semitones_and_share_what_their_manager_gets() -> None:
    zone = [*rpn(0, 6, 3), control(0, 0, 7, 50), bend(0, 8191), bend(0, 4096, channel=1)]
    song = song_of([*zone, *note(0, 960, 1, 60), *note(0, 960, 5, 60)])
    member = song.expression[0, 1]
    assert member.pitch_semitones.at(0) == pytest.approx(48 * 4096 / 8191 + 2)
    assert member.gain.at(0) == 0.25
    assert song.expression[0, 5] == ChannelExpression()  # not of the zone


def test_expression_goes_with_sections_and_tempo() -> None:
    song = song_of([control(960, 0, 7, 50), control(2880, 0, 7, 100), *note(0, 3840, 0, 60)])
    cut, _ = cut_section(song, parse_moment("start", "2"), None, "x.mid")
    assert cut.expression[0, 0].gain == Curve((0.0, 1.0), (0.25, 1.0))
    assert change_tempo(song, 2).expression[0, 0].gain == Curve((0.0, 0.5, 1.5), (1.0, 0.25, 1.0))


def test_a_channels_pressure_is_vibrato_until_controllers_are_reset() -> None:
    pressed = (0, mido.Message("aftertouch", value=127))
    assert expression_of(pressed).modulation.at(0) == 1
    assert expression_of(pressed, control(0, 0, 1, 127)).modulation.at(0) == 2
    assert expression_of(pressed, control(960, 0, 121, 0)).modulation.at(1) == 0


def test_pressure_in_a_zone_of_single_fingers_is_no_vibrato() -> None:
    zone = [control(0, 0, 101, 0), control(0, 0, 100, 6), control(0, 0, 6, 3)]
    pressed = [(0, mido.Message("aftertouch", channel=channel, value=127)) for channel in (0, 2, 5)]
    depths = [expression_of(*zone, *pressed, channel=channel).modulation.at(0) for channel in (0, 2, 5)]
    assert depths == [0, 0, 1]
    assert expression_of(*zone, control(0, 0, 6, 0), *pressed, channel=2).modulation.at(0) == 1  # no zone any more


@pytest.mark.parametrize(
    ("number", "step", "semitones"),
    [(0, 96, 2.01), (0, 97, 1.99), (1, 96, 1 / 8192), (1, 97, -1 / 8192), (2, 96, 1.0), (2, 97, -1.0)],
)
def test_data_is_stepped_up_and_down(number: int, step: int, semitones: float) -> None:
    """RP-018: the fine byte of parameters 0 and 1, the coarse one of 2; the value says nothing."""
    select = [control(0, 0, 101, 0), control(0, 0, 100, number), control(0, 0, step, 99)]
    bends = [bend(0, 8191)] if number == 0 else []
    assert expression_of(*select, *bends).pitch_semitones.at(0) == pytest.approx(semitones)
    nothing = [control(0, 0, 101, 127), control(0, 0, 100, 127), control(0, 0, step, 0)]
    assert expression_of(*nothing, bend(0, 8191)).pitch_semitones.at(0) == 2.0
