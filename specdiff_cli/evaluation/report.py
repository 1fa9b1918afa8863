"""What an evaluation found, as data, and as a folder with a page to look at and to listen to."""

import json
import os
import re
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from specdiff_cli import __version__
from specdiff_cli.audio.wav import AtomicWriter
from specdiff_cli.errors import Option, OutputError
from specdiff_cli.evaluation.evaluate import Column, Evaluation, Piece, instruments_of
from specdiff_cli.evaluation.images import spectrogram_png
from specdiff_cli.evaluation.measures import Recording, Row, row, written_onsets
from specdiff_cli.evaluation.page import page
from specdiff_cli.files import hidden_by, shown_path

SCHEMA_VERSION = 1
DATA_FILE = "report.json"
PAGE_FILE = "report.html"

#: What the shipped voice aims at: measure -> (at least or at most, value).
TARGETS = {
    "zimtohrli": (">=", 3.6),
    "visqol": (">=", 4.3),
    "onset_f1_of_reference": (">=", 1.2),
    "log_mel_l1": ("<=", 0.3),
    "loudness_error_db": ("<=", 1.0),
    "boundary_jump": ("<=", 1.1),
    "x_realtime": (">=", 35.0),
}


def describe(evaluation: Evaluation, circumstances: Mapping[str, Any]) -> dict[str, Any]:
    """Everything, ready for JSON.

    ``recordings`` has one entry for the reference, each vocoder and each render, with a row of measures for each
    piece (``pieces``, in the order of the report's) and one for all of them (``mean``).
    """
    return {
        "schema_version": SCHEMA_VERSION,
        "specdiff": __version__,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "circumstances": dict(circumstances),
        "targets": {name: {"is": relation, "value": value} for name, (relation, value) in TARGETS.items()},
        "pieces": [_describe_piece(piece, evaluation.max_seconds) for piece in evaluation.pieces],
        "recordings": [_describe_column(evaluation, column) for column in evaluation.columns],
    }


def _describe_piece(piece: Piece, max_seconds: float) -> dict[str, Any]:
    duration_s = piece.duration_s(max_seconds)
    notes = [note for note in piece.song.notes if note.start_s < duration_s]
    return {
        "name": piece.name,
        "duration_s": duration_s,
        "n_notes": len(notes),
        "n_drum_notes": sum(note.is_drum for note in notes),
        "n_onsets": len(written_onsets(piece.song.notes, duration_s)),
        "instruments": instruments_of(notes),
        "reference": "rendered" if piece.audio is None else piece.audio.name,
    }


def _describe_column(evaluation: Evaluation, column: Column) -> dict[str, Any]:
    ceiling = evaluation.ceiling_of(column)
    reference = evaluation.columns[0].measured
    pieces = []
    for index, measured in enumerate(column.measured):
        ceiling_here = None if ceiling is None else [ceiling.measured[index]]
        entry: dict[str, Any] = {"piece": evaluation.pieces[index].name}
        entry |= asdict(row([measured], [reference[index]], ceiling_here))
        if column.kind == "render":
            entry |= {
                "n_dropped_events": measured.n_dropped_events,
                "instruments": list(measured.instruments),
                "changes": list(measured.changes),
            }
        pieces.append(entry)
    ceiling_measured = None if ceiling is None else ceiling.measured
    mean = row(column.measured, reference, ceiling_measured, evaluation.frechet_distance(column))
    described: dict[str, Any] = {"label": column.label, "kind": column.kind}
    if column.subject is not None:
        synthesizer = column.subject.synthesizer
        described |= {"voice": column.subject.label, "vocoder": synthesizer.vocoder.name}
        if column.sampling is not None:
            dtype = str(synthesizer.dtype).removeprefix("torch.")
            described |= asdict(column.sampling) | {"device": str(synthesizer.device), "dtype": dtype}
            described["meets"] = meets(mean)
    return described | {"mean": asdict(mean), "pieces": pieces}


def meets(mean: Row) -> dict[str, bool | None]:
    """Whether each target is met; None where it was not measured."""
    result: dict[str, bool | None] = {}
    for name, (relation, target) in TARGETS.items():
        value: float | None = getattr(mean, name)
        result[name] = None if value is None else value >= target if relation == ">=" else value <= target
    return result


class ReportFolder:
    """``report.html``, ``report.json``, ``audio/`` and ``images/``; appears under its name complete or not at all.

    Raises OutputError: the folder exists and ``overwrite`` is false, it is not a report, or it cannot be written.
    """

    def __init__(self, target: Path, overwrite: bool = False) -> None:
        self._target = target
        if (problem := hidden_by(target)) is not None:
            raise OutputError(f"{shown_path(target)}: cannot be written ({problem}); choose another folder")
        if os.path.lexists(target) and not overwrite:
            raise OutputError(f"{target}: exists already; use ", Option("overwrite"), " to replace it, or another name")
        if os.path.lexists(target) and not _is_replaceable(target):
            raise OutputError(f"{target}: is not a report, and is not replaced by one; choose another name")
        if not os.path.isdir(target.absolute().parent):
            raise OutputError(f"{target}: the folder {target.parent} does not exist, create it first")
        self._temporary = target.absolute().with_name(f".specdiff-{secrets.token_hex(6)}.tmp")
        self._files: dict[tuple[str, str], str] = {}

    def __enter__(self) -> Self:
        try:
            for name in ("audio", "images"):
                (self._temporary / name).mkdir(parents=True)
        except OSError as error:
            raise self._failure(error) from None
        return self

    def keep(self, piece: Piece, column: Column, recording: Recording) -> None:
        """Write a recording's sound and picture."""
        stem = f"{len(self._files):03d}-{_slug(piece.name)}-{_slug(column.label)}"
        self._files[piece.name, column.label] = stem
        try:
            (self._temporary / "images" / f"{stem}.png").write_bytes(spectrogram_png(recording.mel))
        except OSError as error:
            raise self._failure(error) from None
        with AtomicWriter(self._temporary / "audio" / f"{stem}.flac", file_format="flac") as writer:
            writer.write(recording.audio)

    def finish(self, report: Mapping[str, Any]) -> None:
        """Write the data and the page; the folder gets its name when the ``with`` block ends well."""
        try:
            text = json.dumps(report, indent=2, allow_nan=False) + "\n"
            (self._temporary / DATA_FILE).write_text(text, encoding="utf-8")
            (self._temporary / PAGE_FILE).write_text(page(report, self._files), encoding="utf-8")
        except OSError as error:
            raise self._failure(error) from None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._commit()
        except OSError as failure:
            raise self._failure(failure) from None
        finally:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def _commit(self) -> None:
        """Raises OSError."""
        aside = self._temporary.with_suffix(".old")
        if os.path.exists(self._target):
            os.rename(self._target, aside)
        os.rename(self._temporary, self._target)
        shutil.rmtree(aside, ignore_errors=True)

    def _failure(self, error: OSError) -> OutputError:
        return OutputError(f"{self._target}: cannot be written ({error.strerror or error}); choose another folder")


def _is_replaceable(target: Path) -> bool:
    """Is it a report, or a folder with nothing in it?"""
    try:
        return os.path.isfile(target / DATA_FILE) or not os.listdir(target)
    except OSError:
        return False


def _slug(text: str) -> str:
    """Letters, digits and hyphens, for a file name that needs no quoting anywhere."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40] or "piece"
