"""What holds for the windows of any notes, those that overlap included."""

import inspect
import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from windows_of_tokens import END, TIE, drum, pitch, tone

from specdiff_cli.midi.notes import Note
from specdiff_cli.midi.vocabulary import Vocabulary
from specdiff_cli.midi.windows import (
    EventTable,
    TokenWindow,
    WindowWriter,
    count_padded_frames,
    count_padded_windows,
    tokenize,
)

NOTES = st.lists(
    st.builds(
        lambda start, length, number, program, is_drum: Note(
            start / 128, (start + length) / 128, number, 64, program, is_drum
        ),
        st.integers(0, 2500),
        st.integers(1, 900),
        st.integers(58, 62),
        st.sampled_from([0, 1, 4, 40, 127]),
        st.booleans(),
    ),
    max_size=25,
)
Event = tuple[int, int, int, bool, int]  # program, pitch, velocity bin, is_drum, step


def decode(window: TokenWindow) -> tuple[list[tuple[int, int]], list[Event]]:
    """Ties and events of a window, read back from its tokens by the vocabulary's order alone."""
    ties: list[tuple[int, int]] = []
    events: list[Event] = []
    program = velocity = step = -1
    moment = 0
    *tokens, end = window.tokens.tolist()
    assert end == END
    is_prefix = True
    for token in tokens:
        if token == TIE:
            assert is_prefix
            is_prefix = False
        elif token <= 1003:
            moment += token - 3
            assert moment > 0
            continue
        elif token < 1132:
            if is_prefix:
                ties.append((program, token - 1004))
            else:
                step = moment or max(step, 0)
                events.append((program, token - 1004, velocity, False, step + window.index * 512))
        elif token < 1134:
            assert token - 1132 != velocity, "a repeated velocity"
            velocity = token - 1132
        elif token < 1263:
            assert token - 1135 != program, "a repeated program"
            program = token - 1135
        else:
            step = moment or max(step, 0)
            events.append((0, token - 1263, velocity, True, step + window.index * 512))
        if moment:
            step = moment
            moment = 0
    assert not is_prefix
    return ties, events


@given(NOTES)
def test_the_windows_together_hold_every_event_once(notes: list[Note]) -> None:
    table = EventTable.from_notes(notes, Vocabulary())
    expected = [
        (0 if is_drum else program, pitch, velocity, is_drum, step)
        for program, pitch, velocity, is_drum, step in table.rows(0, table.count)
    ]
    assert table.count == sum(1 if note.is_drum else 2 for note in notes)
    found = []
    sounding: set[tuple[int, int]] = set()
    for window in tokenize(notes):
        ties, events = decode(window)
        assert ties == sorted(sounding)
        assert all(window.index * 512 <= event[4] for event in events)
        found += events
        for program_, pitch_, velocity, is_drum, _ in events:
            if not is_drum:
                (sounding.add if velocity else sounding.discard)((program_, pitch_))
    assert found == expected


@given(NOTES)
def test_work_is_one_visit_per_event(notes: list[Note]) -> None:
    # Counted, not timed: a busy machine cannot make this fail, a quadratic loop would.
    visits = itertools.count()
    original = WindowWriter.add_event
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WindowWriter, "add_event", lambda self, *event: (next(visits), original(self, *event)))
        list(tokenize(notes))
    assert next(visits) == sum(1 if note.is_drum else 2 for note in notes)


def test_windows_are_made_as_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    original = WindowWriter.add_tie

    def add_tie(self: WindowWriter) -> None:
        made.append(1)
        original(self)

    monkeypatch.setattr(WindowWriter, "add_tie", add_tie)
    windows = tokenize([tone(0, 600)])
    assert (next(windows).index, next(windows).index) == (0, 1)
    assert len(made) == 2
    assert inspect.isgenerator(windows)


def test_carried_notes_do_not_pile_up() -> None:
    notes = [tone(0.5 * index, 0.5 * index + 0.4, 60 + index % 12) for index in range(2000)]
    assert max(len(window.layout) for window in tokenize(notes)) < 20


# --- windows that overlap --------------------------------------------------------------------------------------------


@given(NOTES, st.sampled_from([1, 64, 100, 192, 255, 256]))
def test_an_overlapping_window_is_what_its_own_span_says(notes: list[Note], hop_frames: int) -> None:
    table = EventTable.from_notes(notes, Vocabulary())
    rows = list(table.rows(0, table.count))
    total_s = max((note.end_s for note in notes), default=0.0)
    windows = list(tokenize(notes, hop_frames=hop_frames))
    assert len(windows) == count_padded_windows(total_s, hop_frames)
    assert sum(window.n_frames == 256 for window in windows) >= len(windows) - 1
    covered = windows[-1].index * hop_frames + windows[-1].n_frames
    assert covered == count_padded_frames(total_s)
    for window in windows:
        assert window.start_s == pytest.approx(window.index * hop_frames / 50)
        first_step = window.index * hop_frames * 2  # 10 ms steps, frames of 20 ms
        sounding: set[tuple[int, int]] = set()
        for program_, pitch_, velocity, is_drum, step in rows:
            if step < first_step and not is_drum:
                (sounding.add if velocity else sounding.discard)((program_, pitch_))
        ties, events = decode(window)
        assert ties == sorted(sounding)
        is_last = window is windows[-1]
        expected = [
            (0 if is_drum else program_, pitch_, velocity, is_drum, step - first_step + window.index * 512)
            for program_, pitch_, velocity, is_drum, step in rows
            if first_step <= step and (is_last or step < first_step + 512)
        ]
        assert events == expected


@given(NOTES)
def test_windows_that_start_together_are_the_same_whatever_the_hop(notes: list[Note]) -> None:
    plain = list(tokenize(notes))
    halves = list(tokenize(notes, hop_frames=128))
    for one, other in zip(plain[:-1], halves[::2], strict=False):
        assert one.tokens.tolist() == other.tokens.tolist()
        assert np.array_equal(one.layout, other.layout)
        assert one.n_frames == other.n_frames == 256
        assert one.start_s == other.start_s


@given(NOTES, st.sampled_from([32, 200]))
def test_overlapping_layouts_hold_what_sounds_or_releases(notes: list[Note], hop_frames: int) -> None:
    # A millisecond later than drawn: then no time falls exactly on the edge of a frame.
    notes = [replace(note, start_s=note.start_s + 0.001, end_s=note.end_s + 0.001) for note in notes]
    for window in tokenize(notes, hop_frames=hop_frames):
        start_s = window.index * hop_frames / 50
        expected = sorted(
            (note.start_s - start_s, note.pitch)
            for note in notes
            if note.start_s < start_s + 5.14 and (note.start_s + 3.0 if note.is_drum else note.end_s) > start_s - 1.0
        )
        found = sorted((row[3], row[0] - (drum(0) if row[1] == 0 else pitch(0))) for row in window.layout)
        assert [item[1] for item in found] == [item[1] for item in expected]
        assert [item[0] for item in found] == pytest.approx([item[0] for item in expected])


@pytest.mark.parametrize("hop_frames", [0, -1, 257])
def test_hops_that_leave_gaps_or_stand_still_are_refused(hop_frames: int) -> None:
    with pytest.raises(ValueError, match="hop"):
        next(tokenize([tone(0, 1)], hop_frames=hop_frames))
