"""The autoregressive network against a plain evaluation of the reference's mathematics, and against itself."""

import copy
import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from architectures import autoregressive_network
from reference_numpy import Array, Reference
from t5x_checkpoints import Weights, t5x_weights

from specdiff_cli.constants import MAX_TOKENS, N_MELS, WINDOW_FRAMES
from specdiff_cli.errors import DeviceError
from specdiff_cli.model.autoregressive import AutoregressiveNetwork
from specdiff_cli.model.autoregressive_compiled import CompiledAutoregressive, Decoding
from specdiff_cli.model.config import REFERENCE_CONFIGS, ModelConfig
from specdiff_cli.model.encoders import PlainPositions
from specdiff_cli.model.network import SpectrogramDiffusion, build_network
from specdiff_cli.weights.convert_t5x import is_transposed, t5x_names

CPU = torch.device("cpu")

# Heads x d_kv (12) differs from d_model (16).
TINY = ModelConfig(16, 3, 4, 24, 1, 0, 2, kind="autoregressive")


def t5x_arrays() -> Weights:
    """Random weights under the names and in the layout of the T5X checkpoint: kernels are (inputs, outputs)."""
    arrays = t5x_weights(TINY, seed=5)
    arrays["decoder.spec_out_dense.kernel"] *= 5  # to log-mel values of the true size
    return arrays


class AutoregressiveReference(Reference):
    """What differs in the autoregressive model."""

    def encode_notes(self, tokens: npt.NDArray[np.int64]) -> Array:
        """2048 tokens, padding included, all of which see each other."""
        ids = np.pad(tokens, (0, MAX_TOKENS - len(tokens)))
        x = self._of("encoder.token_embedder.embedding")[ids] + self._positions(MAX_TOKENS)
        return self._encode("encoder", x, np.ones(MAX_TOKENS, bool))

    def predict(self, frames: Array, encodings: Array, n_tokens: int) -> Array:
        """The frame after each of ``frames`` (n, 128), which begin with the zeros that stand before the window."""
        n = len(frames)
        y = frames @ self._of("decoder.continuous_inputs_projection.kernel") + self._positions(n)
        before, notes = np.tril(np.ones((n, n), bool)), np.arange(MAX_TOKENS) < n_tokens
        for i in range(TINY.n_decoder_layers):
            layer = f"decoder.layers_{i}"
            h = self._norm(y, f"{layer}.pre_self_attention_layer_norm")
            y = y + self._attention(h, h, before, f"{layer}.self_attention")
            h = self._norm(y, f"{layer}.pre_cross_attention_layer_norm")
            y = y + self._attention(h, encodings, notes, f"{layer}.encoder_decoder_attention")
            y = y + self._mlp(self._norm(y, f"{layer}.pre_mlp_layer_norm"), f"{layer}.mlp")
        return self._norm(y, "decoder.decoder_norm") @ self._of("decoder.spec_out_dense.kernel")

    def _positions(self, n_rows: int) -> Array:
        """Sines in the first half of the channels, cosines in the second; wavelengths from 2 pi to 20000 pi."""
        half = TINY.d_model // 2
        angles = np.arange(n_rows)[:, None] * np.array([10_000 ** (-i / (half - 1)) for i in range(half)])
        return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)


def network_of(arrays: Weights) -> AutoregressiveNetwork:
    """The same weights under our names, as ``specdiff convert`` maps them."""
    network = AutoregressiveNetwork(TINY)
    ours = {
        name: torch.from_numpy(arrays[theirs].T.copy() if is_transposed(theirs) else arrays[theirs])
        for theirs, name in t5x_names(TINY).items()
    }
    network.load_state_dict(ours)
    return network.eval().requires_grad_(False)


def some_tokens(*lengths: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randint(3, 1390, (n,), generator=generator) for n in lengths]


@torch.inference_mode()
def decoded(network: AutoregressiveNetwork, tokens: list[torch.Tensor], dtype: torch.dtype = torch.float32) -> Decoding:
    compiled = CompiledAutoregressive(copy.deepcopy(network), CPU, dtype)
    window = compiled.begin(tokens)
    while window.n_done < WINDOW_FRAMES:
        compiled.advance(window, 100)
    return window


@pytest.fixture(scope="module")
def network() -> AutoregressiveNetwork:
    return autoregressive_network()


def test_a_window_equals_the_reference_mathematics_in_float64() -> None:
    """Values reach 20; float32 and a different order of sums leave 1e-4 of difference."""
    arrays = t5x_arrays()
    (tokens,) = some_tokens(21)
    frames = decoded(network_of(arrays), [tokens]).frames[0].double().numpy()
    reference = AutoregressiveReference(arrays, TINY.d_kv)
    encodings = reference.encode_notes(tokens.numpy())

    first = np.zeros((1, N_MELS))
    for _ in range(8):  # one by one, everything computed anew each time
        first = np.concatenate([first, reference.predict(first, encodings, len(tokens))[-1:]])
    np.testing.assert_allclose(frames[:8], first[1:], atol=1e-4)
    assert np.abs(frames).max() > 5  # feature range, not [-1, 1]

    # All 256: given ours up to each frame, the reference predicts ours again.
    inputs = np.concatenate([np.zeros((1, N_MELS)), frames[:-1]])
    np.testing.assert_allclose(frames, reference.predict(inputs, encodings, len(tokens)), atol=1e-4)


def test_cached_steps_equal_the_teacher_forced_window(network: AutoregressiveNetwork) -> None:
    tokens = some_tokens(20, 33)
    frames = decoded(network, tokens).frames
    expected = network(frames, torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True))
    torch.testing.assert_close(frames, expected, atol=2e-4, rtol=1e-4)
    assert frames.std(dim=1).min() > 1e-3  # frames differ from each other


def test_scripted_equals_eager(network: AutoregressiveNetwork) -> None:
    tokens = some_tokens(12)
    window = decoded(network, tokens)
    keys, values = network.decoder.memory(network.note_encoder(torch.nn.functional.pad(tokens[0], (0, 2036))[None]))
    keys, values = [key[:, :, :12] for key in keys], [value[:, :, :12] for value in values]
    frames = torch.empty_like(window.frames)
    past = [[torch.empty(1, 3, WINDOW_FRAMES, 16) for _ in keys] for _ in range(2)]
    network.decoder.advance(frames, 0, 40, past[0], past[1], keys, values, None)
    network.decoder.advance(frames, 40, WINDOW_FRAMES, past[0], past[1], keys, values, None)
    torch.testing.assert_close(frames, window.frames, atol=2e-4, rtol=1e-4)


def test_songs_in_one_batch_equal_songs_alone(network: AutoregressiveNetwork) -> None:
    tokens = some_tokens(40, 3, 17)
    together = decoded(network, tokens).frames
    alone = torch.cat([decoded(network, [song]).frames for song in tokens])
    # Other sums in larger products, and every frame is made from the last: rounding adds up over 256 of them.
    torch.testing.assert_close(together, alone, atol=2e-3, rtol=1e-3)
    assert (together[0] - together[1]).abs().max() > 0.1


def test_padding_changes_nothing(network: AutoregressiveNetwork) -> None:
    (tokens,) = some_tokens(9)
    frames = torch.randn(1, 30, N_MELS, generator=torch.Generator().manual_seed(1))
    longer = torch.nn.functional.pad(tokens, (0, 50))
    torch.testing.assert_close(network(frames, longer[None]), network(frames, tokens[None]), atol=1e-5, rtol=1e-5)


def test_a_frame_is_predicted_from_those_before_it_only(network: AutoregressiveNetwork) -> None:
    (tokens,) = some_tokens(9)
    frames = torch.randn(1, 30, N_MELS, generator=torch.Generator().manual_seed(1))
    changed = frames.clone()
    changed[:, 10] += 1.0
    before, after = network(frames, tokens[None]), network(changed, tokens[None])
    assert torch.equal(before[:, :11], after[:, :11])
    assert (before[:, 11] - after[:, 11]).abs().max() > 1e-3
    assert (before[:, 29] - after[:, 29]).abs().max() > 1e-5


def test_the_notes_matter(network: AutoregressiveNetwork) -> None:
    one, other = some_tokens(9, 9)
    assert (decoded(network, [one]).frames - decoded(network, [other]).frames).abs().mean() > 1e-2


def test_in_half_precision_the_ends_stay_float32(network: AutoregressiveNetwork) -> None:
    tokens = some_tokens(9)
    half = decoded(network, tokens, torch.bfloat16)
    assert half.keys[0].dtype == torch.bfloat16
    assert half.frames.dtype == torch.float32
    assert not torch.equal(half.frames, half.frames.bfloat16().float())
    # The first frame, before differences feed on themselves.
    exact = decoded(network, tokens).frames[:, 0]
    assert (half.frames[:, 0] - exact).square().mean() < 1e-3 * exact.square().mean()


def test_8_bit_weights_are_refused(network: AutoregressiveNetwork) -> None:
    with pytest.raises(DeviceError, match="use float32"):
        CompiledAutoregressive(network, CPU, torch.int8)


def test_positions_are_computed_and_never_stored() -> None:
    with torch.device("meta"):
        empty = AutoregressiveNetwork(TINY)
    assert not any("positions" in name for name in empty.state_dict())
    table = PlainPositions(300, 6).weight
    # Channels 0-2 are sines, 3-5 cosines; the rates are 1, 1/100 and 1/10000.
    expected = [math.sin(300 - 1), math.sin(2.99), math.sin(0.0299), math.cos(299), math.cos(2.99), math.cos(0.0299)]
    assert table[299].tolist() == pytest.approx(expected, abs=1e-6)
    assert (
        empty.note_encoder.positions.weight[:5].tolist() == PlainPositions(MAX_TOKENS, TINY.d_model).weight[:5].tolist()
    )


def test_build_network_makes_the_kind_that_the_configuration_names() -> None:
    with torch.device("meta"):
        assert isinstance(build_network(TINY), AutoregressiveNetwork)
        assert isinstance(build_network(REFERENCE_CONFIGS["small"]), SpectrogramDiffusion)
        with pytest.raises(ValueError, match="build_network"):
            SpectrogramDiffusion(TINY)
        with pytest.raises(ValueError, match="build_network"):
            AutoregressiveNetwork(REFERENCE_CONFIGS["small"])


def test_configurations_that_contradict_themselves_are_refused() -> None:
    with pytest.raises(ValueError, match="has no context encoder"):
        ModelConfig(16, 1, 16, 16, 1, 1, 1, kind="autoregressive")
    for d_model in (2, 15, 1_000_000_000):
        with pytest.raises(ValueError, match=f"d_model = {d_model}: must be even"):
            ModelConfig(d_model, 1, 16, 16, 1, 0, 1, kind="autoregressive")
    with pytest.raises(ValueError, match="'recurrent': must be one of diffusion, autoregressive"):
        ModelConfig(16, 1, 16, 16, 1, 1, 1, kind="recurrent")  # type: ignore[arg-type]


@pytest.mark.gpu
def test_a_cuda_device_computes_the_same(network: AutoregressiveNetwork) -> None:
    tokens = some_tokens(40, 3)
    expected = decoded(network, tokens).frames
    compiled = CompiledAutoregressive(copy.deepcopy(network), torch.device("cuda"), torch.float32)
    with torch.inference_mode():
        window = compiled.begin(tokens)
        compiled.advance(window, WINDOW_FRAMES)
    torch.testing.assert_close(window.frames.cpu(), expected, atol=5e-3, rtol=5e-3)
