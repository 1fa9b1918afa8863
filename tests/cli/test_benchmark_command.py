import json
from dataclasses import fields
from pathlib import Path

import pytest
from random_voices import write_voice_folder
from typer.testing import CliRunner

from specdiff_cli import benchmark
from specdiff_cli.benchmark import Report
from specdiff_cli.cli.app import app


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "MATMUL_S", 0.01)


def test_json_has_every_figure(tmp_path: Path) -> None:
    voice = write_voice_folder(tmp_path / "voice")
    words = ["benchmark", "--model", str(voice), "--seconds", "1", "--steps", "1", "--threads", "1", "--json"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert set(report) == {field.name for field in fields(Report)}
    assert (report["steps"], report["batch"], report["device"], report["n_threads"]) == (1, 1, "cpu", 1)


def test_the_table_names_the_machine_and_the_speed(tmp_path: Path) -> None:
    voice = write_voice_folder(tmp_path / "voice")
    words = ["benchmark", "--model", str(voice), "--seconds", "1", "--preset", "draft", "--batch", "2"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.stderr
    for text in ("cpu float32", "× realtime", "10 dpm++2m steps", "2 songs side by side", "vocoder", "peak memory"):
        assert text in result.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seconds", "0"], "--seconds 0: must be above 0"),
        (["--steps", "0"], "--steps 0: must be between"),
        (["--batch", "0"], "--batch 0: must be between"),
        (["--device", "gpu"], "--device gpu: is not one of"),
        (["--preset", "fast"], "--preset fast: is not one of draft"),
        (["--sampler", "euler"], "--sampler euler: is not one of ddpm, ddim, dpm++2m"),
        (["--random-weights", "--model", "huge"], "the known sizes are tiny"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_bad_options_are_usage_errors(words: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["benchmark", *words])
    assert result.exit_code == 2
    assert message in result.stderr
