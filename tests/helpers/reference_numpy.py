"""The reference's mathematics in float64 numpy, written from its published description and on its own T5X names.

Independent of the package: nothing here imports it. Weights are a flat table of T5X keys, kernels input-major; sizes
follow from their shapes, save for the size of a head.
"""

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Weights = Mapping[str, npt.NDArray[np.float32]]

MAX_TOKENS, WINDOW_FRAMES, N_MELS = 2048, 256, 128


class Reference:
    """One diffusion model with or without context."""

    def __init__(self, weights: Weights, head_size: int) -> None:
        self._weights = {key: value.astype(np.float64) for key, value in weights.items()}
        self._head_size = head_size
        self.has_context = any(key.startswith("continuous_encoder.") for key in weights)
        self._notes = "token_encoder" if self.has_context else "encoder"

    def encode_notes(self, tokens: npt.NDArray[np.int64]) -> Array:
        """Tokens (K,), 0 where padded -> (K, D)."""
        part = self._notes
        x = self._of(f"{part}.token_embedder.embedding")[tokens]
        x = x + self._of(f"{part}.Embed_0.embedding")[: len(tokens)]
        return self._encode(part, x, tokens > 0)

    def encode_context(self, context: Array) -> Array:
        """The previous spectrogram (frames, 128) in model range -> (frames, D)."""
        x = context @ self._of("continuous_encoder.input_proj.kernel")
        # The reference pads to 256 frames and rolls the positions by the context's length.
        positions = np.roll(np.arange(WINDOW_FRAMES), len(context))[: len(context)]
        x = x + self._of("continuous_encoder.Embed_0.embedding")[positions]
        return self._encode("continuous_encoder", x, np.ones(len(context), bool))

    def decode(self, noisy: Array, time: float, encodings: Array, mask: npt.NDArray[np.bool_]) -> Array:
        """(frames, 128) and a time in [0, 1] -> (frames, 128), given the encodings (K, D) of notes and context."""
        condition = self._condition(time)
        h = noisy @ self._of("decoder.continuous_inputs_projection.kernel")
        h = h + self._of("decoder.Embed_0.embedding")[: len(noisy)]
        i = 0
        while f"decoder.layers_{i}.mlp.wo.kernel" in self._weights:
            layer = f"decoder.layers_{i}"
            x = self._norm(h, f"{layer}.pre_self_attention_layer_norm")
            x = self._film(x, condition, f"{layer}.FiLMLayer_0")
            h = h + self._attention(x, x, np.ones(len(x), bool), f"{layer}.self_attention")
            x = self._norm(h, f"{layer}.pre_cross_attention_layer_norm")
            seen = self._attention(x, encodings, mask, f"{layer}.MultiHeadDotProductAttention_0")
            h = h + (seen if mask.any() else 0.0)
            x = self._norm(h, f"{layer}.pre_mlp_layer_norm")
            h = h + self._mlp(self._film(x, condition, f"{layer}.FiLMLayer_1"), f"{layer}.mlp")
            i += 1
        return self._norm(h, "decoder.decoder_norm") @ self._of("decoder.spec_out_dense.kernel")

    def _of(self, key: str) -> Array:
        return self._weights[key]

    def _encode(self, part: str, x: Array, mask: npt.NDArray[np.bool_]) -> Array:
        i = 0
        while f"{part}.layers_{i}.mlp.wo.kernel" in self._weights:
            layer = f"{part}.layers_{i}"
            y = self._norm(x, f"{layer}.pre_attention_layer_norm")
            x = x + self._attention(y, y, mask, f"{layer}.attention")
            x = x + self._mlp(self._norm(x, f"{layer}.pre_mlp_layer_norm"), f"{layer}.mlp")
            i += 1
        return self._norm(x, f"{part}.encoder_norm")

    def _condition(self, time: float) -> Array:
        d_model = self._of("decoder.time_emb_dense0.kernel").shape[0]
        half = d_model // 2
        rates = np.array([20_000.0 ** (-i / (half - 1)) for i in range(half)])
        angles = time * 20_000.0 * rates
        x = np.concatenate([np.sin(angles), np.cos(angles)])
        for dense in ("time_emb_dense0", "time_emb_dense1"):
            x = x @ self._of(f"decoder.{dense}.kernel")
            x = x / (1 + np.exp(-x))
        return x

    def _film(self, x: Array, condition: Array, layer: str) -> Array:
        scale, shift = np.split(condition @ self._of(f"{layer}.DenseGeneral_0.kernel"), 2)
        return x * (1 + scale) + shift

    def _norm(self, x: Array, layer: str) -> Array:
        mean_square: Array = (x * x).mean(-1, keepdims=True)
        return x / np.sqrt(mean_square + 1e-6) * self._of(f"{layer}.scale")

    def _mlp(self, x: Array, layer: str) -> Array:
        gate: Array = x @ self._of(f"{layer}.wi_0.kernel")
        gate = 0.5 * gate * (1 + np.tanh(math.sqrt(2 / math.pi) * (gate + 0.044715 * gate**3)))
        return (gate * (x @ self._of(f"{layer}.wi_1.kernel"))) @ self._of(f"{layer}.wo.kernel")

    def _attention(self, x: Array, memory: Array, mask: npt.NDArray[np.bool_], layer: str) -> Array:
        def heads(y: Array, name: str) -> Array:
            return (y @ self._of(f"{layer}.{name}.kernel")).reshape(len(y), -1, self._head_size)

        logits = np.einsum("qhe,khe->hqk", heads(x, "query"), heads(memory, "key"))  # no scaling
        logits = np.where(mask, logits, -1e10)
        weights = np.exp(logits - logits.max(-1, keepdims=True))
        weights = weights / weights.sum(-1, keepdims=True)
        seen: Array = np.einsum("hqk,khe->qhe", weights, heads(memory, "value"))
        return seen.reshape(len(x), -1) @ self._of(f"{layer}.out.kernel")
