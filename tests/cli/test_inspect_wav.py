"""``specdiff inspect-wav``, and what tells a complete file from another."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from command_line import specdiff
from typer.testing import Result

from specdiff_cli.audio.wav import AtomicWriter

RECORD = {"program": "specdiff", "version": "9.9", "input": {"name": "a\n.mid"}, "options": {"seed": 3}}


def run(*arguments: str | Path) -> Result:
    return specdiff("inspect-wav", *arguments)


def rendered(path: Path) -> Path:
    with AtomicWriter(path, file_format=path.suffix[1:], record=RECORD, expected_samples=32_000) as writer:
        writer.write(np.sin(np.arange(32_000)) / 2)
    return path


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_shows_how_a_file_was_made(tmp_path: Path, suffix: str) -> None:
    path = rendered(tmp_path / f"a.{suffix}")
    result = run(path)
    assert result.exit_code == 0, result.stderr
    words = result.stdout.split()
    for row in (
        "Length 0:02 (32000 samples)",
        f"Format {suffix.upper()} PCM_16, 16000 Hz, mono",
        "Peak 0.5000 (-6.0 dBFS)",
        "Loudness -6.1 LUFS",  # -9.03 dB of a sine of 0.5, +3.66 dB at 2.5 kHz, the standard's -0.69
        "Complete yes",
        "Input name a\\n.mid",  # a name cannot write to the terminal
        "Options seed 3",
    ):
        assert row in " ".join(words)
    told = json.loads(run(path, "--json").stdout)
    assert (told["file"], told["complete"], told["n_samples"]) == (str(path), True, 32_000)
    assert told["record"] | {"audio_sha256": ""} == RECORD | {"samples": 32_000, "audio_sha256": ""}


def test_a_cut_file_is_a_failure(tmp_path: Path) -> None:
    path = rendered(tmp_path / "a.wav")
    path.write_bytes(path.read_bytes()[:-1000])
    result = run(path, "--json")
    assert result.exit_code == 3
    assert json.loads(result.stdout)["complete"] is False
    assert "is cut off: 63000 of 64000 bytes" in result.stderr
    assert "no: it is cut off" in run(path).stdout


def test_files_of_others(tmp_path: Path) -> None:
    path = tmp_path / "other.ogg"
    soundfile.write(path, np.zeros((100, 2)), 44_100)
    result = run(path)
    assert result.exit_code == 0
    assert "44100 Hz, stereo" in result.stdout
    assert "unknown: it holds no record" in result.stdout
    assert json.loads(run(path, "--json").stdout)["complete"] is None


def test_stereo_files_of_ours_are_complete(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    with AtomicWriter(path, record=RECORD, sample_rate_hz=48_000, n_channels=2) as writer:
        writer.write(np.zeros((48_000, 2)))
    told = json.loads(run(path, "--json").stdout)
    assert (told["n_samples"], told["n_channels"], told["duration_s"], told["complete"]) == (48_000, 2, 1.0, True)
    assert (told["peak"], told["loudness_lufs"], told["n_not_finite"]) == (0.0, None, 0)


def test_samples_that_are_no_numbers_are_told(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    audio = np.full((100, 3), 0.25)
    audio[3, 1], audio[7, 2], audio[8, 2] = np.nan, np.inf, -np.inf
    soundfile.write(path, audio, 16_000, subtype="FLOAT")
    words = " ".join(run(path).stdout.split())
    assert "Damaged 3 samples no finite number" in words
    assert "Peak 0.2500" in words
    told = json.loads(run(path, "--json").stdout)
    assert (told["n_not_finite"], told["peak"]) == (3, 0.25)


@pytest.mark.parametrize(("content", "message"), [(None, "No such file"), (b"text", "is not an audio file")])
def test_what_cannot_be_read(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "a.wav"
    if content is not None:
        path.write_bytes(content)
    result = run(path)
    assert result.exit_code == 3
    (line,) = result.stderr.splitlines()
    assert message in line
    result = run(path, rendered(tmp_path / "b.wav"))
    assert result.exit_code == 1
    assert "1 of 2 files are not complete audio files" in result.stderr
    assert "0:02" in result.stdout


def test_a_comment_of_another_program_is_no_record(tmp_path: Path) -> None:
    for comment in ("hello", "[1]", '{"program": "other"}', '{"program": "specdiff"}'):
        path = tmp_path / "a.flac"
        with soundfile.SoundFile(path, "w", 16_000, 1) as file:
            file.comment = comment
            file.write(np.zeros(100))
        assert json.loads(run(path, "--json").stdout)["record"] is None
