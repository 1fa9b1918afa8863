"""Pure key maps between checkpoints of music-spectrogram-diffusion-pytorch and ours. No I/O, no torch.

Its network (``models/diff_decoder.py``) is the reference's tree with other parts, see ``ModelConfig.dialect``. What can
be folded into the weights is: the scale of the attention into the queries, the order of sines and cosines into the
first layer of the time embedding, and the halves of ``linear1`` into the two inputs of the gated MLP.
"""

from collections.abc import Mapping
from enum import Enum

from specdiff_cli.midi.windows import WINDOW_STEPS
from specdiff_cli.model.config import ModelConfig
from specdiff_cli.weights.convert import Shapes, blocks, count_blocks, count_heads, size

LIGHTNING_D_KV = 64  # in every configuration of the repository; no array's shape tells it
PREFIX = "model."
LOW, HIGH = "mel.1.min", "mel.1.max"  # of the log-mel values seen in training
#: Part of every checkpoint, and nothing that was learnt.
IGNORED = ("mel.0.spectrogram.window", "mel.0.mel_scale.fb")


class Change(Enum):
    """How an array of theirs becomes ours."""

    NONE = "as it is"
    QUERY = "divided by the root of d_kv"
    GATE = "second half of the rows"  # what passes through the GELU
    UP = "first half of the rows"
    TIME = "columns from sines and cosines in turn to all sines, then all cosines"
    POSITIONS = "the first rows"


#: Of their key, and what becomes of it.
Origin = tuple[str, Change]


def _both(theirs: str, ours: str, change: Change = Change.NONE) -> dict[str, Origin]:
    return {f"{ours}.{name}": (f"{theirs}.{name}", change) for name in ("weight", "bias")}


def _attention(theirs: str, ours: str) -> dict[str, Origin]:
    parts = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "o": "emb_proj"}
    return {
        f"{ours}.{our}.weight": (f"{theirs}.{their}.weight", Change.QUERY if our == "q" else Change.NONE)
        for our, their in parts.items()
    }


_MLP = {
    **_both("linear1", "mlp.wi_0", Change.GATE),
    **_both("linear1", "mlp.wi_1", Change.UP),
    **_both("linear2", "mlp.wo"),
}
_ENCODER_BLOCK = {
    **_attention("self_attn", "attention"),
    **_both("norm1", "attention_norm"),
    **_both("norm2", "mlp_norm"),
    **_MLP,
}
_DECODER_BLOCK = {
    **_attention("self_attn", "attention"),
    **_attention("multihead_attn", "cross_attention"),
    **_both("norm1", "attention_norm"),
    **_both("norm2", "cross_norm"),
    **_both("norm3", "mlp_norm"),
    **_both("film1.linear", "attention_film"),
    **_both("film2.linear", "mlp_film"),
    **_MLP,
}
_INPUT = _both("linear_in", "input_projection")
_FRAMES = {"positions.weight": ("out_pos_emb", Change.POSITIONS)}


def lightning_origins(config: ModelConfig) -> dict[str, Origin]:
    """Key of our network -> where it comes from in a checkpoint; some of theirs serve two of ours."""
    notes = {
        "embedding.weight": ("emb.weight", Change.NONE),
        "positions.weight": ("in_pos_emb", Change.POSITIONS),
        **_stack("encoder", _ENCODER_BLOCK, config.n_note_layers),
    }
    decoder = {
        **_INPUT,
        **_FRAMES,
        **_both("linear_out", "output_projection"),
        "time_in.weight": ("diffusion_emb.projection1.weight", Change.TIME),
        "time_in.bias": ("diffusion_emb.projection1.bias", Change.NONE),
        **_both("diffusion_emb.projection2", "time_out"),
        **_stack("decoder", _DECODER_BLOCK, config.n_decoder_layers),
    }
    parts = {"note_encoder": notes, "decoder": decoder}
    if config.has_context:
        context = _stack("context_encoder", _ENCODER_BLOCK, config.n_context_layers)
        parts["context_encoder"] = {**_INPUT, **_FRAMES, **context}
    return {
        f"{part}.{ours}": (PREFIX + theirs, change)
        for part, names in parts.items()
        for ours, (theirs, change) in names.items()
    }


def _stack(part: str, block: Mapping[str, Origin], n_layers: int) -> dict[str, Origin]:
    stack = f"transformer.{part}"
    origins = _both(f"{stack}.norm", "norm")
    for ours, (theirs, change) in block.items():
        for their_key, our_key in blocks(f"{stack}.layers.", {theirs: ours}, n_layers).items():
            origins[our_key] = (their_key, change)
    return origins


def lightning_config(shapes: Shapes, feature_range: tuple[float, float]) -> ModelConfig:
    """The architecture of a checkpoint, from its arrays' shapes.

    Raises ValueError, with the reason, for what is no diffusion model of that repository.
    """
    stack = PREFIX + "transformer"
    if f"{PREFIX}diffusion_emb.projection1.weight" not in shapes and f"{PREFIX}emb.weight" in shapes:
        raise ValueError("it is the repository's autoregressive model, for which specdiff has no network")
    n_heads = count_heads(size(shapes, f"{stack}.decoder.layers.0.self_attn.q_proj.weight", 0), LIGHTNING_D_KV)
    config = ModelConfig(
        d_model=size(shapes, f"{PREFIX}emb.weight", 1),
        n_heads=n_heads,
        d_kv=LIGHTNING_D_KV,
        d_ff=size(shapes, f"{stack}.decoder.layers.0.linear2.weight", 1),
        n_note_layers=count_blocks(shapes, f"{stack}.encoder.layers."),
        n_context_layers=count_blocks(shapes, f"{stack}.context_encoder.layers."),
        n_decoder_layers=count_blocks(shapes, f"{stack}.decoder.layers."),
        n_vocabulary_rows=size(shapes, f"{PREFIX}emb.weight", 0),
        dialect="lightning",
        feature_range=feature_range,
    )
    if config.vocabulary.max_shift_steps < WINDOW_STEPS:
        raise ValueError(f"its vocabulary of {config.n_vocabulary_rows} tokens has none for every time in a window")
    return config


def lightning_shapes(config: ModelConfig, found: Shapes, ours: Shapes) -> dict[str, tuple[int, ...]]:
    """Shape that each array of a checkpoint must have, given those of our network.

    Tables of positions may be longer than ours, which have the rows that a window can use.
    """
    expected = {key: found[key] for key in IGNORED if key in found} | {LOW: (), HIGH: ()}
    for our_key, (theirs, change) in lightning_origins(config).items():
        shape = ours[our_key]
        if change in (Change.GATE, Change.UP):
            shape = (2 * shape[0], *shape[1:])
        elif change is Change.POSITIONS and len(found.get(theirs, ())) == 2:
            shape = (max(shape[0], found[theirs][0]), *shape[1:])
        expected[theirs] = shape
    return expected
