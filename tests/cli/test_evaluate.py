"""The command, with a tiny random voice and a ready reference."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from architectures import write_architecture_folder
from command_line import specdiff
from midi_files import midi_bytes, note
from random_voices import write_voice_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "midi").mkdir()
    (tmp_path / "midi" / "a.mid").write_bytes(midi_bytes(note(0, 240, 0, 60)))
    noise = np.random.default_rng(0).normal(0, 0.1, 16_000)
    soundfile.write(tmp_path / "midi" / "a.wav", noise, 16_000)
    write_voice_folder(tmp_path / "voice")
    return tmp_path


def run(folder: Path, *arguments: str) -> Any:
    base = ["evaluate", str(folder / "voice"), "--midi", str(folder / "midi"), "--threads", "1", "--device", "cpu"]
    return specdiff(*base, *arguments)


def test_a_table_on_stdout_and_a_report(folder: Path) -> None:
    result = run(folder, "--no-transcriber", "--steps", "2,1", "-o", str(folder / "report"))
    assert result.exit_code == 0, result.stderr
    for text in ("all pieces", "reference", "random: vocoder only", "random, 1 step", "random, 2 steps", "misses"):
        assert text in result.stdout
    assert "× realtime" in result.stderr
    assert (folder / "report" / "report.html").is_file()
    data = json.loads((folder / "report" / "report.json").read_text())
    assert data["circumstances"]["transcriber"] is None
    assert set(data["circumstances"]["voices"][0]["sha256"]) == {"model.safetensors", "voice.toml"}
    render = data["recordings"][-1]
    assert (render["steps"], render["seed"], render["device"], render["dtype"]) == (2, 0, "cpu", "float32")
    assert render["mean"]["onset_f1"] is None


def test_json_on_stdout_and_voices_of_one_name_side_by_side(folder: Path) -> None:
    write_voice_folder(folder / "other")
    result = run(folder, "--no-transcriber", "--json", "-q", "--compare", str(folder / "other"))
    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    report = json.loads(result.stdout)
    labels = ["reference", "voice: vocoder only", "voice, 2 steps", "other: vocoder only", "other, 2 steps"]
    assert [item["label"] for item in report["recordings"]] == labels


def test_autoregressive_voices_are_measured_without_steps(folder: Path) -> None:
    voice = str(write_architecture_folder(folder / "frames"))
    result = run(folder, "--no-transcriber", "--json", "-q", "--compare", voice)
    assert result.exit_code == 0, result.stderr
    assert "small-autoregressive: vocoder only" in result.stdout
    result = run(folder, "--no-transcriber", "--compare", voice, "--guidance", "0")
    assert result.exit_code == 2
    assert "--guidance: the voice small-autoregressive is autoregressive" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["--steps", "1,x"], 2, "--steps 1,x"),
        (["--steps", "0"], 2, "--steps 0"),
        (["--max-seconds", "0"], 2, "--max-seconds"),
        (["--sampler", "euler"], 2, "--sampler euler"),
        (["--gain", "0"], 2, "--gain"),
        (["--sounds"], 2, "plays its own notes"),
        (["--soundfont", "none.sf2"], 2, "none.sf2"),
        (["--device", "abacus"], 2, "--device abacus"),
        (["--midi", "none.mid"], 3, "none.mid"),
        (["--compare", "nobody"], 4, "nobody"),
        (["-o", "."], 5, "--overwrite"),
    ],
)
def test_bad_input_is_one_line(folder: Path, arguments: list[str], code: int, text: str) -> None:
    result = run(folder, "--no-transcriber", *arguments)
    assert result.exit_code == code
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert text in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_missing_transcriber_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("specdiff_cli.evaluation.transcriber.PACKAGE", "no_such_package")
    result = run(folder)
    assert result.exit_code == 2
    assert "pip install --no-deps basic-pitch" in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_folder_without_music_is_one_line(folder: Path) -> None:
    (folder / "empty").mkdir()
    result = run(folder, "--no-transcriber", "--midi", str(folder / "empty"))
    assert result.exit_code == 3
    assert "no MIDI file" in result.stderr


def test_help_loads_at_once_and_says_how_to_get_the_transcriber() -> None:
    result = specdiff("evaluate", "--help")
    assert result.exit_code == 0
    assert "basic-pitch" in result.stdout
