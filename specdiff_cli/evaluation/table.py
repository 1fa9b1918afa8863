"""An evaluation's report as rows of text, and what they mean."""

from collections.abc import Iterator, Mapping
from typing import Any

from specdiff_cli.evaluation.page import cell
from specdiff_cli.wording import one_line

COLUMNS = {
    "log_mel_l1": "L1",
    "log_mel_l1_of_ceiling": "×ceil",
    "spectral_convergence": "conv",
    "log_spectrum": "spec",
    "loudness_db": "dB",
    "loudness_error_db": "max dB",
    "zimtohrli": "Zimt",
    "visqol": "ViSQ",
    "frechet_distance": "FAD",
    "onset_precision": "prec",
    "onset_recall": "rec",
    "onset_f1": "F1",
    "onset_f1_of_reference": "F1/ref",
    "boundary_jump": "jump",
    "x_realtime": "×rt",
}
OPTIONAL = ("zimtohrli", "visqol", "frechet_distance")  # shown where they were asked for
LEGEND = (
    "L1: log-mel difference, nepers; ×ceil: over the vocoder's own; conv, spec: multi-resolution STFT; dB: loudness "
    "above\nthe reference's; max dB: of the piece farthest off; prec, rec, F1: onsets; F1/ref: over the reference's "
    "own;\njump: at window boundaries over elsewhere; ×rt: × realtime"
)
OPINION_LEGEND = "Zimt, ViSQ: opinion scores (5 and 4.75 are equal); FAD: Fréchet distance of features, all pieces"


def table_of(report: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Headings and rows; the first cell says whose a row is. A row of one cell heads those of a piece, or of all."""
    recordings, measures = report["recordings"], _measures(report)
    groups = [(piece["name"], [item["pieces"][i] for item in recordings]) for i, piece in enumerate(report["pieces"])]
    groups.append(("all pieces", [item["mean"] for item in recordings]))
    rows = []
    for name, values in groups:
        rows.append([one_line(name)])
        for item, row in zip(recordings, values, strict=True):
            rows.append([f"  {one_line(item['label'])}", *(cell(measure, row) for measure in measures)])
    return ["", *(COLUMNS[measure] for measure in measures)], rows


def legend_of(report: Mapping[str, Any]) -> list[str]:
    """What the headings stand for, and which targets are met."""
    legends = [LEGEND, OPINION_LEGEND] if set(OPTIONAL) & set(_measures(report)) else [LEGEND]
    return [*legends, *_verdicts(report)]


def _measures(report: Mapping[str, Any]) -> list[str]:
    means = [item["mean"] for item in report["recordings"]]
    return [name for name in COLUMNS if name not in OPTIONAL or any(mean[name] is not None for mean in means)]


def _verdicts(report: Mapping[str, Any]) -> Iterator[str]:
    for item in report["recordings"]:
        missed = [COLUMNS[name] for name, is_met in item.get("meets", {}).items() if is_met is False]
        if item["kind"] == "render":
            yield one_line(
                f"{item['label']}: {'misses the target of ' + ', '.join(missed) if missed else 'no target missed'}"
            )
