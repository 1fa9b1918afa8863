"""The T5.1.1 building blocks: no biases, no attention scaling, RMS norm before each sublayer, gated GELU.

Everything here compiles with ``torch.jit.script``. Shapes: B batch, L query length, K key length, D d_model,
H heads, E d_kv.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from specdiff_cli.model.config import ModelConfig

NORM_EPS = 1e-6
LAYER_NORM_EPS = 1e-5  # of the lightning dialect
# Large enough to vanish in a softmax and finite, so that a fully masked row stays free of NaN.
MASKED = -1e9


class RMSNorm(nn.Module):
    """Root-mean-square norm without mean or bias; statistics in float32 whatever the input's type."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d_model))
        self.eps = NORM_EPS

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return (wide * self.weight.float()).to(x.dtype)


class GatedGelu(nn.Module):
    """``wo(gelu(wi_0 x) * wi_1 x)`` with the tanh form of GELU."""

    def __init__(self, d_model: int, d_ff: int) -> None:
        super().__init__()
        self.wi_0 = nn.Linear(d_model, d_ff, bias=False)
        self.wi_1 = nn.Linear(d_model, d_ff, bias=False)
        self.wo = nn.Linear(d_ff, d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.wo(F.gelu(self.wi_0(x), approximate="tanh") * self.wi_1(x))  # type: ignore[no-any-return]


class BiasedGatedGelu(nn.Module):
    """The same of the lightning dialect: with biases, and the exact form of GELU."""

    def __init__(self, d_model: int, d_ff: int) -> None:
        super().__init__()
        self.wi_0 = nn.Linear(d_model, d_ff)
        self.wi_1 = nn.Linear(d_model, d_ff)
        self.wo = nn.Linear(d_ff, d_model)

    def forward(self, x: Tensor) -> Tensor:
        return self.wo(F.gelu(self.wi_0(x)) * self.wi_1(x))  # type: ignore[no-any-return]


def norm_of(config: ModelConfig) -> nn.Module:
    """The norm of a model's dialect."""
    return nn.LayerNorm(config.d_model, LAYER_NORM_EPS) if config.is_lightning else RMSNorm(config.d_model)


def mlp_of(config: ModelConfig) -> nn.Module:
    """The gated MLP of a model's dialect."""
    return (BiasedGatedGelu if config.is_lightning else GatedGelu)(config.d_model, config.d_ff)


def attention(q: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None, training: bool) -> Tensor:
    """softmax(q k + bias) v with unscaled logits: q (B, H, L, E), keys and values (B, H, K, E) -> (B, H, L, E)."""
    # On CPUs the plain products are faster than the fused kernel in two cases: it computes bfloat16 at the speed of
    # float32, and its backward pass costs more than theirs. The softmax itself computes in float32 either way.
    if (training or q.dtype == torch.bfloat16) and q.device.type == "cpu":
        logits = torch.matmul(q, keys.transpose(-1, -2))
        if bias is not None:
            logits = logits + bias
        return torch.matmul(logits.softmax(-1).to(values.dtype), values)
    return F.scaled_dot_product_attention(q, keys, values, attn_mask=bias, scale=1.0)


class Attention(nn.Module):
    """Multi-head attention with unscaled logits, split so that keys and values can be computed once and kept."""

    def __init__(self, d_model: int, n_heads: int, d_kv: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.d_kv = d_kv
        self.q = nn.Linear(d_model, n_heads * d_kv, bias=False)
        self.k = nn.Linear(d_model, n_heads * d_kv, bias=False)
        self.v = nn.Linear(d_model, n_heads * d_kv, bias=False)
        self.o = nn.Linear(n_heads * d_kv, d_model, bias=False)

    def _split(self, x: Tensor) -> Tensor:
        batch, length = x.shape[0], x.shape[1]
        return x.view(batch, length, self.n_heads, self.d_kv).transpose(1, 2)  # (B, H, L, E)

    def keys_values(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """(B, K, D) -> keys and values, (B, H, K, E) each."""
        return self._split(self.k(memory)), self._split(self.v(memory))

    def attend(self, x: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
        """Queries (B, L, D) against kept keys and values; ``bias`` (B, 1, 1, K) is added to the logits."""
        return self._merge(attention(self._split(self.q(x)), keys, values, bias, self.training))

    def _merge(self, out: Tensor) -> Tensor:
        out = out.transpose(1, 2).reshape(out.shape[0], out.shape[2], self.n_heads * self.d_kv)
        return self.o(out)  # type: ignore[no-any-return]

    def forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """Self-attention over (B, L, D)."""
        keys, values = self.keys_values(x)
        return self.attend(x, keys, values, bias)


def mask_bias(mask: Tensor, dtype: torch.dtype, masked: float = MASKED) -> Tensor:
    """Key mask (B, K), true where a key may be seen -> additive bias (B, 1, 1, K)."""
    bias = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
    return bias.masked_fill(torch.logical_not(mask), masked)[:, None, None, :]


class EncoderBlock(nn.Module):
    """Self-attention and gated MLP, each behind a norm, each added to its input."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention_norm = norm_of(config)
        self.attention = Attention(config.d_model, config.n_heads, config.d_kv)
        self.mlp_norm = norm_of(config)
        self.mlp = mlp_of(config)

    def forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
        x = x + self.attention(self.attention_norm(x), bias)
        return x + self.mlp(self.mlp_norm(x))  # type: ignore[no-any-return]
