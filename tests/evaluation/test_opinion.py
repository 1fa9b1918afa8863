"""Opinion scores: what they rank, and what is said where their packages are missing."""

import importlib.util

import numpy as np
import pytest
from numpy.typing import NDArray

from specdiff_cli.errors import UsageError
from specdiff_cli.evaluation.opinion import PACKAGES, Opinion, check_installed

needs_packages = pytest.mark.skipif(
    any(importlib.util.find_spec(module) is None for module in PACKAGES), reason="the opinion extra is not installed"
)


def chord(seconds: float = 2.0) -> NDArray[np.float32]:
    """Three decaying notes with eight partials each."""
    times_s = np.arange(round(seconds * 16_000)) / 16_000
    partials = [np.sin(2 * np.pi * f * k * times_s) / k for f in (220, 277, 330) for k in range(1, 9)]
    return np.asarray(0.1 * sum(partials) * np.exp(-2 * (times_s % 0.5)), dtype=np.float32)


@needs_packages
def test_equal_recordings_score_highest_and_noise_costs(capfd: pytest.CaptureFixture[str]) -> None:
    judges, reference = Opinion(), chord()
    noise = np.random.default_rng(0).normal(size=len(reference)).astype(np.float32)
    equal, hiss, storm = (judges.scores(reference, reference + level * noise, 16_000) for level in (0.0, 0.003, 0.1))
    assert equal.zimtohrli is not None and equal.zimtohrli == pytest.approx(5.0, abs=0.01)
    assert equal.visqol is not None and equal.visqol > 4.6
    for name in PACKAGES:
        best, good, bad = (getattr(scores, name) for scores in (equal, hiss, storm))
        assert best > good > bad >= 1.0
    assert capfd.readouterr().out == ""  # standard output is the report's


@needs_packages
def test_silence_has_no_visqol_score_but_breaks_nothing() -> None:
    scores = Opinion().scores(np.zeros(16_000, np.float32), np.zeros(16_000, np.float32), 16_000)
    assert scores.visqol is None or 1.0 <= scores.visqol <= 5.0


def test_missing_packages_are_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError) as failure:
        check_installed()
    message = str(failure.value)
    assert "zimtohrli and visqol-python" in message and "'.[opinion]'" in message and "\n" not in message
