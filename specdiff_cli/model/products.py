"""Products with a weight, by the library that is fast at them: what rendering multiplies with."""

import platform
from collections.abc import Callable
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Makes a weight (N, K) into what multiplies with it.
Multiplier = Callable[[Tensor], nn.Module]

FEWEST_ROWS = 32  # of which oneDNN's products are at least as fast as MKL's


class Product(nn.Module):
    """x (..., K) times a weight (N, K), transposed -> (..., N)."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight)


class OneDnnProduct(Product):
    """:class:`Product` in float32 by oneDNN, on x86.

    PyTorch asks MKL, which on AMD's processors computes with AVX2 whatever they have: half as fast as oneDNN where
    there is AVX-512, and a little slower without. The results are the same up to the order of summation.
    """

    def __init__(self, weight: Tensor) -> None:
        super().__init__(weight)
        self.fewest_rows = FEWEST_ROWS

    def forward(self, x: Tensor) -> Tensor:
        if x.numel() < self.fewest_rows * x.shape[-1]:
            return F.linear(x, self.weight)
        # Of rows that are scattered in memory oneDNN would take a reference implementation, a hundred times as slow.
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x.contiguous(), self.weight, None, "none", [], "")
        return out


def product(weight: Tensor) -> Product:
    """What multiplies with a weight fastest in its own precision, where it is."""
    is_wide_on_cpu = weight.dtype == torch.float32 and weight.device.type == "cpu"
    if is_wide_on_cpu and weight.numel() > 0 and has_onednn_products():
        return OneDnnProduct(weight)
    return Product(weight)


@lru_cache(maxsize=1)
def has_onednn_products() -> bool:
    """Whether float32 products are oneDNN's here: on x86, by what PyTorch has, so that equal machines give equal bytes.

    Elsewhere PyTorch asks the fastest library by itself, or has no other.
    """
    return (
        platform.machine() in ("x86_64", "AMD64")
        and bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )
