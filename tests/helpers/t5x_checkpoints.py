"""Small T5X checkpoints with random weights, in every form in which T5X writes them. Names are the reference's own."""

import gzip
import itertools
import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from specdiff_cli.model.config import ModelConfig

Weights = dict[str, npt.NDArray[np.float32]]

AUTOREGRESSIVE = ModelConfig(64, 3, 16, 96, 2, 0, 2, kind="autoregressive")

CONFIG_GIN = """\
from __gin__ import dynamic_registration
NUM_VELOCITY_BINS = 1
# network.T5Config.head_dim = 99
network.T5Config:
  emb_dim = 64
  head_dim = {d_kv}
vocabularies.VocabularyConfig.num_velocity_bins = %NUM_VELOCITY_BINS
"""


def t5x_weights(config: ModelConfig, seed: int = 0) -> Weights:
    """The ``target`` tree of a checkpoint, flat, with random content."""
    rng = np.random.default_rng(seed)
    weights: Weights = {}
    for key, shape in t5x_shapes(config):
        spread = shape[0] ** -0.5 if key.endswith(".kernel") else 1.0
        weights[key] = (spread * rng.standard_normal(shape)).astype(np.float32)
        if key.endswith(".scale"):
            weights[key] = rng.uniform(0.8, 1.2, shape).astype(np.float32)
    return weights


def t5x_shapes(config: ModelConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Every array of a checkpoint, from the reference's network.py."""
    d, inner, d_ff = config.d_model, config.n_heads * config.d_kv, config.d_ff
    stores_positions = config.kind == "diffusion"

    def attention(name: str) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield from ((f"{name}.{part}.kernel", (d, inner)) for part in ("query", "key", "value"))
        yield f"{name}.out.kernel", (inner, d)

    def mlp(name: str) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield f"{name}.pre_mlp_layer_norm.scale", (d,)
        yield from ((f"{name}.mlp.{part}.kernel", (d, d_ff)) for part in ("wi_0", "wi_1"))
        yield f"{name}.mlp.wo.kernel", (d_ff, d)

    def encoder(name: str, n_layers: int, n_rows: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        for i in range(n_layers):
            yield f"{name}.layers_{i}.pre_attention_layer_norm.scale", (d,)
            yield from attention(f"{name}.layers_{i}.attention")
            yield from mlp(f"{name}.layers_{i}")
        yield f"{name}.encoder_norm.scale", (d,)
        if stores_positions:
            yield f"{name}.Embed_0.embedding", (n_rows, d)

    notes = "token_encoder" if config.has_context else "encoder"
    yield f"{notes}.token_embedder.embedding", (config.n_vocabulary_rows, d)
    yield from encoder(notes, config.n_note_layers, 2048)
    if config.has_context:
        yield "continuous_encoder.input_proj.kernel", (128, d)
        yield from encoder("continuous_encoder", config.n_context_layers, 256)
    yield "decoder.continuous_inputs_projection.kernel", (128, d)
    if stores_positions:
        yield "decoder.Embed_0.embedding", (256, d)
        yield "decoder.time_emb_dense0.kernel", (d, 4 * d)
        yield "decoder.time_emb_dense1.kernel", (4 * d, 4 * d)
    for i in range(config.n_decoder_layers):
        layer = f"decoder.layers_{i}"
        yield f"{layer}.pre_self_attention_layer_norm.scale", (d,)
        yield from attention(f"{layer}.self_attention")
        yield f"{layer}.pre_cross_attention_layer_norm.scale", (d,)
        cross = "MultiHeadDotProductAttention_0" if stores_positions else "encoder_decoder_attention"
        yield from attention(f"{layer}.{cross}")
        yield from mlp(layer)
        if stores_positions:
            yield from ((f"{layer}.FiLMLayer_{j}.DenseGeneral_0.kernel", (4 * d, 2 * d)) for j in (0, 1))
    yield "decoder.decoder_norm.scale", (d,)
    yield "decoder.spec_out_dense.kernel", (d, 128)


def write_t5x(
    folder: Path, weights: Mapping[str, Any], *, zarr: bool = False, d_kv: int = 16, step: int = 500_000
) -> Path:
    """``folder/config.gin`` and ``folder/checkpoint_{step}``; with ``zarr`` each matrix lies in a folder of its own."""
    checkpoint = folder / f"checkpoint_{step}"
    checkpoint.mkdir(parents=True)
    (folder / "config.gin").write_text(CONFIG_GIN.format(d_kv=d_kv))
    leaves: dict[str, Any] = dict(weights)
    if zarr:
        for key, array in weights.items():
            if array.ndim == 2:
                write_zarr(checkpoint / f"target.{key}", array)
                leaves[key] = tensorstore_spec(f"target.{key}", array)
    (checkpoint / "checkpoint").write_bytes(packed(leaves))
    return folder


def packed(leaves: Mapping[str, Any]) -> bytes:
    """flax's MessagePack of a checkpoint, with a little of an optimiser's state before the weights."""
    import msgpack

    state = {"step": np.int32(500_000), "param_states": {"decoder": {"v": np.ones(7, np.float32)}}}
    tree = {"version": 3, "optimizer": {"state": state, "target": nested(leaves)}}
    return bytes(msgpack.packb(tree, default=_extension, strict_types=True))


def _extension(value: Any) -> Any:
    import msgpack

    array = np.asarray(value)
    content = msgpack.packb((array.shape, array.dtype.name, array.tobytes("C")), use_bin_type=True)
    return msgpack.ExtType(1 if isinstance(value, np.ndarray) else 3, content)


def in_pieces(array: npt.NDArray[Any], n_pieces: int) -> dict[str, Any]:
    """How flax writes an array above 1 GiB."""
    pieces = np.array_split(array.reshape(-1), n_pieces)
    return {
        "__msgpack_chunked_array__": True,
        "shape": {str(i): length for i, length in enumerate(array.shape)},
        "chunks": {str(i): piece for i, piece in enumerate(pieces)},
    }


def tensorstore_spec(path: str, array: npt.NDArray[Any]) -> dict[str, Any]:
    """What T5X leaves in place of an array that TensorStore wrote (flax makes tables of lists)."""
    metadata = {"compressor": {"id": "gzip"}, "shape": {str(i): n for i, n in enumerate(array.shape)}}
    store = {"driver": "file", "path": f"{path}/"}
    return {"driver": "zarr", "dtype": array.dtype.name, "kvstore": store, "metadata": metadata}


def write_zarr(folder: Path, array: npt.NDArray[Any], chunks: tuple[int, ...] | None = None, **changes: Any) -> None:
    """An array as TensorStore writes it: chunks of one full shape, also at the edges, each gzipped."""
    chunks = chunks or tuple(max(1, -(-n // 2)) for n in array.shape)
    folder.mkdir(parents=True)
    about = {
        **{"chunks": chunks, "compressor": {"id": "gzip", "level": 1}, "dimension_separator": "."},
        **{"dtype": array.dtype.str, "fill_value": None, "filters": None, "order": "C"},
        **{"shape": array.shape, "zarr_format": 2, **changes},
    }
    (folder / ".zarray").write_text(json.dumps(about))
    for index in itertools.product(*(range(-(-n // c)) for n, c in zip(array.shape, chunks, strict=True))):
        chunk = np.zeros(chunks, array.dtype)
        part = array[tuple(slice(i * c, (i + 1) * c) for i, c in zip(index, chunks, strict=True))]
        chunk[tuple(slice(n) for n in part.shape)] = part
        (folder / ".".join(map(str, index))).write_bytes(gzip.compress(chunk.tobytes(), 1))


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Keys joined by dots -> a tree."""
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        *path, last = key.split(".")
        branch = tree
        for name in path:
            branch = branch.setdefault(name, {})
        branch[last] = value
    return tree


def zipped(folder: Path, path: Path) -> Path:
    """The folder as a zip with the folder's name at its top."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name in sorted(folder.rglob("*")):
            file.write(name, name.relative_to(folder.parent))
    return path
