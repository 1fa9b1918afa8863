"""Weights that somebody mixed up or made up: nothing of them is ever loaded."""

import hashlib
import json
import tracemalloc
from pathlib import Path

import pytest
import torch
from random_voices import WITHOUT_CONTEXT, write_diffusers_folder, write_voice_folder
from safetensors.torch import load_file, save_file

from specdiff_cli.errors import WeightsError
from specdiff_cli.weights import cache
from specdiff_cli.weights.load import load_voice, read_tensors
from specdiff_cli.weights.lock import parse_lock, verify_bundled

FILE = "diffusion_pytorch_model.bin"


def swap(first: Path, second: Path) -> None:
    one, other = first.read_bytes(), second.read_bytes()
    first.write_bytes(other)
    second.write_bytes(one)


def refusal(folder: Path) -> str:
    with pytest.raises(WeightsError) as caught:
        load_voice(str(folder))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("one", "other"), [("notes_encoder", "continuous_encoder"), ("notes_encoder", "decoder")], ids=["encoders", "parts"]
)
def test_parts_of_a_model_that_changed_places(tmp_path: Path, one: str, other: str) -> None:
    folder = write_diffusers_folder(tmp_path / "voice")
    swap(folder / one / FILE, folder / other / FILE)
    assert "its tensors are not those of a spectrogram diffusion model" in refusal(folder)


def test_parts_of_models_of_other_sizes(tmp_path: Path) -> None:
    folder = write_diffusers_folder(tmp_path / "voice")
    ours = write_voice_folder(tmp_path / "ours")
    tensors = torch.load(folder / "decoder" / FILE, weights_only=True)
    save_file(tensors, ours / "model.safetensors")
    message = refusal(ours)
    assert "missing: " in message
    assert "unexpected: " in message


def test_a_decoder_of_a_wider_model(tmp_path: Path) -> None:
    folder = write_diffusers_folder(tmp_path / "voice", WITHOUT_CONTEXT)
    path = folder / "decoder" / FILE
    tensors = torch.load(path, weights_only=True)
    torch.save({key: value.repeat(*[2] * value.dim()) for key, value in tensors.items()}, path)
    assert "of wrong shape: " in refusal(folder)


def lock_of(*contents: bytes) -> str:
    models = (
        f"""
[models.m{number}]
description = "d"
license = "l"
revision = "r"
[[models.m{number}.files]]
path = "w.bin"
url = "{{endpoint}}/w"
size_bytes = {len(content)}
sha256 = "{hashlib.sha256(content).hexdigest()}"
"""
        for number, content in enumerate(contents)
    )
    return "lock_version = 1\n" + "".join(models)


def test_files_of_two_models_swapped_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPECDIFF_CACHE", str(tmp_path))
    contents = (b"weights of one", b"those of other")  # of one length: only the hash tells them apart
    lock = parse_lock(lock_of(*contents))
    paths = []
    for number, content in enumerate(contents):
        model = lock.model(f"m{number}")
        paths.append(cache.model_folder(model) / "w.bin")
        paths[-1].parent.mkdir(parents=True)
        paths[-1].write_bytes(content)
        cache.record_verified(paths[-1].parent, model.files[0], hashlib.sha256(content).hexdigest())
        assert cache.find_model(f"m{number}", lock=lock) == paths[-1].parent
    # A whole folder renamed keeps the times and the records of its files: the records must not vouch for it.
    one, other = (path.parent for path in paths)
    one.rename(tmp_path / "aside")
    other.rename(one)
    (tmp_path / "aside").rename(other)
    for number in range(2):
        with pytest.raises(WeightsError, match="wrong content: sha256 is .* expected"):
            cache.find_model(f"m{number}", lock=lock)


def test_a_lock_whose_hash_was_edited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPECDIFF_CACHE", str(tmp_path))
    content = b"weights"
    digest = hashlib.sha256(content).hexdigest()
    edited = ("0" if digest[0] != "0" else "1") + digest[1:]
    lock = parse_lock(lock_of(content))
    folder = cache.model_folder(lock.model("m0"))
    folder.mkdir(parents=True)
    (folder / "w.bin").write_bytes(content)
    cache.record_verified(folder, lock.model("m0").files[0], digest)
    with pytest.raises(WeightsError, match=f"wrong content: .* expected {edited}"):
        cache.find_model("m0", lock=parse_lock(lock_of(content).replace(digest, edited)))
    assert (folder / "w.bin").read_bytes() == content  # nothing verified is lost to the edit
    assert cache.find_model("m0", lock=lock) == folder
    entry = f'lock_version = 1\n[bundled.v]\ndescription="d"\nlicense="l"\nfiles=[{{path="w.bin", sha256="{edited}"'
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "w.bin").write_bytes(content)
    with pytest.raises(WeightsError, match="wrong content"):
        verify_bundled("v", lock=parse_lock(f"{entry}, size_bytes={len(content)}}}]\n"), voices_folder=tmp_path)


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.int64, torch.complex64])
def test_tensors_of_a_wrong_kind(tmp_path: Path, dtype: torch.dtype) -> None:
    folder = write_voice_folder(tmp_path / "voice")
    tensors = load_file(folder / "model.safetensors")
    name = sorted(tensors)[0]
    tensors[name] = tensors[name].float().to(dtype)
    save_file(tensors, folder / "model.safetensors")
    assert f"1 not floating point: {name}" in refusal(folder)


TEN_GB = 10 << 30


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [TEN_GB // 4], "data_offsets": [0, TEN_GB]},
        {"dtype": "F32", "shape": [1 << 40, 1 << 40], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1], "data_offsets": [TEN_GB, TEN_GB + 4]},
        {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]},
        {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [2], "data_offsets": [4, 0]},
    ],
    ids=["10 GB", "overflow", "behind the end", "negative", "unknown kind", "backwards"],
)
def test_safetensors_headers_that_promise_what_is_not_there(tmp_path: Path, entry: dict[str, object]) -> None:
    header = json.dumps({"a": entry}).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    tracemalloc.start()
    try:
        with pytest.raises(WeightsError, match="damaged") as caught:
            read_tensors(path)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("n_header_bytes", [TEN_GB, 2**63, 2**64 - 1])
def test_safetensors_headers_that_claim_to_be_long(tmp_path: Path, n_header_bytes: int) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(n_header_bytes.to_bytes(8, "little") + b'{"a": {}}')
    with pytest.raises(WeightsError, match="damaged"):
        read_tensors(path)
