"""Sums of stems, and where they stand between two loudspeakers."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specdiff_cli.audio.stereo import MelMixer, StemMixer, pan_gains

STEMS = np.random.default_rng(0).normal(0, 0.3, (4, 150_001)).astype(np.float32)


def test_the_centre_is_as_loud_as_mono_and_power_is_constant() -> None:
    assert pan_gains(0.0) == (1.0, 1.0)
    left, right = pan_gains(-1.0)
    assert left == pytest.approx(math.sqrt(2))
    assert right == 0.0
    left, right = pan_gains(1.0)
    assert left == pytest.approx(0.0, abs=1e-12)
    assert right == pytest.approx(math.sqrt(2))
    last = 0.0
    for pan in np.linspace(-1, 1, 41):
        left, right = pan_gains(float(pan))
        assert left**2 + right**2 == pytest.approx(2)
        assert (left, right) == pytest.approx(pan_gains(-float(pan))[::-1])
        assert right >= last
        last = right


@pytest.mark.parametrize("pan", [-1.01, 64.0, math.nan])
def test_other_pans_are_a_mistake(pan: float) -> None:
    with pytest.raises(ValueError, match="between -1 and 1"):
        pan_gains(pan)


def mixed(mixer: StemMixer, stems: np.ndarray, order: list[tuple[int, int]]) -> np.ndarray:
    """Push ``(stem, length)`` after ``(stem, length)``, and then what is left of each."""
    at = [0] * len(stems)
    pieces = []
    for index, length in [*order, *((index, stems.shape[1]) for index in range(len(stems)))]:
        pieces.append(mixer.push(index, stems[index, at[index] : at[index] + length]))
        at[index] = min(at[index] + length, stems.shape[1])
    mixer.finish()
    return np.concatenate(pieces)


@settings(max_examples=10, deadline=None)
@given(
    order=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 60_000)), max_size=12),
    pans=st.none() | st.just([-1.0, 0.0, 0.3, 1.0]),
)
def test_order_and_chunks_change_nothing(order: list[tuple[int, int]], pans: list[float] | None) -> None:
    made = mixed(StemMixer(4, pans), STEMS, order)
    np.testing.assert_array_equal(made, mixed(StemMixer(4, pans), STEMS, []))
    assert made.dtype == np.float32
    if pans is None:
        np.testing.assert_allclose(made, STEMS.astype(np.float64).sum(axis=0), atol=2e-7)
    else:
        gains = np.array([pan_gains(pan) for pan in pans])
        np.testing.assert_allclose(made, STEMS.T.astype(np.float64) @ gains, atol=5e-7)


def test_a_sum_leaves_as_soon_as_all_have_come() -> None:
    mixer = StemMixer(2, [0.0, 1.0])
    assert mixer.push(0, STEMS[0, :5]).shape == (0, 2)
    assert mixer.n_waiting == 5
    assert len(mixer.push(1, STEMS[1, :3])) == 3
    assert mixer.n_waiting == 2
    with pytest.raises(ValueError, match="unequal lengths"):
        mixer.finish()
    assert len(mixer.push(1, STEMS[1, 3:5])) == 2
    mixer.finish()


def test_memory_holds_what_is_ahead_only() -> None:
    mixer = StemMixer(2)
    for _ in range(50):
        for index in (0, 1):
            mixer.push(index, STEMS[index, :100_000])
            assert sum(block.size for block in mixer._blocks.values()) <= 3 * (1 << 16)


def test_shares_add_up_to_the_mix() -> None:
    pans = [-0.5, 0.1, 0.8, 0.0]
    mixer = StemMixer(4, pans)
    shares = [mixer.placed(index, stem) for index, stem in enumerate(STEMS)]
    np.testing.assert_allclose(sum(share.astype(np.float64) for share in shares), mixed(mixer, STEMS, []), atol=1e-7)
    np.testing.assert_array_equal(StemMixer(4).placed(1, STEMS[1]), STEMS[1])


def test_all_in_the_centre_is_the_mono_sum_twice() -> None:
    both = mixed(StemMixer(4, [0.0] * 4), STEMS, [])
    mono = mixed(StemMixer(4), STEMS, [])
    np.testing.assert_array_equal(both, np.stack([mono, mono], axis=1))


def test_samples_that_are_no_numbers_do_not_spoil_the_sum() -> None:
    made = StemMixer(1).push(0, np.array([0.5, np.nan, np.inf, -np.inf]))
    np.testing.assert_array_equal(made, [0.5, 0, 0, 0])


def test_every_stem_needs_a_place() -> None:
    with pytest.raises(ValueError, match="2 stems and 1 pans"):
        StemMixer(2, [0.0])


def test_powers_of_spectrograms_add_up() -> None:
    mixer = MelMixer(3)
    magnitudes = np.array([[3.0, 1.0], [4.0, 1.0], [12.0, 1.0]], np.float32)
    assert mixer.push(2, np.log(magnitudes[2:3])).shape == (0, 2)
    assert mixer.push(0, np.log(magnitudes[:1])).shape == (0, 2)
    assert mixer.push(0, np.log(magnitudes[:1])).shape == (0, 2)  # ahead by a window
    np.testing.assert_allclose(np.exp(mixer.push(1, np.log(magnitudes[1:2]))), [[13.0, math.sqrt(3)]], rtol=1e-6)
