"""Pure key maps between foreign checkpoint layouts and ours. No I/O, no torch."""

from specdiff_cli.model.config import ModelConfig

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
    return _weights(names | _blocks("decoders", _DECODER_BLOCK, n_layers))


def diffusers_parts(config: ModelConfig) -> dict[str, tuple[str, dict[str, str]]]:
    """Folder of the Diffusers layout -> (attribute of our network, key map)."""
    parts = {
        "notes_encoder": ("note_encoder", diffusers_note_encoder(config.n_note_layers)),
        "decoder": ("decoder", diffusers_decoder(config.n_decoder_layers)),
    }
    if config.has_context:
        parts["continuous_encoder"] = ("context_encoder", diffusers_context_encoder(config.n_context_layers))
    return parts


def _encoder(names: dict[str, str], n_layers: int) -> dict[str, str]:
    shared = {"position_encoding": "positions", "layer_norm": "norm"}
    return _weights(names | shared | _blocks("encoders", _ENCODER_BLOCK, n_layers))


def _blocks(prefix: str, block: dict[str, str], n_layers: int) -> dict[str, str]:
    return {f"{prefix}.{i}.{theirs}": f"blocks.{i}.{ours}" for i in range(n_layers) for theirs, ours in block.items()}


def _weights(names: dict[str, str]) -> dict[str, str]:
    return {f"{theirs}.weight": f"{ours}.weight" for theirs, ours in names.items()}
