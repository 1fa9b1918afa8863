"""The FiLM-conditioned diffusion decoder.

Work is split by how often it must be done: FiLM scales and shifts depend only on the diffusion time (`film`, all
steps of a song at once); cross-attention keys and values only on the window (`memory`); the rest runs every step.
"""

import math

import torch
from torch import Tensor, nn

from specdiff_cli.constants import N_MELS, WINDOW_FRAMES
from specdiff_cli.model.config import ModelConfig
from specdiff_cli.model.layers import Attention, mlp_of, norm_of

MAX_NOISE_TIME = 20_000.0


class DecoderBlock(nn.Module):
    """FiLM self-attention, cross-attention and FiLM gated MLP, each added to its input."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        d_model = config.d_model
        self.attention_norm = norm_of(config)
        self.attention_film = nn.Linear(4 * d_model, 2 * d_model, bias=config.is_lightning)
        self.attention = Attention(d_model, config.n_heads, config.d_kv)
        self.cross_norm = norm_of(config)
        self.cross_attention = Attention(d_model, config.n_heads, config.d_kv)
        self.mlp_norm = norm_of(config)
        self.mlp_film = nn.Linear(4 * d_model, 2 * d_model, bias=config.is_lightning)
        self.mlp = mlp_of(config)

    def film(self, condition: Tensor) -> Tensor:
        """(S, 4D) time conditions -> (S, 2, 2D): [scale | shift] of the attention and of the MLP."""
        return torch.stack([self.attention_film(condition), self.mlp_film(condition)], dim=1)

    def forward(
        self,
        x: Tensor,
        film: Tensor,
        keys: Tensor | None,
        values: Tensor | None,
        bias: Tensor | None,
        gate: Tensor | None,
    ) -> Tensor:
        """x (B, L, D); film (B or 1, 2, 2D); keys, values (S, H, K, E), S <= B; bias (S, 1, 1, K); gate (S, 1, 1)."""
        x = x + self.attention(modulate(self.attention_norm(x), film[:, 0]), None)
        if keys is not None and values is not None:
            n_seeing = keys.shape[0]
            if n_seeing == x.shape[0]:
                x = x + self._look(x, keys, values, bias, gate)
            else:
                x = torch.cat([x[:n_seeing] + self._look(x[:n_seeing], keys, values, bias, gate), x[n_seeing:]])
        return x + self.mlp(modulate(self.mlp_norm(x), film[:, 1]))  # type: ignore[no-any-return]

    def _look(self, x: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None, gate: Tensor | None) -> Tensor:
        seen = self.cross_attention.attend(self.cross_norm(x), keys, values, bias)
        if gate is not None:
            seen = seen * gate  # nothing to see: the output is zero
        return seen


def modulate(x: Tensor, film: Tensor) -> Tensor:
    """x (B, L, D) * (1 + scale) + shift, with film (B, 2D) = [scale | shift]."""
    scale, shift = film[:, None, :].chunk(2, dim=-1)
    return x * (1 + scale) + shift


class Decoder(nn.Module):
    """What the decoders of both kinds of network share: ``blocks`` with cross-attention to the same encodings."""

    def memory(self, encodings: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Encodings (B, K, D) of what a window is made from -> each layer's cross-attention keys and values."""
        keys: list[Tensor] = []
        values: list[Tensor] = []
        for block in self.blocks:
            k, v = block.cross_attention.keys_values(encodings)
            keys.append(k)
            values.append(v)
        return keys, values


class SpectrogramDecoder(Decoder):
    """Predicts the noise in a noisy spectrogram window (or another objective), given time, notes and context."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        d_model = config.d_model
        self.d_model = d_model
        self.max_noise_time = MAX_NOISE_TIME
        bias = config.is_lightning
        self.time_in = nn.Linear(d_model, 4 * d_model, bias=bias)
        self.time_out = nn.Linear(4 * d_model, 4 * d_model, bias=bias)
        self.input_projection = nn.Linear(N_MELS, d_model, bias=bias)
        self.positions = nn.Embedding(WINDOW_FRAMES, d_model)
        self.blocks = nn.ModuleList(DecoderBlock(config) for _ in range(config.n_decoder_layers))
        self.norm = norm_of(config)
        self.output_projection = nn.Linear(d_model, N_MELS, bias=bias)

    def film(self, times: Tensor) -> Tensor:
        """Diffusion times (S,) in [0, 1], float32 -> FiLM tables (S, layers, 2, 2D)."""
        half = self.d_model // 2
        rates = torch.exp(
            torch.arange(half, device=times.device, dtype=torch.float32) * (-math.log(self.max_noise_time) / (half - 1))
        )
        angles = times.float()[:, None] * self.max_noise_time * rates  # (S, D/2)
        embedding = torch.cat([angles.sin(), angles.cos()], dim=1).to(self.time_in.weight.dtype)
        condition = nn.functional.silu(self.time_out(nn.functional.silu(self.time_in(embedding))))
        tables = []
        for block in self.blocks:
            tables.append(block.film(condition))
        return torch.stack(tables, dim=1)

    def forward(
        self,
        x: Tensor,
        film: Tensor,
        keys: list[Tensor],
        values: list[Tensor],
        bias: Tensor | None = None,
        gate: Tensor | None = None,
        laid: Tensor | None = None,
    ) -> Tensor:
        """One evaluation.

        Only the first rows of the batch need be conditioned: rows beyond the keys' batch size S see nothing, which is
        how guidance evaluates both of its halves at once.

        Args:
            x: noisy spectrogram (B, frames, 128) in model range, float32.
            film: (B or 1, layers, 2, 2D), rows of :meth:`film`.
            keys, values: per layer (S, H, K, E) from :meth:`memory`; empty lists skip cross-attention altogether,
                which equals masking every key.
            bias: (S, 1, 1, K) added to the logits where batch entries have padded keys.
            gate: (S, 1, 1), 0 where a batch entry has no key at all.
            laid: (S, frames, D), the laid-out notes.

        Returns:
            (B, frames, 128) float32.
        """
        return self.evaluate(x, film, keys, values, bias, gate, laid, None)[0]

    def evaluate(
        self,
        x: Tensor,
        film: Tensor,
        keys: list[Tensor],
        values: list[Tensor],
        bias: Tensor | None,
        gate: Tensor | None,
        laid: Tensor | None,
        reused: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """:meth:`forward`, and what its inner blocks added to the features, (B, frames, D): all but the first and last.

        Between neighbouring steps that changes less than what the outer blocks see and say. Given what an earlier step
        of the same windows returned (``reused``), the inner blocks are left out and it is added instead.

        Source: Ma et al. 2024 (DeepCache), Chen et al. 2024 (Delta-DiT).
        """
        h = self.input_projection(x.to(self.input_projection.weight.dtype))
        h = h + self.positions.weight[: x.shape[1]]
        if laid is not None:
            if laid.shape[0] == h.shape[0]:
                h = h + laid
            else:
                h = torch.cat([h[: laid.shape[0]] + laid, h[laid.shape[0] :]])
        entered, added = h, h
        last = len(self.blocks) - 1
        for i, block in enumerate(self.blocks):
            if i == 1:
                entered = h
            if i == last:
                if reused is None:
                    added = h - entered
                else:
                    h, added = entered + reused, reused
            if reused is None or i == 0 or i == last:
                if len(keys) > 0:
                    h = block(h, film[:, i], keys[i], values[i], bias, gate)
                else:
                    h = block(h, film[:, i], None, None, bias, gate)
        return self.output_projection(self.norm(h)).float(), added
