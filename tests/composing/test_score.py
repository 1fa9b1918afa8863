"""Songs on the grid, and ids for their notes."""

import numpy as np
import pytest
from midi_files import midi_bytes, note, program
from songs_for_composing import song_bytes

from specdiff_cli.composing.score import LOWER, MELODY, METRE_NAMES, UPPER, Score, score_of
from specdiff_cli.composing.triples import notes_of, triples_of
from specdiff_cli.composing.unet import UnetConfig
from specdiff_cli.composing.vocabulary import (
    DURATIONS,
    LOWEST_PITCH,
    conditions_of,
    key_of,
    left_classes,
    score_from,
    tokens_of,
)
from specdiff_cli.midi.notes import parse_midi


def read(data: bytes, *, aligns_bars: bool = False) -> Score:
    return score_of(parse_midi(data, "song.mid"), aligns_bars=aligns_bars)


def test_bars_parts_and_steps_of_a_song() -> None:
    score = read(song_bytes(0, n_bars=2))
    # each bar: bass and tune on one, then two chords of three with the tune
    assert score.onset.tolist() == [0] * 2 + [12] * 4 + [24] * 4 + [36] * 2 + [48] * 4 + [60] * 4
    assert score.bar.tolist() == [0] * 10 + [1] * 10
    assert score.position.tolist() == ([0] * 2 + [12] * 4 + [24] * 4) * 2
    assert score.part.tolist() == ([LOWER, MELODY] + [UPPER] * 3 + [MELODY] + [UPPER] * 3 + [MELODY]) * 2
    assert score.duration.tolist()[:3] == [36, 12, 6]
    assert {METRE_NAMES[metre] for metre in score.metre} == {"3/4"}
    assert score.tempo_bpm == pytest.approx(100)


def test_header_resolution_is_heeded() -> None:
    """The original overwrites it without rescaling, and reads a file of 480 ticks at twice the speed."""
    coarse = read(midi_bytes(note(0, 24, 0, 60) + note(24, 48, 0, 62), ticks_per_beat=24))
    assert coarse.onset.tolist() == [0, 12]
    assert coarse.duration.tolist() == [12, 12]


def test_drums_are_left_out_and_one_track_is_split_at_middle_c() -> None:
    score = read(midi_bytes(note(0, 480, 9, 38) + note(0, 480, 0, 59) + note(0, 480, 0, 60)))
    assert score.pitch.tolist() == [59, 60]
    assert score.part.tolist() == [LOWER, UPPER]


def test_bar_lines_move_to_the_long_low_notes_of_a_song_with_an_upbeat() -> None:
    bass = [item for bar in range(6) for item in note(480 + bar * 1920, 480 + bar * 1920 + 1800, 0, 40)]
    tune = note(0, 480, 1, 72) + [program(0, 1, 73)]
    song = midi_bytes(bass, tune)
    assert read(song).position.tolist() == [0] + [12] * 6
    assert read(song, aligns_bars=True).position.tolist() == [36] + [0] * 6
    assert read(song, aligns_bars=True).bar.tolist() == [0, 1, 2, 3, 4, 5, 6]


def test_ids_stand_for_the_notes_they_were_made_from() -> None:
    score = read(song_bytes(1))
    back = score_from(tokens_of(score).fields, int(score.metre[0]), score.tempo_bpm)
    for name in ("onset", "bar", "position", "part", "pitch", "duration"):
        assert getattr(back, name).tolist() == getattr(score, name).tolist(), name
    assert np.abs(back.velocity - score.velocity).max() <= 7


def test_times_of_an_excerpt_begin_with_its_first_bar() -> None:
    score = read(song_bytes(1)).part_of(slice(12, 40))
    tokens = tokens_of(score)
    assert tokens.times[0] == score.position[0]
    assert np.diff(tokens.times).tolist() == np.diff(score.onset).tolist()


def test_a_note_before_the_one_before_it_lies_in_the_next_bar() -> None:
    fields = np.array([[24, 0, 10, 5, 4], [6, 0, 10, 5, 4]])  # both "in the same bar", at steps 24 and 6
    assert score_from(fields, METRE_NAMES.index("4/4"), 90.0).onset.tolist() == [24, 54]


def test_lengths_go_to_the_nearest_by_ratio() -> None:
    song = midi_bytes(note(0, 17 * 40, 0, 60) + note(9600, 9600 + 1000 * 40, 0, 62))
    assert DURATIONS[tokens_of(read(song)).fields[:, 3]].tolist() == [18, 192]


def test_pitches_off_the_keyboard_keep_their_pitch_class() -> None:
    ids = tokens_of(read(midi_bytes(note(0, 480, 0, 3) + note(480, 960, 0, 127)))).fields[:, 2] + LOWEST_PITCH
    assert ids.tolist() == [27, 103]


@pytest.mark.parametrize(
    ("pitches", "key"),
    [([60, 64, 67, 72, 65, 69, 71, 60], 0), ([62, 66, 69, 74, 67, 71, 73, 62], 2), ([57, 60, 64, 69, 62, 68, 57], 21)],
)
def test_key_of_plain_music(pitches: list[int], key: int) -> None:
    song = midi_bytes([item for i, p in enumerate(pitches) for item in note(i * 480, i * 480 + 480, 0, p)])
    assert key_of(read(song)) == key


def test_conditions_of_a_song() -> None:
    metre, _, tempo, density = conditions_of(read(song_bytes(0)))
    assert METRE_NAMES[metre] == "3/4"
    assert tempo == 4  # 95 to 110
    assert density == 4  # 2.75 to 3.5 notes a beat


def test_classes_of_what_is_left_grow_with_it() -> None:
    classes = left_classes(np.arange(200))
    assert classes[0] == 0
    assert (np.diff(classes) >= 0).all()
    assert classes[96] == classes[199] == classes.max()


@pytest.mark.parametrize("scale", ["linear", "logarithmic"])
def test_triples_give_the_pitches_back(scale: str) -> None:
    score = read(song_bytes(2))
    config = UnetConfig(pitch=scale)  # type: ignore[arg-type]
    pitches, durations, deltas = notes_of(triples_of(score, config), config)
    assert pitches.tolist() == score.pitch.tolist()
    assert durations == pytest.approx(np.minimum(score.duration / 12, 4))
    assert np.cumsum(deltas) == pytest.approx((score.onset - score.onset[0]) / 12)
