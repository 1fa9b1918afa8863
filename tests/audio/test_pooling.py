import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specdiff_cli.audio.pooling import Pool


@settings(max_examples=30, deadline=None)
@given(sizes=st.lists(st.integers(0, 40), max_size=12))
@pytest.mark.parametrize("join", [np.add, np.minimum, np.maximum])
def test_columns_are_groups_of_equal_size_however_rows_come(join: np.ufunc, sizes: list[int]) -> None:
    rows = np.arange(2 * sum(sizes)).reshape(-1, 2) % 17
    pool = Pool(join, 2, max_columns=8)
    at = 0
    for size in sizes:
        pool.push(rows[at : at + size])
        at += size
    factor = 1
    while len(rows) >= 8 * factor:  # eight whole columns are made four
        factor *= 2
    groups = [rows[start : start + factor] for start in range(0, len(rows), factor)]
    assert pool.factor == factor
    assert pool.sizes().tolist() == [len(group) for group in groups]
    np.testing.assert_array_equal(
        pool.columns(), np.array([join.reduce(group, axis=0) for group in groups]).reshape(-1, 2)
    )


def test_an_hour_takes_no_more_room_than_a_minute() -> None:
    pool = Pool(np.maximum, 1, max_columns=64)
    for _ in range(300):
        pool.push(np.ones((1000, 1)))
        assert len(pool.columns()) <= 64
    assert pool.sizes().sum() == 300_000
