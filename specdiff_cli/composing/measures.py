"""Numbers about one piece, none of which needs a network.

Pitch-class entropy, scale consistency and groove consistency follow MusPy (Dong et al. 2020); the nine features are
those of MGEval (Yang and Lerch 2020), with notes per bar in the place of the note count, which says nothing about
excerpts that all have as many notes.
"""

from dataclasses import dataclass

import numpy as np

from specdiff_cli.composing.pieces import Floats, Ints, Piece

GRID_PER_BEAT = 12
_ON_GRID_BEATS = 1e-3
_MAJOR = (0, 2, 4, 5, 7, 9, 11)
_MINOR = (0, 2, 3, 5, 7, 8, 10)
_SCALES = np.array([np.isin((np.arange(12) - root) % 12, scale) for scale in (_MAJOR, _MINOR) for root in range(12)])
#: Classes of note length in beats: the upper ends of all but the last.
LENGTH_EDGES_BEATS = np.array([0.19, 0.29, 0.42, 0.58, 0.7, 0.85, 1.2, 1.7, 2.5, 3.5, 5.0])
N_LENGTHS = len(LENGTH_EDGES_BEATS) + 1
FEATURES = (
    "pitch count",
    "pitch-class histogram",
    "pitch-class transitions",
    "pitch range",
    "mean interval",
    "notes per bar",
    "mean inter-onset interval",
    "note-length histogram",
    "note-length transitions",
)


@dataclass(frozen=True)
class Measures:
    """Of one piece."""

    pitch_class_entropy_bits: float
    scale_consistency: float
    distinct_pitches: float
    on_grid_share: float
    groove_consistency: float
    polyphony: float
    chord_share: float
    repeated_bar_share: float
    length_beats: float


def measure(piece: Piece) -> Measures:
    """All of them."""
    return Measures(
        pitch_class_entropy_bits=entropy_bits(pitch_class_counts(piece)),
        scale_consistency=scale_consistency(piece),
        distinct_pitches=float(len(np.unique(piece.pitch))),
        on_grid_share=on_grid_share(piece),
        groove_consistency=groove_consistency(piece),
        polyphony=polyphony(piece),
        chord_share=float((inter_onsets(piece) < 1e-3).mean()),
        repeated_bar_share=repeated_bar_share(piece),
        length_beats=float((piece.onset_beats + piece.duration_beats).max() - piece.onset_beats[0]),
    )


def pitch_class_counts(piece: Piece) -> Floats:
    """Notes of each of the 12 pitch classes."""
    return np.bincount(piece.pitch % 12, minlength=12).astype(np.float64)


def entropy_bits(counts: Floats) -> float:
    """Shannon entropy of a histogram; at most log2 of its bins."""
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log2(shares)).sum())


def scale_consistency(piece: Piece) -> float:
    """The largest share of notes that lie in one of the 24 major and natural minor scales."""
    counts = pitch_class_counts(piece)
    return float((_SCALES @ counts).max() / counts.sum())


def on_grid_share(piece: Piece) -> float:
    """Share of the onsets on a twelfth of a beat, from the first note on."""
    steps = (piece.onset_beats - piece.onset_beats[0]) * GRID_PER_BEAT
    return float((np.abs(steps - np.round(steps)) < _ON_GRID_BEATS * GRID_PER_BEAT).mean())


def groove_consistency(piece: Piece) -> float:
    """1 less the mean share of places in a bar at which neighbouring bars differ in whether a note begins there."""
    bars = onset_bars(piece)
    if len(bars) < 2:
        return 1.0
    return float(1 - np.mean(bars[1:] != bars[:-1]))


def onset_bars(piece: Piece) -> Ints:
    """Whether a note begins, (n_bars, places in a bar): 0 or 1."""
    n_places = max(1, round(piece.beats_per_bar * GRID_PER_BEAT))
    place = np.round(piece.onset_beats * GRID_PER_BEAT).astype(np.int64)
    place -= place[0] // n_places * n_places
    bars = np.zeros((int(place.max()) // n_places + 1, n_places), dtype=np.int64)
    bars[place // n_places, place % n_places] = 1
    return bars


def repeated_bar_share(piece: Piece) -> float:
    """Share of the bars in which notes begin whose rhythm some earlier bar had."""
    bars = [row.tobytes() for row in onset_bars(piece) if row.any()]
    return 1 - len(set(bars)) / len(bars)


def polyphony(piece: Piece) -> float:
    """Mean number of notes that sound, where any do."""
    edges = np.unique(np.concatenate([piece.onset_beats, piece.onset_beats + piece.duration_beats]))
    middles, spans = (edges[1:] + edges[:-1]) / 2, np.diff(edges)
    begun = np.searchsorted(np.sort(piece.onset_beats), middles, side="right")
    ended = np.searchsorted(np.sort(piece.onset_beats + piece.duration_beats), middles, side="right")
    sounding = begun - ended
    spans = spans * (sounding > 0)
    return float((sounding * spans).sum() / max(spans.sum(), 1e-9))


def inter_onsets(piece: Piece) -> Floats:
    """Beats from each note to the next."""
    return np.diff(piece.onset_beats)


def length_classes(piece: Piece) -> Ints:
    """Class of each note's length."""
    return np.searchsorted(LENGTH_EDGES_BEATS, piece.duration_beats, side="right").astype(np.int64)


def transitions(classes: Ints, n_classes: int) -> Floats:
    """How often one class follows another, as shares, (n_classes * n_classes,)."""
    pairs = classes[:-1] * n_classes + classes[1:]
    counts = np.bincount(pairs, minlength=n_classes * n_classes).astype(np.float64)
    shares: Floats = counts / max(counts.sum(), 1)
    return shares


def features(piece: Piece) -> list[Floats]:
    """The nine features, in the order of :data:`FEATURES`; those that are one number have the shape (1,)."""
    pitch, lengths = piece.pitch, length_classes(piece)
    bars = onset_bars(piece)
    histogram = np.bincount(lengths, minlength=N_LENGTHS) / len(lengths)
    return [
        np.array([float(len(np.unique(pitch)))]),
        pitch_class_counts(piece) / len(pitch),
        transitions(pitch % 12, 12),
        np.array([float(np.ptp(pitch))]),
        np.array([float(np.abs(np.diff(pitch)).mean())]),
        np.array([len(pitch) / max(1, len(bars))]),
        np.array([float(inter_onsets(piece).mean())]),
        histogram,
        transitions(lengths, N_LENGTHS),
    ]
