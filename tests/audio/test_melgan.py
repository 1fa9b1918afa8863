"""The generator behind ``partials``: what an untrained one changes, and that blocks equal the whole."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from specdiff_cli.audio.melgan import (
    Generator,
    GeneratorConfig,
    NormedConv1d,
    SubBands,
    folded,
    load_generator,
    ready_generator,
)
from specdiff_cli.audio.partials.melgan import Bridge, MelGanStream, MelGanVocoder
from specdiff_cli.audio.partials.vocoder import BLOCK_FRAMES, PartialVocoder
from specdiff_cli.constants import FRAMES_PER_SECOND, N_MELS
from specdiff_cli.errors import WeightsError

CPU = torch.device("cpu")
SMALL = GeneratorConfig(width=8, n_stacks=1, n_blocks=2)
RATES_HZ = (16_000, 44_100, 48_000)


def learned(config: GeneratorConfig = SMALL, seed: int = 0) -> Generator:
    """A network whose last layer says something."""
    torch.manual_seed(seed)
    network = Generator(config)
    nn.init.constant_(network.leave.length, 0.5)  # type: ignore[arg-type]
    return network


def noise(n_channels: int, n_samples: int) -> Tensor:
    return 0.1 * torch.randn(n_channels, n_samples, generator=torch.Generator().manual_seed(1))


def mels(n_frames: int) -> Tensor:
    return torch.randn(n_frames, N_MELS, generator=torch.Generator().manual_seed(2)) - 3.0


class Recorded:
    """Sound that was there before, handed out later than the frames come, as ``partials`` does."""

    def __init__(self, sound: Tensor, hop_samples: int, late_frames: int = 8) -> None:
        self._sound, self._hop, self._late = sound, hop_samples, late_frames
        self._n_in = self._n_out = 0

    def push(self, mel: Tensor) -> Tensor:
        self._n_in += len(mel)
        return self._until(max(self._n_in - self._late, self._n_out))

    def flush(self) -> Tensor:
        return self._until(self._n_in)

    def _until(self, frame: int) -> Tensor:
        begin, self._n_out = self._n_out, frame
        return self._sound[:, begin * self._hop : frame * self._hop]


def vocoder_with(generator: nn.Module, config: GeneratorConfig, rate_hz: int, n_channels: int) -> MelGanVocoder:
    partials = PartialVocoder(None, rate_hz, n_channels)  # type: ignore[arg-type]
    return MelGanVocoder(partials, generator, config.context_frames)


def streamed(vocoder: MelGanVocoder, sound: Tensor, mel: Tensor, cuts: list[int]) -> Tensor:
    stream = MelGanStream(vocoder, Recorded(sound, vocoder.rate_hz // FRAMES_PER_SECOND))
    pieces = [stream.push(piece) for piece in torch.split(mel, cuts)]
    return torch.cat([*pieces, stream.flush()], dim=1)


def test_the_sub_bands_of_a_sound_add_up_to_it() -> None:
    sound = noise(2, 3200)
    joined = SubBands().join(SubBands().split(sound))
    error = (joined - sound)[:, 200:-200].norm() / sound[:, 200:-200].norm()
    assert error < 0.003  # -50 dB


def test_a_sine_is_in_its_own_sub_band() -> None:
    time_s = torch.arange(3200) / 16_000
    bands = SubBands().split(torch.sin(2 * math.pi * 1240.0 * time_s)[None])  # the middle of the third
    power = bands[:, :, 20:-20].square().mean((0, 2))  # it begins and ends like a click
    assert power.argmax() == 2
    assert power[[1, 3]].max() < 0.01 * power[2]  # neighbours overlap
    assert power[[0, *range(4, 16)]].max() < 1e-7 * power[2]


@pytest.mark.parametrize("n_channels", [1, 2])
@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_an_untrained_generator_changes_nothing(rate_hz: int, n_channels: int) -> None:
    hop = rate_hz // FRAMES_PER_SECOND
    sound, mel = noise(n_channels, 150 * hop), mels(150)
    vocoder = vocoder_with(Generator(SMALL), SMALL, rate_hz, n_channels)
    assert torch.equal(streamed(vocoder, sound, mel, [150]), sound)


@pytest.mark.parametrize("config", [SMALL, replace(SMALL, n_stacks=2, n_blocks=3)], ids=["small", "deep"])
@pytest.mark.parametrize(("rate_hz", "n_channels"), [(16_000, 1), (44_100, 2), (48_000, 1)])
def test_blocks_equal_the_whole(config: GeneratorConfig, rate_hz: int, n_channels: int) -> None:
    n_frames = 2 * BLOCK_FRAMES + 40
    hop = rate_hz // FRAMES_PER_SECOND
    sound, mel = noise(n_channels, n_frames * hop), mels(n_frames)
    vocoder = vocoder_with(learned(config), config, rate_hz, n_channels)
    once = streamed(vocoder, sound, mel, [n_frames])
    pieces = streamed(vocoder, sound, mel, [1, 99, 0, 130, n_frames - 230])
    assert once.shape == sound.shape
    assert torch.equal(once, pieces)  # the places of the blocks are the song's
    stream = MelGanStream(vocoder, Recorded(sound, hop))
    stream._take(mel, sound)
    stream._take(torch.full((64, N_MELS), math.log(1e-5)), torch.zeros(n_channels, 64 * hop))
    whole = stream._emit(n_frames)
    assert (whole - sound).abs().max() > 1e-3  # it does say something
    torch.testing.assert_close(once, whole, atol=2e-6, rtol=0)


@pytest.mark.parametrize("rate_hz", RATES_HZ[1:])
def test_what_is_added_comes_back_without_delay_and_loss(rate_hz: int) -> None:
    bridge = Bridge(rate_hz, CPU)
    for frequency_hz in (60.0, 1000.0, 7000.0):
        time_s = torch.arange(rate_hz // 5, dtype=torch.float64) / rate_hz
        tone = torch.sin(2 * math.pi * frequency_hz * time_s).float()[None]
        again = bridge.up(bridge.down(tone))
        inner = slice(rate_hz // 50, -rate_hz // 50)
        assert (again - tone)[:, inner].abs().max() < 2e-3
    high = torch.sin(2 * math.pi * 9000.0 * torch.arange(rate_hz // 5, dtype=torch.float64) / rate_hz).float()[None]
    assert bridge.down(high)[:, 400:-400].abs().max() < 2e-3


def test_a_side_is_asked_for_its_share_of_the_mel() -> None:
    seen: list[Tensor] = []

    class Listens(nn.Module):
        def forward(self, audio: Tensor, mel: Tensor) -> Tensor:
            seen.append(mel)
            return torch.zeros_like(audio)

    mono = noise(1, 200 * 320)
    sound = torch.cat([1.8 * mono, 0.2 * mono])
    streamed(vocoder_with(Listens(), SMALL, 16_000, 2), sound, mels(200), [200])
    wide = seen[0][:, 40:80]
    torch.testing.assert_close(wide[0] - wide[1], torch.full((40, N_MELS), math.log(9.0)), atol=1e-3, rtol=0)


def test_it_does_not_depend_on_loudness_but_by_the_mel() -> None:
    network = learned()
    sound, mel = noise(1, 40 * 320), mels(40)[None]
    with torch.no_grad():
        added, louder = network(sound, mel), network(4 * sound, mel)
    assert added.abs().max() > 1e-3
    # the level is told to it, too, so the answer is of that size and not just four times as large
    assert 1.5 < louder.norm() / added.norm() < 10
    with torch.no_grad():
        assert network(torch.zeros_like(sound), mel).abs().max() == 0  # nothing grows out of silence


def test_scripted_equals_eager_and_weights_read_back() -> None:
    network = learned()
    weights = {name: tensor.half() for name, tensor in folded(network).items()}
    ready = ready_generator(weights, SMALL)
    other = Generator(SMALL)
    load_generator(other, weights, SMALL)
    sound, mel = noise(2, 30 * 320), torch.stack([mels(30), mels(30) - 1])
    with torch.no_grad():
        torch.testing.assert_close(ready(sound, mel), other(sound, mel), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(ready(sound, mel), network(sound, mel), atol=1e-2, rtol=1e-2)
    assert isinstance(ready, torch.jit.ScriptModule)


def test_zeros_read_back_can_still_learn() -> None:
    other = Generator(SMALL)
    load_generator(other, folded(Generator(SMALL)), SMALL)
    other(noise(1, 30 * 320), mels(30)[None]).sum().backward()
    gradient = other.leave.length.grad
    assert isinstance(gradient, Tensor) and torch.isfinite(gradient).all() and gradient.abs().max() > 0


def test_the_gradient_reaches_every_weight() -> None:
    network = learned()
    network(noise(1, 30 * 320), mels(30)[None]).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in network.parameters())


def test_lengths_are_apart_from_directions() -> None:
    conv = NormedConv1d(3, 4, 5)
    before = conv.normed().detach()
    torch.testing.assert_close(before, conv.weight.detach())  # at first as a plain convolution's
    with torch.no_grad():
        conv.weight.mul_(7.0)
    torch.testing.assert_close(conv.normed().detach(), before)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda weights: weights.pop("enter.bias"), "enter.bias is missing"),
        (lambda weights: weights.update(more=torch.zeros(1)), "more is unknown"),
        (lambda weights: weights.update({"enter.bias": torch.zeros(9)}), r"enter.bias is \(9,\), not \(8,\)"),
        (lambda weights: weights.update({"enter.bias": torch.full((8,), math.nan)}), "enter.bias is not finite"),
    ],
)
def test_weights_that_do_not_fit_are_refused(change: Callable[[dict[str, Tensor]], object], said: str) -> None:
    weights = folded(Generator(SMALL))
    change(weights)
    with pytest.raises(WeightsError, match=said):
        ready_generator(weights, SMALL)


@pytest.mark.parametrize("sizes", [{"width": 0}, {"n_stacks": 17}, {"n_blocks": 7}])
def test_sizes_that_cannot_be_are_refused(sizes: dict[str, int]) -> None:
    with pytest.raises(WeightsError, match=next(iter(sizes))):
        replace(SMALL, **sizes)  # type: ignore[arg-type]
