"""Fewer and larger matrix products for rendering: q, k and v in one, and both inputs of the gated MLP in one.

The weights are those of the plain modules, laid one behind the other; the results are the same up to the rounding of
another summation order. Stored weights, names and training know nothing of this.
"""

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from specdiff_cli.model.layers import Attention, GatedGelu, attention
from specdiff_cli.model.products import Multiplier, product


class FusedAttention(nn.Module):
    """:class:`Attention` whose self-attention takes one product for queries, keys and values."""

    def __init__(self, plain: Attention, multiplier: Multiplier = product) -> None:
        super().__init__()
        self.n_heads = plain.n_heads
        self.d_kv = plain.d_kv
        qkv = _lay_together([plain.q, plain.k, plain.v])  # (3 H E, D)
        n_queries = self.n_heads * self.d_kv
        self.qkv, self.q = multiplier(qkv), multiplier(qkv[:n_queries])
        self.kv = product(qkv[n_queries:])  # of what is seen: once per window
        self.o = multiplier(plain.o.weight.data)

    def _split(self, x: Tensor, n_parts: int) -> Tensor:
        parts = x.view(x.shape[0], x.shape[1], n_parts, self.n_heads, self.d_kv)
        return parts.permute(2, 0, 3, 1, 4)  # (parts, B, H, L, E)

    def keys_values(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """As :meth:`Attention.keys_values`."""
        parts = self._split(self.kv(memory), 2).contiguous()
        return parts[0], parts[1]

    def attend(self, x: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
        """As :meth:`Attention.attend`."""
        q = self._split(self.q(x), 1)[0]
        return self._merge(attention(q, keys, values, bias, False))

    def forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """As :meth:`Attention.forward`."""
        parts = self._split(self.qkv(x), 3)
        return self._merge(attention(parts[0], parts[1], parts[2], bias, False))

    def _merge(self, out: Tensor) -> Tensor:
        out = out.transpose(1, 2).reshape(out.shape[0], out.shape[2], self.n_heads * self.d_kv)
        return self.o(out)  # type: ignore[no-any-return]


class FusedGatedGelu(nn.Module):
    """:class:`GatedGelu` with one product for both of its inputs."""

    def __init__(self, plain: GatedGelu, multiplier: Multiplier = product) -> None:
        super().__init__()
        self.wi = multiplier(_lay_together([plain.wi_0, plain.wi_1]))  # (2 d_ff, D)
        self.wo = multiplier(plain.wo.weight.data)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.wi(x).chunk(2, dim=-1)
        return self.wo(F.gelu(gate, approximate="tanh") * up)  # type: ignore[no-any-return]


def fused(
    module: nn.Module,
    multiplier: Multiplier = product,
    gated_gelu: Callable[[GatedGelu, Multiplier], nn.Module] = FusedGatedGelu,
) -> nn.Module:
    """A twin of a module that computes the same from the same memory, with its projections fused.

    ``multiplier`` does the products of attention and MLP with what changes in each step, ``gated_gelu`` makes the MLP.
    """
    if isinstance(module, Attention):
        return FusedAttention(module, multiplier)
    if isinstance(module, GatedGelu):
        return gated_gelu(module, multiplier)
    twin = copy.copy(module)
    children = module._modules.items()
    twin._modules = {name: None if child is None else fused(child, multiplier, gated_gelu) for name, child in children}
    return twin


def _lay_together(layers: list[nn.Linear]) -> Tensor:
    """One weight (sum of outputs, inputs). The layers keep theirs as views of it, so that nothing is held twice."""
    whole = torch.cat([layer.weight.data for layer in layers])
    for layer, part in zip(layers, torch.split(whole, [len(layer.weight) for layer in layers]), strict=True):
        layer.weight.data = part
    return whole
