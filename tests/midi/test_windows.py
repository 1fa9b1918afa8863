"""Notes to windows of tokens: the rules one by one, and windows that are too full."""

import numpy as np
import pytest
from midi_files import control, midi_bytes, note
from windows_of_tokens import END, OFF, ON, TIE, drum, ids, pitch, prog, shift, tone

from specdiff_cli.constants import MAX_TOKENS, WINDOW_S
from specdiff_cli.midi import windows as windows_module
from specdiff_cli.midi.notes import Note, parse_midi
from specdiff_cli.midi.vocabulary import Vocabulary
from specdiff_cli.midi.windows import (
    WindowWriter,
    count_padded_frames,
    count_padded_windows,
    empty_windows,
    tokenize,
)


def hit(start_s: float, number: int = 36, end_s: float | None = None) -> Note:
    return Note(start_s, start_s + 0.1 if end_s is None else end_s, number, 64, 0, is_drum=True, channel=9)


# --- rules -----------------------------------------------------------------------------------------------------------


def test_one_note() -> None:
    assert ids([tone(0.5, 1.0)]) == [[TIE, shift(50), prog(0), ON, pitch(60), shift(100), OFF, pitch(60), END]]


def test_an_event_at_the_start_of_a_window_has_no_shift() -> None:
    assert ids([tone(0.0, 1.0)])[0][:4] == [TIE, prog(0), ON, pitch(60)]


def test_shifts_are_absolute_and_come_once_per_moment() -> None:
    assert ids([tone(0.1, 0.3, 60), tone(0.1, 0.3, 64), tone(0.2, 0.3, 67)]) == [
        [
            *(TIE, shift(10), prog(0), ON, pitch(60), pitch(64), shift(20), pitch(67)),
            *(shift(30), OFF, pitch(60), pitch(64), pitch(67), END),
        ]
    ]


def test_programs_fold_onto_the_classes_before_sorting() -> None:
    # Programs 5 and 6 both play as 4, so pitch alone sorts them.
    assert ids([tone(0, 1, 62, program=5), tone(0, 1, 60, program=6)]) == [
        [TIE, prog(4), ON, pitch(60), pitch(62), shift(100), OFF, pitch(60), pitch(62), END]
    ]


def test_at_one_moment_ends_come_before_starts_then_program_then_pitch_then_drums() -> None:
    notes = [hit(1.0, 40), tone(1.0, 2.0, 50, 73), tone(1.0, 2.0, 70), tone(1.0, 2.0, 60), tone(0, 1.0, 80, 73)]
    tokens = ids(notes)[0]
    assert tokens[tokens.index(shift(100)) :] == [
        *(shift(100), OFF, pitch(80)),  # the program is still in force
        *(prog(0), ON, pitch(60), pitch(70), prog(73), pitch(50), drum(40)),
        *(shift(200), prog(0), OFF, pitch(60), pitch(70), prog(73), pitch(50), END),
    ]


def test_events_within_a_step_keep_the_order_of_their_exact_times() -> None:
    assert ids([tone(0.102, 1.0, 60), tone(0.101, 1.0, 64)])[0][:6] == [
        *(TIE, shift(10), prog(0), ON, pitch(64), pitch(60))
    ]


@pytest.mark.parametrize(
    ("time_s", "step"), [(0.125, 12), (0.375, 38), (0.015, 2), (0.025, 2), (0.0249, 2), (0.0251, 3)]
)
def test_half_steps_round_to_even(time_s: float, step: int) -> None:
    assert ids([hit(time_s)])[0][1] == shift(step)


def test_drums_have_no_end_and_leave_the_program_alone() -> None:
    assert ids([tone(0.0, 0.3, 60, 24), hit(0.1, 38), tone(0.2, 0.3, 62, 24)]) == [
        [
            *(TIE, prog(24), ON, pitch(60), shift(10), drum(38), shift(20), pitch(62)),
            *(shift(30), OFF, pitch(60), pitch(62), END),
        ]
    ]


def test_notes_sounding_at_a_window_start_are_tied_in_order_of_program_and_pitch() -> None:
    notes = [tone(1, 6, 50, 40), tone(1, 6, 70, 0), tone(1, 6, 60, 0), tone(1, 5, 90, 0)]
    assert ids(notes)[1] == [
        *(prog(0), pitch(60), pitch(70), prog(40), pitch(50), TIE),
        *(shift(88), prog(0), OFF, pitch(60), pitch(70), prog(40), pitch(50), END),
    ]


def test_the_prefix_counts_for_repeated_programs() -> None:
    assert ids([tone(1, 6, 60, 40)])[1] == [prog(40), pitch(60), TIE, shift(88), OFF, pitch(60), END]


def test_every_window_has_a_tie_even_an_empty_one() -> None:
    assert ids([hit(0.0), hit(11.0)]) == [[TIE, ON, drum(36), END], [TIE, END], [TIE, shift(76), ON, drum(36), END]]


def test_program_and_velocity_start_afresh_in_each_window() -> None:
    assert ids([tone(0, 1), tone(6, 7)])[1] == [TIE, shift(88), prog(0), ON, pitch(60), shift(188), OFF, pitch(60), END]


def test_an_event_on_the_border_belongs_to_the_later_window() -> None:
    assert ids([tone(1, 5.12), tone(5.12, 6, 62)])[1][:7] == [prog(0), pitch(60), TIE, OFF, pitch(60), ON, pitch(62)]


def test_an_event_that_rounds_to_the_border_belongs_to_the_later_window() -> None:
    first, second = ids([tone(1, 5.1151), tone(5.3, 6)])
    assert first == [TIE, shift(100), prog(0), ON, pitch(60), END]
    assert second[:5] == [prog(0), pitch(60), TIE, OFF, pitch(60)]
    assert ids([tone(1, 5.1149), tone(5.3, 6)])[1][0] == TIE


def test_one_end_of_two_overlapping_notes_of_a_pitch_ends_the_tie() -> None:
    # What sounds is known per program and pitch, as in the reference system.
    assert ids([tone(1, 8), tone(2, 4)])[1][0] == TIE


def test_notes_that_ended_are_not_tied_where_only_a_drum_rings_on() -> None:
    # The Diffusers port repeats here what sounded before the last events; nothing does any more.
    assert ids([tone(4.0, 5.0), hit(4.5, 49, end_s=6.0)])[1] == [TIE, END]


def test_drums_after_the_last_held_note_have_windows_of_their_own() -> None:
    # The Diffusers port forgets the drums' length when the pedal is still down at the end of the file.
    data = midi_bytes([control(0, 0, 64, 127), *note(0, 480, 0, 60)], note(11 * 960, 11 * 960 + 9, 9, 36))
    assert len(ids(parse_midi(data, "x.mid").notes)) == 3


@pytest.mark.parametrize(
    ("total_s", "n_frames"), [(0.0, 1), (0.01, 1), (0.0199, 1), (0.02, 2), (5.1, 256), (5.1199, 256), (5.12, 257)]
)
def test_frames_cover_the_samples_and_always_some_more(total_s: float, n_frames: int) -> None:
    assert count_padded_frames(total_s) == n_frames
    assert count_padded_windows(total_s) == (n_frames + 255) // 256


def test_the_last_window_is_shorter() -> None:
    windows = list(tokenize([tone(0, 11)]))
    assert [(window.index, window.n_frames) for window in windows] == [(0, 256), (1, 256), (2, 39)]
    assert [window.start_s for window in windows] == [0.0, 5.12, 10.24]


def test_a_longer_total_adds_windows() -> None:
    assert ids([tone(0, 1)], total_s=11.0)[1:] == [[TIE, END], [TIE, END]]
    assert ids([], total_s=0.0) == [[TIE, END]]


def test_shifts_over_1000_are_split() -> None:
    writer = WindowWriter(Vocabulary(), MAX_TOKENS)
    writer.add_tie()
    for step in (1000, 1001, 2000, 2345):
        writer.add_event(0, 60, 1, False, step)
    assert writer.tokens == [
        *(TIE, 1003, prog(0), ON, pitch(60)),
        *(1003, shift(1), pitch(60)),
        *(1003, 1003, pitch(60)),
        *(1003, 1003, shift(345), pitch(60)),
    ]


def test_velocity_bins() -> None:
    soft_and_loud = [Note(0, 1, 60, 1, 0, False), Note(0, 1, 62, 127, 0, False)]
    (window,) = tokenize(soft_and_loud, Vocabulary(n_velocity_bins=32))
    tie = 1132 + 33
    assert window.tokens.tolist() == [
        *(tie, tie + 1, 1133, pitch(60), 1164, pitch(62), shift(100), 1132, pitch(60), pitch(62), END)
    ]


def test_layout_holds_what_sounds_or_releases_in_the_window() -> None:
    notes = [tone(0.5, 4.0, 60), tone(1.0, 4.5, 61, 40), tone(5.13, 6.0, 62), tone(5.2, 5.3, 63), hit(5.0)]
    first, second = tokenize(notes)
    # A frame of analysis reaches one hop (20 ms) further than its window.
    assert first.layout[:, 0].tolist() == [pitch(60), pitch(61), drum(36), pitch(62)]
    # What ended more than a second before the window has faded.
    assert second.layout[:, 0].tolist() == [pitch(61), drum(36), pitch(62), pitch(63)]
    assert second.layout[:, 1].tolist() == [prog(40), 0, prog(0), prog(0)]
    assert second.layout[0, 3:].tolist() == pytest.approx([1.0 - 5.12, 4.5 - 5.12])


def test_a_drum_rings_as_long_whatever_its_note_off_says() -> None:
    for written_s in (0.01, 0.5, 20.0):
        (window,) = tokenize([Note(0.5, 0.5 + written_s, 49, 100, 0, True)], total_s=5.0)
        assert window.layout[0, 3:].tolist() == pytest.approx([0.5, 3.5])


# --- windows that are too full ---------------------------------------------------------------------------------------


def test_earliest_events_are_kept_whole_and_the_rest_counted() -> None:
    notes = [hit(0.1 * index, 35 + index) for index in range(10)]  # shift and drum for each, velocity once
    (window,) = tokenize(notes, max_tokens=9)
    assert window.tokens.tolist() == [TIE, ON, drum(35), shift(10), drum(36), shift(20), drum(37), END]
    assert window.n_dropped_events == 7  # one token was free, but an event needs both of its


def test_nothing_later_slips_in_after_the_first_that_did_not_fit() -> None:
    notes = [hit(0.0, 36), tone(0.001, 1.0), hit(0.002, 38)]  # one step; the second drum alone would fit
    (window,) = tokenize(notes, max_tokens=5)
    assert window.tokens.tolist() == [TIE, ON, drum(36), END]
    assert window.n_dropped_events == 3


def test_more_ties_than_room() -> None:
    notes = [tone(1, 6, number) for number in range(50, 60)]
    _, window = tokenize(notes, max_tokens=8)
    assert window.tokens.tolist() == [prog(0), pitch(50), pitch(51), pitch(52), pitch(53), pitch(54), TIE, END]
    assert window.n_dropped_events == 5 + 10


def test_what_was_dropped_is_still_tied_in_the_next_window() -> None:
    notes = [*(tone(0.1 * index, 1.0, 40 + index) for index in range(5)), tone(2.0, 6.0, 80)]
    first, second = ids(notes, max_tokens=10)
    assert pitch(80) not in first
    assert second[:3] == [prog(0), pitch(80), TIE]


def test_a_storm_fills_the_window_and_no_more() -> None:
    notes = [tone(0.001 * index, 0.001 * index + 0.0005, index % 128) for index in range(5000)]
    window = next(tokenize(notes))
    assert len(window.tokens) <= MAX_TOKENS == 2048
    assert len(window.tokens) > MAX_TOKENS - 4
    assert window.tokens[-1] == END
    assert window.n_dropped_events > 5000


def test_window_geometry_is_whole() -> None:
    assert windows_module.WINDOW_STEPS == 512
    assert np.isclose(WINDOW_S, 5.12)


def test_a_key_pressed_again_before_its_release_sounds_on() -> None:
    # as sequencers write legato: each note-off 10 ms behind the next note-on of its pitch
    track = [item for step in range(4) for item in note(480 * step, 480 * step + 490, 0, 60)]
    notes = parse_midi(midi_bytes(track), "x.mid").notes
    vocabulary = Vocabulary()
    names = [vocabulary.describe(token) for token in next(tokenize(notes, joins_keys=True)).tokens.tolist()]
    assert names.count("velocity 0") == 1  # one silence, at the end
    assert names.count("pitch 60") == 5
    assert names.index("velocity 0") > max(index for index, name in enumerate(names) if name == "velocity 1")


@pytest.mark.parametrize("total_s", [0.0, 1.0, WINDOW_S, 12.3])
def test_windows_without_tokens_lie_where_those_with_them_do(total_s: float) -> None:
    expected = list(tokenize([], total_s=total_s))
    found = list(empty_windows(total_s))
    places = [[(w.index, w.n_frames, w.start_s, w.hop_frames, w.layout.shape) for w in ws] for ws in (found, expected)]
    assert places[0] == places[1]
    assert not any(len(window.tokens) or window.n_dropped_events for window in found)
