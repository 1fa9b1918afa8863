"""The Fréchet distance against its closed forms."""

import numpy as np
import pytest

from specdiff_cli.evaluation.frechet import Moments, frechet_distance


def moments(rows: np.ndarray) -> Moments:
    """Of all rows, given in two parts."""
    result = Moments(rows.shape[1])
    result.add(rows[:7])
    result.add(rows[7:])
    return result


def test_equal_sets_are_at_zero_and_a_shift_costs_its_square() -> None:
    rows = np.random.default_rng(0).normal(size=(50, 6))
    assert frechet_distance(moments(rows), moments(rows)) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(moments(rows), moments(rows + np.arange(6))) == pytest.approx(55, rel=1e-9)


def test_moments_are_numpys() -> None:
    rows = np.random.default_rng(1).normal(2.0, 3.0, size=(40, 4))
    np.testing.assert_allclose(moments(rows).mean, rows.mean(axis=0))
    np.testing.assert_allclose(moments(rows).covariance, np.cov(rows.T), rtol=1e-9)


def test_a_scale_costs_the_square_of_what_the_deviation_grows() -> None:
    # Of commuting covariances C and s² C the distance is (s - 1)² tr C.
    rows = np.random.default_rng(2).normal(size=(500, 3))
    centred = rows - rows.mean(axis=0)
    expected = 4 * np.trace(np.cov(centred.T))
    assert frechet_distance(moments(centred), moments(3 * centred)) == pytest.approx(expected, rel=1e-9)


def test_it_is_symmetric_and_copes_with_fewer_rows_than_features() -> None:
    rng = np.random.default_rng(3)
    few, many = moments(rng.normal(size=(8, 30))), moments(rng.normal(1.0, 2.0, size=(90, 30)))
    there, back = frechet_distance(few, many), frechet_distance(many, few)
    assert there is not None and there > 30 and there == pytest.approx(back, rel=1e-6)


def test_one_row_has_no_distance() -> None:
    one = Moments(2)
    one.add(np.ones((1, 2)))
    assert frechet_distance(one, one) is None
