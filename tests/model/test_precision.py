"""What is said to be fast here."""

import time
from collections.abc import Callable, Iterator

import pytest
import torch

from specdiff_cli.model import precision

MEASURED = (
    precision.is_faster_in_bfloat16,
    precision.has_8_bit_products,
    precision.largest_8_bit_weight,
    precision.fastest,
)


@pytest.fixture(autouse=True)
def _measured_anew() -> Iterator[None]:
    for measured in MEASURED:
        measured.cache_clear()
    yield
    for measured in MEASURED:
        measured.cache_clear()


def slow(dtype: torch.dtype) -> object:
    """Makes products that take long in one precision."""

    def multiplier(weight: torch.Tensor) -> Callable[[torch.Tensor], None]:
        return lambda _: compute(0.02 if weight.dtype == dtype else 0.001)

    return multiplier


def compute(seconds: float) -> None:
    end_s = precision.seconds_now() + seconds
    while precision.seconds_now() < end_s:
        pass


def test_waiting_for_other_programs_decides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    if precision.seconds_now is time.perf_counter:
        pytest.skip("no fine clock of a thread's own time on this system")

    def interrupted(weight: torch.Tensor) -> Callable[[torch.Tensor], None]:
        def multiply(_: torch.Tensor) -> None:
            compute(0.002 if weight.dtype == torch.float32 else 0.001)
            time.sleep(0.0 if weight.dtype == torch.float32 else 0.01)

        return multiply

    monkeypatch.setattr(precision, "_multiplier", interrupted)
    assert precision.is_faster_in_bfloat16()


def test_one_thread_multiplies_and_all_of_them_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    n_threads, seen = torch.get_num_threads(), []
    monkeypatch.setattr(precision, "_multiplier", lambda _: lambda _: seen.append(torch.get_num_threads()))
    torch.set_num_threads(2)
    try:
        precision._products_s([torch.float32])
        assert set(seen) == {1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(n_threads)


def test_slow_bfloat16_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "_multiplier", slow(torch.bfloat16))
    assert not precision.is_faster_in_bfloat16()


def test_the_fastest_that_is_allowed_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    f32, b16, i8 = torch.float32, torch.bfloat16, torch.int8
    times_s = {f32: 1.0, b16: 0.5, i8: 0.3}
    monkeypatch.setattr(precision, "_products_s", lambda dtypes: {dtype: times_s[dtype] for dtype in dtypes})
    monkeypatch.setattr(precision, "largest_8_bit_weight", lambda: 127)
    for allowed, best in (((f32,), f32), ((f32, b16), b16), ((f32, b16, i8), i8), ((f32, i8), i8)):
        assert precision.fastest(allowed) == best
    precision.fastest.cache_clear()
    times_s |= {b16: 0.9, i8: 0.75}  # not clearly faster; clearly
    assert precision.fastest((f32, b16)) == f32
    assert precision.fastest((f32, b16, i8)) == i8
    precision.fastest.cache_clear()
    monkeypatch.setattr(precision, "largest_8_bit_weight", lambda: 0)  # not exact
    assert precision.fastest((f32, b16, i8)) == f32


@pytest.mark.parametrize(
    ("largest_weight", "is_faster", "expected"),
    [(127, True, True), (64, True, True), (127, False, False), (64, False, False), (0, True, False)],
)
def test_8_bits_where_they_are_exact_and_fast(
    monkeypatch: pytest.MonkeyPatch, largest_weight: int, is_faster: bool, expected: bool
) -> None:
    monkeypatch.setattr(precision, "largest_8_bit_weight", lambda: largest_weight)
    monkeypatch.setattr(precision, "_is_faster_in_int8", lambda: is_faster)
    assert precision.has_8_bit_products() == expected


def test_slow_8_bits_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "_multiplier", slow(torch.int8))
    assert not precision._is_faster_in_int8()


def test_sums_that_overflow_16_bits_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def exact(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a.double() @ b.double()).int()

    def saturating(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        pairs = a.int()[:, :, None] * b.int()[None]  # (M, K, N)
        pairs = pairs[:, 0::2] + pairs[:, 1::2]
        return pairs.clamp(-(2**15), 2**15 - 1).sum(1)

    monkeypatch.setattr(torch, "_int_mm", exact)
    assert precision._are_8_bit_products_exact()
    monkeypatch.setattr(torch, "_int_mm", saturating)
    # 127 * 127 * 2 = 32258 fits; unsigned bytes, into which old instructions shift one factor, do not.
    assert precision._are_8_bit_products_exact()
    monkeypatch.setattr(torch, "_int_mm", lambda a, b: saturating(a.int() + 128, b) - 128 * b.int().sum(0))
    assert not precision._are_8_bit_products_exact()
    assert precision._are_8_bit_products_exact(64)  # 2 * 255 * 64 = 32640 does
    assert precision.largest_8_bit_weight() == 64


def test_processors_that_cannot_multiply_8_bits_exactly_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "_int_mm", lambda a, b: torch.zeros(len(a), b.shape[1], dtype=torch.int32))
    assert precision.largest_8_bit_weight() == 0
    assert not precision.has_8_bit_products()


def test_the_type_beside_8_bit_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        assert precision.floating(dtype) == dtype
    for is_faster, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(precision, "is_faster_in_bfloat16", lambda has=is_faster: has)
        assert precision.floating(torch.int8) == expected
