"""Products with weights: oneDNN's equal PyTorch's own."""

import platform

import pytest
import torch
from random_voices import REFERENCE_LIKE, random_network

from specdiff_cli.model.compiled import compiled
from specdiff_cli.model.products import FEWEST_ROWS, OneDnnProduct, Product, has_onednn_products, product

with_onednn = pytest.mark.skipif(not has_onednn_products(), reason="no float32 products of oneDNN here")


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@with_onednn
@pytest.mark.parametrize("shape", [(1, 256, 96), (3, 40, 96), (256, 96), (2, 5, 96), (1, 1, 96), (0, 96)])
@pytest.mark.parametrize("is_scripted", [False, True])
def test_onednn_multiplies_as_pytorch_does(shape: tuple[int, ...], is_scripted: bool) -> None:
    x, weight = normal(*shape), normal(64, 96, seed=1) / 96**0.5
    fast = OneDnnProduct(weight)
    out = (torch.jit.script(fast) if is_scripted else fast)(x)
    expected = x.double() @ weight.double().t()
    torch.testing.assert_close(out.double(), expected, atol=5e-6, rtol=1e-5)
    torch.testing.assert_close(Product(weight)(x).double(), expected, atol=5e-6, rtol=1e-5)


@with_onednn
def test_rows_and_weights_may_be_views() -> None:
    x, weight = normal(2, 96, 50).transpose(1, 2), normal(200, 96, seed=1)[100:164]
    torch.testing.assert_close(OneDnnProduct(weight)(x), Product(weight)(x), atol=1e-4, rtol=1e-5)


@with_onednn
def test_onednn_is_asked_for_many_rows_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def linear(x: torch.Tensor, _weight: torch.Tensor) -> torch.Tensor:
        asked.append(len(x))
        return x

    monkeypatch.setattr(torch.nn.functional, "linear", linear)
    fast = OneDnnProduct(normal(8, 8))
    for n_rows in (1, FEWEST_ROWS - 1, FEWEST_ROWS, 300):
        fast(normal(n_rows, 8))
    assert asked == [1, FEWEST_ROWS - 1]


@with_onednn
def test_only_float32_on_a_cpu_is_onednns() -> None:
    assert type(product(normal(4, 4))) is OneDnnProduct
    for weight in (normal(4, 4).bfloat16(), normal(4, 4).to("meta"), normal(4, 0)):
        assert type(product(weight)) is Product


@pytest.mark.parametrize(
    ("machine", "has_library", "expected"),
    [("x86_64", True, True), ("AMD64", True, True), ("arm64", True, False), ("x86_64", False, False)],
)
def test_where_onednn_is(monkeypatch: pytest.MonkeyPatch, machine: str, has_library: bool, expected: bool) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: has_library)
    has_onednn_products.cache_clear()
    try:
        assert has_onednn_products() == (expected and hasattr(torch.ops.mkldnn, "_linear_pointwise"))
        assert type(product(normal(4, 4))) is (OneDnnProduct if has_onednn_products() else Product)
    finally:
        monkeypatch.undo()
        has_onednn_products.cache_clear()


def test_encoders_and_decoders_equal_the_plain_modules() -> None:
    network = random_network(REFERENCE_LIKE).eval().requires_grad_(False)
    tokens = torch.randint(3, 1300, (2, 60), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = network.note_encoder(tokens)
        torch.testing.assert_close(compiled(network.note_encoder)(tokens), expected, atol=2e-5, rtol=1e-4)
