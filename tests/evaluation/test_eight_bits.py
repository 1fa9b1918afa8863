"""Which voices bear 8 bits: the bounds of docs/models.md."""

import copy
from pathlib import Path
from typing import Any

import pytest

from specdiff_cli.evaluation.eight_bits import BOUNDS, compare_precisions


def report(dtype: str, log_mel_l1: float, onset_f1: float | None) -> dict[str, Any]:
    render = {"label": "voice, 10 steps", "kind": "render", "dtype": dtype}
    return {
        "pieces": [{"name": "a", "duration_s": 10.24}, {"name": "b", "duration_s": 5.0}],
        "recordings": [
            {"label": "reference", "kind": "reference", "mean": {"log_mel_l1": 0.0, "onset_f1": 0.5}},
            render | {"mean": {"log_mel_l1": log_mel_l1, "onset_f1": onset_f1}},
        ],
    }


@pytest.mark.parametrize(
    ("log_mel_l1", "onset_f1", "within"),
    [
        (0.629, 0.344, (True, True)),
        (0.6335, 0.326, (True, True)),  # both a little worse
        (0.6235, 0.363, (False, True)),  # nearer, but by more than rounding may do
        (0.635, 0.344, (False, True)),
        (0.629, 0.32, (True, False)),
        (float("nan"), 0.344, (False, True)),
    ],
)
def test_means_may_differ_by_less_than_their_bounds(
    log_mel_l1: float, onset_f1: float, within: tuple[bool, bool]
) -> None:
    found = compare_precisions(report("float32", 0.629, 0.344), report("int8", log_mel_l1, onset_f1))
    assert [row.measure for row in found] == ["log_mel_l1", "onset_f1"]
    assert tuple(row.is_within for row in found) == within
    assert {row.label for row in found} == {"voice, 10 steps"}


def test_reports_that_do_not_compare() -> None:
    wide, narrow = report("float32", 0.6, 0.3), report("int8", 0.6, 0.3)
    with pytest.raises(ValueError, match="was rendered in int8, not in float32"):
        compare_precisions(narrow, wide)
    with pytest.raises(ValueError, match="onset_f1 of voice, 10 steps was not measured"):
        compare_precisions(wide, report("int8", 0.6, None))
    other = copy.deepcopy(narrow)
    other["pieces"].pop()
    with pytest.raises(ValueError, match="other pieces"):
        compare_precisions(wide, other)
    other = copy.deepcopy(narrow)
    other["recordings"][1]["label"] = "voice, 1 step"
    with pytest.raises(ValueError, match="other renders: voice, 10 steps; voice, 1 step"):
        compare_precisions(wide, other)
    other["recordings"].pop()
    with pytest.raises(ValueError, match="no renders"):
        compare_precisions(wide, other)


def test_the_bounds_are_those_of_the_page() -> None:
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
    assert f"log-mel L1 differs by less than {BOUNDS['log_mel_l1']:g} nepers" in page
    assert (
        f"onset\nF1 by less than {BOUNDS['onset_f1']:g}" in page
        or f"onset F1 by less than {BOUNDS['onset_f1']:g}" in page
    )
