"""musicnn in PyTorch, against the package's own graph run by TensorFlow on librosa's spectrogram."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from specdiff_cli.errors import UsageError
from specdiff_cli.evaluation.musicnn import N_FEATURES, MusicNN, slaney_bands

needs_package = pytest.mark.skipif(importlib.util.find_spec("musicnn") is None, reason="musicnn is not installed")


def tones_and_a_sweep() -> NDArray[np.float32]:
    """Four seconds of plucked partials over a rising tone."""
    times_s = np.arange(4 * 16_000) / 16_000
    plucked = sum(0.2 / k * np.sin(2 * np.pi * 220 * k * times_s) for k in range(1, 12)) * np.exp(-4 * (times_s % 0.5))
    return np.asarray(plucked + 0.05 * np.sin(2 * np.pi * (500 + 700 * times_s) * times_s), dtype=np.float32)


@needs_package
def test_features_are_those_of_the_packages_own_graph() -> None:
    # TensorFlow 2.15.1, librosa 0.10.2, patches of 187 frames every 31.
    features = MusicNN().features(tones_and_a_sweep())
    assert features.shape == (3, N_FEATURES)
    np.testing.assert_allclose(features.sum(axis=1), [38.307785, 35.31485, 30.804337], rtol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), [11.178121, 10.486351, 9.878531], rtol=1e-4)
    expected = [-0.1642163, -0.1270288, -0.2848264, -0.2751210, -0.1343290, 0.9271399, 0.0783806, 1.4134293]
    np.testing.assert_allclose(features[1, :8], expected, atol=2e-4)


@needs_package
def test_less_than_three_seconds_have_no_features() -> None:
    assert MusicNN().features(np.zeros(2 * 16_000, np.float32)).shape == (0, N_FEATURES)


def test_bands_have_area_one_and_rise_in_frequency() -> None:
    bands = slaney_bands()
    centres = bands.argmax(axis=0)
    assert (np.diff(centres) >= 0).all() and centres[0] <= 2 and centres[-1] in (248, 249)
    # Bins of 31.25 Hz sample the wide triangles well.
    np.testing.assert_allclose(bands[:, 60:].sum(axis=0) * 31.25, 1.0, rtol=0.02)


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".index").write_bytes(b"not a checkpoint")
    with pytest.raises(UsageError, match="is not the file of musicnn"):
        MusicNN(tmp_path)
    with pytest.raises(UsageError, match="pip install --no-deps musicnn"):
        MusicNN(tmp_path / "missing")
