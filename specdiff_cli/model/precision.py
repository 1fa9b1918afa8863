"""What this machine computes fast in, and what goes with 8-bit weights."""

import math
import sys
import time
from collections.abc import Callable, Sequence
from functools import lru_cache, partial

import torch

from specdiff_cli.model.products import product
from specdiff_cli.threads import one_thread

CLEARLY_FASTER = 0.8
N_ROUNDS = 5
#: What other programs do meanwhile must not decide: the thread's own time. On Windows that counts in steps of 15 ms.
seconds_now = time.perf_counter if sys.platform == "win32" else time.thread_time


def floating(dtype: torch.dtype) -> torch.dtype:
    """The type of all that floats in a precision: the dtype itself; beside 8-bit weights, the faster one here."""
    if dtype != torch.int8:
        return dtype
    return torch.bfloat16 if is_faster_in_bfloat16() else torch.float32


@lru_cache
def fastest(allowed: tuple[torch.dtype, ...]) -> torch.dtype:
    """Which of these precisions multiplies fastest on this processor, found by trying; takes some milliseconds.

    float32 unless another takes at most ``CLEARLY_FASTER`` of its time, so that chance decides nothing.
    8 bits only where their products are exact.
    """
    tried = [dtype for dtype in allowed if dtype not in (torch.float32, torch.int8)]
    if torch.int8 in allowed and largest_8_bit_weight() > 0:
        tried.append(torch.int8)
    if not tried:
        return torch.float32
    times_s = _products_s([torch.float32, *tried])
    best = torch.float32
    for dtype in tried:
        if times_s[dtype] < CLEARLY_FASTER * times_s[best]:
            best = dtype
    return best


@lru_cache(maxsize=1)
def is_faster_in_bfloat16() -> bool:
    """Whether bfloat16 is seen to be faster than float32; where it is emulated, it is not."""
    return fastest((torch.float32, torch.bfloat16)) == torch.bfloat16


@lru_cache(maxsize=1)
def has_8_bit_products() -> bool:
    """Whether 8-bit matrix products are exact on this processor, and seen to be faster than float32."""
    return largest_8_bit_weight() > 0 and _is_faster_in_int8()


@lru_cache(maxsize=1)
def largest_8_bit_weight() -> int:
    """The largest of the whole numbers that 8-bit weights may be, so that products are exact here; 0 where none are.

    Without VNNI, processors make one factor unsigned and add pairs of products in 16 bits: 2 * 255 * 127 overflows
    them, 2 * 255 * 64 does not. Weights then have seven bits.
    """
    return next((largest for largest in (127, 64) if _are_8_bit_products_exact(largest)), 0)


def _are_8_bit_products_exact(largest_weight: int = 127) -> bool:
    """Compare products of the largest values, of all signs, with what they are."""
    for sign, other_sign in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
        rows = torch.full((32, 64), sign * 127, dtype=torch.int8)
        weights = torch.full((32, 64), other_sign * largest_weight, dtype=torch.int8)
        if not bool((torch._int_mm(rows, weights.t()) == sign * other_sign * 64 * 127 * largest_weight).all()):
            return False
    return True


def _is_faster_in_int8() -> bool:
    times_s = _products_s([torch.float32, torch.int8])
    return times_s[torch.int8] < times_s[torch.float32]


def _products_s(dtypes: Sequence[torch.dtype]) -> dict[torch.dtype, float]:
    """Seconds of one matrix product of a decoder's size in each precision: they take turns, and the best counts.

    On one thread: several would wait for each other where something else is running.
    """
    times_s = dict.fromkeys(dtypes, math.inf)
    rows = {dtype: torch.ones(256, 512, dtype=dtype) for dtype in dtypes}
    multiply = {dtype: _multiplier(torch.ones(512, 512, dtype=dtype)) for dtype in dtypes}
    with one_thread():
        for _ in range(N_ROUNDS):
            for dtype in dtypes:
                start_s = seconds_now()
                multiply[dtype](rows[dtype])
                times_s[dtype] = min(times_s[dtype], seconds_now() - start_s)
    return times_s


def _multiplier(weight: torch.Tensor) -> Callable[[torch.Tensor], object]:
    return partial(torch._int_mm, mat2=weight.t()) if weight.dtype == torch.int8 else product(weight)
