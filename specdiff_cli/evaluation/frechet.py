"""The Fréchet distance of two sets of features: how far apart two collections of sounds are as a whole.

Each set is taken for a normal distribution; the distance is ``|m1 - m2|² + tr(C1 + C2 - 2 (C1 C2)^½)`` (Kilgour et al.,
"Fréchet Audio Distance", Interspeech 2019). It sees what no comparison of piece with piece does: sounds that are
plausible but never vary, or noise that is everywhere. With few rows it is biased upwards: compare only values over the
same pieces.
"""

import numpy as np
from numpy.typing import NDArray


class Moments:
    """Mean and covariance of rows that arrive piece by piece; rows are (n, n_features)."""

    def __init__(self, n_features: int) -> None:
        self.n_rows = 0
        self._sum = np.zeros(n_features)
        self._products = np.zeros((n_features, n_features))

    def add(self, rows: NDArray[np.float64]) -> None:
        """Take more rows; none is fine."""
        self.n_rows += len(rows)
        self._sum += rows.sum(axis=0)
        self._products += rows.T @ rows

    @property
    def mean(self) -> NDArray[np.float64]:
        """(n_features,)."""
        return np.asarray(self._sum / max(self.n_rows, 1))

    @property
    def covariance(self) -> NDArray[np.float64]:
        """(n_features, n_features), without bias."""
        centred = self._products - self.n_rows * np.outer(self.mean, self.mean)
        return np.asarray(centred / max(self.n_rows - 1, 1))


def frechet_distance(first: Moments, second: Moments) -> float | None:
    """The distance, at least 0; None when either has fewer than two rows."""
    if min(first.n_rows, second.n_rows) < 2:
        return None
    covariance, other = first.covariance, second.covariance
    # tr (C1 C2)^½ is the sum of the roots of the eigenvalues of the symmetric C1^½ C2 C1^½.
    values, vectors = np.linalg.eigh(covariance)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    overlap = np.sqrt(np.linalg.eigvalsh(root @ other @ root).clip(0)).sum()
    squared = np.square(first.mean - second.mean).sum() + np.trace(covariance) + np.trace(other) - 2 * overlap
    return max(float(squared), 0.0)
