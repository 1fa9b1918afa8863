"""Matrix products in 8-bit integers, for CPUs: several times as fast as float32.

Weights are rounded once, with one scale per output. What they are multiplied with is rounded as it comes, with one
scale per row, so that a window's result does not depend on the windows beside it.
"""

import copy

import torch
from torch import Tensor, nn

from specdiff_cli.model.decoder import SpectrogramDecoder
from specdiff_cli.model.fused import fused
from specdiff_cli.model.precision import largest_8_bit_weight
from specdiff_cli.model.products import product

LARGEST = 127.0  # symmetric: -128 is not used
SMALLEST_SCALE = 1e-12  # of rows that are zero


class QuantisedProduct(nn.Module):
    """x (..., K) times a weight (N, K), transposed -> (..., N), as :class:`specdiff_cli.model.products.Product`."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        wide = weight.float()
        # Where products are exact with no weights (and int8 is refused), all bits are as good as any.
        self.scale = (wide.abs().amax(1) / (largest_8_bit_weight() or LARGEST)).clamp(min=SMALLEST_SCALE)  # (N,)
        self.weight = torch.round(wide / self.scale[:, None]).to(torch.int8)  # (N, K)
        self.largest, self.smallest = LARGEST, SMALLEST_SCALE  # TorchScript sees attributes, not module constants

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        scale = (rows.abs().amax(1, keepdim=True).float() / self.largest).clamp(min=self.smallest)
        whole = (rows.float() / scale).round_().to(torch.int8)
        out = torch._int_mm(whole, self.weight.t()).float().mul_(scale).mul_(self.scale)
        return out.to(x.dtype).view(x.shape[0], x.shape[1], -1)


def quantised(decoder: SpectrogramDecoder) -> nn.Module:
    """A twin of the decoder, fused, that computes in 8 bits where that was measured to be harmless.

    Those are the blocks between the first and the last. The first block's MLP alone makes four times the error of all
    others together. Products per song and per window (FiLM, cross-attention's keys and values) and both ends keep their
    precision: they cost little.
    """
    last = len(decoder.blocks) - 1
    twin = copy.copy(decoder)
    twin._modules = dict(decoder._modules)
    twin.blocks = nn.ModuleList(
        fused(block, QuantisedProduct if 0 < i < last else product) for i, block in enumerate(decoder.blocks)
    )
    return twin
