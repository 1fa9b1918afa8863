"""Matrix products in 8-bit integers, for CPUs: several times as fast as float32.

Weights are rounded once, with one scale per output. What they are multiplied with is rounded as it comes, with one
scale per row, so that a window's result does not depend on the windows beside it.
"""

import copy
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from specdiff_cli.model.decoder import SpectrogramDecoder
from specdiff_cli.model.encoders import ContextEncoder, NoteEncoder
from specdiff_cli.model.fused import FusedGatedGelu, fused
from specdiff_cli.model.layers import GatedGelu
from specdiff_cli.model.precision import largest_8_bit_weight
from specdiff_cli.model.products import Multiplier, product

LARGEST = 127.0  # symmetric: -128 is not used
SMALLEST_SCALE = 1e-12  # of rows that are zero
GELU_RATE, GELU_CUBIC = math.sqrt(2 / math.pi), 0.044715  # of GELU's tanh form


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


class SigmoidGatedGelu(FusedGatedGelu):
    """:class:`FusedGatedGelu` whose GELU is written as x sigmoid(a x + b x^3), in float32.

    The same function as the tanh form, up to rounding (1e-6), in a third of the time: PyTorch's tanh is slow on CPUs.
    """

    def __init__(self, plain: GatedGelu, multiplier: Multiplier = product) -> None:
        super().__init__(plain, multiplier)
        self.linear, self.cubic = 2.0 * GELU_RATE, 2.0 * GELU_RATE * GELU_CUBIC

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.wi(x).chunk(2, dim=-1)
        if gate.dtype == torch.float32:
            slope = (gate * gate).mul_(self.cubic).add_(self.linear).mul_(gate).sigmoid_()
            hidden = slope.mul_(gate).mul_(up)
        else:  # each pass would round
            hidden = F.gelu(gate, approximate="tanh") * up
        return self.wo(hidden)  # type: ignore[no-any-return]


def quantised(part: SpectrogramDecoder | NoteEncoder | ContextEncoder) -> nn.Module:
    """A twin of the decoder or of an encoder, fused, that computes in 8 bits where that was measured to be harmless.

    Those are all of an encoder's blocks but the first, and the decoder's between the first and the last. The MLP of
    the decoder's first block alone makes four times the error of all others together. Products per song and per window
    (FiLM, cross-attention's keys and values) and both ends keep their precision: they cost little.
    """
    end = len(part.blocks) - 1 if isinstance(part, SpectrogramDecoder) else len(part.blocks)
    twin = copy.copy(part)
    twin._modules = dict(part._modules)
    twin.blocks = nn.ModuleList(
        fused(block, QuantisedProduct if 0 < i < end else product, SigmoidGatedGelu)
        for i, block in enumerate(part.blocks)
    )
    return twin
