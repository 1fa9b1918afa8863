"""Golden values worked out here by hand (loops, a plain DFT), never by the code under test."""

import math
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from specdiff_cli.audio.mel import from_model_range, log_mel, mel_matrix, to_model_range

SILENCE = math.log(1e-5)


@cache
def band_edges_mel() -> list[float]:
    """130 equally spaced points from 0 Hz to 8000 Hz, in mel."""
    top = 1127.0 * math.log(1.0 + 8000.0 / 700.0)
    return [top * k / 129 for k in range(130)]


def triangle(bin_index: int, band: int) -> float:
    """Weight of FFT bin ``bin_index`` in ``band``, from the definition, one number at a time."""
    if bin_index == 0:
        return 0.0
    edges = band_edges_mel()
    x = 1127.0 * math.log(1.0 + bin_index * 15.625 / 700.0)  # 15.625 Hz = 16000 / 1024
    low, mid, high = edges[band], edges[band + 1], edges[band + 2]
    if low < x <= mid:
        return (x - low) / (mid - low)
    if mid < x < high:
        return (high - x) / (high - mid)
    return 0.0


@cache
def all_triangles() -> np.ndarray:
    return np.array([[triangle(k, m) for m in range(128)] for k in range(513)])


def slow_log_mel(samples: list[float]) -> np.ndarray:
    """The whole front-end as explicit sums: no FFT, no library window, no matrix product."""
    n_frames = math.ceil(len(samples) / 320)
    n = np.arange(640)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * n / 640)
    dft = np.exp(-2j * np.pi * np.outer(np.arange(513), n) / 1024)
    triangles = all_triangles()
    rows = []
    for i in range(n_frames):
        piece = np.zeros(640)
        cut = samples[320 * i : 320 * i + 640]
        piece[: len(cut)] = cut
        mel = np.abs(dft @ (piece * window)) @ triangles
        rows.append(np.log(np.clip(mel, 1e-5, 1e8)))
    return np.array(rows)


def test_matrix_equals_definition() -> None:
    weights = mel_matrix()
    assert weights.shape == (513, 128)
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights, all_triangles(), atol=2e-7)


def test_matrix_hand_numbers() -> None:
    weights = mel_matrix()
    # 8000 Hz is 2840.0377 mel; a band is 22.01580 mel wide on each side.
    # Bin 1 (15.625 Hz) is 24.87960 mel, so it sits 2.86380 mel above the centre of band 0:
    assert weights[1, 0] == pytest.approx(1 - 2.86380 / 22.01580, abs=1e-6)
    assert weights[1, 1] == pytest.approx(2.86380 / 22.01580, abs=1e-6)
    # Bin 64 (1000 Hz) is 999.9907 mel = 45.42151 band widths; band k is centred on k + 1 band widths
    assert weights[64, 44] == pytest.approx(1 - 0.42151, abs=1e-5)
    assert weights[64, 45] == pytest.approx(0.42151, abs=1e-5)
    assert np.count_nonzero(weights[64]) == 2
    assert not weights[0].any()
    assert weights[512, 127] == pytest.approx(0.0, abs=1e-6)  # 8000 Hz is the foot of the last triangle
    assert weights.max() <= 1.0


def test_matrix_differs_from_triangles_linear_in_hertz() -> None:
    edges_hz = [700 * (math.exp(m / 1127) - 1) for m in band_edges_mel()]
    low, mid = edges_hz[100], edges_hz[101]
    bin_index = round((low + mid) / 2 / 15.625)
    linear_in_hz = (bin_index * 15.625 - low) / (mid - low)
    assert abs(mel_matrix()[bin_index, 100] - linear_in_hz) > 1e-3


@pytest.mark.parametrize("n_samples", [1, 319, 320, 321, 640, 1000, 1600])
def test_log_mel_equals_explicit_sums(n_samples: int) -> None:
    samples = np.random.default_rng(n_samples).uniform(-1, 1, n_samples)
    ours = log_mel(torch.tensor(samples, dtype=torch.float32))
    expected = slow_log_mel(samples.tolist())
    assert ours.shape == expected.shape
    np.testing.assert_allclose(ours.numpy(), expected, atol=2e-3)  # bin 512 and quiet bins lose digits in float32
    np.testing.assert_allclose(np.exp(ours.numpy()), np.exp(expected), rtol=1e-4, atol=1e-4)


def test_pure_sine_has_the_analytic_peak() -> None:
    # 1000 Hz is bin 64 exactly. A periodic Hann window of 640 sums to 320, so |X[64]| = 320 * amplitude / 2.
    # Neighbouring bins follow the window's own transform W(x), x in cycles per 640 samples: bins are 0.625 apart.
    amplitude = 0.5
    t = np.arange(3200)
    audio = torch.tensor(amplitude * np.sin(2 * np.pi * 1000 * t / 16000), dtype=torch.float32)
    frame = log_mel(audio)[3].exp().numpy()

    def hann_line(bins_away: int) -> float:
        x = bins_away * 0.625
        return abs(np.sinc(x) / (1 - x * x)) * 320 * amplitude / 2

    for band in (44, 45):
        expected = sum(hann_line(k - 64) * triangle(k, band) for k in range(1, 513))
        assert frame[band] == pytest.approx(expected, rel=2e-3)
    assert int(frame.argmax()) == 44
    assert hann_line(0) == 80.0


def test_frames_are_not_centred() -> None:
    click = torch.zeros(320 * 6)
    click[320 * 3 + 10] = 1.0  # inside frames 2 (sample 330 of it) and 3 (sample 10 of it) only
    loud = (log_mel(click) > SILENCE + 1e-6).any(-1)
    assert loud.tolist() == [False, False, True, True, False, False]
    peak = log_mel(click).exp()
    # an impulse at sample n of a frame has the flat magnitude hann[n]; band weights add up over bins
    band_sums = torch.tensor(mel_matrix().sum(0))
    hann = [0.5 - 0.5 * math.cos(2 * math.pi * n / 640) for n in (330, 10)]
    torch.testing.assert_close(peak[2], band_sums * hann[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(peak[3], band_sums * hann[1], rtol=1e-3, atol=1e-5)


def test_silence_empty_and_clipping_values() -> None:
    assert log_mel(torch.zeros(0)).shape == (0, 128)
    assert log_mel(torch.zeros(2, 3, 0)).shape == (2, 3, 0, 128)
    assert torch.allclose(log_mel(torch.zeros(1000)), torch.full((4, 128), SILENCE))
    assert log_mel(torch.full((640,), 1e30)).max().item() == pytest.approx(math.log(1e8), rel=1e-6)


@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 2000), batch=st.integers(1, 3), seed=st.integers(0, 9999))
def test_batched_equals_single_and_frame_count(n: int, batch: int, seed: int) -> None:
    audio = torch.randn(batch, n, generator=torch.Generator().manual_seed(seed))
    together = log_mel(audio)
    assert together.shape == (batch, math.ceil(n / 320), 128)
    for one, whole in zip(audio, together, strict=True):
        torch.testing.assert_close(log_mel(one), whole, rtol=1e-4, atol=1e-3)


def test_gradients_are_finite_on_silence_and_on_sound() -> None:
    for audio in (torch.zeros(1000), torch.sin(torch.arange(1000.0)), torch.full((1000,), 1e-9)):
        audio.requires_grad_(True)
        torch.autograd.backward(log_mel(audio).sum())
        assert audio.grad is not None
        assert torch.isfinite(audio.grad).all()
    assert audio.grad is not None


def test_gradient_is_the_right_one() -> None:
    audio = torch.randn(700, generator=torch.Generator().manual_seed(1)).requires_grad_(True)
    torch.autograd.backward(log_mel(audio).mean())
    assert audio.grad is not None
    direction = torch.randn(700, generator=torch.Generator().manual_seed(2))
    step = 1e-2
    with torch.no_grad():
        numeric = (log_mel(audio + step * direction).mean() - log_mel(audio - step * direction).mean()) / (2 * step)
    assert float(audio.grad @ direction) == pytest.approx(float(numeric), rel=0.02)


def test_autocast_does_not_touch_the_features() -> None:
    audio = torch.randn(1000, generator=torch.Generator().manual_seed(3)) * 0.1
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = log_mel(audio)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, log_mel(audio))


def test_model_range() -> None:
    values = torch.tensor([SILENCE, 4.0, (SILENCE + 4.0) / 2, -100.0, 100.0])
    torch.testing.assert_close(to_model_range(values), torch.tensor([-1.0, 1.0, 0.0, -1.0, 1.0]))
    back = from_model_range(torch.tensor([-1.0, 1.0, 0.0, 2.0]))
    half_range = (4.0 - SILENCE) / 2
    torch.testing.assert_close(back, torch.tensor([SILENCE, 4.0, (SILENCE + 4.0) / 2, 4.0 + half_range]))


@given(st.lists(st.floats(-11.5, 4.0), min_size=1, max_size=20))
def test_model_range_round_trip_in_numpy_and_torch(values: list[float]) -> None:
    array = np.array(values, dtype=np.float32)
    back = from_model_range(to_model_range(array))
    assert isinstance(back, np.ndarray)
    np.testing.assert_allclose(back, array, atol=1e-5)
    torch.testing.assert_close(to_model_range(torch.from_numpy(array)), torch.from_numpy(to_model_range(array)))
