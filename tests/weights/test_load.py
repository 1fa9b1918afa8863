import hashlib
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from architectures import ARCHITECTURES, voice_tensors, write_architecture_folder
from random_voices import (
    OURS,
    REFERENCE_LIKE,
    WITHOUT_CONTEXT,
    diffusers_tensors,
    write_diffusers_folder,
    write_voice_folder,
)
from safetensors.torch import load_file, save_file

from specdiff_cli.diffusion.sampling import AUTOREGRESSIVE_SAMPLING
from specdiff_cli.errors import OutputError, WeightsError
from specdiff_cli.model.autoregressive import AutoregressiveNetwork
from specdiff_cli.model.autoregressive_compiled import CompiledAutoregressive
from specdiff_cli.model.compiled import CompiledNetwork
from specdiff_cli.model.config import ModelConfig
from specdiff_cli.model.network import SpectrogramDiffusion
from specdiff_cli.weights import load
from specdiff_cli.weights.checkpoints.source import read_source
from specdiff_cli.weights.checkpoints.target import check_target
from specdiff_cli.weights.convert import diffusers_parts
from specdiff_cli.weights.inventory import find_details
from specdiff_cli.weights.load import load_voice, load_voice_folder, read_tensors
from specdiff_cli.weights.lock import load_lock
from specdiff_cli.weights.voices import find_voice

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
    assert voice.vocoder.name == "partials"
    assert "melgan/model.onnx" in voice.messages[0] and "(partials)" in voice.messages[0]
    (tmp_path / "voice" / "melgan").mkdir()
    (tmp_path / "voice" / "melgan" / "model.onnx").write_bytes(b"")
    voice = load_voice(str(tmp_path / "voice"))
    assert voice.vocoder.name == "soundstream"
    assert voice.messages == ()


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


@pytest.mark.parametrize("is_new", [True, False])
def test_bytes_that_changed_in_a_pickle_give_one_line(tmp_path: Path, is_new: bool) -> None:
    path = tmp_path / "x.bin"
    torch.save({"a": torch.ones(3, 4), "b": torch.ones(2)}, path, _use_new_zipfile_serialization=is_new)
    whole = path.read_bytes()
    n_refused = 0
    for i in range(0, min(len(whole), 700)):
        path.write_bytes(whole[:i] + bytes([whole[i] ^ 0x15]) + whole[i + 1 :])
        try:
            read_tensors(path)
        except WeightsError as error:
            n_refused += 1
            assert "\n" not in str(error)
    assert n_refused > 100


def test_a_vocabulary_with_fewer_rows_than_tokens(tmp_path: Path) -> None:
    folder = write_diffusers_folder(tmp_path / "voice")
    path = folder / "notes_encoder" / "diffusion_pytorch_model.bin"
    tensors = torch.load(path, weights_only=True)
    torch.save(tensors | {"token_embedder.weight": torch.zeros(1390, 64)}, path)
    with pytest.raises(WeightsError, match="n_vocabulary_rows = 1390: must be at least 1391"):
        load_voice(str(folder))


@pytest.mark.parametrize("d_kv", ["0", "true", "7", '"16"', "[" * 100_000])
def test_a_head_size_that_cannot_be(tmp_path: Path, d_kv: str) -> None:
    folder = write_diffusers_folder(tmp_path / "voice")
    (folder / "decoder" / "config.json").write_text(f'{{"d_kv": {d_kv}}}')
    with pytest.raises(WeightsError, match=r"d_kv|no multiple of the head size 7"):
        load_voice(str(folder))


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
    with pytest.raises(WeightsError, match=r"neither a known voice \(base, small, tiny\) nor a folder"):
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


# --- precision and memory --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["voice", ".bin", ".safetensors", "legacy"])
def test_loading_in_a_precision_equals_converting_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    folder = tmp_path / "voice"
    if layout == "voice":
        write_voice_folder(folder)
    else:
        write_diffusers_folder(folder, suffix=".safetensors" if layout == ".safetensors" else ".bin")
    if layout == "legacy":  # files of PyTorch before 1.6 cannot be mapped
        for path in folder.glob("*/*.bin"):
            torch.save(torch.load(path, weights_only=True), path, _use_new_zipfile_serialization=False)
    expected = load_voice(str(folder)).network.to(torch.bfloat16).state_dict()
    monkeypatch.setattr(load, "PIECE_BYTES", 10_000)  # many pieces of a few tensors each
    seen: list[bool] = []

    def choose(prefers_bfloat16: bool) -> torch.dtype:
        seen.append(prefers_bfloat16)
        return torch.bfloat16

    loaded = load_voice(str(folder), choose).network.state_dict()
    assert seen == [False]
    assert list(loaded) == list(expected)
    for key, tensor in loaded.items():
        assert tensor.dtype == torch.bfloat16
        assert torch.equal(tensor, expected[key]), key
        assert tensor.is_contiguous()


def test_templates_stay_in_float32_as_they_are_computed() -> None:
    expected = load_voice("tiny").network
    loaded = load_voice("tiny", torch.bfloat16).network
    for key, tensor in loaded.state_dict().items():
        assert tensor.dtype == torch.float32, key
        torch.testing.assert_close(tensor, expected.state_dict()[key], rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_the_network_is_that_of_its_architecture(tmp_path: Path, name: str) -> None:
    voice = load_voice_folder(write_architecture_folder(tmp_path / name, name))
    config = ARCHITECTURES[name]
    assert voice.network.config == config
    assert isinstance(voice.network, AutoregressiveNetwork) == config.is_autoregressive
    assert (voice.sampling == AUTOREGRESSIVE_SAMPLING) == config.is_autoregressive
    assert {key: value.tolist() for key, value in voice.network.state_dict().items()} == {
        key: value.tolist() for key, value in voice_tensors(config).items()
    }


@pytest.mark.parametrize("name", ["small", "small-autoregressive"])
def test_a_network_compiled_from_either_holds_the_same(tmp_path: Path, name: str) -> None:
    folder = write_architecture_folder(tmp_path / name, name)
    cpu, tokens = torch.device("cpu"), [torch.tensor([1010, 1200, 1])]
    found = []
    for voice in (load_voice_folder(folder), load_voice_folder(folder, torch.bfloat16)):
        if isinstance(voice.network, AutoregressiveNetwork):
            compiled = CompiledAutoregressive(voice.network, cpu, torch.bfloat16)
            window = compiled.begin(tokens)
            compiled.advance(window, 4)
            found.append(window.frames[:, :4])
        else:
            assert isinstance(voice.network, SpectrogramDiffusion)
            memory = CompiledNetwork(voice.network, cpu, torch.bfloat16).remember(tokens, [None], [torch.zeros(0, 5)])
            found.append(torch.stack([*memory.keys, *memory.values]))
    assert torch.equal(found[0], found[1])


def test_nothing_of_the_file_stays_mapped(tmp_path: Path) -> None:
    folder = write_diffusers_folder(tmp_path / "voice", suffix=".safetensors")
    voice = load_voice(str(folder))
    before = {key: tensor.clone() for key, tensor in voice.network.state_dict().items()}
    for path in folder.glob("*/*.safetensors"):
        path.write_bytes(bytes(path.stat().st_size))  # in place, as no careful program would
    assert all(torch.equal(tensor, before[key]) for key, tensor in voice.network.state_dict().items())


MEASURE = """
import resource, sys
import torch
from specdiff_cli.weights.load import load_voice
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
load_voice(sys.argv[1], torch.bfloat16)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".bin", ".safetensors"])
def test_loading_takes_the_memory_of_the_network_and_little_more(tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("resource")
    config = ModelConfig(1024, 8, 128, 4096, 4, 4, 4)
    folder = write_diffusers_folder(tmp_path / "voice", config, suffix)
    stored_bytes = sum(path.stat().st_size for path in folder.glob(f"*/*{suffix}"))
    assert stored_bytes > 1_100_000_000
    result = subprocess.run([sys.executable, "-c", MEASURE, str(folder)], capture_output=True, text=True, check=True)
    taken_bytes = int(result.stdout) * 1024
    assert taken_bytes < stored_bytes / 2 + load.PIECE_BYTES + 100_000_000  # bfloat16, one piece, odds and ends


# --- trust -----------------------------------------------------------------------------------------------------------


def test_hashes_of_a_voice_file_are_enforced(tmp_path: Path) -> None:
    folder = write_voice_folder(tmp_path / "voice")
    path = folder / "model.safetensors"
    right = path.read_bytes()
    with (folder / "voice.toml").open("a") as file:
        file.write(f'[hashes]\n"model.safetensors" = "{hashlib.sha256(right).hexdigest()}"\n')
    load_voice(str(folder))
    flipped = bytearray(right)
    flipped[-1] ^= 1  # a weight: nothing but its hash tells
    path.write_bytes(flipped)
    with pytest.raises(WeightsError, match=r"model\.safetensors: wrong content: sha256 is .*by voice\.toml"):
        load_voice(str(folder))
    path.unlink()
    with pytest.raises(WeightsError, match=r"model\.safetensors: missing"):
        load_voice(str(folder))


def test_a_model_of_a_million_layers_is_refused_at_once(tmp_path: Path) -> None:
    folder = write_voice_folder(tmp_path / "voice")
    path = folder / "voice.toml"
    path.write_text(path.read_text().replace("n_note_layers = 1", "n_note_layers = 1000000"))
    with pytest.raises(WeightsError, match="1000000 layers: is not loaded"):
        load_voice(str(folder))


@pytest.mark.parametrize("size", ["d_model = 1099511627776", "d_model = 9223372036854775807"])
def test_a_model_of_impossible_width_takes_no_memory(tmp_path: Path, size: str) -> None:
    folder = write_voice_folder(tmp_path / "voice")
    path = folder / "voice.toml"
    path.write_text(path.read_text().replace("d_model = 32", size))
    with pytest.raises(WeightsError, match=r"no network has these sizes|do not fit this model") as caught:
        load_voice(str(folder))
    assert "\n" not in str(caught.value)


def test_names_that_cannot_be_looked_at_are_told(tmp_path: Path) -> None:
    name = str(tmp_path / ("a" * 5000))  # too long for the system, which says so as it does of forbidden folders
    with pytest.raises(WeightsError, match="cannot be read|is neither a known voice"):
        load_voice(name)
    with pytest.raises(WeightsError, match="cannot be read|does not exist"):
        read_source(name)
    with pytest.raises(WeightsError, match="is neither a known model"):
        find_details(name, load_lock())
    with pytest.raises(WeightsError, match="cannot be read|is neither a known voice"):
        find_voice(name)
    if sys.platform != "win32":  # where such a folder is just not there
        with pytest.raises(OutputError, match="cannot write .*too long"):
            check_target(Path(name), False)
