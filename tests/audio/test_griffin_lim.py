"""Griffin-Lim is judged on synthetic tones by re-analysing what it makes, and on exact locality."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from specdiff_cli.audio.griffin_lim import ANCHOR_FRAMES, GriffinLim, fast_griffin_lim, meet_bands, spread_mel
from specdiff_cli.audio.mel import log_mel, mel_matrix
from specdiff_cli.audio.vocoder import StreamingVocoder

SILENCE = math.log(1e-5)


def plucked_notes(duration_s: float = 2.0) -> torch.Tensor:
    """Four harmonic notes with decaying partials and a little noise: has attacks, steady parts and overlaps."""
    t = torch.arange(int(duration_s * 16000)) / 16000
    audio = torch.randn(len(t), generator=torch.Generator().manual_seed(0)) * 1e-3
    for k, pitch in enumerate((48, 60, 64, 67)):
        start = k * duration_s / 5
        age = (t - start).clamp_min(0)
        f0 = 440 * 2 ** ((pitch - 69) / 12)
        for h in range(1, 9):
            tone = torch.sin(2 * math.pi * f0 * h * age) * torch.exp(-age * (2 + h)) / h
            audio += 0.1 * tone * (t >= start)
    return audio


@pytest.fixture(scope="module")
def notes_mel() -> torch.Tensor:
    return log_mel(plucked_notes())


def test_mel_bands_are_met_by_the_spread_magnitudes(notes_mel: torch.Tensor) -> None:
    early = spread_mel(notes_mel.exp())
    magnitude = meet_bands(early, notes_mel.exp(), 45)
    assert magnitude.shape == early.shape == (len(notes_mel), 513)
    assert magnitude.min() >= 0
    reached = (magnitude @ torch.from_numpy(mel_matrix())).clamp_min(1e-5).log()
    assert (reached - notes_mel).abs().mean() < 0.01


def test_reanalysed_notes_have_the_same_features(notes_mel: torch.Tensor) -> None:
    audio = GriffinLim().invert(notes_mel, 0)
    assert audio.shape == (len(notes_mel) * 320,)
    assert audio.dtype == torch.float32
    error = (log_mel(audio) - notes_mel).abs().mean().item()
    assert error < 0.1
    original = plucked_notes()
    assert audio.square().mean().sqrt() == pytest.approx(original.square().mean().sqrt().item(), rel=0.05)


def test_followed_phases_beat_random_ones(notes_mel: torch.Tensor) -> None:
    magnitude = meet_bands(spread_mel(notes_mel.exp()), notes_mel.exp(), 45)
    noise = torch.rand(magnitude.shape, generator=torch.Generator().manual_seed(0)) * 2 * math.pi
    from_noise = (log_mel(fast_griffin_lim(magnitude, noise, 8)) - notes_mel).abs().mean()
    followed = (log_mel(GriffinLim(8).invert(notes_mel, 0)) - notes_mel).abs().mean()
    assert followed < 0.8 * from_noise


def test_more_iterations_help(notes_mel: torch.Tensor) -> None:
    errors = [(log_mel(GriffinLim(n).invert(notes_mel, 0)) - notes_mel).abs().mean().item() for n in (2, 8, 32)]
    assert errors[0] > errors[1] > errors[2]


def test_pure_tone_keeps_frequency_and_level() -> None:
    t = torch.arange(16000) / 16000
    tone = 0.3 * torch.sin(2 * math.pi * 440 * t)
    audio = GriffinLim().invert(log_mel(tone), 0)
    middle = audio[4000:12000] * torch.hann_window(8000)
    spectrum = torch.fft.rfft(middle).abs()
    assert spectrum.argmax().item() * 2 == pytest.approx(440, abs=4)  # bins are 2 Hz apart
    assert audio[4000:12000].square().mean().sqrt().item() == pytest.approx(0.3 / math.sqrt(2), rel=0.05)


@pytest.mark.parametrize("n_iterations", [1, 5])
def test_reach_is_within_the_declared_context(n_iterations: int) -> None:
    vocoder = GriffinLim(n_iterations)
    n_frames, changed = 120, 60
    mel = log_mel(plucked_notes(n_frames * 320 / 16000))
    other = mel.clone()
    other[changed] += torch.linspace(-1, 1, 128)
    difference = (vocoder.invert(mel, 0) - vocoder.invert(other, 0)).abs().view(n_frames, 320).amax(1)
    touched = difference.nonzero().flatten()
    assert difference[changed] > 1e-3
    assert touched.min() >= changed - vocoder.context_frames
    assert touched.max() <= changed + vocoder.context_frames
    assert touched.max() < 64 + n_iterations + 1, "phases must not be followed past the anchor at frame 64"


@settings(max_examples=4, deadline=None)
@given(cuts=st.lists(st.integers(0, 300), max_size=8), block=st.integers(30, 200), n_iterations=st.integers(1, 12))
def test_streamed_equals_whole(cuts: list[int], block: int, n_iterations: int) -> None:
    mel = log_mel(plucked_notes(5.0))
    vocoder = GriffinLim(n_iterations)
    whole = vocoder.invert(mel, 0)
    streaming = StreamingVocoder(vocoder, block)
    edges = [0, *sorted(min(c, len(mel)) for c in cuts), len(mel)]
    pieces = [streaming.push(mel[a:b]) for a, b in zip(edges[:-1], edges[1:], strict=True)]
    streamed = torch.cat([*pieces, streaming.flush()])
    assert streamed.shape == whole.shape
    assert (streamed - whole).abs().max() < 1e-4


def test_streamed_equals_whole_on_hard_input() -> None:
    # noise and silence are where rounding could flip a decision about peaks
    mel = torch.randn(300, 128, generator=torch.Generator().manual_seed(5)) * 2 - 3
    mel[100:150] = SILENCE
    vocoder = GriffinLim()
    streaming = StreamingVocoder(vocoder, 64)
    streamed = torch.cat([streaming.push(mel), streaming.flush()])
    whole = vocoder.invert(mel, 0)
    assert (streamed - whole).abs().max() < 1e-4 * max(1.0, whole.abs().max().item())


def test_first_frame_matters_only_modulo_the_anchor(notes_mel: torch.Tensor) -> None:
    vocoder = GriffinLim(3)
    at_start = vocoder.invert(notes_mel, 0)
    assert not torch.equal(at_start, vocoder.invert(notes_mel, 5))
    far = vocoder.invert(notes_mel, 10_000_000 * ANCHOR_FRAMES)  # more than a million seconds in: still fine
    assert (log_mel(far) - notes_mel).abs().mean() < 0.3


def test_silence_and_single_frames_and_nothing() -> None:
    vocoder = GriffinLim()
    assert vocoder.invert(torch.empty(0, 128), 0).shape == (0,)
    assert vocoder.invert(torch.full((1, 128), SILENCE), 7).shape == (320,)
    assert vocoder.invert(torch.full((100, 128), SILENCE), 0).abs().max() < 1e-4


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf"), 1e30, -1e30])
def test_absurd_values_stay_finite(bad: float, notes_mel: torch.Tensor) -> None:
    mel = notes_mel.clone()
    mel[40:45, 10:60] = bad
    audio = GriffinLim(8).invert(mel, 0)
    assert torch.isfinite(audio).all()
    assert torch.isfinite(GriffinLim(2).invert(torch.full((10, 128), bad), 0)).all()


def test_deterministic(notes_mel: torch.Tensor) -> None:
    torch.manual_seed(1)
    first = GriffinLim(4).invert(notes_mel, 0)
    torch.manual_seed(2)
    assert torch.equal(first, GriffinLim(4).invert(notes_mel, 0))


def test_refusals() -> None:
    with pytest.raises(ValueError, match="n_iterations"):
        GriffinLim(0)
    with pytest.raises(ValueError, match="128"):
        GriffinLim().invert(torch.zeros(4, 80), 0)
