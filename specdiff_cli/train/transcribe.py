"""How well a rendering's note onsets agree with the score.

An onset counts as heard when the transcriber reports the same pitch within the tolerance; each reported note serves
one written note at most. The pairing is the largest possible one (maximum bipartite matching), not a greedy one, so
the scores do not depend on the order of the notes.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

# Times come from quantised files and from frames: a pair exactly at the tolerance must not be lost to rounding.
ROUNDING_S = 1e-9


@dataclass(frozen=True)
class OnsetScores:
    """Shares from 0 to 1: of the reported notes that are written, of the written ones that are reported, and both."""

    precision: float
    recall: float
    f1: float


def onset_scores(
    reference_notes: Iterable[tuple[float, int]],
    estimated_notes: Iterable[tuple[float, int]],
    tolerance_s: float = 0.05,
) -> OnsetScores:
    """Onset precision, recall and F1 of notes given as (onset in seconds, MIDI pitch).

    Pitches must be equal and onsets at most ``tolerance_s`` apart. Two empty lists agree perfectly; if only one is
    empty all scores are 0.
    """
    reference, estimated = list(reference_notes), list(estimated_notes)
    if not reference and not estimated:
        return OnsetScores(1.0, 1.0, 1.0)
    if not reference or not estimated:
        return OnsetScores(0.0, 0.0, 0.0)
    onsets_by_pitch: defaultdict[int, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    for onset_s, pitch in reference:
        onsets_by_pitch[pitch][0].append(onset_s)
    for onset_s, pitch in estimated:
        onsets_by_pitch[pitch][1].append(onset_s)
    matched = sum(_matched(*onsets, tolerance_s) for onsets in onsets_by_pitch.values())
    return OnsetScores(
        precision=matched / len(estimated),
        recall=matched / len(reference),
        f1=2 * matched / (len(estimated) + len(reference)),
    )


def _matched(reference_s: list[float], estimated_s: list[float], tolerance_s: float) -> int:
    """Size of the largest pairing of two lists of onsets of one pitch.

    All tolerances are equal intervals on a line, where taking the earliest possible partner in order of time is
    optimal: exchanging partners of a crossing pair never lengthens the longer of the two distances.
    """
    reference_s, estimated_s = sorted(reference_s), sorted(estimated_s)
    count = first = 0
    for onset_s in reference_s:
        while first < len(estimated_s) and estimated_s[first] < onset_s - tolerance_s - ROUNDING_S:
            first += 1
        if first < len(estimated_s) and estimated_s[first] <= onset_s + tolerance_s + ROUNDING_S:
            count += 1
            first += 1
    return count
