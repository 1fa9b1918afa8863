"""Original checkpoints: downloaded as any file, then made into a voice that is held to what it was made of."""

import errno
import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from loopback_server import Recorder, Site, page, serving
from random_voices import REFERENCE_LIKE
from t5x_checkpoints import t5x_weights, write_t5x, zipped

from specdiff_cli.errors import OutputError, WeightsError
from specdiff_cli.weights import cache, lock, made_voice
from specdiff_cli.weights.checkpoints.source import read_source
from specdiff_cli.weights.convert_t5x import is_transposed, t5x_names
from specdiff_cli.weights.download import download_model
from specdiff_cli.weights.load import load_voice
from specdiff_cli.weights.lock import Lock, parse_lock
from specdiff_cli.weights.transfer import TransferOptions

pytest.importorskip("msgpack")

FAST = TransferOptions(timeout_s=5.0, max_failures=1, max_attempts=1)
ONNX = b"a decoder"
LOCK = f"""
lock_version = 1

[models.small]
description = "a small one"
license = "Apache-2.0"
source = "gcs"
layout = "t5x"
revision = "checkpoint_500000"
[[models.small.files]]
path = "small.zip"
url = "{{endpoint}}/bucket/small.zip"
[[models.small.files]]
path = "melgan/model.onnx"
url = "{{endpoint}}/hub/model.onnx"
sha256 = "{hashlib.sha256(ONNX).hexdigest()}"

[models.base]
description = "at two places"
license = "Apache-2.0"
revision = "r1"
[[models.base.files]]
path = "x.json"
url = "{{endpoint}}/hub/x.json"
sha256 = "{hashlib.sha256(b"{}").hexdigest()}"
[models.base.sources.gcs]
layout = "t5x"
revision = "checkpoint_1"
[[models.base.sources.gcs.files]]
path = "base.zip"
url = "{{endpoint}}/bucket/small.zip"
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("checkpoint")
    return zipped(write_t5x(folder / "small", t5x_weights(REFERENCE_LIKE)), folder / "small.zip").read_bytes()


@pytest.fixture
def site(checkpoint: bytes) -> Iterator[Site]:
    site = Site({"/bucket/small.zip": checkpoint, "/hub/model.onnx": ONNX, "/hub/x.json": b"{}"})
    with serving(site):
        yield site


@pytest.fixture(autouse=True)
def known(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lock:
    monkeypatch.setenv("HF_ENDPOINT", site.url)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    (tmp_path / "weights.lock").write_text(LOCK)
    monkeypatch.setattr(lock, "lock_path", lambda: tmp_path / "weights.lock")
    return parse_lock(LOCK)


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was converted so far."""
    seen: list[str] = []

    def spy(name: str) -> object:
        seen.append(Path(name).name)
        return read_source(name)

    monkeypatch.setattr(made_voice, "read_source", spy)
    return seen


def download(name: str = "small", *, allow_unpinned: bool = True, source: str | None = None, **more: object) -> Path:
    return download_model(name, source=source, allow_unpinned=allow_unpinned, options=FAST, **more)  # type: ignore[arg-type]


def failure(name: str = "small", **more: object) -> str:
    with pytest.raises(WeightsError) as caught:
        download(name, **more)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_checkpoint_becomes_a_voice_that_its_name_finds(site: Site, checkpoint: bytes) -> None:
    recorder = Recorder()
    folder = download(progress=recorder)
    digest = hashlib.sha256(checkpoint).hexdigest()
    assert recorder.outcomes[0] == f"small.zip: ok, recorded sha256 {digest}"
    assert sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")) == [
        *("melgan", "model.safetensors", "small.zip", "voice.toml")
    ]
    voice = load_voice("small")
    weights = t5x_weights(REFERENCE_LIKE)
    state = voice.network.state_dict()
    for theirs, ours in t5x_names(REFERENCE_LIKE).items():
        array = weights[theirs].T if is_transposed(theirs) else weights[theirs]
        assert torch.equal(state[ours], torch.from_numpy(array.copy()))
    assert (voice.name, voice.folder, voice.vocoder.name) == ("small", folder, "soundstream")
    text = (folder / "voice.toml").read_text()
    assert digest in text and f"{site.url}/bucket/small.zip" in text  # where it comes from stays known
    assert not (folder / made_voice.SCRATCH_FOLDER).exists()


def test_what_is_done_is_not_done_again(site: Site, conversions: list[str]) -> None:
    folder = download()
    n_requests = len(site.seen)
    assert download(allow_unpinned=False) == folder
    (folder / "small.zip").unlink()  # the voice is what is loaded: the checkpoint may go
    os.utime(folder / "voice.toml", ns=(1, 1))  # and a new time costs a new hash, no more
    assert download(allow_unpinned=False) == folder
    assert cache.find_weights("small")[1].keys() == {"model.safetensors", "voice.toml", "melgan/model.onnx"}
    assert cache.verify_model("small") == folder
    assert (len(site.seen), conversions) == (n_requests, ["small.zip"])
    download(force=True)
    assert (len(site.seen), conversions) == (n_requests + 2, ["small.zip", "small.zip"])


def test_an_unpinned_checkpoint_needs_permission_and_is_held_to_the_first(site: Site, checkpoint: bytes) -> None:
    assert "small.zip" in failure(allow_unpinned=False)
    assert site.seen == []
    folder = download()
    site.content["/bucket/small.zip"] = checkpoint + b"more"
    assert "first use" in failure(force=True)
    assert load_voice("small").folder == folder  # nothing verified is lost


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04 begun"])
def test_what_is_no_zip_is_never_recorded(site: Site, checkpoint: bytes, content: bytes) -> None:
    site.content["/bucket/small.zip"] = content
    assert "small.zip: wrong content" in failure()
    site.plan["/bucket/small.zip"] = [page()]
    assert "got a web page" in failure()
    site.plan.clear()
    site.content["/bucket/small.zip"] = checkpoint
    download()
    load_voice("small")


def test_a_zip_that_is_no_checkpoint(site: Site, tmp_path: Path, conversions: list[str]) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "readme").write_text("nothing here")
    site.content["/bucket/small.zip"] = zipped(tmp_path / "other", tmp_path / "other.zip").read_bytes()
    assert "of no layout that specdiff knows" in failure()
    with pytest.raises(WeightsError, match=r"model\.safetensors: missing: run specdiff download-weights small"):
        load_voice("small")


def test_the_checkpoint_of_another_model(known: Lock, conversions: list[str]) -> None:
    named = parse_lock(LOCK.replace('source = "gcs"', 'source = "gcs"\narchitecture = "small"'))
    line = failure(lock=named)
    assert "is not the model small: its d_model is 64, expected 512" in line
    assert ".records/small.zip.json" in line
    with pytest.raises(WeightsError, match="download-weights small"):
        cache.find_model("small", lock=named)


def test_a_checkpoint_damaged_on_its_way(site: Site, checkpoint: bytes) -> None:
    flipped = bytearray(checkpoint)
    flipped[len(flipped) // 2] ^= 1  # its hash is not known beforehand, but a zip has its own checksums
    site.content["/bucket/small.zip"] = bytes(flipped)
    assert "cannot be read" in failure()
    with pytest.raises(WeightsError, match="download-weights small"):
        load_voice("small")


def test_a_read_only_cache_is_verified_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = download()
    os.utime(folder / "model.safetensors", ns=(1, 1))

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "replace", refuse)
    assert load_voice("small").folder == folder
    (folder / "model.safetensors").write_bytes(b"another")
    with pytest.raises(WeightsError, match="wrong content"):
        load_voice("small")
    assert "cannot write to the cache (Read-only file system): set SPECDIFF_CACHE" in failure()


@pytest.mark.parametrize("name", ["model.safetensors", "voice.toml", "melgan/model.onnx"])
def test_a_changed_voice_is_refused_and_made_again_without_the_network(
    site: Site, conversions: list[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    folder = download()
    right = (folder / name).read_bytes()
    (folder / name).write_bytes(right[:-1] + b"?")
    with pytest.raises(WeightsError, match=f"{name}: wrong content: .*: run specdiff download-weights small"):
        load_voice("small")
    with pytest.raises(WeightsError, match="cannot be used"):
        cache.verify_model("small")
    if not name.startswith("melgan"):
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    n_requests = len(site.seen)
    download()
    assert len(site.seen) == n_requests + name.startswith("melgan")
    assert (folder / name).read_bytes() == right
    load_voice("small")


def test_a_voice_of_another_checkpoint_than_the_lock_now_pins(checkpoint: bytes, tmp_path: Path) -> None:
    download()
    pinned = LOCK.replace(
        'url = "{endpoint}/bucket/small.zip"\n', f'url = "{{endpoint}}/bucket/small.zip"\nsha256 = "{"0" * 64}"\n', 1
    )
    with pytest.raises(WeightsError, match="made of another checkpoint than the one that is trusted now"):
        cache.find_model("small", lock=parse_lock(pinned))
    right = pinned.replace("0" * 64, hashlib.sha256(checkpoint).hexdigest())
    cache.find_model("small", lock=parse_lock(right))  # a later lock that pins what we have changes nothing


def test_voices_that_changed_places_in_the_cache(known: Lock) -> None:
    small, base = download(), download("base", source="gcs")
    aside = small.with_name("aside")
    small.rename(aside)  # times and records of the files move with them
    base.rename(small)
    (small / "melgan").mkdir()
    (small / "melgan" / "model.onnx").write_bytes(ONNX)
    with pytest.raises(WeightsError, match="made of another checkpoint"):
        load_voice("small")


def test_an_edited_record_does_not_vouch_for_a_voice(tmp_path: Path) -> None:
    folder = download()
    record = folder / cache.RECORDS_FOLDER / "model.safetensors.json"
    record.write_text(record.read_text().replace('"made_of": "', '"made_of": "0'))
    with pytest.raises(WeightsError, match="made of another checkpoint"):
        load_voice("small")
    record.unlink()
    with pytest.raises(WeightsError, match=r"model\.safetensors: .*never recorded"):
        load_voice("small")
    download()
    load_voice("small")


def test_a_conversion_that_was_killed_leaves_nothing_that_stays(conversions: list[str]) -> None:
    folder = download()
    (folder / "voice.toml").unlink()
    scratch = folder / made_voice.SCRATCH_FOLDER
    (scratch / "half").mkdir(parents=True)
    (scratch / "half" / "model.safetensors").write_bytes(b"half")
    with pytest.raises(WeightsError, match=r"voice\.toml: missing"):
        load_voice("small")
    download()
    assert not scratch.exists()
    load_voice("small")


@pytest.mark.parametrize("during", ["write_voice", "rename", "record"])
def test_no_space_left_while_converting(
    site: Site, conversions: list[str], monkeypatch: pytest.MonkeyPatch, during: str
) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def refuse(*_: object, **__: object) -> None:
        raise full

    def refuse_as_output(*_: object, **__: object) -> None:
        try:
            raise full
        except OSError:
            raise OutputError("cannot write it") from None

    with monkeypatch.context() as broken:
        if during == "write_voice":
            broken.setattr(made_voice, "write_voice", refuse_as_output)
        elif during == "rename":
            move = os.replace
            broken.setattr(os, "replace", lambda a, b: refuse() if made_voice.SCRATCH_FOLDER in str(a) else move(a, b))
        else:
            download_files = cache.record_verified
            broken.setattr(
                cache,
                "record_verified",
                lambda *a, made_of="": refuse() if made_of else download_files(*a),
            )
        line = failure()
    assert "cannot write to the cache (No space left on device): free some space" in line
    with pytest.raises(WeightsError, match="download-weights small"):
        load_voice("small")
    n_requests = len(site.seen)
    folder = download()
    assert len(site.seen) == n_requests  # nothing verified was lost
    assert not (folder / made_voice.SCRATCH_FOLDER).exists()
    load_voice("small")


def test_two_at_once_fetch_and_convert_once(site: Site, conversions: list[str]) -> None:
    errors: list[Exception] = []

    def work() -> None:
        try:
            download()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert (len(site.seen), conversions) == (2, ["small.zip"])


def test_a_model_at_two_places(site: Site, known: Lock) -> None:
    first, other = known.model("base").places
    assert "download-weights base" in failure_to_find("base")
    download("base", source="gcs")
    assert [seen.path for seen in site.seen] == ["/bucket/small.zip"]
    assert load_voice("base").folder == cache.model_folder(other)
    (cache.model_folder(other) / "voice.toml").unlink()
    assert "run specdiff download-weights base --source gcs --allow-unpinned" in failure_to_find("base")
    assert 'is not to be had from "ftp", only from huggingface or gcs' in failure("base", source="ftp")
    download("base", source="gcs")
    download("base")
    assert cache.find_model("base") == cache.model_folder(first)  # the first choice, once it is complete
    assert cache.verify_model("base", source="gcs") == cache.model_folder(other)


def failure_to_find(name: str) -> str:
    with pytest.raises(WeightsError) as caught:
        cache.find_model(name)
    return str(caught.value)
