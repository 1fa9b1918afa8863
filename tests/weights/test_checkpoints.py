"""Checkpoints of other programs: read from every form they come in, refused in one line where they are not whole."""

import gzip
import hashlib
import json
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from random_voices import REFERENCE_LIKE, WITHOUT_CONTEXT
from t5x_checkpoints import (
    AUTOREGRESSIVE,
    in_pieces,
    packed,
    t5x_weights,
    tensorstore_spec,
    write_t5x,
    write_zarr,
    zipped,
)

from specdiff_cli.errors import WeightsError
from specdiff_cli.model.config import ModelConfig
from specdiff_cli.weights.checkpoints import arrays, files
from specdiff_cli.weights.checkpoints.files import Folder
from specdiff_cli.weights.checkpoints.source import Source, read_source
from specdiff_cli.weights.checkpoints.zarr import open_zarr
from specdiff_cli.weights.convert_t5x import is_transposed, t5x_names

pytest.importorskip("msgpack")

CONFIGS = {"context": REFERENCE_LIKE, "no context": WITHOUT_CONTEXT, "autoregressive": AUTOREGRESSIVE}


def assert_holds(source: Source, config: ModelConfig, weights: dict[str, np.ndarray]) -> None:
    state = source.voice.network.state_dict()
    names = t5x_names(config)
    assert source.voice.network.config == config
    assert len(state) == len(weights) == len(names)
    for theirs, ours in names.items():
        array = weights[theirs].T if is_transposed(theirs) else weights[theirs]
        assert torch.equal(state[ours], torch.from_numpy(array.astype(np.float32)))


def refusal(path: Path) -> str:
    with pytest.raises(WeightsError) as caught:
        read_source(str(path))
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


@pytest.mark.parametrize("is_zip", [False, True], ids=["folder", "zip"])
@pytest.mark.parametrize("zarr", [False, True], ids=["msgpack", "zarr"])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_every_form_of_t5x_gives_the_same_network(
    tmp_path: Path, config: ModelConfig, zarr: bool, is_zip: bool
) -> None:
    weights = t5x_weights(config)
    path = write_t5x(tmp_path / "small", weights, zarr=zarr)
    if is_zip:
        path = zipped(path, tmp_path / "small.zip")
    source = read_source(str(path))
    assert_holds(source, config, weights)
    assert source.layout == ("T5X (Zarr)" if zarr else "T5X (MessagePack)")
    assert source.voice.name == "small"
    assert source.licence == "unknown"
    sha256 = f", sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}" if is_zip else ""
    place = f"{path.name}/" + ("small/" if is_zip else "") + "checkpoint_500000"
    assert source.origin == f"T5X checkpoint {place}{sha256}"
    assert source.n_parameters == sum(array.size for array in weights.values())
    assert list(source.hashes) == (["small.zip"] if is_zip else [])


def test_a_checkpoints_own_folder_and_file_will_do(tmp_path: Path) -> None:
    weights = t5x_weights(WITHOUT_CONTEXT)
    folder = write_t5x(tmp_path, weights) / "checkpoint_500000"
    (tmp_path / "config.gin").rename(folder / "config.gin")
    assert_holds(read_source(str(folder)), WITHOUT_CONTEXT, weights)
    assert_holds(read_source(str(folder / "checkpoint")), WITHOUT_CONTEXT, weights)


def test_of_several_checkpoints_the_latest_is_read(tmp_path: Path) -> None:
    latest = t5x_weights(WITHOUT_CONTEXT, seed=1)
    write_t5x(tmp_path, t5x_weights(WITHOUT_CONTEXT), step=90_000)
    write_t5x(tmp_path, latest, step=500_000)
    assert_holds(read_source(str(tmp_path)), WITHOUT_CONTEXT, latest)


def test_other_precisions_and_pieces(tmp_path: Path) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    weights = t5x_weights(WITHOUT_CONTEXT)
    leaves: dict[str, object] = {}
    for i, (key, array) in enumerate(weights.items()):
        kind = (ml_dtypes.bfloat16, np.float16, np.float64, np.float32)[i % 4]
        weights[key] = array.astype(kind)
        leaves[key] = in_pieces(array, 3) if kind is np.float32 else weights[key]
    (write_t5x(tmp_path, {}) / "checkpoint_500000" / "checkpoint").write_bytes(packed(leaves))
    assert_holds(read_source(str(tmp_path)), WITHOUT_CONTEXT, weights)


def test_what_tensorstore_itself_writes(tmp_path: Path) -> None:
    tensorstore = pytest.importorskip("tensorstore")
    rng = np.random.default_rng(3)
    for dtype in ("float32", "bfloat16", "float16"):
        store = {"driver": "file", "path": str(tmp_path / dtype)}
        metadata = {"compressor": {"id": "gzip"}, "shape": [5, 7], "chunks": [2, 4]}
        spec = {"driver": "zarr", "dtype": dtype, "kvstore": store, "metadata": metadata}
        place = tensorstore.open(spec, create=True, open=True).result()
        content = rng.standard_normal((5, 7)).astype(place.dtype.numpy_dtype)
        place.write(content).result()
        array = open_zarr(Folder(tmp_path), dtype)
        assert array.shape == (5, 7)
        assert np.array_equal(array.read(), content.astype(np.float32))


def test_the_place_of_an_array_that_was_written_to_a_bucket(tmp_path: Path) -> None:
    weights = t5x_weights(WITHOUT_CONTEXT)
    leaves: dict[str, object] = dict(weights)
    checkpoint = write_t5x(tmp_path, {}) / "checkpoint_500000"
    key = "decoder.spec_out_dense.kernel"
    write_zarr(checkpoint / f"target.{key}", weights[key])
    old = tensorstore_spec("", weights[key])
    leaves[key] = old | {"path": f"target.{key}", "kvstore": {"driver": "gcs", "bucket": "t5x-dummy-bucket"}}
    (checkpoint / "checkpoint").write_bytes(packed(leaves))
    assert_holds(read_source(str(tmp_path)), WITHOUT_CONTEXT, weights)


def test_arrays_in_zarr_folders_are_read_one_at_a_time(tmp_path: Path) -> None:
    write_zarr(tmp_path / "a", np.ones((4, 4), np.float32))
    array = open_zarr(Folder(tmp_path), "a")
    (tmp_path / "a" / "0.0").unlink()  # nothing but the description was read so far
    with pytest.raises(WeightsError, match="0.0 cannot be read"):
        array.read()


def test_an_unknown_layout(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "weights.h5").write_bytes(b"\x89HDF")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("readme.txt", "nothing")
    (tmp_path / "song.mid").write_bytes(b"MThd")
    for name in ("folder", "a.zip", "song.mid"):
        assert "of no layout that specdiff knows" in refusal(tmp_path / name)
    assert "does not exist" in refusal(tmp_path / "missing")


@pytest.mark.parametrize("zarr", [False, True], ids=["msgpack", "zarr"])
def test_missing_unexpected_and_misshapen_arrays_make_one_line(tmp_path: Path, zarr: bool) -> None:
    weights = t5x_weights(REFERENCE_LIKE)
    del weights["decoder.decoder_norm.scale"], weights["continuous_encoder.layers_1.mlp.wo.kernel"]
    weights["decoder.extra.kernel"] = np.zeros((2, 3), np.float32)
    weights["token_encoder.Embed_0.embedding"] = np.zeros((7, 64), np.float32)
    message = refusal(write_t5x(tmp_path / "small", weights, zarr=zarr))
    assert "2 missing: continuous_encoder.layers_1.mlp.wo.kernel, decoder.decoder_norm.scale;" in message
    assert "1 unexpected: decoder.extra.kernel;" in message
    assert "1 of wrong shape: token_encoder.Embed_0.embedding is 7x64, expected 2048x64" in message


def test_shapes_that_make_no_model(tmp_path: Path) -> None:
    weights = t5x_weights(WITHOUT_CONTEXT)
    weights["decoder.layers_0.self_attention.query.kernel"] = np.zeros((64, 50), np.float32)
    assert "attention width 50 is no multiple of the head size 16" in refusal(write_t5x(tmp_path / "a", weights))
    folder = write_t5x(tmp_path / "c", t5x_weights(WITHOUT_CONTEXT))
    for setting, message in (
        ("head_dim = 0", "attention width 48 is no multiple of the head size 0"),
        ("head_dim = 16\nNUM_VELOCITY_BINS = 0", "n_velocity_bins = 0: must be at least 1"),
        ("head_dim = 16\nNUM_VELOCITY_BINS = 999", "n_vocabulary_rows = 1536: must be at least 2389"),
    ):
        (folder / "config.gin").write_text(setting)
        assert message in refusal(folder)
    other = {"encoder.layers_0.mlp.wo.kernel": np.zeros((3, 3), np.float32)}
    message = refusal(write_t5x(tmp_path / "b", other))
    assert "is no checkpoint of a spectrogram diffusion model: it has no matrix decoder.layers_0" in message


def test_a_damaged_message_pack_file(tmp_path: Path) -> None:
    path = write_t5x(tmp_path, t5x_weights(WITHOUT_CONTEXT)) / "checkpoint_500000" / "checkpoint"
    whole = path.read_bytes()
    for content in (b"", whole[:1], whole[:400], whole[:-1], b"\xc1" * 50, b"<html>", b"\x92\x01\x02", b"\x80"):
        path.write_bytes(content)
        with pytest.raises(WeightsError, match="is damaged or no T5X checkpoint") as caught:
            read_source(str(tmp_path))
        assert "\n" not in str(caught.value)


def test_message_pack_entries_that_are_no_arrays_of_numbers(tmp_path: Path) -> None:
    import msgpack

    def leaf(*content: object, code: int = 1) -> object:
        return msgpack.ExtType(code, msgpack.packb(content))

    path = write_t5x(tmp_path, {}) / "checkpoint_500000" / "checkpoint"
    for value in (
        leaf((2, 2), "object", b"12345678"),
        leaf((2, 2), "int32", b"1234567812345678"),
        leaf((2, 9), "float32", b"1234"),
        leaf((2,), "float32"),
        leaf((2,), 7, b"12345678"),
        leaf((1 << 40, 1 << 40), "float32", b"1234"),
        leaf(1.0, 2.0, code=2),
        leaf(1.0, code=77),
        "text",
        [1, 2],
        {"driver": "n5", "kvstore": {"path": "x"}},
        {"driver": "zarr", "kvstore": {"path": "../../x"}},
        {"__msgpack_chunked_array__": True, "shape": {"0": 3}, "chunks": {"0": "x"}},
        {"__msgpack_chunked_array__": True, "shape": {"0": 1 << 40}, "chunks": {}},
    ):
        tree = {"optimizer": {"target": {"decoder": {"kernel": value}}}}
        path.write_bytes(msgpack.packb(tree))
        refusal(tmp_path)


def test_a_tree_without_end(tmp_path: Path) -> None:
    path = write_t5x(tmp_path, {}) / "checkpoint_500000" / "checkpoint"
    path.write_bytes(b"\x81\xa6target" + b"\x81\xa1a" * 100_000 + b"\x01")
    refusal(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"zarr_format": 3},
        {"order": "F"},
        {"filters": [{"id": "delta"}]},
        {"compressor": {"id": "blosc"}},
        {"dtype": "|O"},
        {"dtype": "<i4"},
        {"shape": [0, 4]},
        {"shape": [1 << 40, 1 << 40]},
        {"chunks": [1 << 30, 2]},
        {"chunks": [2]},
        {"chunks": [2, -2]},
        {"shape": "four"},
        {"dimension_separator": "\\"},
    ],
    ids=str,
)
def test_a_zarr_description_that_is_refused(tmp_path: Path, changes: dict[str, object]) -> None:
    write_zarr(tmp_path / "a", np.ones((4, 4), np.float32))
    path = tmp_path / "a" / ".zarray"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(WeightsError) as caught:
        open_zarr(Folder(tmp_path), "a")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no gzip",
        gzip.compress(bytes(15)),
        gzip.compress(bytes(17)),
        gzip.compress(bytes(16))[:-9],
        bytes(1 << 21),
    ],
    ids=["empty", "text", "short", "long", "cut", "huge"],
)
def test_a_damaged_zarr_chunk(tmp_path: Path, content: bytes) -> None:
    write_zarr(tmp_path / "a", np.ones((4, 4), np.float32), chunks=(2, 2))
    (tmp_path / "a" / "1.1").write_bytes(content)
    with pytest.raises(WeightsError, match="1.1 is"):
        open_zarr(Folder(tmp_path), "a").read()


def test_a_chunk_that_unpacks_to_gigabytes_is_not_unpacked(tmp_path: Path) -> None:
    write_zarr(tmp_path / "a", np.ones((4, 4), np.float32), chunks=(2, 2))
    bomb = gzip.compress(gzip.compress(bytes(64 << 20)) + bytes(64 << 20))  # 128 MB in 125 kB
    (tmp_path / "a" / "0.0").write_bytes(bomb)
    with pytest.raises(WeightsError, match="is damaged"):
        open_zarr(Folder(tmp_path), "a").read()


def test_missing_chunks_take_the_fill_value_where_there_is_one(tmp_path: Path) -> None:
    write_zarr(tmp_path / "a", np.ones((4, 4), np.float32), chunks=(2, 4), fill_value=0.5)
    (tmp_path / "a" / "1.0").unlink()
    assert np.array_equal(open_zarr(Folder(tmp_path), "a").read()[:, 0], [1, 1, 0.5, 0.5])


@pytest.mark.parametrize("name", ["../checkpoint", "/etc/checkpoint", "a/../../checkpoint", "C:/checkpoint"])
def test_zips_whose_names_lead_out_of_them_are_refused(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr(name, b"x")
    assert "leads out of it" in refusal(tmp_path / "a.zip")


@pytest.mark.parametrize(
    ("version", "message"), [(20, "leads out of it"), (99, "no complete zip file")], ids=["no name", "future version"]
)
def test_zips_that_python_does_not_write(tmp_path: Path, version: int, message: str) -> None:
    entry = struct.pack("<4sHH38x", b"PK\x01\x02", version, version)  # a name of length 0
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, len(entry), 0, 0)
    (tmp_path / "a.zip").write_bytes(entry + end)
    assert message in refusal(tmp_path / "a.zip")


def test_zips_that_claim_too_much_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zipped(write_t5x(tmp_path / "small", t5x_weights(WITHOUT_CONTEXT)), tmp_path / "small.zip")
    monkeypatch.setattr(files, "MAX_ZIP_BYTES", 1000)
    assert "claims more content than any checkpoint" in refusal(path)
    monkeypatch.setattr(files, "MAX_FILES", 1)
    monkeypatch.setattr(files, "MAX_ZIP_BYTES", 1 << 40)
    assert "holds more than 1 files" in refusal(path)


def test_arrays_larger_than_any_models_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_zarr(tmp_path / "a", np.ones((4, 4), np.float32))
    monkeypatch.setattr(arrays, "MAX_ARRAY_BYTES", 63)
    with pytest.raises(WeightsError, match="larger than that of any model"):
        open_zarr(Folder(tmp_path), "a")


def test_damaged_zips(tmp_path: Path) -> None:
    path = zipped(write_t5x(tmp_path / "small", t5x_weights(WITHOUT_CONTEXT)), tmp_path / "small.zip")
    whole = path.read_bytes()
    path.write_bytes(whole[:-3000])
    refusal(path)
    path.write_bytes(whole[:2000] + bytes(200) + whole[2200:])
    refusal(path)


def test_links_that_lead_out_of_a_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "checkpoint").symlink_to(tmp_path / "secret")
    assert "leads out of the folder" in refusal(tmp_path / "folder")


def test_nothing_is_extracted_from_a_zip(tmp_path: Path) -> None:
    path = zipped(write_t5x(tmp_path / "small", t5x_weights(WITHOUT_CONTEXT), zarr=True), tmp_path / "small.zip")
    before = sorted(tmp_path.rglob("*"))
    read_source(str(path))
    assert sorted(tmp_path.rglob("*")) == before
