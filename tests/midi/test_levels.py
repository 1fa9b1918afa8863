"""Channel volume and expression as factors on velocities."""

import mido
import pytest

from specdiff_cli.midi.adapt import fit_to_voice
from specdiff_cli.midi.levels import ChannelLevels
from specdiff_cli.midi.notes import Note


def control(time: int, number: int, value: int, channel: int = 0) -> mido.Message:
    return mido.Message("control_change", time=time, control=number, value=value, channel=channel)


def levels(*tracks: list[mido.Message]) -> ChannelLevels:
    return ChannelLevels.from_midi(mido.MidiFile(type=1, tracks=[mido.MidiTrack(track) for track in tracks]))


def test_a_file_that_says_nothing_changes_nothing() -> None:
    assert levels([]).of_note(0, 0, 100) == 1.0
    assert levels([control(0, 7, 30, channel=1)]).of_note(0, 0, 100) == 1.0


def test_volume_and_expression_multiply_from_general_midis_defaults() -> None:
    assert levels([control(0, 7, 50)]).of_note(0, 0, 10) == 0.5  # half of 100
    assert levels([control(0, 7, 127)]).of_note(0, 0, 10) == pytest.approx(1.27)
    assert levels([control(0, 7, 50), control(0, 11, 64)]).of_note(0, 0, 10) == pytest.approx(0.5 * 64 / 127)


def test_a_level_holds_from_its_tick_on_whatever_track_sets_it() -> None:
    found = levels([control(100, 7, 50)], [control(200, 7, 100)])
    assert [found.of_note(0, tick, tick + 1) for tick in (99, 100, 199, 200)] == [1.0, 0.5, 0.5, 1.0]


def test_reset_all_controllers_restores_expression_not_volume() -> None:
    found = levels([control(0, 7, 50), control(0, 11, 0), control(10, 121, 0)])
    assert found.of_note(0, 0, 2) == 0.0
    assert found.of_note(0, 10, 20) == 0.5


def test_a_swell_from_silence_is_heard() -> None:
    swell = levels([control(0, 11, 0), control(50, 11, 127)])
    assert swell.of_note(0, 0, 120) == 1.0


def test_pan_runs_from_left_to_right_and_is_central_before_it_is_set() -> None:
    found = levels([control(10, 10, 0), control(10, 10, 1), control(10, 10, 64), control(10, 10, 127)])
    assert [found.pan(0, tick) for tick in (0, 10, 20, 30, 40)] == [0.0, -1.0, -1.0, 0.0, 1.0]
    assert levels([control(0, 10, 95)]).pan(0, 0) == pytest.approx(31 / 63)
    assert levels([control(0, 10, 95)]).pan(1, 0) == 0.0


def test_pan_holds_across_tracks_and_resets() -> None:
    found = levels([control(100, 10, 127)], [control(200, 121, 0), control(0, 7, 50)])
    assert [found.pan(0, tick) for tick in (99, 100, 300)] == [0.0, 1.0, 1.0]


def test_voices_that_know_loud_from_soft_play_the_level() -> None:
    notes = [
        Note(0, 1, 60, 80, 0, False, level=0.5),
        Note(0, 1, 61, 120, 0, True, level=1.27),
        Note(0, 1, 62, 9, 0, False, level=0),
    ]
    played, _ = fit_to_voice(notes, None, plays_drums=True, follows_velocity=True)
    assert [note.velocity for note in played] == [40, 127, 1]
    assert fit_to_voice(notes, None, plays_drums=True)[0] == notes
    assert [note.velocity for note in notes] == [80, 120, 9]  # the song keeps its own
