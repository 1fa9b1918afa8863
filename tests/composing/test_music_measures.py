"""Numbers about music, against values worked out by hand."""

from pathlib import Path

import numpy as np
import pytest
from songs_for_composing import piece, write_songs

from specdiff_cli.composing import comparison, measures
from specdiff_cli.composing.judgement import judge
from specdiff_cli.composing.pieces import Piece, excerpts, read_collection
from specdiff_cli.errors import MidiError, UsageError

C_MAJOR = [60, 62, 64, 65, 67, 69, 71]


def test_entropy_of_pitch_classes() -> None:
    assert measures.entropy_bits(measures.pitch_class_counts(piece(list(range(60, 72))))) == pytest.approx(np.log2(12))
    assert measures.entropy_bits(measures.pitch_class_counts(piece([60, 72, 48]))) == 0
    assert measures.entropy_bits(measures.pitch_class_counts(piece([60, 60, 60, 67]))) == pytest.approx(
        0.8113, abs=1e-4
    )


def test_scale_consistency_is_the_share_in_the_best_scale() -> None:
    assert measures.scale_consistency(piece(C_MAJOR)) == 1
    assert measures.scale_consistency(piece([pitch + 3 for pitch in C_MAJOR])) == 1
    assert measures.scale_consistency(piece([60, 62, 63, 65, 67, 68, 70])) == 1  # C minor, natural
    assert measures.scale_consistency(piece(list(range(60, 72)))) == pytest.approx(7 / 12)


def test_onsets_on_the_grid() -> None:
    assert measures.on_grid_share(piece([60] * 4, [0.5, 0.75, 1 + 1 / 6, 2.0])) == 1
    assert measures.on_grid_share(piece([60] * 4, [0.0, 0.51, 1.03, 2.0])) == 0.5


def test_groove_is_how_alike_neighbouring_bars_are() -> None:
    assert measures.groove_consistency(piece([60] * 8, [0, 1, 2, 3, 4, 5, 6, 7])) == 1
    # a bar of four quarters, then one with the first alone: three of its 48 places differ
    assert measures.groove_consistency(piece([60] * 5, [0, 1, 2, 3, 4])) == pytest.approx(1 - 3 / 48)


def test_polyphony_counts_what_sounds_where_anything_does() -> None:
    assert measures.polyphony(piece([60, 64, 67], [0, 0, 0])) == pytest.approx(3)
    assert measures.polyphony(piece([60, 64], [0, 1], [2, 1])) == pytest.approx(1.5)
    assert measures.polyphony(piece([60, 64], [0, 5], [1, 1])) == pytest.approx(1)


def test_bars_that_repeat_a_rhythm() -> None:
    assert measures.repeated_bar_share(piece([60] * 8)) == 0.5
    assert measures.repeated_bar_share(piece([60] * 3, [0, 4, 8])) == pytest.approx(2 / 3)


def test_nine_features_of_a_piece() -> None:
    found = dict(zip(measures.FEATURES, measures.features(piece([60, 64, 67, 72])), strict=True))
    assert found["pitch count"] == 4
    assert found["pitch range"] == 12
    assert found["mean interval"] == pytest.approx((4 + 3 + 5) / 3)
    assert found["mean inter-onset interval"] == 1
    assert found["notes per bar"] == 4
    assert found["pitch-class histogram"][[0, 4, 7]].tolist() == [0.5, 0.25, 0.25]
    assert found["pitch-class transitions"].reshape(12, 12)[0, 4] == pytest.approx(1 / 3)
    assert all(np.sum(found[name]) == pytest.approx(1) for name in measures.FEATURES if "histogram" in name)


def test_excerpts_are_counted_from_their_own_bar() -> None:
    long = piece([60] * 10, [0, 1, 2, 3, 4.5, 5, 6, 7, 8, 9])
    first, second = excerpts(long, 4)
    assert first.onset_beats.tolist() == [0, 1, 2, 3]
    assert second.onset_beats.tolist() == [0.5, 1, 2, 3]


def random_pieces(n: int, low: int, high: int, seed: int) -> list[Piece]:
    rng = np.random.default_rng(seed)
    return [piece(rng.integers(low, high, 32).tolist()) for _ in range(n)]


def test_overlap_of_a_set_with_its_like_is_near_one_and_with_another_near_none() -> None:
    real, alike, other = (random_pieces(60, *limits) for limits in ((50, 70, 0), (50, 70, 1), (50, 90, 2)))
    tables = [comparison.feature_table(pieces)[3] for pieces in (real, alike, other)]
    overlap, divergence = comparison.overlap_and_divergence(tables[0], tables[1])
    assert overlap > 0.9
    assert divergence < 0.05
    overlap, divergence = comparison.overlap_and_divergence(tables[0], tables[2])
    assert overlap < 0.2
    assert divergence > 1


def test_density_is_a_kernel_estimate() -> None:
    values = np.random.default_rng(0).normal(5, 1, 400)
    shares = comparison.density(values, 10.0)
    centres = (np.arange(1024) + 0.5) * 10 / 1024
    width = values.std() * 400**-0.2
    plain = np.exp(-0.5 * ((centres[:, None] - values) / width) ** 2).sum(axis=1)
    assert shares.sum() == pytest.approx(1)
    assert np.abs(shares - plain / plain.sum()).max() < 1e-4


def test_frechet_distance_of_equal_sets_is_none_and_of_shifted_ones_the_shift() -> None:
    rows = np.random.default_rng(0).normal(size=(500, 6))
    assert comparison.frechet_distance([rows], [rows]) == pytest.approx(0, abs=1e-6)
    moved = rows + 2 * rows.std(axis=0)
    assert comparison.frechet_distance([rows], [moved]) == pytest.approx(6 * 4, rel=1e-3)


def test_longest_passage_is_found_transposed_and_no_longer_than_it_is() -> None:
    rng = np.random.default_rng(0)
    song = piece(rng.integers(40, 80, 200).tolist(), None, rng.integers(1, 20, 200).tolist())
    copied = slice(50, 71)  # 21 notes: 20 intervals, each with the length of its first note
    pitches = np.concatenate([rng.integers(40, 80, 30), song.pitch[copied] + 3, rng.integers(40, 80, 30)])
    lengths = np.concatenate([rng.integers(1, 20, 30), song.duration_beats[copied], rng.integers(1, 20, 30)])
    ours = piece(pitches.tolist(), None, lengths.tolist())
    assert comparison.longest_shared([ours], [song]).tolist() == [20]
    assert comparison.longest_shared([song], [song]).tolist() == [comparison.MOST_SHARED_NOTES]
    assert comparison.longest_shared([piece([1, 2])], [piece([60, 90, 20])]).tolist() == [0]


def test_random_notes_are_told_from_music(tmp_path: Path) -> None:
    songs = read_collection(write_songs(tmp_path, 6), 32).pieces
    rng = np.random.default_rng(0)
    noise = [Piece(np.cumsum(rng.random(32)), rng.random(32), rng.integers(40, 80, 32)) for _ in range(12)]
    found = judge(noise, songs, songs)
    assert found.n_features_alike <= 2
    assert found.generated.scale_consistency < 0.8 < found.real.scale_consistency
    assert found.novelty is not None
    assert found.novelty.largest_notes < 4
    assert judge(songs, songs).n_features_alike == 9
    assert judge(songs, songs, songs).novelty.share_up_to_16 < 1  # type: ignore[union-attr]


def test_folders_without_enough_music(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no MIDI files"):
        read_collection(tmp_path, 128)
    with pytest.raises(UsageError, match="no such folder"):
        read_collection(tmp_path / "none", 128)
    write_songs(tmp_path, 1, n_bars=2)
    (tmp_path / "broken.mid").write_bytes(b"MThd")
    with pytest.raises(MidiError, match="none of its MIDI files has 128 notes"):
        read_collection(tmp_path, 128)
    found = read_collection(tmp_path, 8)
    assert (len(found.pieces), found.n_files, found.n_unreadable) == (2, 2, 1)
