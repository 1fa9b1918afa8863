"""Everything that ``specdiff evaluate-music`` finds out, as one object."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from specdiff_cli.composing.comparison import (
    drawn,
    feature_table,
    frechet_distance,
    histogram_overlap,
    longest_shared,
    overlap_and_divergence,
)
from specdiff_cli.composing.measures import FEATURES, Measures, inter_onsets, length_classes, measure
from specdiff_cli.composing.pieces import Floats, Piece
from specdiff_cli.wording import count

ENOUGH_OVERLAP = 0.8
COPIED_NOTES = 16
_INTER_ONSET_EDGES_BEATS = np.array([0.01, 0.1, 0.19, 0.29, 0.42, 0.58, 0.7, 0.85, 1.2, 1.7, 2.5, 3.5])

#: Name in the table -> attribute, and digits.
_MEANS = (
    ("pitch-class entropy, bits", "pitch_class_entropy_bits", 2),
    ("scale consistency", "scale_consistency", 3),
    ("distinct pitches", "distinct_pitches", 1),
    ("onsets on 1/12 beat", "on_grid_share", 3),
    ("groove consistency", "groove_consistency", 3),
    ("polyphony", "polyphony", 2),
    ("notes in chords", "chord_share", 3),
    ("bars with an earlier rhythm", "repeated_bar_share", 3),
    ("length, beats", "length_beats", 1),
)


@dataclass(frozen=True)
class Likeness:
    """How one feature's distances from real to generated pieces compare with those among real ones."""

    overlap: float
    divergence_nats: float


@dataclass(frozen=True)
class Novelty:
    """Longest passages in common with the training folder, in notes."""

    median_notes: float
    largest_notes: int
    share_up_to_16: float


@dataclass(frozen=True)
class Judgement:
    """Generated pieces against real ones. ``generated`` and ``real`` are means over pieces."""

    n_generated: int
    n_real: int
    generated: Measures
    real: Measures
    length_overlap: float
    inter_onset_overlap: float
    features: dict[str, Likeness]
    frechet_distance: float
    novelty: Novelty | None

    @property
    def n_features_alike(self) -> int:
        """How many of the nine overlap by 0.8 or more."""
        return sum(likeness.overlap >= ENOUGH_OVERLAP for likeness in self.features.values())

    def tables(self) -> list[tuple[tuple[str, ...], list[tuple[str, ...]]]]:
        """Everything in words: tables, as headings and rows."""
        means: list[tuple[str, ...]] = [
            (name, f"{getattr(self.generated, key):.{digits}f}", f"{getattr(self.real, key):.{digits}f}")
            for name, key, digits in _MEANS
        ]
        features: list[tuple[str, ...]] = [
            (name, f"{likeness.overlap:.3f}", f"{likeness.divergence_nats:.3f}")
            for name, likeness in self.features.items()
        ]
        rest: list[tuple[str, ...]] = [
            ("features that overlap by 0.8 or more", f"{self.n_features_alike} of {len(self.features)}"),
            ("note lengths, common share", f"{self.length_overlap:.3f}"),
            ("inter-onset intervals, common share", f"{self.inter_onset_overlap:.3f}"),
            ("Fréchet distance of the features", f"{self.frechet_distance:.1f}"),
        ]
        if self.novelty is not None:
            rest += [
                ("longest passage shared with training, median", count(round(self.novelty.median_notes), "note")),
                ("the same, at most", count(self.novelty.largest_notes, "note")),
                ("excerpts that share at most 16 notes", f"{self.novelty.share_up_to_16:.3f}"),
            ]
        return [
            (("Mean per excerpt", f"Generated ({self.n_generated})", f"Real ({self.n_real})"), means),
            (("Distances, real to generated", "Overlap", "KL, nats"), features),
            (("Of all excerpts", "Value"), rest),
        ]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "n_features_alike": self.n_features_alike}


def judge(generated: Sequence[Piece], real: Sequence[Piece], training: Sequence[Piece] | None = None) -> Judgement:
    """Compare two sets of pieces; ``training`` is what the generated ones might have been copied from (whole songs)."""
    some_generated, some_real = drawn(generated), drawn(real)
    ours, theirs = feature_table(some_generated), feature_table(some_real)
    likeness = {
        name: Likeness(*overlap_and_divergence(real_rows, rows))
        for name, real_rows, rows in zip(FEATURES, theirs, ours, strict=True)
    }
    return Judgement(
        n_generated=len(generated),
        n_real=len(real),
        generated=_mean([measure(piece) for piece in generated]),
        real=_mean([measure(piece) for piece in real]),
        length_overlap=histogram_overlap(_lengths(generated), _lengths(real)),
        inter_onset_overlap=histogram_overlap(_inter_onsets(generated), _inter_onsets(real)),
        features=likeness,
        frechet_distance=frechet_distance(theirs, ours),
        novelty=None if training is None else _novelty(generated, training),
    )


def _mean(measures: Sequence[Measures]) -> Measures:
    return Measures(
        **{field.name: float(np.mean([getattr(one, field.name) for one in measures])) for field in fields(Measures)}
    )


def _lengths(pieces: Sequence[Piece]) -> Floats:
    return np.bincount(np.concatenate([length_classes(piece) for piece in pieces]), minlength=12).astype(np.float64)


def _inter_onsets(pieces: Sequence[Piece]) -> Floats:
    beats = np.concatenate([inter_onsets(piece) for piece in pieces])
    classes = np.searchsorted(_INTER_ONSET_EDGES_BEATS, beats, side="right")
    return np.bincount(classes, minlength=len(_INTER_ONSET_EDGES_BEATS) + 1).astype(np.float64)


def _novelty(generated: Sequence[Piece], training: Sequence[Piece]) -> Novelty:
    shared = longest_shared(generated, training)
    return Novelty(float(np.median(shared)), int(shared.max()), float((shared <= COPIED_NOTES).mean()))
