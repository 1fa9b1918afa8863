"""``specdiff inspect-wav``: what a file of audio holds, where it comes from, and whether it is complete."""

import json
import math
import sys
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from specdiff_cli.cli import shared_options as shared
from specdiff_cli.cli.guard import shown
from specdiff_cli.cli.progress import clock, fail, one_line, print_tables, say
from specdiff_cli.cli.tables import facts, screen_width
from specdiff_cli.errors import ExitCode, SpecdiffError
from specdiff_cli.files import reason
from specdiff_cli.rendering.inputs import named
from specdiff_cli.streams import seekable
from specdiff_cli.wording import count

if TYPE_CHECKING:
    from specdiff_cli.audio.record import AudioFile


def inspect_wav(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="Audio files; - is standard input.", show_default=False)
    ],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per file, on one line.")] = False,
    debug: shared.Debug = False,
) -> None:
    """Show how a WAV or FLAC file was made, and whether it is complete.

    Files that specdiff rendered carry a record: the input and its sha256,
    the voice and the sha256 of its weights, every option that changes the
    sound, device, precision and versions. Any audio file is accepted.

    \b
    Examples:
      specdiff inspect-wav song.wav
      specdiff inspect-wav rendered/*.flac --json | jq -r '.record.model.name'

    \b
    Exit codes: 0 done, 1 some of several files failed, 2 usage,
    3 a file that cannot be read, or is not complete.
    """
    paths = named(files)
    errors: list[SpecdiffError] = []
    for position, path in enumerate(paths):
        try:
            _inspect(path, as_json, is_first=position == 0)
        except SpecdiffError as error:
            if len(paths) == 1:
                raise
            if debug:
                traceback.print_exc()
            fail(shown(error))
            errors.append(error)
    if errors:
        say(f"{len(errors)} of {len(paths)} files are not complete audio files")
        raise typer.Exit(ExitCode.FAILURE)


def _inspect(path: Path, as_json: bool, *, is_first: bool) -> None:
    from specdiff_cli.audio.record import AudioFileError, inspect_audio

    try:
        with seekable(path) as copy:
            audio = inspect_audio(copy, name=str(path))
    except OSError as error:
        raise AudioFileError(f"{path}: cannot be read ({reason(error)})") from None
    if as_json:
        typer.echo(json.dumps(describe(path, audio)))
    else:
        if not is_first:
            typer.echo()
        _print_audio(path, audio)
    if audio.problem is not None:
        sys.stdout.flush()
        raise AudioFileError(f"{path}: is not what was rendered: {audio.problem}; render it again")


def describe(path: Path, audio: "AudioFile") -> dict[str, Any]:
    """Everything the command reports, ready for JSON."""
    known = asdict(audio)
    return {
        "file": str(path),
        **{key: value for key, value in known.items() if key not in ("record", "problem")},
        "loudness_lufs": None if audio.loudness_lufs is None else round(audio.loudness_lufs, 2),
        "duration_s": round(audio.n_samples / audio.sample_rate_hz, 6),
        # Only a record says how much there should be.
        "complete": None if audio.record is None and audio.problem is None else audio.problem is None,
        "problem": audio.problem,
        "record": audio.record,
    }


def _print_audio(path: Path, audio: "AudioFile") -> None:
    from rich.text import Text

    rows = ((name, one_line(value)) for name, value in _rows(audio))
    print_tables(Text(one_line(str(path)), style="bold", overflow="fold"), facts(screen_width(), rows))


def _rows(audio: "AudioFile") -> list[tuple[str, str]]:
    channels = {1: "mono", 2: "stereo"}.get(audio.n_channels, f"{audio.n_channels} channels")
    level = f"{20 * math.log10(audio.peak):.1f} dBFS" if audio.peak > 0 else "silence"
    rows = [
        ("Length", f"{clock(audio.n_samples / audio.sample_rate_hz)} ({audio.n_samples} samples)"),
        ("Format", f"{audio.file_format} {audio.subtype}, {audio.sample_rate_hz} Hz, {channels}"),
        ("Peak", f"{audio.peak:.4f} ({level})"),
    ]
    if audio.loudness_lufs is not None:
        rows.append(("Loudness", f"{audio.loudness_lufs:.1f} LUFS"))
    if audio.n_not_finite:
        rows.append(("Damaged", f"{count(audio.n_not_finite, 'sample')} no finite number"))
    if audio.record is None:
        return [*rows, ("Made by", "unknown: it holds no record of specdiff")]
    rows.append(("Complete", "yes" if audio.problem is None else f"no: {audio.problem}"))
    for key, value in audio.record.items():
        rows += _record_rows(key, value)
    return rows


def _record_rows(key: str, value: object) -> list[tuple[str, str]]:
    if isinstance(value, dict):
        return [row for name, item in value.items() for row in _record_rows(f"{key} {name}", item)]
    return [(key.capitalize(), str(value))]
