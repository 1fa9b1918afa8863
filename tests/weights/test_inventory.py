"""What is known of models without loading them."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from architectures import ARCHITECTURES, write_architecture_folder
from random_voices import OURS, REFERENCE_LIKE, WITHOUT_CONTEXT, write_diffusers_folder, write_voice_folder

from specdiff_cli.errors import WeightsError
from specdiff_cli.model.config import REFERENCE_CONFIGS, ModelConfig
from specdiff_cli.model.network import build_network
from specdiff_cli.weights import cache
from specdiff_cli.weights.inventory import (
    count_parameters,
    find_details,
    instruments,
    list_entries,
    stored_parameters,
)
from specdiff_cli.weights.lock import load_lock, parse_lock

CONTENTS = {"w.bin": b"weights", "c.json": b"{}"}
LOCK = parse_lock(
    f"""
lock_version = 1
[models.m]
description = "d"
license = "MIT"
revision = "r1"
[[models.m.files]]
path = "w.bin"
url = "{{endpoint}}/w"
about_bytes = 10
sha256 = "{hashlib.sha256(CONTENTS["w.bin"]).hexdigest()}"
[[models.m.files]]
path = "c.json"
url = "{{endpoint}}/c"
"""
)


@pytest.mark.parametrize(
    "config",
    [*REFERENCE_CONFIGS.values(), *ARCHITECTURES.values(), REFERENCE_LIKE, WITHOUT_CONTEXT],
    ids=lambda config: f"{config.kind} {config.d_model}",
)
def test_parameters_are_those_of_the_network(config: ModelConfig) -> None:
    with torch.device("meta"):
        network = build_network(config)
    assert count_parameters(config) == sum(tensor.numel() for tensor in network.state_dict().values())


def test_parameters_of_the_reference_are_the_published_ones() -> None:
    millions = {name: (count_parameters(config) or 0) / 1e6 for name, config in REFERENCE_CONFIGS.items()}
    assert {name: round(value) for name, value in millions.items()} == {
        **{"small-no-context": 85, "small": 104, "base": 412, "small-autoregressive": 45}
    }
    assert round(millions["base"], 1) == 411.7


def test_parameters_of_our_own_parts_are_read_from_the_file(tmp_path: Path) -> None:
    folder = write_voice_folder(tmp_path / "voice")
    assert count_parameters(OURS) is None
    expected = sum(tensor.numel() for tensor in build_network(OURS).state_dict().values())
    assert find_details(str(folder), LOCK).n_parameters == expected


@pytest.mark.parametrize(
    "content", [b"", b"\xff" * 8, (10 << 30).to_bytes(8, "little") + b"{}", (2).to_bytes(8, "little") + b"[]"]
)
def test_a_header_that_makes_no_sense_tells_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    assert stored_parameters(tmp_path / "model.safetensors") is None


def put(name: str) -> None:
    model = LOCK.model("m")
    folder = cache.model_folder(model)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(CONTENTS[name])
    file = next(file for file in model.files if file.path == name)
    cache.record_verified(folder, file, hashlib.sha256(CONTENTS[name]).hexdigest())


def test_a_download_before_within_and_after() -> None:
    def seen() -> tuple[str, str, int | None, bool]:
        (entry,) = list_entries(LOCK)
        return entry.state, entry.hashes, entry.size_bytes, entry.is_estimate

    assert seen() == ("available", "1 of 2 pinned", 10, True)
    put("w.bin")
    assert seen() == ("partly downloaded", "1 of 2 pinned", 7, True)
    put("c.json")
    assert seen() == ("downloaded", "verified", 7, False)
    (cache.model_folder(LOCK.model("m")) / "w.bin").write_bytes(b"another")
    assert seen()[1] == "unverified"


def test_the_models_of_the_shipped_lock() -> None:
    entries = {(entry.model, entry.source): entry for entry in list_entries(load_lock())}
    assert {"base", "small", "tiny"} <= {name for name, _ in entries}
    tiny, base = entries["tiny", "package"], entries["base", "huggingface"]
    assert (tiny.state, tiny.hashes, tiny.instruments) == ("bundled", "verified", "128 programs, drums")
    assert (base.state, base.hashes, base.license) == ("available", "pinned", "Apache-2.0")
    assert 1.6e9 < (base.size_bytes or 0) < 1.8e9 and base.is_estimate
    assert entries["small", "gcs"].size_bytes is None  # the zip's is not known
    details = find_details("small", load_lock())
    assert details.card.config == REFERENCE_CONFIGS["small"]
    assert details.commands == ("specdiff download-weights small --allow-unpinned",)
    first, second = find_details("base", load_lock()).commands
    assert first == "specdiff download-weights base"  # every file's hash is known
    assert second.endswith("base --source gcs --allow-unpinned")


def test_a_folder_in_the_diffusers_layout(tmp_path: Path) -> None:
    folder = write_diffusers_folder(tmp_path / "voice")
    details = find_details(str(folder), LOCK)
    assert (details.card.config, details.n_parameters) == (None, None)  # these config.json files do not say enough
    layers = {"notes_encoder": 2, "continuous_encoder": 2, "decoder": 2}
    for part, n_layers in layers.items():
        path = folder / part / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "num_layers": n_layers, "vocab_size": 1536}))
    details = find_details(str(folder), LOCK)
    assert details.card.config == REFERENCE_LIKE
    assert details.n_parameters == count_parameters(REFERENCE_LIKE)
    assert (details.card.vocoder.name, details.card.sampling.schedule) == ("partials", "discrete")
    name = "decoder/diffusion_pytorch_model.bin"
    (file,) = [file for file in details.entry.files if file.path == name]
    assert file.sha256 == hashlib.sha256((folder / name).read_bytes()).hexdigest()
    assert file.state == "no hash to compare with"


def test_a_damaged_folder_says_so(tmp_path: Path) -> None:
    folder = write_architecture_folder(tmp_path / "voice")
    with (folder / "voice.toml").open("a") as file:
        file.write(f'[hashes]\n"model.safetensors" = "{"0" * 64}"\n"vocoder.safetensors" = "{"0" * 64}"\n')
    entry = find_details(str(folder), LOCK).entry
    assert entry.state == "damaged"
    states = {file.path: file.state for file in entry.files}
    assert states["model.safetensors"] == "wrong content"
    assert states["vocoder.safetensors"] == "missing"


def test_what_is_no_model(tmp_path: Path) -> None:
    for name in ("tinny", str(tmp_path)):
        with pytest.raises(WeightsError, match=r"neither a known model \(m\) nor a folder of weights"):
            find_details(name, LOCK)


@pytest.mark.parametrize(
    ("programs", "drums", "words"),
    [
        (None, True, "34 instrument classes, drums"),
        ((0, 40), False, "acoustic piano, violin"),
        ((0,), True, "acoustic piano, drums"),
        ((0, 40, 41), True, "3 instrument classes, drums"),
        ((), False, "nothing"),
    ],
)
def test_instruments(programs: tuple[int, ...] | None, drums: bool, words: str) -> None:
    assert instruments(programs, drums) == words
