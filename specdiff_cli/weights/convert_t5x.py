"""Pure key maps between T5X checkpoints and our networks. No I/O, no torch.

T5X stores kernels input-major: what ends in ``.kernel`` is transposed on the way (:func:`is_transposed`).
Source: SPEC of the tree names in magenta/music-spectrogram-diffusion, ``models/{diffusion,autoregressive}/network.py``.
"""

from collections.abc import Mapping

from specdiff_cli.model.config import ModelConfig
from specdiff_cli.weights.convert import Shapes, blocks, count_blocks, count_heads, size

T5X_D_KV = 64  # of every published model; needed only where there is no config.gin

_ATTENTION = {"query": "q", "key": "k", "value": "v", "out": "o"}
_MLP = {"mlp.wi_0.kernel": "mlp.wi_0", "mlp.wi_1.kernel": "mlp.wi_1", "mlp.wo.kernel": "mlp.wo"}


def _attention(theirs: str, ours: str) -> dict[str, str]:
    return {f"{theirs}.{their}.kernel": f"{ours}.{our}" for their, our in _ATTENTION.items()}


_ENCODER_BLOCK = {
    "pre_attention_layer_norm.scale": "attention_norm",
    **_attention("attention", "attention"),
    "pre_mlp_layer_norm.scale": "mlp_norm",
    **_MLP,
}
_DECODER_BLOCK = {
    "pre_self_attention_layer_norm.scale": "attention_norm",
    **_attention("self_attention", "attention"),
    "pre_cross_attention_layer_norm.scale": "cross_norm",
    "pre_mlp_layer_norm.scale": "mlp_norm",
    **_MLP,
}
_DIFFUSION_BLOCK = {
    **_DECODER_BLOCK,
    **_attention("MultiHeadDotProductAttention_0", "cross_attention"),
    "FiLMLayer_0.DenseGeneral_0.kernel": "attention_film",
    "FiLMLayer_1.DenseGeneral_0.kernel": "mlp_film",
}
_AUTOREGRESSIVE_BLOCK = {**_DECODER_BLOCK, **_attention("encoder_decoder_attention", "cross_attention")}

_DECODER = {
    "continuous_inputs_projection.kernel": "input_projection",
    "decoder_norm.scale": "norm",
    "spec_out_dense.kernel": "output_projection",
}
#: The autoregressive model computes its positions; the diffusion models store them.
_POSITIONS = {"Embed_0.embedding": "positions"}
_TIME = {"time_emb_dense0.kernel": "time_in", "time_emb_dense1.kernel": "time_out"}


def t5x_names(config: ModelConfig) -> dict[str, str]:
    """Key in a T5X checkpoint's ``target`` tree -> key of our network, for every array of the model."""
    positions = {} if config.is_autoregressive else _POSITIONS
    notes = {"token_embedder.embedding": "embedding", "encoder_norm.scale": "norm"} | positions
    context = {"input_proj.kernel": "input_projection", "encoder_norm.scale": "norm"} | positions
    decoder = _DECODER | positions | ({} if config.is_autoregressive else _TIME)
    decoder_block = _AUTOREGRESSIVE_BLOCK if config.is_autoregressive else _DIFFUSION_BLOCK
    parts = {
        ("token_encoder" if config.has_context else "encoder", "note_encoder"): (
            notes | blocks("layers_", _ENCODER_BLOCK, config.n_note_layers)
        ),
        ("decoder", "decoder"): decoder | blocks("layers_", decoder_block, config.n_decoder_layers),
    }
    if config.has_context:
        parts["continuous_encoder", "context_encoder"] = context | blocks(
            "layers_", _ENCODER_BLOCK, config.n_context_layers
        )
    return {
        f"{theirs}.{name}": f"{ours}.{our_name}.weight"
        for (theirs, ours), names in parts.items()
        for name, our_name in names.items()
    }


def is_transposed(key: str) -> bool:
    """Whether an array of a T5X checkpoint is the transpose of ours."""
    return key.endswith(".kernel")


def t5x_config(shapes: Shapes, settings: Mapping[str, int]) -> ModelConfig:
    """The architecture of a T5X checkpoint, from its arrays' shapes and what config.gin says.

    Raises ValueError, with the reason, for what is no spectrogram diffusion model.
    """
    notes = "token_encoder" if any(key.startswith("token_encoder.") for key in shapes) else "encoder"
    d_kv = settings.get("head_dim", T5X_D_KV)
    first = "decoder.layers_0"
    n_heads = count_heads(size(shapes, f"{first}.self_attention.query.kernel", 1), d_kv)
    is_diffusion = any(key.startswith("decoder.time_emb_dense") for key in shapes)
    return ModelConfig(
        d_model=size(shapes, "decoder.continuous_inputs_projection.kernel", 1),
        n_heads=n_heads,
        d_kv=d_kv,
        d_ff=size(shapes, f"{first}.mlp.wi_0.kernel", 1),
        n_note_layers=count_blocks(shapes, f"{notes}.layers_"),
        n_context_layers=count_blocks(shapes, "continuous_encoder.layers_"),
        n_decoder_layers=count_blocks(shapes, "decoder.layers_"),
        n_vocabulary_rows=size(shapes, f"{notes}.token_embedder.embedding", 0),
        n_velocity_bins=settings.get("num_velocity_bins", 1),
        kind="diffusion" if is_diffusion else "autoregressive",
    )
