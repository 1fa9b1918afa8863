"""Held notes beat, and the filter of ``partials`` leaves that to them."""

import math

import numpy as np
import pytest
import torch
from steady_tones import Tones

from specdiff_cli.audio.mel import log_mel
from specdiff_cli.audio.partials.beats import NONE_ABOVE_HZ, BeatingMel, with_beats
from specdiff_cli.audio.partials.correction import mel_correction
from specdiff_cli.audio.partials.notes_to_sound import NotesToSound
from specdiff_cli.audio.partials.responses import band_centres_hz
from specdiff_cli.audio.partials.score import PlayedNote, pitch_hz
from specdiff_cli.audio.partials.vocoder import PartialVocoder
from specdiff_cli.constants import N_MELS

CPU = torch.device("cpu")
LOW_PITCH = 45.0  # 110 Hz
BEAT_HZ = 4.0


def beating_notes() -> list[PlayedNote]:
    """Two notes whose lowest partials are 4 Hz apart."""
    detuned = LOW_PITCH + 12 * math.log2((pitch_hz(LOW_PITCH) + BEAT_HZ) / pitch_hz(LOW_PITCH))
    return [PlayedNote(0.2, 5.8, 0, 0, 100, pitch) for pitch in (LOW_PITCH, detuned)]


def steady_mel(n_frames: int) -> torch.Tensor:
    """What the powers of both add up to, (n_frames, 128), as if nothing beat."""
    powers = []
    for note in beating_notes():
        alone = NotesToSound([note], Tones(), rate_hz=16_000, n_channels=1, seed=1, device=CPU)
        powers.append(2.0 * log_mel(alone.render(4 * n_frames).sum(0)[0]))
    return torch.stack(powers)[:, 60:-60].mean(1).logsumexp(0).div(2.0).expand(n_frames, -1)


def lowest_partials(audio: np.ndarray) -> np.ndarray:
    """Amplitude every 10 ms of what sounds around 112 Hz."""
    turned = audio * np.exp(-2j * np.pi * 112.0 * np.arange(len(audio)) / 16_000)
    window = np.hanning(800)
    return np.abs(np.convolve(turned, window / window.sum(), mode="same"))[::160]


def test_the_beats_of_held_notes_stay_and_their_level_is_what_is_wanted() -> None:
    wanted = steady_mel(300) - 0.5
    stream = PartialVocoder(Tones()).open(beating_notes(), seed=1)
    audio = torch.cat([stream.push(wanted), stream.flush()], dim=1)[0]
    swing = lowest_partials(audio.numpy())[150:450]
    # of |cos| a third lies below a half; a filter that knows nothing of beats leaves 0.04
    assert np.mean(swing < 0.5 * swing.max()) == pytest.approx(1 / 3, abs=0.06)
    found = log_mel(audio)[75:225]
    band = int((band_centres_hz()[:N_MELS] - 112.0).abs().argmin())
    assert float((2 * found[:, band]).exp().mean().log() / 2) == pytest.approx(float(wanted[0, band]), abs=0.12)


def test_where_what_is_wanted_moves_or_lies_higher_it_is_wanted_as_it_is() -> None:
    generator = torch.Generator().manual_seed(2)
    has = -3.0 + torch.randn(120, N_MELS, generator=generator)
    moving = -2.0 + 0.5 * torch.sin(torch.arange(120) * (2 * math.pi / 10))[:, None].expand(-1, N_MELS)
    assert torch.equal(with_beats(moving, has), moving)
    still = torch.full_like(has, -2.0)
    found = with_beats(still, has)
    is_high = band_centres_hz()[:N_MELS] > NONE_ABOVE_HZ
    assert torch.equal(found[:, is_high], still[:, is_high])
    lowest = (found - has)[20:100, 5]  # one level brings a low band to where it should be: its ups and downs stay
    assert float(lowest.std()) < 0.5 * float(has[20:100, 5].std())


def test_silence_is_not_taken_for_a_beat() -> None:
    has, still = torch.full((60, N_MELS), math.log(1e-5)), torch.full((60, N_MELS), -2.0)
    assert torch.equal(with_beats(still, has), still)


@pytest.mark.parametrize("n_at_once", [1, 7, 50])
def test_the_wanted_mel_does_not_depend_on_how_it_arrives(n_at_once: int) -> None:
    generator = torch.Generator().manual_seed(1)
    wanted = -3.0 + 0.02 * torch.randn(130, N_MELS, generator=generator)
    audio = 0.05 * torch.randn(2, 130 * 320, generator=generator)
    correction = mel_correction(16_000, CPU)
    beating = BeatingMel(correction, 2, CPU)
    pushes = zip(torch.split(wanted, n_at_once), torch.split(audio, n_at_once * 320, dim=1), strict=True)
    found = torch.cat([*(beating.push(*push) for push in pushes), beating.flush()])
    torch.testing.assert_close(found, with_beats(wanted, correction.log_mel(audio)), atol=1e-4, rtol=0)
    assert float((found - wanted).abs().max()) > 0.1


def test_a_song_without_frames_has_none() -> None:
    assert BeatingMel(mel_correction(16_000, CPU), 1, CPU).flush().shape == (0, N_MELS)
