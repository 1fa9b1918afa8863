"""Integrated loudness, against what the standard says of sines and against another meter."""

import math

import numpy as np
import pytest

from specdiff_cli.audio.loudness import LoudnessMeter
from specdiff_cli.audio.resample import Resampler


def loudness(audio: np.ndarray, rate_hz: int, n_chunks: int = 1) -> float:
    meter = LoudnessMeter(rate_hz, 1 if audio.ndim == 1 else audio.shape[1])
    for chunk in np.array_split(audio, n_chunks):
        meter.push(chunk)
    return meter.finish()


def sine(rate_hz: int, duration_s: float, peak_dbfs: float, frequency_hz: float = 997.0) -> np.ndarray:
    time_s = np.arange(round(duration_s * rate_hz)) / rate_hz
    return 10 ** (peak_dbfs / 20) * np.sin(2 * np.pi * frequency_hz * time_s)


def music(rate_hz: int, n_channels: int) -> np.ndarray:
    """Seven seconds of chords and noise, with a quiet passage and a silent one."""
    rng = np.random.default_rng(rate_hz)
    tones = np.sum([sine(rate_hz, 7.013, -18, 110.0 * k) for k in (1, 2, 3, 5, 8, 13)], axis=0)
    audio = np.stack([tones * rng.uniform(0.5, 1) + rng.normal(0, 0.01, len(tones)) for _ in range(n_channels)], axis=1)
    audio[: 2 * rate_hz] *= 0.1
    audio[3 * rate_hz : 4 * rate_hz] *= 1e-5
    return audio if n_channels > 1 else audio[:, 0]


@pytest.mark.parametrize("rate_hz", [16_000, 44_100, 48_000])
def test_the_standards_sine(rate_hz: int) -> None:
    # BS.1770: a full-scale sine of 997 Hz in one channel reads -3.01; in both channels 3.01 more.
    assert loudness(sine(rate_hz, 3, 0), rate_hz) == pytest.approx(-3.01, abs=0.03)
    assert loudness(sine(rate_hz, 3, -20), rate_hz) == pytest.approx(-23.01, abs=0.03)
    both = np.stack([sine(rate_hz, 3, -23)] * 2, axis=1)
    assert loudness(both, rate_hz) == pytest.approx(-23.0, abs=0.03)  # EBU Tech 3341, case 1


def test_quiet_passages_do_not_count() -> None:
    # EBU Tech 3341, case 3: 10 s at -36, 60 s at -23, 10 s at -36 LUFS (shortened) is -23.
    parts = [sine(16_000, length_s, peak) for length_s, peak in ((3, -36), (40, -23), (3, -36))]
    assert loudness(np.stack([np.concatenate(parts)] * 2, axis=1), 16_000) == pytest.approx(-23.0, abs=0.1)
    # and silence not at all
    with_pause = np.concatenate([sine(16_000, 5, -20), np.zeros(160_000), sine(16_000, 5, -20)])
    assert loudness(with_pause, 16_000) == pytest.approx(-23.0, abs=0.2)


@pytest.mark.parametrize("rate_hz", [16_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("n_channels", [1, 2])
def test_another_meter_agrees(rate_hz: int, n_channels: int) -> None:
    pyloudnorm = pytest.importorskip("pyloudnorm")
    audio = music(rate_hz, n_channels)
    measured = loudness(audio, rate_hz, n_chunks=9)
    # its default filters are another rendering of the standard's, "DeMan" are those of the standard at 48 kHz
    assert measured == pytest.approx(pyloudnorm.Meter(rate_hz).integrated_loudness(audio), abs=0.1)
    if rate_hz == 48_000:
        same = pyloudnorm.Meter(rate_hz, filter_class="DeMan").integrated_loudness(audio)
        assert measured == pytest.approx(same, abs=1e-3)


@pytest.mark.parametrize("rate_hz", [44_100, 48_000])
def test_the_same_sound_is_as_loud_at_any_rate(rate_hz: int) -> None:
    audio = music(16_000, 1).astype(np.float32)
    resampler = Resampler(rate_hz)
    higher = np.concatenate([resampler.push(audio), resampler.flush()])
    assert loudness(higher, rate_hz) == pytest.approx(loudness(audio, 16_000), abs=0.01)


def test_chunks_change_nothing() -> None:
    audio = music(16_000, 2)
    assert loudness(audio, 16_000, n_chunks=301) == loudness(audio, 16_000)


def test_short_audio_is_one_block() -> None:
    assert loudness(sine(48_000, 0.3, -20), 48_000) == pytest.approx(-23.01, abs=0.05)
    assert loudness(np.zeros(0), 16_000) == -math.inf


def test_silence_has_no_loudness() -> None:
    assert loudness(np.zeros(40_000), 16_000) == -math.inf
    assert loudness(sine(16_000, 2, -80), 16_000) == -math.inf
    assert loudness(np.full(40_000, np.nan), 16_000) == -math.inf


def test_peak_and_memory() -> None:
    meter = LoudnessMeter(16_000, 2)
    for _ in range(20):
        meter.push(np.array([[0.25, -0.75]]).repeat(30_000, axis=0))
        assert meter._waiting.size < 3 * 16_000
    assert meter.peak == 0.75


def test_what_cannot_be_metered() -> None:
    for rate_hz, n_channels in ((4_000, 1), (48_000, 6)):
        with pytest.raises(ValueError, match="no loudness"):
            LoudnessMeter(rate_hz, n_channels)
