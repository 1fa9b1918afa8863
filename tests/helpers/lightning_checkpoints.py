"""Small checkpoints of music-spectrogram-diffusion-pytorch, and that network's mathematics in float64 numpy.

Written from its description alone; nothing here imports the package. Heads have 64 channels, as in all its models.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
HEAD = 64
LOW, HIGH = -12.0, 6.25


def lightning_weights(
    d_model: int = 32, n_heads: int = 1, d_ff: int = 24, n_layers: int = 2, *, context: bool = True, seed: int = 0
) -> dict[str, npt.NDArray[np.float32]]:
    """The ``state_dict`` of a checkpoint with random content. ``n_heads * 64`` need not equal ``d_model``."""
    rng = np.random.default_rng(seed)
    shapes: dict[str, tuple[int, ...]] = {
        "emb.weight": (901, d_model),
        "in_pos_emb": (3000, d_model),
        "out_pos_emb": (257, d_model),
    }

    def linear(name: str, n_in: int, n_out: int, bias: bool = True) -> None:
        shapes[f"{name}.weight"] = (n_out, n_in)
        if bias:
            shapes[f"{name}.bias"] = (n_out,)

    def norm(name: str) -> None:
        shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (d_model,)

    def attention(name: str) -> None:
        for part in ("q_proj", "k_proj", "v_proj"):
            linear(f"{name}.{part}", d_model, n_heads * HEAD, bias=False)
        linear(f"{name}.emb_proj", n_heads * HEAD, d_model, bias=False)

    def layer(name: str, norms: int, attentions: tuple[str, ...]) -> None:
        for part in attentions:
            attention(f"{name}.{part}")
        for i in range(1, norms + 1):
            norm(f"{name}.norm{i}")
        linear(f"{name}.linear1", d_model, 2 * d_ff)
        linear(f"{name}.linear2", d_ff, d_model)

    for stack in ("encoder", *(["context_encoder"] if context else [])):
        for i in range(n_layers):
            layer(f"transformer.{stack}.layers.{i}", 2, ("self_attn",))
        norm(f"transformer.{stack}.norm")
    for i in range(n_layers):
        layer(f"transformer.decoder.layers.{i}", 3, ("self_attn", "multihead_attn"))
        for film in ("film1", "film2"):
            linear(f"transformer.decoder.layers.{i}.{film}.linear", 4 * d_model, 2 * d_model)
    norm("transformer.decoder.norm")
    linear("linear_in", 128, d_model)
    linear("linear_out", d_model, 128)
    linear("diffusion_emb.projection1", d_model, 4 * d_model)
    linear("diffusion_emb.projection2", 4 * d_model, 4 * d_model)

    weights = {f"model.{key}": _random(rng, key, shape) for key, shape in shapes.items()}
    weights["mel.0.spectrogram.window"] = np.hanning(640).astype(np.float32)
    weights["mel.0.mel_scale.fb"] = np.zeros((513, 128), np.float32)
    return weights | {"mel.1.min": np.array(LOW, np.float32), "mel.1.max": np.array(HIGH, np.float32)}


def _random(rng: np.random.Generator, key: str, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    if len(shape) == 1:  # a norm's weight lies around 1, every bias around 0
        centre = 1.0 if "norm" in key and key.endswith("weight") else 0.0
        return rng.normal(centre, 0.2, shape).astype(np.float32)
    spread = 1.0 if "emb.weight" in key or "pos_emb" in key else shape[1] ** -0.5
    return rng.normal(0, spread, shape).astype(np.float32)


class LightningReference:
    """One diffusion model of that repository."""

    def __init__(self, weights: Mapping[str, npt.NDArray[np.float32]]) -> None:
        self._weights = {k.removeprefix("model."): v.astype(np.float64) for k, v in weights.items()}

    def encode_notes(self, tokens: npt.NDArray[np.int64]) -> Array:
        x = self._weights["emb.weight"][tokens] + self._weights["in_pos_emb"][: len(tokens)]
        return self._encode("encoder", x)

    def encode_context(self, context: Array) -> Array:
        x = self._linear(context, "linear_in") + self._weights["out_pos_emb"][: len(context)]
        return self._encode("context_encoder", x)

    def decode(self, noisy: Array, time: float, memory: Array) -> Array:
        condition = self._condition(time)
        x = self._linear(noisy, "linear_in") + self._weights["out_pos_emb"][: len(noisy)]
        i = 0
        while f"transformer.decoder.layers.{i}.linear1.bias" in self._weights:
            layer = f"transformer.decoder.layers.{i}"
            y = self._film(self._norm(x, f"{layer}.norm1"), condition, f"{layer}.film1.linear")
            x = x + self._attention(y, y, f"{layer}.self_attn")
            x = x + self._attention(self._norm(x, f"{layer}.norm2"), memory, f"{layer}.multihead_attn")
            x = x + self._mlp(self._film(self._norm(x, f"{layer}.norm3"), condition, f"{layer}.film2.linear"), layer)
            i += 1
        return self._linear(self._norm(x, "transformer.decoder.norm"), "linear_out")

    def _encode(self, stack: str, x: Array) -> Array:
        i = 0
        while f"transformer.{stack}.layers.{i}.linear1.bias" in self._weights:
            layer = f"transformer.{stack}.layers.{i}"
            y = self._norm(x, f"{layer}.norm1")
            x = x + self._attention(y, y, f"{layer}.self_attn")
            x = x + self._mlp(self._norm(x, f"{layer}.norm2"), layer)
            i += 1
        return self._norm(x, f"transformer.{stack}.norm")

    def _linear(self, x: Array, name: str) -> Array:
        return x @ self._weights[f"{name}.weight"].T + self._weights.get(f"{name}.bias", 0.0)

    def _norm(self, x: Array, name: str) -> Array:
        centred = x - x.mean(-1, keepdims=True)
        normed: Array = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        return normed * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]

    def _film(self, x: Array, condition: Array, name: str) -> Array:
        gamma, beta = np.split(self._linear(condition, name), 2)
        return (1 + gamma) * x + beta

    def _mlp(self, x: Array, layer: str) -> Array:
        up, gate = np.split(self._linear(x, f"{layer}.linear1"), 2, axis=-1)
        erf: Any = np.vectorize(math.erf)
        return self._linear(up * gate * 0.5 * (1 + erf(gate / math.sqrt(2))), f"{layer}.linear2")

    def _condition(self, time: float) -> Array:
        d_model = self._weights["emb.weight"].shape[1]
        half = d_model // 2
        angles = [20_000.0 * time * math.exp(-math.log(20_000.0) / (half - 1) * i) for i in range(half)]
        x = np.array([wave(angle) for angle in angles for wave in (math.cos, math.sin)])
        for name in ("projection1", "projection2"):
            x = self._linear(x, f"diffusion_emb.{name}")
            x = x / (1 + np.exp(-x))
        return x

    def _attention(self, x: Array, memory: Array, name: str) -> Array:
        def heads(y: Array, part: str) -> Array:
            return self._linear(y, f"{name}.{part}").reshape(len(y), -1, HEAD)

        logits = np.einsum("qhe,khe->hqk", heads(x, "q_proj"), heads(memory, "k_proj")) / math.sqrt(HEAD)
        weights = np.exp(logits - logits.max(-1, keepdims=True))
        weights = weights / weights.sum(-1, keepdims=True)
        seen = np.einsum("hqk,khe->qhe", weights, heads(memory, "v_proj"))
        return self._linear(seen.reshape(len(x), -1), f"{name}.emb_proj")
