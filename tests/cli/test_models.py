"""``specdiff models``: the list, one model, and both as JSON."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from architectures import write_architecture_folder
from command_line import specdiff
from random_voices import write_voice_folder

import specdiff_cli
from specdiff_cli.cli.tables import print_columns
from specdiff_cli.cli.weights import models_app

app = typer.Typer()
app.add_typer(models_app)


@app.command("other")
def _other() -> None:
    """A second command, so that `models` is one of several."""


def run(*arguments: str) -> str:
    result = specdiff("models", *arguments, env={"COLUMNS": "100"})
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


def test_the_list_is_a_table() -> None:
    lines = run().splitlines()
    assert lines[0].split() == ["NAME", "STATE", "SOURCE", "SIZE", "HASHES", "LICENCE", "INSTRUMENTS"]
    rows = {tuple(line.split()[:3]): line for line in lines[1:]}
    assert list(rows) == [
        ("tiny", "bundled", "package"),
        ("base", "available", "huggingface"),
        ("base", "available", "gcs"),
        ("small", "available", "gcs"),
    ]
    assert "verified" in rows["tiny", "bundled", "package"]
    assert "~1.71 GB  pinned         Apache-2.0  34, drums" in rows["base", "available", "huggingface"]
    assert len({line.index("Apache-2.0") for line in lines[1:]}) == 1  # columns
    assert all(len(line) <= 80 for line in lines)


def test_a_narrow_screen_gets_a_list(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    print_columns(("NAME", "HASHES"), [("tiny", "verified"), ("base", "one hash " * 6)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["NAME             tiny", "HASHES           verified", ""]
    assert all(len(line) <= 40 for line in lines)


def test_the_list_as_json() -> None:
    entries = json.loads(run("--json"))
    tiny = entries[0]
    assert (tiny["model"], tiny["state"], tiny["hashes"], tiny["license"]) == (
        *("tiny", "bundled", "verified", "Apache-2.0"),
    )
    assert tiny["size_bytes"] == sum(path.stat().st_size for path in Path(tiny["folder"]).iterdir() if path.is_file())
    assert "files" not in tiny


def test_one_model() -> None:
    text = run("show", "tiny")
    for words in (
        "note templates as a function of time; 9 drum kits",
        "13.1 million",
        "hop 320 samples",
        "nothing is sampled",
        "partials (dim 256",
        "file model.safetensors, 26.2 MB, verified",
        "gains.safetensors, 856 kB, verified",
    ):
        assert words in " ".join(text.split())
    assert "\nfile             model.safetensors" in text
    folder = str(Path(specdiff_cli.__file__).parent)  # a path is one word, however long
    assert all(len(line) <= 100 for line in text.splitlines() if folder not in line)


def test_one_model_as_json() -> None:
    base = json.loads(run("show", "base", "--json"))
    assert base["state"] == "available"
    assert base["n_parameters"] == 411_665_664
    assert base["model"]["d_model"] == 768
    assert base["sampling"]["steps"] == 100
    assert base["presets"]["paper"]["guidance"] == 2.0
    assert base["vocoder"] == {"name": "soundstream"}
    assert len(base["plays"]["programs"]) == 34 and base["plays"]["drums"]
    files = {file["path"]: file for file in base["files"]}
    assert files["melgan/model.onnx"]["size_bytes"] == 60_487_709
    assert files["melgan/model.onnx"]["sha256"].startswith("0f7bfb7c042c")
    assert "specdiff download-weights base --source gcs --allow-unpinned" in base["download_commands"]


def test_a_folder(tmp_path: Path) -> None:
    folder = write_voice_folder(tmp_path / "mine", "mine")
    with (folder / "voice.toml").open("a") as file:
        file.write('[presets.draft]\nsteps = 3\nsampler = "ddim"\nschedule = "magenta"\nmeaning = "in a hurry"\n')
        file.write("guidance = 2\nguidance_interval = [0.2, 1]\n")
    text = run("show", str(folder))
    words = "preset draft 3 steps of ddim, magenta schedule, guidance 2 at times 0.2-1: in a hurry (its own)"
    assert words in " ".join(text.split())
    assert "preset paper" in text
    assert "acoustic piano\n" in text and "no drums\n" in text


def test_an_autoregressive_folder_has_no_presets(tmp_path: Path) -> None:
    text = run("show", str(write_architecture_folder(tmp_path / "ar")))
    assert "autoregressive" in text and "one step per frame" in text
    assert "preset" not in text


@pytest.mark.parametrize("name", ["tinny", "no\nname", ""])
def test_what_is_no_model_is_one_line(name: str) -> None:
    result = specdiff("models", "show", name)
    assert (result.exit_code, result.stdout) == (4, "")
    assert len(result.stderr.splitlines()) == 1
    assert "nor a folder of weights" in result.stderr


def test_help_shows_examples() -> None:
    assert "specdiff models show tiny" in run("--help")
    assert "specdiff models show base" in run("show", "--help")


@pytest.mark.parametrize("arguments", [["models"], ["models", "show", "tiny"], ["models", "show", "base", "--json"]])
def test_nothing_heavy_is_loaded(arguments: list[str]) -> None:
    code = (
        "import sys, typer\n"
        "from specdiff_cli.cli.weights import models_app\n"
        "app = typer.Typer(); app.add_typer(models_app); app.command('other')(lambda: None)\n"
        f"app({arguments!r}, standalone_mode=False)\n"
        "heavy = {'torch', 'numpy', 'onnxruntime', 'soundfile', 'safetensors', 'mido', 'scipy'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "[]\n")


def test_instruments_are_listed_with_the_names_that_options_take() -> None:
    from specdiff_cli.midi.instruments import find_instrument

    result = specdiff("models", "instruments", "--json")
    listed = json.loads(result.stdout)
    assert [row["program"] for row in listed] == list(range(128))
    for row in listed:
        assert find_instrument(row["name"]).program == row["program"]
    lines = specdiff("models", "instruments").stdout.splitlines()
    assert lines[41].split() == ["40", "Violin", "violin"]
    assert lines[-1].startswith("families: piano, ") and lines[-1].endswith("; drums")
