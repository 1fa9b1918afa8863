"""Other sample rates: nothing shifted, nothing lost, whatever the chunks."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specdiff_cli.audio.resample import RATES_HZ, Resampler, check_rate
from specdiff_cli.errors import UsageError

NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, (20_011, 2)).astype(np.float32)


def converted(resampler: Resampler, audio: np.ndarray, *cuts: int) -> np.ndarray:
    places = [0, *sorted(cuts), len(audio)]
    pieces = [resampler.push(audio[begin:end]) for begin, end in pairwise(places)]
    return np.concatenate([*pieces, resampler.flush()])


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_a_sine_stays_where_it_was(rate_hz: int) -> None:
    def sine(rate: int) -> np.ndarray:
        return 0.5 * np.sin(2 * np.pi * 997 * np.arange(rate) / rate)  # one second

    made = converted(Resampler(rate_hz), sine(16_000).astype(np.float32), 5_000)
    assert made.dtype == np.float32
    assert made.shape == (rate_hz,)
    inner = slice(rate_hz // 50, -rate_hz // 50)  # the ends ring, for want of what lies beyond
    # A delay of a single sample would differ by 0.06.
    np.testing.assert_allclose(made[inner], sine(rate_hz)[inner], atol=1e-4)


@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.integers(0, len(NOISE)), max_size=6), rate_hz=st.sampled_from(RATES_HZ))
def test_chunks_change_nothing(cuts: list[int], rate_hz: int) -> None:
    for n_channels in (1, 2):
        audio = NOISE[:, 0] if n_channels == 1 else NOISE
        whole = converted(Resampler(rate_hz, n_channels), audio)
        np.testing.assert_array_equal(converted(Resampler(rate_hz, n_channels), audio, *cuts), whole)
        assert len(whole) == round(len(NOISE) * rate_hz / 16_000)


def test_both_channels_are_treated_as_one_alone() -> None:
    both = converted(Resampler(44_100, 2), NOISE, 77)
    alone = [converted(Resampler(44_100), NOISE[:, channel]) for channel in (0, 1)]
    np.testing.assert_allclose(both, np.stack(alone, axis=1), atol=1e-6)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
@pytest.mark.parametrize("n_samples", [0, 1, 2, 80, 159, 160, 240, 4001])
def test_lengths_are_exact(rate_hz: int, n_samples: int) -> None:
    resampler = Resampler(rate_hz)
    expected = round(n_samples * rate_hz / 16_000)
    assert resampler.count_samples(n_samples) == expected
    assert len(converted(resampler, NOISE[:n_samples, 0])) == expected
    # and it begins anew
    assert len(converted(resampler, NOISE[:160, 0])) == rate_hz // 100


def test_the_rate_of_the_voices_is_left_alone() -> None:
    np.testing.assert_array_equal(converted(Resampler(16_000), NOISE[:, 0], 3), NOISE[:, 0])


def test_nothing_is_added_above_8_khz() -> None:
    made = converted(Resampler(48_000), NOISE[:, 0])
    power = np.abs(np.fft.rfft(made * np.hanning(len(made)))) ** 2
    above = np.arange(len(power)) * 48_000 / len(made) > 8_500
    assert power[above].sum() < 1e-6 * power.sum()


def test_rates_that_are_not_offered() -> None:
    assert check_rate(44_100) == 44_100
    with pytest.raises(UsageError, match="sample_rate 22050: is not one of 16000, 44100, 48000"):
        check_rate(22_050)
