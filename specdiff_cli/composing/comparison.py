"""Two sets of pieces beside each other.

- Overlap and Kullback-Leibler divergence as MGEval defines them (Yang and Lerch 2020): for each feature, the distances
  between pieces of the real set, and those from real to generated pieces, as densities.
- Fréchet distance of the features' Gaussians (Heusel et al. 2017), each feature in units of its spread in the real set.
- Longest n-gram of (interval to the next note, length) that a piece has in common with a folder of others.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from specdiff_cli.composing.measures import GRID_PER_BEAT, features
from specdiff_cli.composing.pieces import Floats, Ints, Piece, durations_in_steps

MOST_PIECES = 600  # of a set in pairwise distances, drawn at random; more change no second digit
_N_BINS = 1024
_SHRINKAGE = 0.2
MOST_SHARED_NOTES = 64

Hashes = NDArray[np.uint64]


def feature_table(pieces: Sequence[Piece]) -> list[Floats]:
    """For each of the nine features, (n_pieces, n_numbers)."""
    columns = zip(*(features(piece) for piece in pieces), strict=True)
    return [np.stack(column) for column in columns]


def drawn(pieces: Sequence[Piece], most: int = MOST_PIECES, seed: int = 0) -> list[Piece]:
    """At most so many of them, at random."""
    if len(pieces) <= most:
        return list(pieces)
    chosen = np.random.default_rng(seed).choice(len(pieces), most, replace=False)
    return [pieces[index] for index in np.sort(chosen)]


def overlap_and_divergence(real: Floats, generated: Floats) -> tuple[float, float]:
    """Overlapping area (0 to 1) and KL divergence (nats) of a feature's distances; each (n_pieces, n_numbers)."""
    within = distances(real, real)[np.triu_indices(len(real), 1)]
    between = distances(real, generated).ravel()
    top = 1.1 * max(float(within.max(initial=0)), float(between.max(initial=0)), 1e-9)
    a, b = density(within, top), density(between, top)
    return float(np.minimum(a, b).sum()), float((a * np.log((a + 1e-12) / (b + 1e-12))).sum())


def distances(a: Floats, b: Floats) -> Floats:
    """Euclidean distances of all rows of one from all rows of the other."""
    squares = (a * a).sum(1)[:, None] + (b * b).sum(1)[None] - 2 * a @ b.T
    roots: Floats = np.sqrt(np.maximum(squares, 0))
    return roots


def density(values: Floats, top: float) -> Floats:
    """Gaussian kernel density over [0, top] in equal bins, which add up to 1. Bandwidth: Scott's rule."""
    counts, edges = np.histogram(values, bins=_N_BINS, range=(0, top))
    spread = float(values.std()) * len(values) ** -0.2
    width = max(spread / (edges[1] - edges[0]), 0.5)
    reach = np.arange(-_N_BINS + 1, _N_BINS)
    kernel = np.exp(-0.5 * (reach / width) ** 2)
    size = 1 << (3 * _N_BINS - 2).bit_length()
    smooth = np.fft.irfft(np.fft.rfft(counts, size) * np.fft.rfft(kernel, size), size)
    smooth = np.maximum(smooth[_N_BINS - 1 : 2 * _N_BINS - 1], 0)
    shares: Floats = smooth / max(float(smooth.sum()), 1e-12)
    return shares


def frechet_distance(real: Sequence[Floats], generated: Sequence[Floats]) -> float:
    """Of two feature tables. Covariances are shrunk a fifth of the way to their diagonals."""
    a, b = np.concatenate(real, axis=1), np.concatenate(generated, axis=1)
    spread = a.std(axis=0)
    typical = float(np.median(spread[spread > 0])) if (spread > 0).any() else 1.0
    spread = np.maximum(spread, 0.1 * typical)
    (mean_a, cov_a), (mean_b, cov_b) = _gaussian(a / spread), _gaussian(b / spread)
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    mixed = np.linalg.eigvalsh(root @ cov_b @ root)
    trace = np.trace(cov_a) + np.trace(cov_b) - 2 * np.sqrt(np.maximum(mixed, 0)).sum()
    return float(((mean_a - mean_b) ** 2).sum() + trace)


def _gaussian(rows: Floats) -> tuple[Floats, Floats]:
    covariance = np.cov(rows, rowvar=False) if len(rows) > 1 else np.zeros((rows.shape[1],) * 2)
    return rows.mean(axis=0), (1 - _SHRINKAGE) * covariance + _SHRINKAGE * np.diag(np.diag(covariance))


def histogram_overlap(a: Floats, b: Floats) -> float:
    """What two histograms have in common, 0 to 1."""
    return float(np.minimum(a / max(a.sum(), 1e-12), b / max(b.sum(), 1e-12)).sum())


def longest_shared(pieces: Sequence[Piece], known: Sequence[Piece]) -> Ints:
    """For each piece, how many notes its longest passage has that also stands in ``known``, transposed or not.

    A passage is a run of (interval to the next note, length in twelfths of a beat). At most MOST_SHARED_NOTES.
    """
    ours, theirs = _symbols(pieces), _symbols(known)
    found = np.zeros(len(pieces), dtype=np.int64)
    hashes = [np.zeros(len(symbols), np.uint64) for symbols in ours]
    known_hashes = [np.zeros(len(symbols), np.uint64) for symbols in theirs]
    open_ones = list(range(len(pieces)))
    for n_notes in range(1, MOST_SHARED_NOTES + 1):
        known_hashes = [_longer(so_far, symbols, n_notes) for so_far, symbols in zip(known_hashes, theirs, strict=True)]
        there = np.unique(np.concatenate(known_hashes))
        for index in open_ones:
            hashes[index] = _longer(hashes[index], ours[index], n_notes)
        open_ones = [index for index in open_ones if _meet(hashes[index], there)]
        found[open_ones] = n_notes
        if not open_ones:
            break
    return found


def _meet(some: Hashes, ascending: Hashes) -> bool:
    """Whether two sets have a number in common."""
    if not len(some) or not len(ascending):
        return False
    places = np.minimum(np.searchsorted(ascending, some), len(ascending) - 1)
    return bool((ascending[places] == some).any())


def _symbols(pieces: Sequence[Piece]) -> list[Hashes]:
    """A random 64-bit number for each (interval, length)."""
    table = np.random.default_rng(12).integers(1, 1 << 63, 1 << 16, dtype=np.uint64) | np.uint64(1)
    symbols = []
    for piece, steps in zip(pieces, durations_in_steps(pieces, GRID_PER_BEAT), strict=True):
        pairs = (np.diff(piece.pitch) + 128) * 256 + np.minimum(steps[:-1], 255)
        symbols.append(table[pairs])
    return symbols


def _longer(hashes: Hashes, symbols: Hashes, n: int) -> Hashes:
    """Polynomial hashes of runs of ``n`` symbols, from those of runs of n - 1."""
    n_runs = max(0, len(symbols) - n + 1)
    return hashes[:n_runs] * np.uint64(0x9E3779B97F4A7C15) + symbols[n - 1 : n - 1 + n_runs]
