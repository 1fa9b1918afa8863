"""What rendering computes equals the plain modules."""

import contextlib
import copy
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from random_voices import OURS, REFERENCE_LIKE, WITHOUT_CONTEXT, random_network

from specdiff_cli.constants import WINDOW_FRAMES
from specdiff_cli.model.compiled import CompiledNetwork, InnerFeatures
from specdiff_cli.model.config import ModelConfig
from specdiff_cli.model.cuda_graphs import N_PLAIN_CALLS, StepGraph
from specdiff_cli.model.fused import FusedAttention, fused
from specdiff_cli.model.layers import Attention, GatedGelu, attention

CPU = torch.device("cpu")
CONFIGS = pytest.mark.parametrize("config", [REFERENCE_LIKE, WITHOUT_CONTEXT, OURS], ids=["context", "none", "ours"])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def windows(
    config: ModelConfig, n_tokens: tuple[int, ...]
) -> tuple[list[torch.Tensor], list[torch.Tensor | None], list[torch.Tensor]]:
    """Tokens, contexts (every second one absent) and layouts of one window per song."""
    generator = seeded()
    tokens = [torch.randint(3, 1300, (n,), generator=generator) for n in n_tokens]
    contexts = [torch.rand(1, WINDOW_FRAMES, 128, generator=generator) * 2 - 1 for _ in n_tokens]
    layouts = []
    for n in range(len(n_tokens)):
        ids = torch.randint(3, 1300, (n, 3), generator=generator).double()
        onset = torch.rand(n, 1, generator=generator).double() * 4
        layouts.append(torch.cat([ids, onset, onset + 0.5], dim=1))
    return tokens, [None if i % 2 else c for i, c in enumerate(contexts)], layouts


def test_fused_modules_equal_plain_ones_and_share_their_memory() -> None:
    attention_module, mlp = Attention(8, 2, 6), GatedGelu(8, 12)
    x = torch.randn(2, 5, 8, generator=seeded())
    with torch.no_grad():
        expected = attention_module.eval()(x, None), mlp(x), attention_module.keys_values(x)
        names = dict(attention_module.state_dict())
        twin = fused(attention_module)
        assert isinstance(twin, FusedAttention)
        torch.testing.assert_close(twin(x, None), expected[0])
        torch.testing.assert_close(fused(mlp)(x), expected[1])
        torch.testing.assert_close(twin.keys_values(x), expected[2])
        torch.testing.assert_close(twin.attend(x, *expected[2], None), expected[0])
    assert list(attention_module.state_dict()) == list(names)
    for name, before in names.items():
        assert torch.equal(attention_module.state_dict()[name], before)
    together = twin.qkv.weight
    assert isinstance(together, torch.Tensor)
    assert attention_module.k.weight.untyped_storage().data_ptr() == together.untyped_storage().data_ptr()


@CONFIGS
def test_padded_batches_equal_single_windows(config: ModelConfig) -> None:
    network = CompiledNetwork(random_network(config), CPU, torch.float32)
    tokens, contexts, layouts = windows(config, (7, 30, 12))
    x = torch.randn(3, WINDOW_FRAMES, 128, generator=seeded())
    film = network.film([0.4])
    with torch.inference_mode():
        together = network.decode(x, film, network.remember(tokens, contexts, layouts))
        for i in range(3):
            memory = network.remember(tokens[i : i + 1], contexts[i : i + 1], layouts[i : i + 1])
            assert memory.bias is None
            torch.testing.assert_close(network.decode(x[i : i + 1], film, memory)[0], together[i], atol=1e-5, rtol=1e-4)


@CONFIGS
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_both_halves_of_guidance_at_once_equal_two_evaluations(config: ModelConfig, dtype: torch.dtype) -> None:
    network = CompiledNetwork(random_network(config), CPU, dtype)
    tokens, contexts, layouts = windows(config, (7, 30))
    x = torch.randn(2, WINDOW_FRAMES, 128, generator=seeded())
    film = network.film([0.4])
    with torch.inference_mode():
        memory = network.remember(tokens, contexts, layouts)
        seeing, blind = network.decode(torch.cat([x, x]), film, memory).chunk(2)
        atol, rtol = (1e-5, 1e-4) if dtype == torch.float32 else (5e-2, 5e-2)
        torch.testing.assert_close(seeing, network.decode(x, film, memory), atol=atol, rtol=rtol)
        torch.testing.assert_close(blind, network.decode(x, film, None), atol=atol, rtol=rtol)
        assert (seeing - blind).abs().mean() > 1e-3


def test_attention_of_bfloat16_by_plain_products() -> None:
    """The CPU's plain path in bfloat16 is as close to float32 as the fused kernel is."""
    q, k, v = (torch.randn(1, 3, n, 16, generator=seeded(n)) for n in (20, 50, 50))
    bias = torch.where(torch.arange(50) < 40, 0.0, -1e9)[None, None, None]
    exact = torch.softmax(q @ k.transpose(-1, -2) + bias, -1) @ v
    torch.testing.assert_close(attention(q, k, v, bias, False), exact, atol=1e-5, rtol=1e-4)
    q, k, v, bias = (x.bfloat16() for x in (q, k, v, bias))
    plain = attention(q, k, v, bias, False).float()
    kernel = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0).float()
    assert (plain - exact).square().mean() < 4 * (kernel - exact).square().mean()


@CONFIGS
def test_half_precision_keeps_float32_at_the_ends(config: ModelConfig) -> None:
    exact = CompiledNetwork(random_network(config), CPU, torch.float32)
    half = CompiledNetwork(random_network(config), CPU, torch.bfloat16)
    tokens, contexts, layouts = windows(config, (7,))
    x = torch.randn(1, WINDOW_FRAMES, 128, generator=seeded())
    with torch.inference_mode():
        outs = [n.decode(x, n.film([0.4]), n.remember(tokens, contexts, layouts)) for n in (exact, half)]
    assert outs[1].dtype == torch.float32
    assert (outs[0] - outs[1]).square().mean() < 1e-3 * outs[0].square().mean()


@CONFIGS
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_inner_blocks_added_is_kept_and_reused(config: ModelConfig, dtype: torch.dtype) -> None:
    """Scripted as eager; reused in the very step that it is of, it changes nothing."""
    plain = random_network(replace(config, n_decoder_layers=4))
    decoder = copy.deepcopy(plain.decoder)
    network = CompiledNetwork(plain, CPU, dtype)
    tokens, contexts, layouts = windows(config, (7, 30))
    film = network.film([0.4, 0.3])
    x = torch.randn(3, WINDOW_FRAMES, 128, generator=seeded())  # one more than there is memory for
    inner = InnerFeatures()
    with torch.inference_mode():
        memory = network.remember(tokens, contexts, layouts)
        whole = network.decode(x, film[:1], memory, inner)
        assert torch.equal(whole, network.decode(x, film[:1], memory))
        assert inner.added is not None
        kept = inner.added.clone()
        same = network.decode(x, film[:1], memory, inner, reuses=True)
        later = network.decode(0.9 * x, film[1:], memory, inner, reuses=True)
        assert torch.equal(inner.added, kept)
        rest = (memory.bias, None, memory.laid)
        eager, added = decoder.to(dtype).evaluate(x, film[:1], memory.keys, memory.values, *rest, None)
        eager_later, _ = decoder.evaluate(0.9 * x, film[1:], memory.keys, memory.values, *rest, added)
    atol, rtol = (1e-5, 1e-4) if dtype == torch.float32 else (6e-2, 6e-2)
    for found, expected in ((whole, eager), (same, whole), (later, eager_later), (kept, added)):
        torch.testing.assert_close(found, expected, atol=atol, rtol=rtol)
    assert (later - network.decode(0.9 * x, film[1:], memory)).abs().mean() > 1e-3


class FakeGraph:
    """What StepGraph asks of CUDA, played on the CPU: the recording is made again at each replay."""

    fails = False

    def __init__(self) -> None:
        self.n_replays = 0

    def replay(self) -> None:
        self.n_replays += 1


@contextlib.contextmanager
def fake_recording(graph: FakeGraph, capture_error_mode: str) -> Iterator[None]:
    yield
    if FakeGraph.fails:
        raise RuntimeError("operation not permitted when stream is capturing")


@pytest.mark.parametrize("fails", [False, True])
def test_a_step_is_recorded_after_some_plain_calls(monkeypatch: pytest.MonkeyPatch, fails: bool) -> None:
    monkeypatch.setattr(torch.cuda, "CUDAGraph", FakeGraph)
    monkeypatch.setattr(torch.cuda, "graph", fake_recording)
    monkeypatch.setattr(FakeGraph, "fails", fails)
    plain: list[int] = []

    def evaluate(x: torch.Tensor, film: torch.Tensor) -> torch.Tensor:
        plain.append(1)
        return x + film

    seen: set[torch.Size] = set()
    step = StepGraph(evaluate, seen)
    for i in range(6):
        x, film = torch.full((2,), float(i)), torch.ones(2)
        out = step(x, film)
        if fails or i < N_PLAIN_CALLS:
            assert torch.equal(out, x + film)
        else:  # the replay read the inputs of this call, and gave the recording's output
            assert step._graph is not None and step._inputs is not None
            assert torch.equal(step._inputs[0], x)
            assert torch.equal(out, torch.full((2,), float(N_PLAIN_CALLS + 1)))
    # A failed recording is not tried again.
    assert len(plain) == (7 if fails else N_PLAIN_CALLS + 1)
    # The next window's step is of a shape that is known: one plain call, then the recording.
    step = StepGraph(evaluate, seen)
    x = torch.zeros(2)
    step(x, x)
    assert step._graph is None
    step(x, x)
    assert (step._graph is None) == fails


@pytest.mark.gpu
@CONFIGS
def test_a_recorded_step_equals_the_plain_call(config: ModelConfig) -> None:
    device = torch.device("cuda", 0)
    network = CompiledNetwork(random_network(config), device, torch.float32)
    tokens, contexts, layouts = windows(config, (7, 30))
    film = network.film([i / 10 for i in range(10, 0, -1)])
    with torch.inference_mode():
        memory = network.remember(tokens, [c if c is None else c.to(device) for c in contexts], layouts)
        replayed = network.repeated(lambda x, row: network.decode(x, row, memory), len(film))
        inner, others = InnerFeatures(), InnerFeatures()
        keeping = network.repeated(lambda x, row: network.decode(x, row, memory, inner), len(film))
        reusing = network.repeated(
            lambda x, row: network.decode(x, row, memory, inner, reuses=True), len(film), reuses=True
        )
        for i in range(len(film)):
            x = torch.randn(2, WINDOW_FRAMES, 128, generator=seeded(i)).to(device)
            expected = network.decode(x, film[i : i + 1], memory)
            torch.testing.assert_close(replayed(x, film[i : i + 1]), expected, atol=1e-4, rtol=1e-3)
            for ready, kept, reuses in ((keeping, others, False), (reusing, others, True)):
                expected = network.decode(x, film[i : i + 1], memory, kept, reuses=reuses)
                torch.testing.assert_close(ready(x, film[i : i + 1]), expected, atol=1e-4, rtol=1e-3)
