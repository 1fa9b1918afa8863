"""The limiter: no sample beyond the ceiling, none moved, nothing changed where nothing need be."""

import numpy as np
import numpy.typing as npt
import pytest

from specdiff_cli.audio.limiter import LOOK_AHEAD_HOPS, Limiter

CEILING = 10 ** (-1 / 20)
RNG = np.random.default_rng(3)


def limited(audio: npt.ArrayLike, gain_db: float, rate_hz: int, piece: int) -> tuple[np.ndarray, Limiter]:
    samples = np.asarray(audio, np.float32)
    limiter = Limiter(gain_db, CEILING, rate_hz)
    pieces = [limiter.push(samples[at : at + piece]) for at in range(0, len(samples), piece)]
    return np.concatenate([*pieces, limiter.flush()]), limiter


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 44_100, 48_000])
@pytest.mark.parametrize("n_channels", [1, 2])
def test_no_sample_is_beyond_the_ceiling_whatever_the_pieces(rate_hz: int, n_channels: int) -> None:
    audio = RNG.normal(0, 0.3, (rate_hz + 7, n_channels)) * RNG.integers(0, 4, (rate_hz + 7, 1))
    audio = audio[:, 0] if n_channels == 1 else audio
    whole, limiter = limited(audio, 6.0, rate_hz, 1 << 16)
    assert whole.shape == audio.shape
    assert np.abs(whole).max() <= np.float32(CEILING)
    assert limiter.most_db == pytest.approx(20 * np.log10(np.abs(audio).max()) + 7, abs=0.6)
    for piece in (5_000, 331):
        np.testing.assert_allclose(limited(audio, 6.0, rate_hz, piece)[0], whole, atol=1e-6)


def test_what_fits_keeps_its_very_samples() -> None:
    audio = RNG.uniform(-0.44, 0.44, 30_001).astype(np.float32)
    out, limiter = limited(audio, 20 * np.log10(2), 44_100, 4_096)
    np.testing.assert_allclose(out, 2 * audio, rtol=1e-6)
    assert (limiter.most_db, limiter.n_limited) == (0.0, 0)


def test_a_peak_is_turned_down_smoothly_and_let_go() -> None:
    """Of a constant with one peak, what comes out is the gain itself."""
    rate_hz, at = 44_100, 20_000
    audio = np.full(60_000, 0.1)
    audio[at] = 4 * CEILING
    out, limiter = limited(audio, 0.0, rate_hz, 10_000)
    assert out[at] == pytest.approx(CEILING, rel=1e-3)
    gain_db = 20 * np.log10(np.delete(out, at) / 0.1)
    reach = (2 * LOOK_AHEAD_HOPS + 2) * 44
    np.testing.assert_allclose(gain_db[: at - reach], 0, atol=1e-5)  # nothing before the look-ahead
    assert gain_db[at - reach : at].min() >= gain_db.min() - 1e-6
    steps_db = np.diff(gain_db)
    assert np.abs(steps_db).max() < 0.06  # 12 dB over 5 ms: no step to be heard as a click
    half_way = at + round(0.2 * rate_hz)
    assert gain_db[half_way] == pytest.approx(-12.04 + 0.2 * 30, abs=0.4)  # 30 dB a second
    np.testing.assert_allclose(gain_db[at + round(0.45 * rate_hz) :], 0, atol=1e-5)
    assert limiter.most_db == pytest.approx(12.04, abs=0.01)


def test_both_channels_get_one_gain() -> None:
    audio = np.stack([RNG.normal(0, 1, 9_000), np.full(9_000, 0.1)], axis=1)
    out = limited(audio, 0.0, 48_000, 1_000)[0]
    ratio = out / audio.astype(np.float32)
    np.testing.assert_allclose(ratio[:, 0], ratio[:, 1], rtol=1e-4)


def test_values_that_are_no_numbers_demand_nothing() -> None:
    audio = np.full(5_000, 0.5, np.float32)
    audio[[100, 200]] = np.nan, np.inf
    out, limiter = limited(audio, 0.0, 16_000, 999)
    assert limiter.most_db == 0.0
    assert np.isnan(out[100])
    np.testing.assert_array_equal(np.delete(out, [100, 200]), 0.5)


@pytest.mark.parametrize("n_samples", [0, 1, 43, 44, 45, 500])
def test_short_audio_has_its_length(n_samples: int) -> None:
    out, _ = limited(np.full(n_samples, 2.0), 0.0, 44_100, 7)
    np.testing.assert_allclose(out, np.full(n_samples, CEILING), rtol=1e-5)
