"""The network is given random weights here: what is tested is the machinery, not the sound."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from specdiff_cli.audio.griffin_lim import GriffinLim, find_peaks, follow_turns, spread_mel
from specdiff_cli.audio.mel import log_mel
from specdiff_cli.audio.spectral import SpectralConfig, SpectralNetwork, SpectralVocoder, load_spectral, network_inputs
from specdiff_cli.audio.vocoder import StreamingVocoder
from specdiff_cli.errors import WeightsError

SMALL = SpectralConfig(dim=16, n_blocks=2, kernel=5, expansion=2, n_iterations=3)


def chord(duration_s: float = 2.0) -> torch.Tensor:
    t = torch.arange(int(duration_s * 16000)) / 16000
    audio = torch.randn(len(t), generator=torch.Generator().manual_seed(0)) * 1e-3
    for start, f0 in ((0.0, 220.0), (0.5, 277.18), (1.0, 329.63)):
        age = (t - start).clamp_min(0)
        audio += sum(
            0.1 / h * torch.sin(2 * math.pi * f0 * h * age) * torch.exp(-3 * age) * (t >= start) for h in range(1, 6)
        )
    return audio


def random_network(config: SpectralConfig = SMALL, strength: float = 0.1) -> SpectralNetwork:
    torch.manual_seed(0)
    network = SpectralNetwork(config)
    for head in (network.magnitude, network.rotation):
        torch.nn.init.normal_(head.weight, std=strength)
    return network


def test_scripted_equals_eager() -> None:
    network = random_network().eval()
    mel = log_mel(chord())
    spread, _ = network_inputs(mel)
    vocoder = SpectralVocoder(network, SMALL)
    with torch.no_grad():
        eager = network(mel[None], spread[None])
        for _ in range(3):  # the compiler specialises after the first calls
            compiled = vocoder._network(mel[None], spread[None])
    for a, b in zip(eager, compiled, strict=True):
        assert a.shape == (1, len(mel), 513)
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_untrained_network_changes_nothing() -> None:
    mel = log_mel(chord())
    spread, _ = network_inputs(mel)
    with torch.no_grad():
        log_magnitude, cosine, sine = SpectralNetwork(SMALL)(mel[None], spread[None])
    assert torch.equal(log_magnitude[0], spread)
    assert (cosine == 1).all()
    assert (sine == 0).all()


def test_untrained_vocoder_is_as_good_as_griffin_lim() -> None:
    config = SpectralConfig(dim=8, n_blocks=1)
    mel = log_mel(chord())
    ours = SpectralVocoder(SpectralNetwork(config), config).invert(mel, 0)
    plain = GriffinLim(config.n_iterations).invert(mel, 0)
    errors = [(log_mel(audio) - mel).abs().mean().item() for audio in (ours, plain)]
    assert errors[0] < 1.3 * errors[1]


def test_exact_turns_make_an_exact_tone() -> None:
    # a partial at 1000 Hz, which is bin 64: from frame to frame its phase turns by 2 pi 20
    n_frames, frequency_hz = 40, 1010.0
    t = torch.arange(n_frames * 320 + 320) / 16000
    tone = torch.sin(2 * math.pi * frequency_hz * t)
    peaks = find_peaks(spread_mel(log_mel(tone)[:n_frames].exp()))
    turns = torch.full((n_frames, 513), 2 * math.pi * frequency_hz * 320 / 16000, dtype=torch.float64)
    phases = follow_turns(peaks, turns, 0)[:, 64].double()
    advance = (phases[1:] - phases[:-1]).remainder(2 * math.pi)
    expected = (2 * math.pi * frequency_hz * 0.02) % (2 * math.pi)
    at_anchor = torch.arange(1, n_frames) % 32 == 0
    torch.testing.assert_close(advance[~at_anchor], torch.full_like(advance[~at_anchor], expected), atol=1e-5, rtol=0)


def test_network_reach_is_exactly_the_declared_one() -> None:
    network = random_network().eval()
    mel = log_mel(chord())
    spread, _ = network_inputs(mel)
    other = mel.clone()
    other[50] += 1.0
    with torch.no_grad():
        change = (network(mel[None], spread[None])[0] - network(other[None], spread[None])[0]).abs()[0].amax(-1)
    touched = change.nonzero().flatten()
    assert (touched.min().item(), touched.max().item()) == (50 - SMALL.reach_frames, 50 + SMALL.reach_frames)


def test_audio_reach_is_within_the_context() -> None:
    vocoder = SpectralVocoder(random_network(), SMALL)
    mel = log_mel(chord(4.0))
    changed = 100
    other = mel.clone()
    other[changed] += torch.linspace(-1, 1, 128)
    change = (vocoder.invert(mel, 0) - vocoder.invert(other, 0)).abs().view(-1, 320).amax(1)
    touched = change.nonzero().flatten()
    assert change[changed] > 1e-3
    assert touched.min() >= changed - vocoder.context_frames
    assert touched.max() <= changed + vocoder.context_frames


@settings(max_examples=4, deadline=None)
@given(cuts=st.lists(st.integers(0, 250), max_size=8), block=st.integers(30, 150))
def test_streamed_equals_whole(cuts: list[int], block: int) -> None:
    mel = log_mel(chord(5.0))
    vocoder = SpectralVocoder(random_network(), SMALL)
    whole = vocoder.invert(mel, 0)
    streaming = StreamingVocoder(vocoder, block)
    edges = [0, *sorted(min(c, len(mel)) for c in cuts), len(mel)]
    pieces = [streaming.push(mel[a:b]) for a, b in zip(edges[:-1], edges[1:], strict=True)]
    streamed = torch.cat([*pieces, streaming.flush()])
    assert streamed.shape == whole.shape == (len(mel) * 320,)
    assert (streamed - whole).abs().max() < 1e-4


def test_always_finite() -> None:
    mel = log_mel(chord())
    for network in (random_network(), random_network(strength=1e3)):
        vocoder = SpectralVocoder(network, SMALL)
        for bad in (float("nan"), float("inf"), -float("inf"), 1e30):
            faulty = mel.clone()
            faulty[20:25, 5:50] = bad
            assert torch.isfinite(vocoder.invert(faulty, 0)).all()
    assert vocoder.invert(torch.empty(0, 128), 0).shape == (0,)
    assert vocoder.invert(mel[:1], 0).shape == (320,)


def test_weights_of_any_precision_load() -> None:
    network = random_network()
    mel = log_mel(chord())
    plain = SpectralVocoder(random_network(), SMALL).invert(mel, 0)
    half = {name: tensor.half() for name, tensor in network.state_dict().items()}
    loaded = load_spectral(half, SMALL)
    assert loaded.name == "spectral"
    assert loaded.context_frames == SMALL.context_frames
    assert (log_mel(loaded.invert(mel, 0)) - log_mel(plain)).abs().mean() < 0.05
    exact = load_spectral(network.state_dict(), SMALL)
    assert torch.equal(exact.invert(mel, 0), plain)


def test_weights_that_do_not_fit_are_told_in_one_line() -> None:
    good = random_network().state_dict()
    missing = {name: tensor for name, tensor in good.items() if name != "norm.weight"}
    cases = {
        "norm.weight is missing": missing,
        "extra is unknown": {**good, "extra": torch.zeros(1)},
        r"norm.weight is \(3,\), not \(16,\)": {**good, "norm.weight": torch.zeros(3)},
        "read.bias is not finite": {**good, "read.bias": torch.full((16,), float("nan"))},
        "and .* more": {},
    }
    for words, weights in cases.items():
        with pytest.raises(WeightsError, match=words) as caught:
            load_spectral(weights, SMALL)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "make", [lambda: SpectralConfig(dim=0), lambda: SpectralConfig(kernel=4), lambda: SpectralConfig(n_iterations=-1)]
)
def test_impossible_sizes(make: Callable[[], SpectralConfig]) -> None:
    with pytest.raises(WeightsError, match="cannot be"):
        make()
