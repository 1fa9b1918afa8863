"""Opinion scores: what listeners would say of a recording beside its reference, as two models of hearing predict it.

- Zimtohrli (Alakuijala et al., "Zimtohrli: An Efficient Psychoacoustic Audio Similarity Metric", 2025): 5 is equal.
- ViSQOL v3 in audio mode (Chinen et al., "ViSQOL v3: An Open Source Production Ready Objective Speech and Audio
  Metric", QoMEX 2020), in its Python port: about 4.75 is equal.

Both hear 48 kHz. Neither was made for synthesizers: phases and beats that differ cost points though nobody minds them.
"""

import contextlib
import importlib.util
import io
import logging
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray

from specdiff_cli.errors import Option, UsageError

RATE_HZ = 48_000
#: Module -> package, and what to do where its wheel is missing.
PACKAGES = {"zimtohrli": "zimtohrli", "visqol": "visqol-python"}
EXTRA = "opinion"


@dataclass(frozen=True)
class OpinionScores:
    """Mean opinion scores from 1 to 5; larger is better. None where a model cannot judge the recording."""

    zimtohrli: float | None
    visqol: float | None


def check_installed() -> None:
    """Raises UsageError that says how to get what is missing."""
    missing = [package for module, package in PACKAGES.items() if importlib.util.find_spec(module) is None]
    if missing:
        python = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise UsageError(
            f"opinion scores need {' and '.join(missing)}: run \"pip install '.[{EXTRA}]'\" in a copy of specdiff. "
            f"Where pip finds no wheel for Python {python} on this system, use a Python that has one (CPython 3.11 on "
            "Linux does), or leave out ",
            Option("opinion"),
            option="opinion",
        )


class Opinion:
    """Both models, loaded once. Raises UsageError when one is not installed or cannot be loaded."""

    def __init__(self) -> None:
        check_installed()
        try:
            import zimtohrli
            from visqol import VisqolApi
        except (ImportError, OSError) as error:
            detail = (str(error).splitlines() or [""])[0][:120]
            raise UsageError(f"opinion scores: an installed package cannot be loaded ({detail})") from None
        self._zimtohrli: Any = zimtohrli
        self._visqol: Any = VisqolApi()
        logging.getLogger("visqol").setLevel(logging.ERROR)
        with contextlib.redirect_stdout(io.StringIO()):
            self._visqol.create(mode="audio")

    def scores(self, reference: NDArray[np.float32], other: NDArray[np.float32], sample_rate_hz: int) -> OpinionScores:
        """Of two mono recordings (n_samples,) of one length and rate."""
        if len(reference) != len(other):
            raise ValueError(f"recordings of {len(reference)} and {len(other)} samples")
        ours, theirs = (soxr.resample(audio, sample_rate_hz, RATE_HZ) for audio in (other, reference))
        return OpinionScores(
            zimtohrli=float(self._zimtohrli.mos_from_signals(theirs, ours)), visqol=self._visqol_score(theirs, ours)
        )

    def _visqol_score(self, reference: NDArray[np.float32], other: NDArray[np.float32]) -> float | None:
        """None where ViSQOL finds nothing to compare: silence, or less than half a second."""
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # standard output is the report's
                result = self._visqol.measure_from_arrays(
                    reference.astype(np.float64), other.astype(np.float64), RATE_HZ
                )
        except (ValueError, RuntimeError, IndexError):
            return None
        return float(result.moslqo) if np.isfinite(result.moslqo) else None
