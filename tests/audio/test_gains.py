"""The gains on top of the filter: an untrained network changes nothing, and blocks equal the whole."""

from typing import Any

import pytest
import torch
from steady_tones import Tones
from torch import Tensor, nn

from specdiff_cli.audio.gains import GainNetwork, GainsConfig, ready_gains
from specdiff_cli.audio.mel import log_mel
from specdiff_cli.audio.partials.correction import mel_correction
from specdiff_cli.audio.partials.score import PlayedNote
from specdiff_cli.audio.partials.vocoder import BLOCK_FRAMES, PartialVocoder
from specdiff_cli.constants import FRAMES_PER_SECOND, N_MELS
from specdiff_cli.errors import WeightsError

CPU = torch.device("cpu")
SMALL = GainsConfig(width=8, n_blocks=2)
NOTES = [
    PlayedNote(0.0, 6.0, 0, 60, 100, 60.0, pan=-0.4),
    PlayedNote(2.55, 2.9, 0, 75, 100, 75.5, pan=0.5),
    PlayedNote(1.0, 5.0, 1, 38, 90, 38.0),
]
RATES = [(16_000, 1), (44_100, 2), (48_000, 1)]


def learned(config: GainsConfig = SMALL) -> GainNetwork:
    """A network whose last layer says something."""
    torch.manual_seed(0)
    network = GainNetwork(config).eval().requires_grad_(False)
    nn.init.normal_(network.leave.weight, std=0.2)
    return network


def sung(gains: GainNetwork | None, rate_hz: int, n_channels: int, pieces: int = 10_000) -> Tensor:
    vocoder = PartialVocoder(Tones(), rate_hz, n_channels, gains=gains)
    stream = vocoder.open(NOTES, seed=5)
    wanted = torch.full((2 * BLOCK_FRAMES + 61, N_MELS), -3.0)
    return torch.cat([*(stream.push(piece) for piece in torch.split(wanted, pieces)), stream.flush()], dim=1)


@pytest.mark.parametrize(("rate_hz", "n_channels"), RATES)
def test_an_untrained_network_changes_nothing(rate_hz: int, n_channels: int) -> None:
    plain = sung(None, rate_hz, n_channels)
    torch.testing.assert_close(sung(GainNetwork(SMALL), rate_hz, n_channels), plain, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("rate_hz", "n_channels"), RATES)
def test_blocks_equal_the_whole_however_the_frames_arrive(rate_hz: int, n_channels: int) -> None:
    whole = sung(learned(), rate_hz, n_channels)
    assert whole.shape == (n_channels, (2 * BLOCK_FRAMES + 61) * rate_hz // FRAMES_PER_SECOND)
    assert (whole - sung(None, rate_hz, n_channels)).abs().max() > 0.01
    torch.testing.assert_close(sung(learned(), rate_hz, n_channels, 37), whole, atol=2e-4, rtol=0)


def test_a_gain_acts_on_its_part_alone() -> None:
    """6 dB on the noise of a tone and noise, 6 dB less on the tone."""
    rate_hz, n_samples = 16_000, 32_000
    noise = 0.02 * torch.randn(1, n_samples, generator=torch.Generator().manual_seed(0))
    tone = 0.2 * torch.sin(torch.arange(n_samples) * (2 * torch.pi * 1000 / rate_hz))[None]
    correction = mel_correction(rate_hz, CPU)
    parts = correction.parts(torch.stack([tone, noise]), log_mel((tone + noise)[0]))
    gains = torch.stack([torch.full_like(parts.log_mels[0], gain) for gain in (-0.6931, 0.6931)])
    joined = correction.joined(parts, gains, n_samples)
    torch.testing.assert_close(joined, 0.5 * tone + 2 * noise, atol=0.02, rtol=0)


@pytest.mark.parametrize("rate_hz", [44_100, 48_000])
def test_other_rates_tell_the_network_the_same(rate_hz: int) -> None:
    """Log-mels of half frames, of a tone and noise at each rate."""
    heard = []
    for hertz in (16_000, rate_hz):
        time_s = torch.arange(2 * hertz) / hertz
        tones = sum(0.1 / k * torch.sin(2 * torch.pi * 220 * k * time_s) for k in range(1, 12))
        audio = torch.as_tensor(tones)[None]
        correction = mel_correction(hertz, CPU)
        sound = torch.stack([audio, 0.01 * audio])
        heard.append(correction.parts(sound, correction.log_mel(audio)).log_mels)
    for at_16_khz, other in zip(*heard, strict=True):
        middle = slice(20, 180)
        is_loud = at_16_khz[middle] > at_16_khz.max() - 3
        assert (other[middle] - at_16_khz[middle])[is_loud].abs().mean() < 0.1


def test_gains_are_those_of_a_place_whatever_stands_far_from_it() -> None:
    network = learned()
    mels = [torch.randn(1, 60, N_MELS, generator=torch.Generator().manual_seed(k)) - 3 for k in range(4)]
    changed = [mel.clone() for mel in mels]
    for mel in changed:
        mel[:, 40:] = 0.0
    before = network(*mels)
    assert before.shape == (1, 2, 60, N_MELS)
    reach = 2 * SMALL.reach_frames
    assert torch.equal(network(*changed)[:, :, : 40 - reach], before[:, :, : 40 - reach])
    assert not torch.allclose(network(*changed)[:, :, 39], before[:, :, 39])


def test_weights_read_back_and_others_are_refused() -> None:
    network = learned()
    weights = {name: tensor.half() for name, tensor in network.state_dict().items()}
    mels = [torch.full((1, 12, N_MELS), level) for level in (-2.0, -4.0, -1.8, -1.9)]
    torch.testing.assert_close(ready_gains(weights, SMALL)(*mels), network(*mels), atol=2e-3, rtol=0)
    with pytest.raises(WeightsError, match=r"do not fit: blocks\.2"):
        ready_gains(weights, GainsConfig(width=8, n_blocks=3))
    weights["leave.bias"][3] = torch.nan
    with pytest.raises(WeightsError, match=r"leave\.bias is not finite"):
        ready_gains(weights, SMALL)


@pytest.mark.parametrize("sizes", [{"width": 0}, {"width": 2000}, {"n_blocks": 0}, {"n_blocks": 7}])
def test_sizes_that_cannot_be_are_refused(sizes: dict[str, Any]) -> None:
    with pytest.raises(WeightsError, match="must be between 1 and"):
        GainsConfig(**sizes)


def test_what_a_render_made_first_serves_training_too() -> None:
    mel_correction.cache_clear()
    with torch.inference_mode():
        correction = mel_correction(16_000, CPU)
    audio = torch.randn(2, 1, 6400, generator=torch.Generator().manual_seed(0))
    parts = correction.parts(audio, torch.full((20, N_MELS), -1.0))
    gains = torch.zeros(2, *parts.log_mels[0].shape, requires_grad=True)
    correction.joined(parts, gains, 6400).square().mean().backward()  # type: ignore[no-untyped-call]
    assert gains.grad is not None and float(gains.grad.abs().sum()) > 0
