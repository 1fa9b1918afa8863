import pickle
from pathlib import Path

import pytest
import torch
from random_voices import (
    OURS,
    REFERENCE_LIKE,
    WITHOUT_CONTEXT,
    diffusers_tensors,
    write_diffusers_folder,
    write_voice_folder,
)
from safetensors.torch import load_file, save_file

from specdiff_cli.errors import WeightsError
from specdiff_cli.model.config import ModelConfig
from specdiff_cli.weights.convert import diffusers_parts
from specdiff_cli.weights.load import load_voice, load_voice_folder, read_tensors

DECODER = Path("decoder") / "diffusion_pytorch_model.bin"


@pytest.mark.parametrize("suffix", [".bin", ".safetensors"])
@pytest.mark.parametrize("config", [REFERENCE_LIKE, WITHOUT_CONTEXT], ids=["context", "none"])
def test_a_diffusers_folder_loads_every_tensor(tmp_path: Path, config: ModelConfig, suffix: str) -> None:
    voice = load_voice(str(write_diffusers_folder(tmp_path / "voice", config, suffix)))
    assert voice.network.config == config
    assert voice.programs is None
    assert voice.plays_drums
    for folder, tensors in diffusers_tensors(config).items():
        attribute, names = diffusers_parts(config)[folder]
        state = getattr(voice.network, attribute).state_dict()
        assert len(names) == len(tensors) == len(state)
        for theirs, ours in names.items():
            assert torch.equal(state[ours], tensors[theirs])


def test_sizes_are_inferred_without_config_files(tmp_path: Path) -> None:
    config = ModelConfig(64, 2, 64, 96, 1, 1, 1)  # every published model has d_kv 64
    folder = write_diffusers_folder(tmp_path / "voice", config)
    for path in folder.glob("*/config.json"):
        path.unlink()
    assert load_voice(str(folder)).network.config == config


def test_a_folder_without_a_vocoder_says_what_it_uses(tmp_path: Path) -> None:
    voice = load_voice(str(write_diffusers_folder(tmp_path / "voice")))
    assert voice.vocoder.name == "griffin-lim"
    assert "melgan/model.onnx" in voice.notes[0]
    (tmp_path / "voice" / "melgan").mkdir()
    (tmp_path / "voice" / "melgan" / "model.onnx").write_bytes(b"")
    voice = load_voice(str(tmp_path / "voice"))
    assert voice.vocoder.name == "soundstream"
    assert voice.notes == ()


def test_a_voice_folder_loads(tmp_path: Path) -> None:
    voice = load_voice_folder(write_voice_folder(tmp_path / "voice"))
    assert voice.network.config == OURS
    assert voice.programs == (0,)
    assert not voice.plays_drums
    assert voice.sampling.steps == 2
    assert {p.dtype for p in voice.network.parameters()} == {torch.float32}  # stored as float16


def test_one_sorted_report_of_all_that_does_not_fit(tmp_path: Path) -> None:
    folder = write_diffusers_folder(tmp_path / "voice")
    tensors = torch.load(folder / DECODER, weights_only=True)
    del tensors["spec_out.weight"], tensors["decoder_norm.weight"]
    tensors["zebra"] = torch.zeros(1)
    tensors["aardvark"] = torch.zeros(1)
    tensors["conditioning_emb.0.weight"] = torch.zeros(3, 4)
    torch.save(tensors, folder / DECODER)
    with pytest.raises(WeightsError) as caught:
        load_voice(str(folder))
    message = str(caught.value)
    assert "2 missing: decoder_norm.weight, spec_out.weight;" in message
    assert "2 unexpected: aardvark, zebra;" in message
    assert "1 of wrong shape: conditioning_emb.0.weight is 3x4, expected 256x64" in message
    assert "\n" not in message


def test_integer_tensors_are_refused(tmp_path: Path) -> None:
    folder = write_diffusers_folder(tmp_path / "voice")
    tensors = torch.load(folder / DECODER, weights_only=True)
    tensors["spec_out.weight"] = tensors["spec_out.weight"].to(torch.int64)
    torch.save(tensors, folder / DECODER)
    with pytest.raises(WeightsError, match="1 not floating point: spec_out.weight"):
        load_voice(str(folder))


class Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (pytest.fail, ("the payload of a pickle was executed",))


def test_a_pickle_with_a_payload_is_not_executed(tmp_path: Path) -> None:
    folder = write_diffusers_folder(tmp_path / "voice")
    torch.save({"spec_out.weight": Payload()}, folder / DECODER)
    with pytest.raises(WeightsError, match="is not loaded"):
        load_voice(str(folder))
    (folder / DECODER).write_bytes(pickle.dumps(Payload()))
    with pytest.raises(WeightsError, match=r"decoder.diffusion_pytorch_model.bin: is"):
        load_voice(str(folder))


@pytest.mark.parametrize("suffix", [".bin", ".safetensors"])
def test_damaged_files_give_one_line(tmp_path: Path, suffix: str) -> None:
    folder = write_diffusers_folder(tmp_path / "voice", suffix=suffix)
    path = folder / "decoder" / f"diffusion_pytorch_model{suffix}"
    whole = path.read_bytes()
    for damaged in (b"", whole[:7], whole[: len(whole) // 2], b"<!doctype html><html>", b"\xff" * 100):
        path.write_bytes(damaged)
        with pytest.raises(WeightsError) as caught:
            load_voice(str(folder))
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_safetensors_header_that_claims_gigabytes(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes((10 << 30).to_bytes(8, "little") + b"{}")
    with pytest.raises(WeightsError, match="damaged"):
        read_tensors(path)


def test_a_pickle_that_is_no_table_of_tensors(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    torch.save([torch.zeros(1)], path)
    with pytest.raises(WeightsError, match="not a plain table of tensors"):
        read_tensors(path)


def test_unknown_names_and_folders(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"neither a known voice \(base, tiny\) nor a folder"):
        load_voice("tinny")
    with pytest.raises(WeightsError, match="not a folder of weights"):
        load_voice(str(tmp_path))
    file = tmp_path / "song.mid"
    file.write_bytes(b"MThd")
    with pytest.raises(WeightsError, match="is a file"):
        load_voice(str(file))


def test_base_that_is_not_downloaded_names_the_command() -> None:
    with pytest.raises(WeightsError, match="specdiff download-weights base"):
        load_voice("base")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "random"', "name = 3", "name must be a text"),
        ("d_model = 32", "d_modell = 32", r"unknown key model\.d_modell"),
        ("d_ff = 48\n", "", r"\[model\] is incomplete"),
        ("d_ff = 48", "d_ff = -48", "model.d_ff is negative"),
        ("[plays]", "[plys]", "unknown key plys"),
        ("programs = [0]", 'programs = ["piano"]', "plays.programs must be"),
        ("steps = 2", "steps = ", "cannot be read"),
        ('name = "griffin-lim"', "", r"\[vocoder\] needs a name"),
    ],
)
def test_a_damaged_voice_file_gives_one_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    folder = write_voice_folder(tmp_path / "voice")
    path = folder / "voice.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(WeightsError, match=message) as caught:
        load_voice(str(folder))
    assert str(path) in str(caught.value)


def test_a_tensor_of_another_voice_does_not_fit(tmp_path: Path) -> None:
    folder = write_voice_folder(tmp_path / "voice")
    tensors = load_file(folder / "model.safetensors")
    tensors["decoder.blocks.9.mlp.wo.weight"] = torch.zeros(2, 2)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(WeightsError, match=r"1 unexpected: decoder\.blocks\.9\.mlp\.wo\.weight"):
        load_voice(str(folder))
