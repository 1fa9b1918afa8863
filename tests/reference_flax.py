"""The reference's network and samplers in JAX and Flax, written from their published description.

Independent of the package: nothing here imports it. Modules carry the names of the reference's checkpoints, so that the
parameters of one are a checkpoint's ``target``.
"""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

Array = Any
N_MELS, WINDOW_FRAMES, MAX_TOKENS = 128, 256, 2048
LARGEST_LOG_SNR = 20.0


def dense(features: int, name: str) -> Any:
    """A product without a bias."""
    return nn.Dense(features, use_bias=False, name=name, kernel_init=nn.initializers.lecun_normal())


class Scale(nn.Module):
    """Root-mean-square norm."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        scale = self.param("scale", lambda key: jax.random.uniform(key, (x.shape[-1],), minval=0.8, maxval=1.2))
        return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6) * scale


class Attention(nn.Module):
    """Attention without scaling; (queries, D) and (keys, D), with a mask of the keys."""

    n_heads: int
    d_kv: int

    @nn.compact
    def __call__(self, x: Array, memory: Array, mask: Array) -> Array:
        def heads(y: Array, name: str) -> Array:
            return dense(self.n_heads * self.d_kv, name)(y).reshape(len(y), self.n_heads, self.d_kv)

        query, key, value = heads(x, "query"), heads(memory, "key"), heads(memory, "value")
        logits = jnp.where(mask[None, None], jnp.einsum("qhe,khe->hqk", query, key), -1e10)
        seen = jnp.einsum("hqk,khe->qhe", jax.nn.softmax(logits, -1), value).reshape(len(x), -1)
        return dense(x.shape[-1], "out")(seen)


class Mlp(nn.Module):
    """Gated GELU."""

    d_ff: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        gate = jax.nn.gelu(dense(self.d_ff, "wi_0")(x), approximate=True)
        return dense(x.shape[-1], "wo")(gate * dense(self.d_ff, "wi_1")(x))


class EncoderLayer(nn.Module):
    """Attention and MLP, each behind a norm."""

    n_heads: int
    d_kv: int
    d_ff: int

    @nn.compact
    def __call__(self, x: Array, mask: Array) -> Array:
        y = Scale(name="pre_attention_layer_norm")(x)
        x = x + Attention(self.n_heads, self.d_kv, name="attention")(y, y, mask)
        return x + Mlp(self.d_ff, name="mlp")(Scale(name="pre_mlp_layer_norm")(x))


class Encoder(nn.Module):
    """Tokens (K,) or a spectrogram (frames, 128) to (K, D)."""

    config: Any
    n_layers: int
    n_rows: int

    @nn.compact
    def __call__(self, x: Array, mask: Array) -> Array:
        c = self.config
        positions = nn.Embed(self.n_rows, c.d_model, name="Embed_0")
        if x.ndim == 1:
            h = nn.Embed(c.n_vocabulary_rows, c.d_model, name="token_embedder")(x) + positions(jnp.arange(len(x)))
        else:
            rolled = jnp.roll(jnp.arange(self.n_rows), len(x))[: len(x)]
            h = dense(c.d_model, "input_proj")(x) + positions(rolled)
        for i in range(self.n_layers):
            h = EncoderLayer(c.n_heads, c.d_kv, c.d_ff, name=f"layers_{i}")(h, mask)
        return Scale(name="encoder_norm")(h)


class Film(nn.Module):
    """x (1 + scale) + shift."""

    @nn.compact
    def __call__(self, x: Array, condition: Array) -> Array:
        scale, shift = jnp.split(dense(2 * x.shape[-1], "DenseGeneral_0")(condition), 2)
        return x * (1 + scale) + shift


class DecoderLayer(nn.Module):
    """Self-attention, attention to notes and context, MLP."""

    n_heads: int
    d_kv: int
    d_ff: int

    @nn.compact
    def __call__(self, h: Array, encodings: Array, mask: Array, condition: Array) -> Array:
        x = Film(name="FiLMLayer_0")(Scale(name="pre_self_attention_layer_norm")(h), condition)
        h = h + Attention(self.n_heads, self.d_kv, name="self_attention")(x, x, jnp.ones(len(x), bool))
        x = Scale(name="pre_cross_attention_layer_norm")(h)
        seen = Attention(self.n_heads, self.d_kv, name="MultiHeadDotProductAttention_0")(x, encodings, mask)
        h = h + jnp.where(mask.any(), seen, 0.0)
        x = Film(name="FiLMLayer_1")(Scale(name="pre_mlp_layer_norm")(h), condition)
        return h + Mlp(self.d_ff, name="mlp")(x)


def time_angles(time: float, d_model: int) -> Array:
    """(D / 2,) of a time in [0, 1]. Not to be compiled: 20 000 radians keep a thousandth, in whichever order."""
    half = d_model // 2
    rates = jnp.exp(jnp.arange(half, dtype=jnp.float32) * (-math.log(20_000.0) / (half - 1)))
    return jnp.float32(time) * 20_000.0 * rates


class Decoder(nn.Module):
    """A noisy spectrogram (frames, 128) and the angles of its time to the noise in it."""

    config: Any

    @nn.compact
    def __call__(self, noisy: Array, angles: Array, encodings: Array, mask: Array) -> Array:
        c = self.config
        condition = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)])
        for name in ("time_emb_dense0", "time_emb_dense1"):
            condition = jax.nn.silu(dense(4 * c.d_model, name)(condition))
        positions = nn.Embed(WINDOW_FRAMES, c.d_model, name="Embed_0")(jnp.arange(len(noisy)))
        h = dense(c.d_model, "continuous_inputs_projection")(noisy) + positions
        for i in range(c.n_decoder_layers):
            h = DecoderLayer(c.n_heads, c.d_kv, c.d_ff, name=f"layers_{i}")(h, encodings, mask, condition)
        return dense(N_MELS, "spec_out_dense")(Scale(name="decoder_norm")(h))


class Network(nn.Module):
    """With context: tokens, the previous spectrogram and a noisy one to the noise."""

    config: Any

    @nn.compact
    def __call__(self, tokens: Array, context: Array, noisy: Array, angles: Array, is_seen: Array) -> Array:
        c = self.config
        notes = Encoder(c, c.n_note_layers, MAX_TOKENS, name="token_encoder")(tokens, tokens > 0)
        before = Encoder(c, c.n_context_layers, WINDOW_FRAMES, name="continuous_encoder")(
            context, jnp.ones(len(context), bool)
        )
        mask = jnp.concatenate([tokens > 0, jnp.ones(len(context), bool)]) & is_seen
        return Decoder(c, name="decoder")(noisy, angles, jnp.concatenate([notes, before]), mask)


def log_snr(time: float) -> float:
    """+20 at time 0 to -20 at time 1, in float64 on the host."""
    b = math.atan(math.exp(-LARGEST_LOG_SNR / 2))
    a = math.atan(math.exp(LARGEST_LOG_SNR / 2)) - b
    return -2 * math.log(math.tan(a * time + b))


def sample(eps_of: Any, x: Array, noises: Array, guidance: float, is_ancestral: bool) -> Array:
    """Guided sampling in ``len(noises)`` steps; ``eps_of(x, time, is_seen)`` is the network."""
    n_steps = len(noises)
    for done, i in enumerate(range(n_steps - 1, -1, -1)):
        time_t, time_s = (i + 1) / n_steps, i / n_steps
        snr_t, snr_s = log_snr(time_t), log_snr(time_s)
        alpha_t, sigma_t = jnp.sqrt(jax.nn.sigmoid(snr_t)), jnp.sqrt(jax.nn.sigmoid(-snr_t))
        alpha_s, sigma_s = jnp.sqrt(jax.nn.sigmoid(snr_s)), jnp.sqrt(jax.nn.sigmoid(-snr_s))
        eps = guidance * eps_of(x, time_t, True) + (1 - guidance) * eps_of(x, time_t, False)
        x0 = jnp.clip((x - sigma_t * eps) / alpha_t, -1, 1)
        if i == 0:
            return x0
        if is_ancestral:
            ratio = jnp.exp(snr_t - snr_s)
            mean = ratio * (alpha_s / alpha_t) * x + (1 - ratio) * alpha_s * x0
            x = mean + jnp.sqrt((1 - ratio) * jax.nn.sigmoid(-snr_t)) * noises[done]
        else:
            x = alpha_s * x0 + sigma_s * (x - alpha_t * x0) / sigma_t
    return x
