"""The filter of ``partials``, which brings its sound to the mel that is wanted."""

import math

import pytest
import torch
from steady_tones import Tones, sound_of, tone

from specdiff_cli.audio.mel import log_mel
from specdiff_cli.audio.partials.correction import mel_correction
from specdiff_cli.audio.partials.notes_to_sound import HOPS
from specdiff_cli.audio.partials.vocoder import PartialVocoder
from specdiff_cli.constants import N_MELS

CPU = torch.device("cpu")


def test_at_16_khz_the_correction_measures_the_projects_own_mel() -> None:
    audio = sound_of(tone(), tone(1.0, 2.0, instrument=1))
    found = mel_correction(16_000, CPU).log_mel(torch.from_numpy(audio))
    torch.testing.assert_close(found, log_mel(torch.from_numpy(audio[0])), atol=1e-3, rtol=0)


@pytest.mark.parametrize("rate_hz", [44_100, 48_000])
def test_at_other_rates_it_measures_the_same_mel(rate_hz: int) -> None:
    note = tone(pitch=57.0)
    reference = mel_correction(16_000, CPU).log_mel(torch.from_numpy(sound_of(note)))
    found = mel_correction(rate_hz, CPU).log_mel(torch.from_numpy(sound_of(note, rate_hz=rate_hz)))
    is_loud = reference > reference.max() - 5
    assert (found - reference)[is_loud].abs().mean() < 0.03


def test_the_mel_of_the_result_meets_the_wanted_one() -> None:
    notes = [tone(0.2, 2.8), tone(0.2, 2.8, instrument=1)]
    plain = torch.from_numpy(sound_of(*notes))
    tilt = torch.linspace(-1.0, 1.0, N_MELS)
    wanted = log_mel(plain[0]) + tilt
    stream = PartialVocoder(Tones()).open(notes, seed=3)
    found = log_mel(torch.cat([stream.push(wanted), stream.flush()], dim=1)[0])
    middle = slice(20, 130)
    error = (found - wanted)[middle].abs().mean()
    assert error < 0.08
    assert error < 0.15 * (log_mel(plain[0]) - wanted)[middle].abs().mean()


@pytest.mark.parametrize("rate_hz", sorted(HOPS))
@pytest.mark.parametrize("instrument", [0, 1], ids=["partials", "noise"])
def test_no_filter_is_heard_before_its_note(rate_hz: int, instrument: int) -> None:
    """Gains of 40 ms windows smear what they change; the windows before an onset hear none of it."""
    note = tone(1.0, 2.0, instrument=instrument)
    stream = PartialVocoder(Tones(), rate_hz, 2).open([note])
    wanted = torch.full((150, N_MELS), -2.0)  # louder than the note in most bands
    audio = torch.cat([stream.push(wanted), stream.flush()], dim=1).abs()
    peak = float(audio[:, rate_hz : rate_hz + rate_hz // 10].max())
    assert float(audio[:, : rate_hz - rate_hz // 250].max()) < 1e-4 * peak


@pytest.mark.parametrize("rate_hz", sorted(HOPS))
@pytest.mark.parametrize("instrument", [0, 1], ids=["partials", "noise"])
def test_a_song_whose_first_note_begins_at_once_begins_without_a_step(rate_hz: int, instrument: int) -> None:
    stream = PartialVocoder(Tones(), rate_hz).open([tone(0.0, 1.0, instrument=instrument)])
    wanted = torch.full((50, N_MELS), -2.0)  # louder than the note in most bands
    audio = torch.cat([stream.push(wanted), stream.flush()], dim=1)[0]
    assert float(audio[0]) == 0.0
    n_opening = rate_hz // 1000
    assert float(audio[:n_opening].diff().abs().max()) < float(audio[n_opening : rate_hz // 2].diff().abs().max())
    assert float(audio[n_opening : 10 * n_opening].abs().max()) > 0.05 * float(audio.abs().max())


def test_the_filter_leaves_a_sound_alone_that_is_as_wanted() -> None:
    audio = torch.from_numpy(sound_of(tone(0.2, 2.8), tone(0.9, 2.8, pitch=76.0)))
    correction = mel_correction(16_000, CPU)
    middle = slice(8_000, 40_000)
    found = correction.apply(audio[None], correction.log_mel(audio))
    torch.testing.assert_close(found[:, middle], audio[:, middle], atol=5e-4, rtol=0)  # of 0.52


@pytest.mark.parametrize("rate_hz", [16_000, 44_100])
def test_channels_in_opposite_phases_are_not_blown_up_to_fill_their_mean(rate_hz: int) -> None:
    mono = torch.from_numpy(sound_of(tone(0.2, 2.8), rate_hz=rate_hz))
    correction = mel_correction(rate_hz, CPU)
    stereo = torch.cat([1.05 * mono, -0.95 * mono])
    found = correction.apply(stereo[None], correction.log_mel(mono / math.sqrt(2.0)))
    middle = slice(rate_hz // 2, 2 * rate_hz)
    gain = (found[:, middle].square().mean() / stereo[:, middle].square().mean()).sqrt()
    assert 20 * math.log10(float(gain)) == pytest.approx(0.0, abs=0.5)


def test_what_is_known_to_cancel_in_the_mean_takes_nothing_from_the_channels() -> None:
    mono = torch.from_numpy(sound_of(tone(0.2, 2.8)))
    correction = mel_correction(16_000, CPU)
    stereo = torch.cat([1.3 * mono, -0.7 * mono])
    found = correction.apply(stereo[None], correction.log_mel(stereo))
    middle = slice(8_000, 32_000)
    gain = (found[:, middle].square().mean() / stereo[:, middle].square().mean()).sqrt()
    assert 20 * math.log10(float(gain)) == pytest.approx(0.0, abs=0.1)
