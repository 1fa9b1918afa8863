"""``specdiff convert``: what it says, what it refuses, and that its voices sound as the checkpoints do."""

import json
from pathlib import Path

import pytest
import soundfile
import torch
from command_line import specdiff
from lightning_checkpoints import HIGH, LOW, lightning_weights
from midi_files import midi_bytes, note
from random_voices import REFERENCE_LIKE, WITHOUT_CONTEXT, write_diffusers_folder, write_voice_folder
from t5x_checkpoints import AUTOREGRESSIVE, t5x_weights, write_t5x, zipped
from typer.testing import Result

from specdiff_cli.model.config import ModelConfig
from specdiff_cli.weights.lock import file_sha256
from specdiff_cli.weights.voice_file import read_voice_file


def run(*arguments: str | Path) -> Result:
    return specdiff("convert", *arguments)


def rendered(folder: Path, model: Path, *options: str) -> bytes:
    song = folder / "song.mid"
    song.write_bytes(midi_bytes(note(0, 480, 0, 60)))
    out = folder / "out.wav"
    result = specdiff("render", song, "-o", out, "--model", model, "-q", "-f", "--threads", "1", *options)
    assert result.exit_code == 0, result.stderr
    return bytes(soundfile.read(out, dtype="int16")[0].tobytes())  # the sound without the record of how it was made


def test_a_zip_becomes_a_voice_and_the_summary_says_what_it_was(tmp_path: Path) -> None:
    pytest.importorskip("msgpack")
    path = zipped(write_t5x(tmp_path / "small", t5x_weights(WITHOUT_CONTEXT), zarr=True), tmp_path / "small.zip")
    result = run(
        path, tmp_path / "voice", "--name", "mine", "--licence", "Apache-2.0", "--source", "a bucket", "--json"
    )
    assert result.exit_code == 0, result.stderr
    described = read_voice_file(tmp_path / "voice" / "voice.toml")
    assert (described.name, described.license, described.source) == ("mine", "Apache-2.0", "a bucket")
    told = json.loads(result.stdout)
    assert told["layout"] == "T5X (Zarr)"
    assert told["read"] == {"small.zip": file_sha256(path)}
    assert told["written"] == dict(described.hashes)
    assert told["model"]["d_model"] == 64
    lines = result.stderr.splitlines()
    assert lines[0] == f"reading {path}"
    assert any(line.startswith("architecture  d_model 64, 3 x 16, 2 layers, no context, ") for line in lines)
    assert any(file_sha256(path) in line for line in lines)
    assert any("no vocoder" in line for line in lines)


def test_quiet_says_nothing_and_the_defaults_claim_nothing(tmp_path: Path) -> None:
    folder = write_diffusers_folder(tmp_path / "theirs")
    result = run(folder, tmp_path / "voice", "-q")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    described = read_voice_file(tmp_path / "voice" / "voice.toml")
    assert (described.name, described.license) == ("voice", "unknown")
    assert "the licence of these weights is not known" in run(folder, tmp_path / "again").stderr


def test_a_converted_voice_gives_the_bytes_of_its_source(tmp_path: Path) -> None:
    folder = write_diffusers_folder(tmp_path / "theirs", WITHOUT_CONTEXT)
    assert run(folder, tmp_path / "voice").exit_code == 0
    assert run(tmp_path / "voice", tmp_path / "back", "--to", "diffusers").exit_code == 0
    sounds = {rendered(tmp_path, tmp_path / name, "--steps", "2") for name in ("theirs", "voice", "back")}
    assert len(sounds) == 1
    assert any(sounds.pop())


@pytest.mark.parametrize(
    "config", [REFERENCE_LIKE, WITHOUT_CONTEXT, AUTOREGRESSIVE], ids=["context", "no context", "autoregressive"]
)
def test_a_voice_from_t5x_renders(tmp_path: Path, config: ModelConfig) -> None:
    pytest.importorskip("msgpack")
    path = write_t5x(tmp_path / "small", t5x_weights(config))
    assert run(path, tmp_path / "voice").exit_code == 0
    steps = [] if config.is_autoregressive else ["--steps", "2"]
    assert any(rendered(tmp_path, tmp_path / "voice", *steps))


def test_a_voice_from_a_lightning_checkpoint_renders(tmp_path: Path) -> None:
    state = {key: torch.from_numpy(value) for key, value in lightning_weights().items()}
    torch.save({"epoch": 1, "state_dict": state}, tmp_path / "last.ckpt")
    result = run(tmp_path / "last.ckpt", tmp_path / "voice", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["layout"] == "PyTorch Lightning"
    described = read_voice_file(tmp_path / "voice" / "voice.toml")
    assert described.model.feature_range == (LOW, HIGH)
    assert described.vocabulary["max_shift_steps"] == 513
    assert "log_mel_max" not in described.features
    assert any(rendered(tmp_path, tmp_path / "voice", "--steps", "2"))


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["SRC", "DST", "--to", "onnx"], 2, "--to onnx: is not one of voice, diffusers"),
        (["SRC", "DST", "--to", "diffusers", "--licence", "MIT"], 2, "--licence 'MIT': goes with --to voice"),
        (["SRC", "DST", "--name", " "], 2, "--name ' ': must be a text of one line"),
        (["SRC", "DST", "--source", "a\nb"], 2, "--source 'a\\nb': must be a text of one line"),
        (["VOICE", "DST"], 2, "is a voice already"),
        (["VOICE", "DST", "--to", "diffusers"], 2, "has a note layout, the objective v, velocities, for which"),
        (["SRC", "VOICE"], 5, "exists already: use --overwrite"),
        (["missing.zip", "DST"], 4, "missing.zip: does not exist; give a checkpoint's file, zip or folder"),
        (["base", "DST"], 4, "specdiff download-weights base"),
    ],
)
def test_refusals_are_one_line(tmp_path: Path, arguments: list[str], code: int, message: str) -> None:
    places = {"SRC": tmp_path / "src", "DST": tmp_path / "dst", "VOICE": tmp_path / "voice"}
    write_diffusers_folder(places["SRC"])
    write_voice_folder(places["VOICE"])
    result = run(*[places.get(word, word) for word in arguments], "-q")
    assert result.exit_code == code, result.stderr
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not places["DST"].exists()


def test_the_extra_is_named_where_its_package_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("msgpack")
    path = write_t5x(tmp_path / "small", t5x_weights(WITHOUT_CONTEXT))
    monkeypatch.setitem(__import__("sys").modules, "msgpack", None)
    result = run(path, tmp_path / "voice", "-q")
    assert result.exit_code == 4
    assert result.stderr.rstrip().endswith("needs msgpack: run \"pip install '.[convert]'\" in a copy of specdiff")
