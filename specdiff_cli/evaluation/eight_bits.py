"""Whether a voice bears 8 bits: what its two evaluations, in float32 and in int8, may differ by."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: Measure -> by less than how much its mean over all pieces may differ between the two precisions.
BOUNDS = {"log_mel_l1": 0.005, "onset_f1": 0.02}


@dataclass(frozen=True, slots=True)
class Comparison:
    """One measure of one way of sampling, in both precisions."""

    label: str
    measure: str
    in_float32: float
    in_int8: float

    @property
    def is_within(self) -> bool:
        """Whether the difference is below the bound; what is no number is not."""
        return abs(self.in_int8 - self.in_float32) < BOUNDS[self.measure]


def compare_precisions(in_float32: Mapping[str, Any], in_int8: Mapping[str, Any]) -> list[Comparison]:
    """Two reports of ``specdiff evaluate`` (``report.json``), of the same voice and pieces, measure by measure.

    The voice bears 8 bits, and may say ``allows_int8``, where all of them are within their bounds.

    Raises:
        ValueError: a report is of another precision, the two are of other renders or pieces, or a measure is missing.
    """
    wide, narrow = _renders(in_float32, "float32"), _renders(in_int8, "int8")
    if wide.keys() != narrow.keys():
        raise ValueError(f"the reports are of other renders: {', '.join(wide)}; {', '.join(narrow)}")
    pieces = [[(piece["name"], piece["duration_s"]) for piece in report["pieces"]] for report in (in_float32, in_int8)]
    if pieces[0] != pieces[1]:
        raise ValueError("the reports are of other pieces")
    return [
        Comparison(label, measure, _measured(wide[label], measure), _measured(narrow[label], measure))
        for label in wide
        for measure in BOUNDS
    ]


def _renders(report: Mapping[str, Any], dtype: str) -> dict[str, Mapping[str, Any]]:
    """Label -> what was measured of a render in this precision."""
    renders = {entry["label"]: entry for entry in report["recordings"] if entry["kind"] == "render"}
    if not renders:
        raise ValueError("a report has no renders")
    for label, entry in renders.items():
        if entry.get("dtype") != dtype:
            raise ValueError(f"{label} was rendered in {entry.get('dtype')}, not in {dtype}")
    return renders


def _measured(entry: Mapping[str, Any], measure: str) -> float:
    value = entry["mean"].get(measure)
    if value is None:
        raise ValueError(f"{measure} of {entry['label']} was not measured")
    return float(value)
