"""Fewer and larger matrix products for rendering: q, k and v in one, and both inputs of the gated MLP in one.

The weights are those of the plain modules, laid one behind the other; the results are the same up to the rounding of
another summation order. Stored weights, names and training know nothing of this.
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from specdiff_cli.model.layers import Attention, GatedGelu, attention


class FusedAttention(nn.Module):
    """:class:`Attention` whose self-attention takes one product for queries, keys and values."""

    def __init__(self, plain: Attention) -> None:
        super().__init__()
        self.n_heads = plain.n_heads
        self.d_kv = plain.d_kv
        self.qkv = _lay_together([plain.q, plain.k, plain.v])  # (3 H E, D)
        self.o = plain.o

    def _split(self, x: Tensor, n_parts: int) -> Tensor:
        parts = x.view(x.shape[0], x.shape[1], n_parts, self.n_heads, self.d_kv)
        return parts.permute(2, 0, 3, 1, 4)  # (parts, B, H, L, E)

    def keys_values(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """As :meth:`Attention.keys_values`."""
        parts = self._split(F.linear(memory, self.qkv[self.n_heads * self.d_kv :]), 2).contiguous()
        return parts[0], parts[1]

    def attend(self, x: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
        """As :meth:`Attention.attend`."""
        q = self._split(F.linear(x, self.qkv[: self.n_heads * self.d_kv]), 1)[0]
        return self._merge(attention(q, keys, values, bias, False))

    def forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """As :meth:`Attention.forward`."""
        parts = self._split(F.linear(x, self.qkv), 3)
        return self._merge(attention(parts[0], parts[1], parts[2], bias, False))

    def _merge(self, out: Tensor) -> Tensor:
        out = out.transpose(1, 2).reshape(out.shape[0], out.shape[2], self.n_heads * self.d_kv)
        return self.o(out)  # type: ignore[no-any-return]


class FusedGatedGelu(nn.Module):
    """:class:`GatedGelu` with one product for both of its inputs."""

    def __init__(self, plain: GatedGelu) -> None:
        super().__init__()
        self.wi = _lay_together([plain.wi_0, plain.wi_1])  # (2 d_ff, D)
        self.wo = plain.wo

    def forward(self, x: Tensor) -> Tensor:
        gate, up = F.linear(x, self.wi).chunk(2, dim=-1)
        return self.wo(F.gelu(gate, approximate="tanh") * up)  # type: ignore[no-any-return]


def fused(module: nn.Module) -> nn.Module:
    """A twin of a module that computes the same from the same memory, with its projections fused."""
    if isinstance(module, Attention):
        return FusedAttention(module)
    if isinstance(module, GatedGelu):
        return FusedGatedGelu(module)
    twin = copy.copy(module)
    twin._modules = {name: None if child is None else fused(child) for name, child in module._modules.items()}
    return twin


def _lay_together(layers: list[nn.Linear]) -> Tensor:
    """One weight (sum of outputs, inputs). The layers keep theirs as views of it, so that nothing is held twice."""
    whole = torch.cat([layer.weight.data for layer in layers])
    for layer, part in zip(layers, torch.split(whole, [len(layer.weight) for layer in layers]), strict=True):
        layer.weight.data = part
    return whole
