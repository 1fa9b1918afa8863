"""The head for one inverse STFT, with random weights: the machinery, not the sound."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from specdiff_cli.audio.griffin_lim import find_peaks, spread_mel
from specdiff_cli.audio.istft import IstftMelGan, IstftVocoder, join_turns
from specdiff_cli.audio.mel import log_mel, magnitudes
from specdiff_cli.audio.spectral import MelGanConfig, load_melgan, network_inputs
from specdiff_cli.audio.vocoder import StreamingVocoder
from specdiff_cli.errors import WeightsError

SMALL = MelGanConfig(head="istft", dim=16, n_blocks=2, kernel=5, expansion=2)


def music(duration_s: float = 2.0) -> torch.Tensor:
    t = torch.arange(int(duration_s * 16000)) / 16000
    audio = torch.randn(len(t), generator=torch.Generator().manual_seed(0)) * 1e-3
    return audio + sum(0.2 / h * torch.sin(2 * math.pi * 220 * h * t) for h in range(1, 6))


def random_network(strength: float = 0.1) -> IstftMelGan:
    torch.manual_seed(0)
    network = IstftMelGan(SMALL)
    for head in (network.magnitude, network.rotation, network.phase):
        torch.nn.init.normal_(head.weight, std=strength)
    return network


def vocoder() -> IstftVocoder:
    return IstftVocoder(random_network(), SMALL)


def test_scripted_equals_eager() -> None:
    network = random_network().eval()
    mel = log_mel(music())
    inputs = mel[None], network_inputs(mel)[0][None]
    compiled = IstftVocoder(network, SMALL)._network
    with torch.no_grad():
        eager = network(*inputs)
        for _ in range(3):  # the compiler specialises after the first calls
            scripted = compiled(*inputs)
    for a, b in zip(eager, scripted, strict=True):
        assert a.shape == (1, len(mel), 513)
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def turns_of(frequency_hz: float, n_frames: int) -> torch.Tensor:
    return torch.full((n_frames, 513), 2 * math.pi * frequency_hz * 320 / 16000, dtype=torch.float64)


def test_joined_phases_meet_the_anchors_and_never_jump() -> None:
    n_frames = 80
    t = torch.arange((n_frames + 1) * 320) / 16000
    peaks = find_peaks(spread_mel(log_mel(torch.sin(2 * math.pi * 1010 * t))[:n_frames].exp()))
    phases = join_turns(peaks, turns_of(1010.0, n_frames), 0)[:, 64]
    advance = phases.diff().remainder(2 * math.pi)
    expected = 2 * math.pi * (1010 * 320 / 16000 % 1)
    # up to the last anchor the phases are led to it: by half a turn over 32 frames at most
    assert (advance - expected).abs().max() <= math.pi / 32 + 1e-9
    assert (advance[:32] - advance[0]).abs().max() < 1e-9
    torch.testing.assert_close(advance[64:], torch.full_like(advance[64:], expected))


def test_a_piece_gets_the_phases_of_the_whole_where_it_knows_both_anchors() -> None:
    mel = log_mel(music(3.0))
    peaks = find_peaks(spread_mel(mel.exp()))
    whole = join_turns(peaks, peaks.turns, 0)
    start, end = 20, 110  # anchors at 32, 64 and 96
    piece = find_peaks(spread_mel(mel[start:end].exp()))
    part = join_turns(piece, piece.turns, start)
    difference = (part[12:76] - whole[32:96] + math.pi).remainder(2 * math.pi) - math.pi
    assert difference.abs().max() < 1e-6


def test_joined_phases_of_a_batch_are_those_of_its_pieces() -> None:
    mel = log_mel(torch.stack([music(), music().flip(0)]))
    peaks = [find_peaks(spread_mel(piece.exp())) for piece in mel]
    both = type(peaks[0])(*(torch.stack(pair) for pair in zip(*peaks, strict=True)))
    joined = join_turns(both, both.turns, 7)
    for i in range(2):
        torch.testing.assert_close(joined[i], join_turns(peaks[i], peaks[i].turns, 7))


def test_an_untrained_network_keeps_a_tone() -> None:
    t = torch.arange(32000) / 16000
    tone = 0.5 * torch.sin(2 * math.pi * 1000 * t)  # the middle of bin 64
    made = IstftVocoder(IstftMelGan(SMALL), SMALL).invert(log_mel(tone), 0)
    for start in (8000, 16000, 24000):
        spectrum = magnitudes(made[start : start + 640])[0]
        assert spectrum.argmax().item() == 64
        assert spectrum[64].item() == pytest.approx(
            80, rel=0.2
        )  # 0.5 * 320 / 2: amplitude, sum of the window, one side


def test_reach_of_the_audio_is_within_the_declared_one() -> None:
    mel = log_mel(music())
    other = mel.clone()
    other[50] += torch.linspace(-1, 1, 128)
    change = (vocoder().invert(mel, 0) - vocoder().invert(other, 0)).abs().view(-1, 320).amax(1)
    touched = change.nonzero().flatten()
    assert SMALL.context_frames == SMALL.reach_frames + 33 == 39
    # frames 44 to 56 turn otherwise, so all phases from the anchor before (32) to the next one (64) may change
    assert touched.min().item() >= 32
    assert touched.max().item() <= 64
    assert len(touched) > 2 * SMALL.reach_frames


@settings(max_examples=4, deadline=None)
@given(cuts=st.lists(st.integers(0, 150), max_size=6), block=st.integers(5, 80))
def test_streamed_equals_whole(cuts: list[int], block: int) -> None:
    mel = log_mel(music(3.0))
    whole = vocoder().invert(mel, 0)
    streaming = StreamingVocoder(vocoder(), block)
    edges = [0, *sorted(cuts), len(mel)]
    pieces = [streaming.push(mel[a:b]) for a, b in zip(edges[:-1], edges[1:], strict=True)]
    streamed = torch.cat([*pieces, streaming.flush()])
    assert streamed.shape == whole.shape == (len(mel) * 320,)
    assert (streamed - whole).abs().max() < 1e-4


def test_always_finite() -> None:
    mel = log_mel(music(0.5))
    for strength in (0.1, 1e3):
        wild = IstftVocoder(random_network(strength), SMALL)
        for bad in (float("nan"), float("inf"), -float("inf"), 1e30):
            faulty = mel.clone()
            faulty[10:15, 5:50] = bad
            assert torch.isfinite(wild.invert(faulty, 0)).all()
    assert vocoder().invert(torch.empty(0, 128), 0).shape == (0,)
    assert vocoder().invert(mel[:1], 0).shape == (320,)


def test_the_config_says_which_head_the_weights_are_of() -> None:
    weights = random_network().state_dict()
    loaded = load_melgan({name: tensor.half() for name, tensor in weights.items()}, SMALL)
    assert isinstance(loaded, IstftVocoder)
    assert loaded.name == "spectral"
    with pytest.raises(WeightsError, match="phase.bias is unknown"):
        load_melgan(weights, MelGanConfig(dim=16, n_blocks=2, kernel=5, expansion=2))
    with pytest.raises(WeightsError, match="'wave' is not one of advance, istft"):
        MelGanConfig(head="wave")  # type: ignore[arg-type]
