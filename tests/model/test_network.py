import math

import pytest
import torch
from random_voices import OURS, REFERENCE_LIKE, WITHOUT_CONTEXT, random_network

from specdiff_cli.constants import WINDOW_FRAMES
from specdiff_cli.model.compiled import compiled
from specdiff_cli.model.config import REFERENCE_CONFIGS, ModelConfig
from specdiff_cli.model.decoder import SpectrogramDecoder, modulate
from specdiff_cli.model.layers import GatedGelu, RMSNorm
from specdiff_cli.model.layout import NoteLayout
from specdiff_cli.model.network import SpectrogramDiffusion, build_network

CONFIGS = pytest.mark.parametrize("config", [REFERENCE_LIKE, WITHOUT_CONTEXT, OURS], ids=["context", "none", "ours"])


def batch(config: ModelConfig, n_tokens: int = 20, n_notes: int = 5, size: int = 2) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    onset = torch.rand(size, n_notes, 1, generator=generator) * 4
    return {
        "noisy": torch.randn(size, WINDOW_FRAMES, 128, generator=generator),
        "times": torch.tensor([0.3, 0.9])[:size],
        "tokens": torch.randint(3, 1300, (size, n_tokens), generator=generator),
        "context": torch.rand(size, WINDOW_FRAMES, 128, generator=generator) * 2 - 1,
        "has_context": torch.ones(size, dtype=torch.bool),
        "is_conditioned": torch.ones(size, dtype=torch.bool),
        "layout_tokens": torch.randint(3, 1300, (size, n_notes, 3), generator=generator),
        "layout_times": torch.cat([onset, onset + 0.5], dim=2),
    }


def padded(inputs: dict[str, torch.Tensor], n: int) -> dict[str, torch.Tensor]:
    pad = torch.nn.functional.pad
    return inputs | {
        "tokens": pad(inputs["tokens"], (0, n)),
        "layout_tokens": pad(inputs["layout_tokens"], (0, 0, 0, n)),
        "layout_times": pad(inputs["layout_times"], (0, 0, 0, n)),
    }


@CONFIGS
def test_padding_changes_nothing(config: ModelConfig) -> None:
    network = random_network(config)
    inputs = batch(config)
    torch.testing.assert_close(network(**padded(inputs, 30)), network(**inputs), atol=2e-4, rtol=1e-4)


@CONFIGS
def test_cached_and_skipped_parts_equal_the_masked_batch(config: ModelConfig) -> None:
    """What rendering does (leave masked keys out) equals what training does (mask them)."""
    network = random_network(config)
    inputs = batch(config) | {
        "has_context": torch.tensor([True, False]),
        "is_conditioned": torch.tensor([True, True]),
    }
    expected = network(**inputs)
    film = network.decoder.film(inputs["times"])
    for row in (0, 1):
        encodings = network.note_encoder(inputs["tokens"][row : row + 1])
        if network.context_encoder is not None and inputs["has_context"][row]:
            encodings = torch.cat([encodings, network.context_encoder(inputs["context"][row : row + 1])], dim=1)
        keys, values = network.decoder.memory(encodings)
        laid = None
        if network.note_layout is not None:
            laid = network.note_layout(inputs["layout_tokens"][row : row + 1], inputs["layout_times"][row : row + 1])
        out = network.decoder(inputs["noisy"][row : row + 1], film[row : row + 1], keys, values, None, None, laid)
        torch.testing.assert_close(out[0], expected[row], atol=2e-4, rtol=1e-4)


@CONFIGS
def test_no_keys_equals_all_keys_masked(config: ModelConfig) -> None:
    network = random_network(config)
    inputs = batch(config) | {"is_conditioned": torch.tensor([False, False])}
    film = network.decoder.film(inputs["times"])
    without_keys = network.decoder(inputs["noisy"], film, [], [])
    torch.testing.assert_close(network(**inputs), without_keys, atol=1e-5, rtol=1e-5)


@CONFIGS
def test_the_condition_matters(config: ModelConfig) -> None:
    network = random_network(config)
    inputs = batch(config)
    other = inputs | {"tokens": inputs["tokens"].flip(1)}
    assert (network(**inputs) - network(**other)).abs().mean() > 1e-3
    if config.has_context:
        assert (network(**inputs) - network(**inputs | {"context": -inputs["context"]})).abs().mean() > 1e-3


@CONFIGS
def test_scripted_and_frozen_equals_eager(config: ModelConfig) -> None:
    network = random_network(config)
    inputs = batch(config)
    decoder = compiled(network.decoder, "film", "memory")
    encodings = compiled(network.note_encoder)(inputs["tokens"])
    torch.testing.assert_close(encodings, network.note_encoder(inputs["tokens"]))
    if network.context_encoder is not None:
        encoded = compiled(network.context_encoder)(inputs["context"])
        torch.testing.assert_close(encoded, network.context_encoder(inputs["context"]))
    laid = None
    if network.note_layout is not None:
        laid = compiled(network.note_layout)(inputs["layout_tokens"], inputs["layout_times"])
        torch.testing.assert_close(laid, network.note_layout(inputs["layout_tokens"], inputs["layout_times"]))
    film = decoder.film(inputs["times"])
    torch.testing.assert_close(film, network.decoder.film(inputs["times"]))
    keys, values = decoder.memory(encodings)
    for call in range(3):  # the compiler specialises after the first calls
        out = decoder(inputs["noisy"], film, keys, values, None, None, laid)
        eager = network.decoder(inputs["noisy"], film, keys, values, None, None, laid)
        torch.testing.assert_close(out, eager, atol=1e-4, rtol=1e-4, msg=f"call {call}")


@CONFIGS
def test_training_and_evaluation_attention_agree(config: ModelConfig) -> None:
    network = random_network(config)
    inputs = padded(batch(config), 7)
    expected = network(**inputs)
    torch.testing.assert_close(network.train()(**inputs), expected, atol=1e-4, rtol=1e-4)


def n_parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_parameter_counts_are_those_of_the_published_models() -> None:
    with torch.device("meta"):
        networks = {name: build_network(config) for name, config in REFERENCE_CONFIGS.items()}
    base = networks["base"]
    assert isinstance(base, SpectrogramDiffusion)
    assert base.context_encoder is not None
    parts = (base.note_encoder, base.context_encoder, base.decoder, base)
    assert [round(n_parameters(part) / 1e6, 1) for part in parts] == [87.7, 85.2, 238.7, 411.7]
    in_millions = {name: round(n_parameters(network) / 1e6) for name, network in networks.items()}
    assert in_millions == {"small-no-context": 85, "small": 104, "base": 412, "small-autoregressive": 45}


def test_the_autoregressive_count_by_hand() -> None:
    """The reference's arrays, one by one: it stores no position tables."""
    d, inner, d_ff = 512, 6 * 64, 1024
    attention, mlp = 4 * d * inner, 3 * d * d_ff
    encoder = 1536 * d + 8 * (attention + mlp + 2 * d) + d
    decoder = 128 * d + 8 * (2 * attention + mlp + 3 * d) + d + d * 128
    with torch.device("meta"):
        assert n_parameters(build_network(REFERENCE_CONFIGS["small-autoregressive"])) == encoder + decoder


def test_rms_norm_by_hand_and_in_half_precision() -> None:
    norm = RMSNorm(2)
    norm.weight.data = torch.tensor([2.0, 0.5])
    x = torch.tensor([3.0, 4.0])  # mean square 12.5
    expected = torch.tensor([2 * 3, 0.5 * 4]) / math.sqrt(12.5 + 1e-6)
    torch.testing.assert_close(norm(x), expected)
    big = torch.tensor([300.0, 400.0], dtype=torch.float16)  # its square overflows float16
    torch.testing.assert_close(norm(big).float(), expected, atol=2e-3, rtol=0)


def test_gated_gelu_by_hand() -> None:
    mlp = GatedGelu(1, 1)
    for layer, weight in ((mlp.wi_0, 2.0), (mlp.wi_1, 3.0), (mlp.wo, 0.5)):
        layer.weight.data.fill_(weight)
    u = 2.0
    gelu = 0.5 * u * (1 + math.tanh(math.sqrt(2 / math.pi) * (u + 0.044715 * u**3)))
    assert mlp(torch.tensor([[1.0]])).item() == pytest.approx(gelu * 3 * 0.5, rel=1e-6)


def test_film_is_scale_then_shift() -> None:
    out = modulate(torch.tensor([[[10.0, 20.0]]]), torch.tensor([[0.5, -1.0, 7.0, 8.0]]))
    assert out.tolist() == [[[10 * 1.5 + 7, 20 * 0.0 + 8]]]


def test_time_embedding_matches_its_formula() -> None:
    decoder = SpectrogramDecoder(ModelConfig(8, 1, 4, 4, 1, 0, 1))
    seen: list[torch.Tensor] = []
    decoder.time_in.register_forward_hook(lambda _module, args, _out: seen.append(args[0]))
    decoder.film(torch.tensor([0.25]))
    rates = [20_000 ** (-i / 3) for i in range(4)]
    angles = [5_000 * rate for rate in rates]
    expected = [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
    # 5000 rad in float32 is known to 5e-4 rad
    assert seen[0][0].tolist() == pytest.approx(expected, abs=1e-3)


def test_a_short_context_ends_at_the_last_position() -> None:
    encoder = random_network(REFERENCE_LIKE).context_encoder
    assert encoder is not None
    encoder.blocks = torch.nn.ModuleList()
    encoder.norm = torch.nn.Identity()
    context = torch.zeros(1, 10, 128)
    torch.testing.assert_close(encoder(context)[0], encoder.positions.weight[-10:])


def test_layout_puts_each_note_on_its_own_frames() -> None:
    layout = random_network(OURS).note_layout
    assert isinstance(layout, NoteLayout)
    tokens = torch.tensor([[[1064, 1165, 1150]]])
    laid = layout(tokens, torch.tensor([[[1.0, 2.0]]]))[0]
    strength = laid.norm(dim=1)
    # The first frame that overlaps 1.0 s begins at 0.98 s: frame 49.
    assert strength[:49].max() == 0
    assert strength[51:99].min() > 0.05
    onset = layout.profiles(torch.tensor([[1.0]]), torch.tensor([[2.0]]))[0, :, 0, -1]
    assert onset.argmax().item() in (49, 50)
    assert layout(torch.zeros_like(tokens), torch.tensor([[[1.0, 2.0]]])).abs().max() == 0
