import json
from dataclasses import fields, replace
from pathlib import Path

import pytest
from command_line import specdiff
from random_voices import write_voice_folder

from specdiff_cli.evaluation import speed
from specdiff_cli.evaluation.speed_report import Report
from specdiff_cli.model.config import REFERENCE_CONFIGS


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "MATMUL_S", 0.01)


def test_json_has_every_figure(tmp_path: Path) -> None:
    voice = write_voice_folder(tmp_path / "voice")
    words = ["benchmark", "--model", str(voice), "--seconds", "1", "--steps", "1", "--threads", "1", "--json"]
    result = specdiff(*words)
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert set(report) == {field.name for field in fields(Report)}
    assert (report["steps"], report["batch"], report["device"], report["n_threads"]) == (1, 1, "cpu", 1)


def test_the_table_names_the_machine_and_the_speed(tmp_path: Path) -> None:
    voice = write_voice_folder(tmp_path / "voice")
    words = ["benchmark", "--model", str(voice), "--seconds", "1", "--preset", "draft", "--batch", "2"]
    result = specdiff(*words)
    assert result.exit_code == 0, result.stderr
    for text in ("cpu float32", "× realtime", "10 dpm++2m steps", "2 songs side by side", "vocoder", "peak memory"):
        assert text in result.stdout


def test_a_voice_of_note_templates_has_no_steps_to_time() -> None:
    result = specdiff("benchmark", "--seconds", "1", env={"COLUMNS": "60"})
    assert result.exit_code == 0, result.stderr
    assert "from note templates · 1 song" in result.stdout
    assert not [text for text in ("frame by frame", "a step", "FLOP") if text in result.stdout]
    assert max(map(len, result.stdout.splitlines())) <= 60


def test_8_bits_and_an_autoregressive_voice(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("small", "small-autoregressive"):
        config = replace(
            REFERENCE_CONFIGS[name], d_model=32, n_heads=2, d_kv=16, d_ff=48, n_note_layers=1, n_decoder_layers=3
        )
        monkeypatch.setitem(REFERENCE_CONFIGS, name, config)
    words = ["benchmark", "--random-weights", "--seconds", "1", "--vocoder", "griffin-lim", "--model"]
    monkeypatch.setattr("specdiff_cli.model.precision.has_8_bit_products", lambda: True)
    result = specdiff(*words, "small", "--dtype", "int8", "--steps", "1")
    assert result.exit_code == 0, result.stderr
    assert "cpu int8" in result.stdout
    result = specdiff(*words, "small-autoregressive")
    assert result.exit_code == 0, result.stderr
    assert "frame by frame · 1 song" in result.stdout
    assert "a frame" in result.stdout
    assert "% of a matrix product's" in " ".join(result.stdout.split())
    result = specdiff(*words, "small-autoregressive", "--steps", "5")
    assert result.exit_code == 2
    assert "has no diffusion steps" in result.stderr


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
    result = specdiff("benchmark", *words)
    assert result.exit_code == 2
    assert message in result.stderr
