"""The fade at the end: its shape, and that it does not depend on how the audio is cut into pieces."""

import numpy as np
import pytest

from specdiff_cli.audio.fading import FadeOut


def test_the_gain_is_half_a_period_of_a_cosine() -> None:
    made = FadeOut(100, 40).push(np.ones(100, np.float32))
    assert (made[:60] == 1).all()
    gains = 20 * np.log10(made[[69, 70, 79, 80, 99]].astype(np.float64))
    shares = (np.array([9, 10, 19, 20, 39]) + 0.5) / 40
    np.testing.assert_allclose(gains, 20 * np.log10(np.cos(shares * np.pi / 2) ** 2), atol=1e-3)
    assert (np.diff(made[60:]) < 0).all()


@pytest.mark.parametrize("shape", [(1000,), (1000, 2)])
def test_pieces_fade_as_the_whole(shape: tuple[int, ...]) -> None:
    audio = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    whole = FadeOut(1000, 333).push(audio)
    cut = FadeOut(1000, 333)
    pieces = [cut.push(piece) for piece in np.split(audio, [1, 500, 667, 668, 668, 990])]
    np.testing.assert_array_equal(np.concatenate(pieces), whole)
    assert whole.shape == shape and whole.dtype == np.float32


def test_a_short_signal_fades_from_its_start_and_none_is_left_alone() -> None:
    audio = np.ones(10, np.float32)
    np.testing.assert_array_equal(FadeOut(10, 50).push(audio), FadeOut(10, 10).push(audio))
    assert FadeOut(10, 0).push(audio) is audio
