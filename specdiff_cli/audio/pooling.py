"""Rows that arrive without end, reduced to a few thousand columns for a picture. Nothing here imports torch."""

from typing import Any

import numpy as np
import numpy.typing as npt


class Pool:
    """Joins rows in groups, so that at most ``max_columns`` results (an even number) are ever held.

    All groups are of the same size, ``factor`` rows, which doubles whenever the columns are too many.
    """

    def __init__(self, join: np.ufunc, n_features: int, max_columns: int) -> None:
        self.factor = 1
        self._join = join
        self._max_columns = max_columns
        self._columns: npt.NDArray[Any] = np.zeros((0, n_features))  # whole groups
        self._rest: npt.NDArray[Any] = np.zeros((0, n_features))  # rows of the group that is not whole

    def push(self, rows: npt.NDArray[Any]) -> None:
        """Take the next rows, (n, n_features)."""
        rows = np.concatenate([self._rest, rows])
        while len(rows) >= self.factor:
            n_groups = min(len(rows) // self.factor, self._max_columns - len(self._columns))
            n_taken = n_groups * self.factor
            groups = rows[:n_taken].reshape(n_groups, self.factor, -1)
            self._columns = np.concatenate([self._columns, self._join.reduce(groups, axis=1)])
            rows = rows[n_taken:]
            if len(self._columns) == self._max_columns:
                self._columns = self._join.reduce(self._columns.reshape(self._max_columns // 2, 2, -1), axis=1)
                self.factor *= 2
        self._rest = rows.copy()

    def columns(self) -> npt.NDArray[Any]:
        """(n_columns, n_features); the last one may stand for fewer rows."""
        last = self._join.reduce(self._rest, axis=0)[None] if len(self._rest) else self._rest
        return np.concatenate([self._columns, last])

    def sizes(self) -> npt.NDArray[np.int64]:
        """Rows that each column stands for, (n_columns,)."""
        last = [len(self._rest)] if len(self._rest) else []
        return np.array([self.factor] * len(self._columns) + last, np.int64)
