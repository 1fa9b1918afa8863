"""How long a render is, counted once for the command line and the synthesizer."""

import pytest

from specdiff_cli.engine.synthesizer import Synthesizer
from specdiff_cli.lengths import count_frames, count_samples, count_windows, hop_s


@pytest.mark.parametrize(
    ("duration_s", "n_windows"),
    [(0.0, 1), (0.001, 1), (5.12, 1), (5.1200625, 2), (5.13, 2), (10.24, 2), (7200.0, 1407)],  # 81 920 samples each
)
def test_windows_are_counted_as_the_synthesizer_counts_them(duration_s: float, n_windows: int) -> None:
    assert count_windows(duration_s) == Synthesizer.count_windows(duration_s) == n_windows


def test_samples_and_frames() -> None:
    assert [count_samples(duration_s) for duration_s in (0.0, 1e-9, 1.0)] == [1, 1, 16_000]
    assert [count_frames(duration_s) for duration_s in (0.0, 0.02, 0.0200625, 1.0)] == [1, 1, 2, 50]


def test_overlapping_windows_begin_a_hop_apart() -> None:
    assert [hop_s(overlap_frames) for overlap_frames in (0, 128)] == [5.12, 2.56]
    assert [count_windows(duration_s, 128) for duration_s in (5.12, 5.14, 7.68, 7.7)] == [1, 2, 2, 3]
