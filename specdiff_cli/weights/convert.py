"""Pure key maps between the Diffusers layout and ours, and what every key map needs. No I/O, no torch."""

import re
from collections.abc import Iterable, Mapping

from specdiff_cli.model.config import ModelConfig

Shapes = Mapping[str, tuple[int, ...]]

_ENCODER_BLOCK = {
    "layer.0.layer_norm": "attention_norm",
    "layer.0.SelfAttention.q": "attention.q",
    "layer.0.SelfAttention.k": "attention.k",
    "layer.0.SelfAttention.v": "attention.v",
    "layer.0.SelfAttention.o": "attention.o",
    "layer.1.layer_norm": "mlp_norm",
    "layer.1.DenseReluDense.wi_0": "mlp.wi_0",
    "layer.1.DenseReluDense.wi_1": "mlp.wi_1",
    "layer.1.DenseReluDense.wo": "mlp.wo",
}
_DECODER_BLOCK = {
    "layer.0.layer_norm": "attention_norm",
    "layer.0.FiLMLayer.scale_bias": "attention_film",
    "layer.0.attention.to_q": "attention.q",
    "layer.0.attention.to_k": "attention.k",
    "layer.0.attention.to_v": "attention.v",
    "layer.0.attention.to_out.0": "attention.o",
    "layer.1.layer_norm": "cross_norm",
    "layer.1.attention.to_q": "cross_attention.q",
    "layer.1.attention.to_k": "cross_attention.k",
    "layer.1.attention.to_v": "cross_attention.v",
    "layer.1.attention.to_out.0": "cross_attention.o",
    "layer.2.layer_norm": "mlp_norm",
    "layer.2.film.scale_bias": "mlp_film",
    "layer.2.DenseReluDense.wi_0": "mlp.wi_0",
    "layer.2.DenseReluDense.wi_1": "mlp.wi_1",
    "layer.2.DenseReluDense.wo": "mlp.wo",
}


def diffusers_note_encoder(n_layers: int) -> dict[str, str]:
    """Diffusers ``notes_encoder`` key -> key of :class:`~specdiff_cli.model.encoders.NoteEncoder`."""
    return _encoder({"token_embedder": "embedding"}, n_layers)


def diffusers_context_encoder(n_layers: int) -> dict[str, str]:
    """Diffusers ``continuous_encoder`` key -> key of :class:`~specdiff_cli.model.encoders.ContextEncoder`."""
    return _encoder({"input_proj": "input_projection"}, n_layers)


def diffusers_decoder(n_layers: int) -> dict[str, str]:
    """Diffusers ``decoder`` key -> key of :class:`~specdiff_cli.model.decoder.SpectrogramDecoder`."""
    names = {
        "conditioning_emb.0": "time_in",
        "conditioning_emb.2": "time_out",
        "continuous_inputs_projection": "input_projection",
        "position_encoding": "positions",
        "decoder_norm": "norm",
        "spec_out": "output_projection",
    }
    return _weights(names | blocks("decoders.", _DECODER_BLOCK, n_layers))


def diffusers_parts(config: ModelConfig) -> dict[str, tuple[str, dict[str, str]]]:
    """Folder of the Diffusers layout -> (attribute of our network, key map)."""
    parts = {
        "notes_encoder": ("note_encoder", diffusers_note_encoder(config.n_note_layers)),
        "decoder": ("decoder", diffusers_decoder(config.n_decoder_layers)),
    }
    if config.has_context:
        parts["continuous_encoder"] = ("context_encoder", diffusers_context_encoder(config.n_context_layers))
    return parts


def blocks(prefix: str, block: Mapping[str, str], n_layers: int) -> dict[str, str]:
    """Their names in every layer, ``{prefix}{i}.{name}``, -> ours."""
    return {f"{prefix}{i}.{theirs}": f"blocks.{i}.{ours}" for i in range(n_layers) for theirs, ours in block.items()}


def count_blocks(keys: Iterable[str], prefix: str) -> int:
    """How many layers there are below ``prefix``, by the highest number behind it."""
    pattern = re.compile(rf"{re.escape(prefix)}(\d{{1,4}})\.")
    return max((int(match[1]) + 1 for key in keys if (match := pattern.match(key))), default=0)


def count_heads(width: int, d_kv: int) -> int:
    """How many heads of size ``d_kv`` an attention of so many channels has. Raises ValueError for no whole number."""
    if d_kv < 1 or width % d_kv:
        raise ValueError(f"its attention width {width} is no multiple of the head size {d_kv}")
    return width // d_kv


def size(shapes: Shapes, key: str, axis: int) -> int:
    """One size of a matrix from which the architecture is inferred. Raises ValueError when it is not there."""
    if len(shapes.get(key, ())) != 2:
        raise ValueError(f"it has no matrix {key}")
    return shapes[key][axis]


def misfits(found: Shapes, expected: Shapes) -> str | None:
    """One sorted report of every array that is missing, unexpected or of another shape; None when all is well."""
    problems = {
        "missing": [key for key in expected if key not in found],
        "unexpected": [key for key in found if key not in expected],
        "of wrong shape": [
            f"{key} is {_shape(found[key])}, expected {_shape(expected[key])}"
            for key in expected
            if key in found and tuple(found[key]) != tuple(expected[key])
        ],
    }
    return (
        "; ".join(f"{len(items)} {label}: {some(sorted(items))}" for label, items in problems.items() if items) or None
    )


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a scalar"


def some(items: list[str], limit: int = 12) -> str:
    """The first of a list, and how many more there are."""
    more = f" and {len(items) - limit} more" if len(items) > limit else ""
    return ", ".join(item if item.isprintable() else ascii(item) for item in items[:limit]) + more


def _encoder(names: dict[str, str], n_layers: int) -> dict[str, str]:
    shared = {"position_encoding": "positions", "layer_norm": "norm"}
    return _weights(names | shared | blocks("encoders.", _ENCODER_BLOCK, n_layers))


def _weights(names: dict[str, str]) -> dict[str, str]:
    return {f"{theirs}.weight": f"{ours}.weight" for theirs, ours in names.items()}
