"""What ``convert`` writes: there and back again nothing changes, and nothing partial ever has the folder's name."""

import errno
import json
from pathlib import Path

import pytest
import torch
from random_voices import (
    OURS,
    REFERENCE_LIKE,
    WITHOUT_CONTEXT,
    random_network,
    write_diffusers_folder,
    write_voice_folder,
)
from safetensors import SafetensorError
from safetensors.torch import load_file
from t5x_checkpoints import AUTOREGRESSIVE, t5x_weights, write_t5x

from specdiff_cli.diffusion.sampling import AUTOREGRESSIVE_SAMPLING
from specdiff_cli.errors import OutputError, UsageError
from specdiff_cli.model.config import ModelConfig
from specdiff_cli.model.network import build_network
from specdiff_cli.weights import load, lock
from specdiff_cli.weights.checkpoints import target
from specdiff_cli.weights.checkpoints.source import read_source
from specdiff_cli.weights.checkpoints.target import About, write_diffusers, write_voice
from specdiff_cli.weights.load import Voice, load_diffusers_folder, load_voice_folder
from specdiff_cli.weights.lock import file_sha256, load_lock
from specdiff_cli.weights.voice_file import DIFFUSERS_SAMPLING, VocoderSpec, read_voice_file

ABOUT = About("mine", "random weights", "CC0-1.0", "a test")
DIFFUSION = {"context": REFERENCE_LIKE, "no context": WITHOUT_CONTEXT}


def a_voice(config: ModelConfig) -> Voice:
    network = build_network(config) if config.is_autoregressive else random_network(config)
    return Voice(
        name="random",
        folder=Path("nowhere"),
        network=network,
        sampling=DIFFUSERS_SAMPLING,
        vocoder=VocoderSpec("partials"),
    )


def assert_equal_networks(one: Voice, other: Voice) -> None:
    assert one.network.config == other.network.config
    theirs = other.network.state_dict()
    assert len(theirs) == len(one.network.state_dict())
    for key, tensor in one.network.state_dict().items():
        assert torch.equal(tensor, theirs[key]), key


@pytest.mark.parametrize("config", DIFFUSION.values(), ids=DIFFUSION)
def test_voice_to_diffusers_to_voice(tmp_path: Path, config: ModelConfig) -> None:
    voice = a_voice(config)
    write_voice(tmp_path / "a", voice, ABOUT, overwrite=False)
    write_diffusers(tmp_path / "b", read_source(str(tmp_path / "a")).voice, overwrite=False)
    write_voice(tmp_path / "c", read_source(str(tmp_path / "b")).voice, ABOUT, overwrite=False)
    assert_equal_networks(load_diffusers_folder(tmp_path / "b"), voice)
    first, last = ((tmp_path / name / "model.safetensors").read_bytes() for name in "ac")
    assert first == last
    assert read_voice_file(tmp_path / "a" / "voice.toml") == read_voice_file(tmp_path / "c" / "voice.toml")


@pytest.mark.parametrize("suffix", [".bin", ".safetensors"])
@pytest.mark.parametrize("config", DIFFUSION.values(), ids=DIFFUSION)
def test_diffusers_to_voice_to_diffusers(tmp_path: Path, config: ModelConfig, suffix: str) -> None:
    folder = write_diffusers_folder(tmp_path / "theirs", config, suffix)
    source = read_source(str(folder))
    write_voice(tmp_path / "voice", source.voice, ABOUT, overwrite=False)
    written = write_diffusers(tmp_path / "back", load_voice_folder(tmp_path / "voice"), overwrite=False)
    for part in ("notes_encoder", "decoder", "continuous_encoder")[: 2 + config.has_context]:
        name = f"{part}/diffusion_pytorch_model"
        load_theirs = load_file if suffix == ".safetensors" else load.read_tensors
        theirs, back = load_theirs(folder / f"{name}{suffix}"), load_file(tmp_path / "back" / f"{name}.safetensors")
        assert set(theirs) == set(back)
        assert all(torch.equal(theirs[key], back[key]) for key in theirs)
        assert source.hashes[f"{name}{suffix}"] == file_sha256(folder / f"{name}{suffix}")
        assert written[f"{name}.safetensors"] == file_sha256(tmp_path / "back" / f"{name}.safetensors")
    assert len(source.hashes) == len(written) == 2 + config.has_context


@pytest.mark.parametrize("config", [*DIFFUSION.values(), AUTOREGRESSIVE], ids=[*DIFFUSION, "autoregressive"])
def test_t5x_to_voice(tmp_path: Path, config: ModelConfig) -> None:
    pytest.importorskip("msgpack")
    source = read_source(str(write_t5x(tmp_path / "t5x", t5x_weights(config))))
    write_voice(tmp_path / "voice", source.voice, ABOUT, overwrite=False)
    voice = load_voice_folder(tmp_path / "voice")
    assert_equal_networks(voice, source.voice)
    assert voice.sampling == (AUTOREGRESSIVE_SAMPLING if config.is_autoregressive else DIFFUSERS_SAMPLING)
    assert voice.programs is None and voice.plays_drums


def test_a_voice_file_says_all_about_it(tmp_path: Path) -> None:
    write_voice(tmp_path / "voice", a_voice(REFERENCE_LIKE), ABOUT, overwrite=False)
    described = read_voice_file(tmp_path / "voice" / "voice.toml")
    assert described.model == REFERENCE_LIKE
    assert (described.name, described.description) == ("mine", "random weights")
    assert (described.license, described.source) == ("CC0-1.0", "a test")
    assert described.features["sample_rate_hz"] == 16_000
    assert described.vocabulary["n_ids"] == 1391
    assert described.hashes == {"model.safetensors": file_sha256(tmp_path / "voice" / "model.safetensors")}
    assert sorted(path.name for path in (tmp_path / "voice").iterdir()) == ["model.safetensors", "voice.toml"]


def test_the_soundstream_decoder_comes_along(tmp_path: Path) -> None:
    folder = write_diffusers_folder(tmp_path / "theirs")
    (folder / "melgan").mkdir()
    (folder / "melgan" / "model.onnx").write_bytes(b"a network")
    hashes = write_voice(tmp_path / "voice", load_diffusers_folder(folder), ABOUT, overwrite=False)
    assert sorted(hashes) == ["melgan/model.onnx", "model.safetensors"]
    voice = load_voice_folder(tmp_path / "voice")
    assert voice.vocoder.name == "soundstream"
    write_diffusers(tmp_path / "back", voice, overwrite=False)
    assert (tmp_path / "back" / "melgan" / "model.onnx").read_bytes() == b"a network"
    assert "OnnxRuntimeModel" in (tmp_path / "back" / "model_index.json").read_text()


def test_the_diffusers_folder_describes_its_parts(tmp_path: Path) -> None:
    write_diffusers(tmp_path / "a", a_voice(REFERENCE_LIKE), overwrite=False)
    index = json.loads((tmp_path / "a" / "model_index.json").read_text())
    assert index["_class_name"] == "SpectrogramDiffusionPipeline"
    assert index["melgan"] == [None, None]
    for part, expected in {
        "notes_encoder": {"max_length": 2048, "vocab_size": 1536, "num_layers": 2, "num_heads": 3, "d_kv": 16},
        "continuous_encoder": {"input_dims": 128, "targets_context_length": 256, "d_model": 64, "d_ff": 96},
        "decoder": {"targets_length": 256, "max_decoder_noise_time": 20000, "num_layers": 2, "d_kv": 16},
    }.items():
        assert index[part][0] == ("diffusers" if part == "decoder" else "spectrogram_diffusion")
        config = json.loads((tmp_path / "a" / part / "config.json").read_text())
        assert config["_class_name"] == index[part][1]
        assert expected.items() <= config.items()
    scheduler = json.loads((tmp_path / "a" / "scheduler" / "scheduler_config.json").read_text())
    assert (scheduler["beta_schedule"], scheduler["variance_type"]) == ("squaredcos_cap_v2", "fixed_large")


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (OURS, "a note layout, the objective v, velocities"),
        (AUTOREGRESSIVE, "an autoregressive decoder"),
        (ModelConfig(32, 2, 16, 48, 1, 1, 1, note_templates=True), "note templates"),
    ],
)
def test_what_the_diffusers_layout_has_no_place_for_is_refused(
    tmp_path: Path, config: ModelConfig, reason: str
) -> None:
    with pytest.raises(UsageError, match=f"to diffusers: the voice random has {reason}, for which"):
        write_diffusers(tmp_path / "a", a_voice(config), overwrite=False)
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_replaced_only_when_asked_and_only_a_voice(tmp_path: Path) -> None:
    voice = a_voice(WITHOUT_CONTEXT)
    with pytest.raises(OutputError, match="does not exist, create it first"):
        write_voice(tmp_path / "no" / "a", voice, ABOUT, overwrite=False)
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(OutputError, match="is not a folder"):
        write_voice(tmp_path / "file", voice, ABOUT, overwrite=True)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"mine")
    with pytest.raises(OutputError, match="overwrite does not replace it"):
        write_voice(tmp_path / "photos", voice, ABOUT, overwrite=True)
    old = write_voice_folder(tmp_path / "voice")
    before = (old / "model.safetensors").read_bytes()
    with pytest.raises(OutputError, match="exists already: use overwrite"):
        write_voice(old, voice, ABOUT, overwrite=False)
    assert (old / "model.safetensors").read_bytes() == before
    (old / "vocoder.safetensors").write_bytes(b"of the old voice")
    write_voice(old, voice, ABOUT, overwrite=True)
    assert_equal_networks(load_voice_folder(old), voice)
    assert not (old / "vocoder.safetensors").exists()
    (tmp_path / "empty").mkdir()
    write_voice(tmp_path / "empty", voice, ABOUT, overwrite=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file", "photos", "voice"]


@pytest.mark.parametrize("stage", ["save_file", "write_voice_file", "load_voice_folder"])
def test_a_failure_at_any_stage_leaves_everything_as_it_was(
    tmp_path: Path, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object, **_options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    old = write_voice_folder(tmp_path / "voice")
    before = {path.name: path.read_bytes() for path in old.iterdir()}
    monkeypatch.setattr(target, stage, fail)
    for folder in (old, tmp_path / "new"):
        with pytest.raises(OutputError, match=f"cannot write {folder}: No space left on device"):
            write_voice(folder, a_voice(WITHOUT_CONTEXT), ABOUT, overwrite=True)
    assert {path.name: path.read_bytes() for path in old.iterdir()} == before
    assert list(tmp_path.iterdir()) == [old]


def test_a_full_disk_while_tensors_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(target, "save_file", fail)
    with pytest.raises(OutputError, match=": No space left on device") as caught:
        write_voice(tmp_path / "voice", a_voice(WITHOUT_CONTEXT), ABOUT, overwrite=False)
    assert isinstance(caught.value.__context__, OSError)
    assert caught.value.__context__.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []


def test_the_licence_of_published_files_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_diffusers_folder(tmp_path / "base")
    assert read_source(str(folder)).licence == "unknown"
    pinned = {file.path: file.sha256 for file in load_lock().models["base"].files if file.sha256}
    hashes = {file_sha256(folder / name): sha256 for name, sha256 in pinned.items() if name.endswith(".bin")}
    monkeypatch.setattr(lock, "file_sha256", lambda path: hashes[file_sha256(path)])
    read = read_source(str(folder))
    assert read.licence == "Apache-2.0"
    assert read.origin.startswith("specdiff's model base, revision b4e09e84")
    (folder / "decoder" / "diffusion_pytorch_model.bin").unlink()
    write_diffusers_folder(tmp_path / "other", WITHOUT_CONTEXT)
    other = tmp_path / "other" / "decoder" / "diffusion_pytorch_model.bin"
    hashes[file_sha256(other)] = "0" * 64  # one file that is not the published one
    assert read_source(str(tmp_path / "other")).licence == "unknown"


def test_an_old_voice_stays_when_the_new_one_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = write_voice_folder(tmp_path / "voice")
    rename = Path.rename

    def refuse(self: Path, other: Path) -> Path:
        if self.name == "made":
            raise PermissionError(errno.EACCES, "Permission denied")
        return rename(self, other)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OutputError, match="Permission denied"):
        write_voice(old, a_voice(WITHOUT_CONTEXT), ABOUT, overwrite=True)
    assert load_voice_folder(old).network.config == OURS
