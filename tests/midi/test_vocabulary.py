"""Token ids: the reference system's numbers, written out."""

import pytest

from specdiff_cli.midi.vocabulary import END_ID, PAD_ID, UNKNOWN_ID, Vocabulary


def test_ids_of_the_published_checkpoints() -> None:
    vocabulary = Vocabulary()
    assert (PAD_ID, END_ID, UNKNOWN_ID) == (0, 1, 2)
    assert vocabulary.first_pitch_id == 1004  # 3 special ids, shifts of 0 to 1000 steps
    assert vocabulary.first_velocity_id == 1132
    assert vocabulary.tie_id == 1134
    assert vocabulary.first_program_id == 1135
    assert vocabulary.first_drum_id == 1263
    assert vocabulary.n_ids == 1391  # 1388 event classes; the embedding table has 1536 rows


def test_more_velocity_bins_move_what_follows() -> None:
    vocabulary = Vocabulary(n_velocity_bins=32)
    assert vocabulary.first_velocity_id == 1132
    assert vocabulary.tie_id == 1132 + 33
    assert vocabulary.n_ids == 1391 + 31


@pytest.mark.parametrize(
    ("n_bins", "velocity", "expected"),
    [(1, 0, 0), (1, 1, 1), (1, 127, 1), (4, 0, 0), (4, 1, 1), (4, 31, 1), (4, 32, 2), (4, 127, 4), (127, 64, 64)],
)
def test_velocity_bins_round_up(n_bins: int, velocity: int, expected: int) -> None:
    assert Vocabulary(n_bins).velocity_bin(velocity) == expected


@pytest.mark.parametrize(
    ("token", "name"),
    [
        (0, "padding"),
        (1, "end"),
        (2, "unknown"),
        (3, "shift 0"),
        (1003, "shift 1000"),
        (1004, "pitch 0"),
        (1131, "pitch 127"),
        (1132, "velocity 0"),
        (1133, "velocity 1"),
        (1134, "tie"),
        (1135, "program 0"),
        (1262, "program 127"),
        (1263, "drum 0"),
        (1390, "drum 127"),
    ],
)
def test_names(token: int, name: str) -> None:
    assert Vocabulary().describe(token) == name


@pytest.mark.parametrize("token", [-1, 1391])
def test_other_numbers_have_no_name(token: int) -> None:
    with pytest.raises(ValueError, match=str(token)):
        Vocabulary().describe(token)
