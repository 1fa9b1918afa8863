"""The vocoder that knows the notes: every promise is measured on its sound."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from steady_tones import AMPLITUDES, Tones, cents, frames_of, frequency_hz, level_db, sound_of, tone

from specdiff_cli.audio.mel import hann_window, log_mel
from specdiff_cli.audio.partials.beats import REACH_FRAMES
from specdiff_cli.audio.partials.correction import MARGIN_FRAMES
from specdiff_cli.audio.partials.noise import noise_bank
from specdiff_cli.audio.partials.notes_to_sound import HOPS, NotesToSound
from specdiff_cli.audio.partials.responses import lobe_powers, mel_weights, to_mel
from specdiff_cli.audio.partials.score import (
    MODULATION_CENTS,
    MODULATION_HZ,
    Vibrato,
    pan_of_mono,
    pitch_hz,
)
from specdiff_cli.audio.partials.sounds import Splitter, find_tones, snapped
from specdiff_cli.audio.partials.vocoder import BLOCK_FRAMES, PartialVocoder
from specdiff_cli.constants import FFT_SAMPLES, FRAME_SAMPLES, FRAMES_PER_SECOND, N_MELS, SAMPLE_RATE_HZ
from specdiff_cli.midi.expression import ChannelExpression, Curve

CPU = torch.device("cpu")


@pytest.mark.parametrize("rate_hz", sorted(HOPS))
def test_a_note_has_the_pitch_and_the_partials_that_it_should(rate_hz: int) -> None:
    audio = sound_of(tone(pitch=61.3), rate_hz=rate_hz)[0]
    steady = audio[round(0.8 * rate_hz) : round(2.2 * rate_hz)]
    for number, amplitude in enumerate(AMPLITUDES, start=1):
        expected_hz = number * pitch_hz(61.3)
        assert abs(cents(frequency_hz(steady, rate_hz, expected_hz), expected_hz)) < 0.5
        turns = np.exp(-2j * np.pi * expected_hz * np.arange(len(steady)) / rate_hz)
        window = np.blackman(len(steady))
        found = 2 * abs(np.sum(steady * window * turns)) / window.sum()
        assert 20 * math.log10(found / amplitude) == pytest.approx(0.0, abs=0.5)


@pytest.mark.parametrize("rate_hz", sorted(HOPS))
def test_partials_begin_with_the_phases_that_are_known(rate_hz: int) -> None:
    turns = (0.1, math.nan, -0.3)
    audio = sound_of(tone(0.50031, pitch=61.3), rate_hz=rate_hz, timbres=Tones(turns=turns))[0]
    steady = np.arange(round(0.8 * rate_hz), round(1.2 * rate_hz))
    for number in (1, 3):
        wave = np.exp(-2j * np.pi * number * pitch_hz(61.3) * (steady / rate_hz - 0.50031))
        found = np.angle(np.sum(audio[steady] * np.blackman(len(steady)) * wave)) / (2 * np.pi)
        assert found == pytest.approx(turns[number - 1], abs=2e-3)


@pytest.mark.parametrize("rate_hz", sorted(HOPS))
@pytest.mark.parametrize("start_s", [0.0, 0.50031, 0.7129])
def test_an_attack_begins_at_the_notes_own_time_and_nothing_sounds_before(rate_hz: int, start_s: float) -> None:
    audio = np.abs(sound_of(tone(start_s), rate_hz=rate_hz)[0])
    onset = math.floor(start_s * rate_hz)
    assert audio[: onset + 1].max() == 0.0
    peak = audio[onset : onset + round(0.2 * rate_hz)].max()
    first_loud = onset + int(np.argmax(audio[onset:] > 0.5 * peak))
    assert first_loud - start_s * rate_hz < 0.005 * rate_hz


def test_noise_begins_at_the_notes_own_time() -> None:
    audio = np.abs(sound_of(tone(0.7129, instrument=1))[0])
    onset = round(0.7129 * 16_000)
    assert audio[: onset - HOPS[16_000]].max() == 0.0
    early, later = (audio[onset + at : onset + at + 80].mean() for at in (32, 4000))
    assert early == pytest.approx(later, rel=0.5)


def test_a_bend_moves_the_pitch_as_its_curve_says() -> None:
    rise = [(0.5 + 0.002 * k, 2.0 * k / 500) for k in range(1, 501)]  # two semitones in a second
    expression = ChannelExpression(pitch_semitones=Curve.from_changes(0.0, rise))
    audio = sound_of(tone(0.1, 2.8, expression=expression))[0].astype(np.float64)
    for middle_s, half_s, semitones in ((0.35, 0.12, 0.0), (2.0, 0.3, 2.0)):
        piece = audio[round((middle_s - half_s) * 16_000) : round((middle_s + half_s) * 16_000)]
        expected_hz = 440 * 2 ** (semitones / 12)
        for number in (1, 3):
            assert abs(cents(frequency_hz(piece, 16_000, number * expected_hz), number * expected_hz)) < 5
    # while it rises: the turns of the first partial's analytic signal, one per cycle
    spectrum = np.fft.fft(audio)
    hertz = np.fft.fftfreq(len(audio), 1 / 16_000)
    turns = np.unwrap(np.angle(np.fft.ifft(spectrum * ((hertz > 300) & (hertz < 650)))))
    for at_s in (0.8, 1.0, 1.2):
        a, b = round((at_s - 0.05) * 16_000), round((at_s + 0.05) * 16_000)
        found_hz = (turns[b] - turns[a]) / (2 * np.pi) / ((b - a) / 16_000)
        assert abs(cents(found_hz, 440 * 2 ** (2.0 * (at_s - 0.5) / 12))) < 5


def test_tuning_that_stands_still_is_exact() -> None:
    expression = ChannelExpression(pitch_semitones=Curve.constant(-0.37))
    audio = sound_of(tone(expression=expression))[0]
    expected_hz = 440 * 2 ** (-0.37 / 12)
    assert abs(cents(frequency_hz(audio[12_000:36_000], 16_000, expected_hz), expected_hz)) < 0.5


@pytest.mark.parametrize("own", [False, True], ids=["modulation wheel", "the instrument's own"])
def test_vibrato_swings_as_far_and_as_fast_as_it_should(own: bool) -> None:
    wheel = ChannelExpression(modulation=Curve.constant(1.0))
    timbres = Tones(swings=Vibrato(MODULATION_HZ, MODULATION_CENTS, 0.0)) if own else Tones()
    audio = sound_of(tone(0.1, 2.9, expression=None if own else wheel), timbres=timbres)[0].astype(np.float64)
    spectrum = np.fft.fft(audio)
    hertz = np.fft.fftfreq(len(audio), 1 / 16_000)
    turns = np.unwrap(np.angle(np.fft.ifft(spectrum * ((hertz > 300) & (hertz < 650)))))
    found_hz = np.diff(turns)[12_800:38_400] * 16_000 / (2 * np.pi)  # 0.8 to 2.4 s
    swing = 1200 * np.log2(np.convolve(found_hz, np.ones(160) / 160, "valid") / 440)
    assert swing.max() == pytest.approx(MODULATION_CENTS, abs=5)
    assert swing.min() == pytest.approx(-MODULATION_CENTS, abs=5)
    crossings = np.count_nonzero(np.diff(np.sign(swing)) > 0)
    assert crossings == pytest.approx(MODULATION_HZ * len(swing) / 16_000, abs=1.01)


def test_portamento_glides_to_the_pitch_and_a_scales_tuning_moves_it() -> None:
    note = tone(0.1, 2.8, glide_semitones=-12.0, glide_s=1.0, tuning_semitones=0.5)
    audio = sound_of(note)[0].astype(np.float64)
    expected_hz = 440 * 2 ** (0.5 / 12)
    assert abs(cents(frequency_hz(audio[19_000:43_000], 16_000, expected_hz), expected_hz)) < 1
    spectrum = np.fft.fft(audio)
    hertz = np.fft.fftfreq(len(audio), 1 / 16_000)
    turns = np.unwrap(np.angle(np.fft.ifft(spectrum * ((hertz > 190) & (hertz < 430)))))
    a, b = round(0.55 * 16_000), round(0.65 * 16_000)  # half an octave below, and rising
    found_hz = (turns[b] - turns[a]) / (2 * np.pi) / 0.1
    assert abs(cents(found_hz, expected_hz * 2 ** (-6 / 12))) < 10


def test_volume_within_a_note_is_followed() -> None:
    expression = ChannelExpression(gain=Curve.from_changes(1.0, [(1.0, 0.5), (2.0, 0.0)]))
    audio = sound_of(tone(0.2, 2.9, expression=expression))[0]
    before, after = audio[8_000:15_000], audio[17_000:31_000]
    assert level_db(after) - level_db(before) == pytest.approx(20 * math.log10(0.5), abs=0.5)
    assert np.abs(audio[32_100:46_000]).max() == 0.0


@pytest.mark.parametrize("instrument", [0, 1], ids=["partials", "noise"])
@pytest.mark.parametrize("pan", [-1.0, -0.4, 0.0, 0.7])
def test_pan_places_a_note_with_constant_power(instrument: int, pan: float) -> None:
    note = tone(pan=pan, instrument=instrument)
    middle = level_db(sound_of(replace(note, pan=0.0))[0][12_000:36_000])
    left, right = sound_of(note, n_channels=2)[:, 12_000:36_000].astype(np.float64)
    angle = math.pi / 4 * (1 + pan)
    for side, gain in ((left, math.cos(angle)), (right, math.sin(angle))):
        if gain > 1e-9:
            assert level_db(side) == pytest.approx(middle + 20 * math.log10(math.sqrt(2) * gain), abs=0.1)
        else:
            assert np.abs(side).max() < 1e-6
    mono = sound_of(note)[0][12_000:36_000]
    np.testing.assert_allclose(mono, (left + right) / 2, atol=1e-5)
    assert level_db(mono) == pytest.approx(middle + 20 * math.log10(pan_of_mono(pan)), abs=0.1)


def test_a_note_travels_while_its_pan_moves() -> None:
    expression = ChannelExpression(pan=Curve.from_changes(-1.0, [(1.5, 1.0)]))
    left, right = sound_of(tone(0.2, 2.8, expression=expression), n_channels=2)
    assert np.abs(right[4_000:23_000]).max() < 1e-6 < 0.1 < np.abs(left[4_000:23_000]).max()
    assert np.abs(left[25_000:44_000]).max() < 1e-6 < 0.1 < np.abs(right[25_000:44_000]).max()


def test_full_band_sound_goes_beyond_8_khz_where_the_timbre_does() -> None:
    timbres = Tones(amplitudes=(0.1,) * 9)
    note = tone(pitch=88.0)  # partials 1318.5 Hz apart: seven to nine lie above 8 kHz
    full, narrow = (sound_of(note, rate_hz=rate_hz, timbres=timbres)[0] for rate_hz in (44_100, 16_000))
    steady = full[30_000:90_000]
    for number in (7, 8, 9):
        expected_hz = number * pitch_hz(88.0)
        assert abs(cents(frequency_hz(steady, 44_100, expected_hz), expected_hz)) < 1
        turns = np.exp(-2j * np.pi * expected_hz * np.arange(len(steady)) / 44_100)
        window = np.blackman(len(steady))
        found = 2 * abs(np.sum(steady * window * turns)) / window.sum()
        assert 20 * math.log10(found / 0.1) == pytest.approx(0.0, abs=3.0)  # bands of 750 Hz say no more
    low = np.fft.rfft(narrow[12_000:36_000])
    assert np.isfinite(low).all()


def test_sounds_are_asked_for_once_and_forgotten_with_their_notes() -> None:
    timbres = Tones()
    notes = [tone(0.1 * k, 0.1 * k + 0.3, pitch=69.0) for k in range(200)]
    synthesis = NotesToSound(notes, timbres, rate_hz=16_000, n_channels=1, seed=0, device=CPU)
    most = 0
    for _ in range(10):
        synthesis.render(1024)
        most = max(most, len(synthesis._sounding))
    assert timbres.asked == {(0, 0, 100)}
    assert most <= 5
    assert not synthesis._waiting


@pytest.mark.parametrize(("rate_hz", "n_channels"), [(16_000, 1), (44_100, 2), (48_000, 1)])
def test_blocks_equal_the_whole_however_the_frames_arrive(rate_hz: int, n_channels: int) -> None:
    expression = ChannelExpression(
        pitch_semitones=Curve.from_changes(0.0, [(1.0, 1.0), (3.0, -0.5)]), modulation=Curve.constant(0.4)
    )
    notes = [tone(0.0, 6.0, 60, expression=expression), tone(2.55, 2.9, 75.5, pan=0.5), tone(1.0, 5.0, instrument=1)]
    vocoder = PartialVocoder(Tones(), rate_hz, n_channels)
    wanted = torch.full((2 * BLOCK_FRAMES + 61, N_MELS), -3.0)
    whole = vocoder.open(notes, seed=5)
    at_once = torch.cat([whole.push(wanted), whole.flush()], dim=1)
    assert at_once.shape == (n_channels, len(wanted) * rate_hz // FRAMES_PER_SECOND)
    bit_by_bit = vocoder.open(notes, seed=5)
    pieces = [bit_by_bit.push(piece) for piece in torch.split(wanted, 37)]
    in_pieces = torch.cat([*pieces, bit_by_bit.flush()], dim=1)
    torch.testing.assert_close(in_pieces, at_once, atol=2e-4, rtol=0)
    on_threads = vocoder.open(notes, seed=5, n_threads=2)
    assert torch.equal(torch.cat([on_threads.push(wanted), on_threads.flush()], dim=1), at_once)
    again = vocoder.open(notes, seed=5)
    assert torch.equal(torch.cat([again.push(wanted), again.flush()], dim=1), at_once)
    other = vocoder.open(notes, seed=6)
    assert not torch.allclose(torch.cat([other.push(wanted), other.flush()], dim=1), at_once, atol=1e-2)


def test_one_block_holds_back_no_more_than_its_margin() -> None:
    stream = PartialVocoder(Tones()).open([tone()])
    margin = MARGIN_FRAMES + REACH_FRAMES + 1
    assert stream.push(torch.full((BLOCK_FRAMES + margin - 1, N_MELS), -6.0)).shape == (1, 0)
    assert stream.push(torch.full((1, N_MELS), -6.0)).shape == (1, BLOCK_FRAMES * 320)


def test_noise_makes_up_for_what_no_note_explains() -> None:
    wanted = torch.full((150, N_MELS), -1.0)
    silence = torch.full((150, N_MELS), math.log(1e-5))
    stream = PartialVocoder(Tones()).open([], expected=lambda first, n: silence[first : first + n])
    found = log_mel(torch.cat([stream.push(wanted), stream.flush()], dim=1)[0])[20:130]
    assert (found - -1.0).mean().abs() < 0.2


def test_the_mel_of_a_sinusoid_is_known_in_advance() -> None:
    frequencies_hz = torch.tensor([60.0, 440.0, 3210.5, 7900.0], dtype=torch.float64)
    expected = []
    for hertz in frequencies_hz.tolist():  # in quadrature: only the magnitude at positive frequencies is left
        turns = 2j * np.pi * hertz * np.arange(FRAME_SAMPLES) / SAMPLE_RATE_HZ
        spectrum = np.fft.fft(0.5 * np.exp(turns) * hann_window().numpy(), FFT_SAMPLES)[: FFT_SAMPLES // 2 + 1]
        expected.append(np.abs(spectrum))
    powers = lobe_powers(frequencies_hz)
    torch.testing.assert_close(powers, torch.tensor(np.square(expected)).float(), atol=0.01, rtol=1e-4)
    for n_bins in (513, 300, 20):  # also where the matrix's last rows have nothing to do
        mel = to_mel(CPU).product(powers.sqrt()[:, :n_bins])
        torch.testing.assert_close(mel, powers.sqrt()[:, :n_bins] @ mel_weights()[:n_bins])


def test_noise_of_equal_gains_is_white() -> None:
    bank = noise_bank(16_000, 40, 8000.0, CPU)
    noise = bank.render(torch.ones(2, 1, 4000, bank.n_bands), 0, seed=1)[0]
    assert float(noise.square().mean()) == pytest.approx(1.0, abs=0.03)
    parts = torch.fft.rfft(noise.view(100, -1)).abs().square().mean(0)[10:-11].view(-1, 20).mean(1)
    assert float(parts.max() / parts.min()) < 1.6


def test_a_steady_sound_is_told_apart_into_what_it_was_made_of() -> None:
    frequencies_hz = torch.arange(1, 40, dtype=torch.float64) * 196.0
    amplitudes = 0.3 / torch.arange(1, 40)
    begins_s = torch.arange(-0.04, 0.3, 0.005, dtype=torch.float64)
    sound = Splitter(8000.0, CPU).split(frames_of(frequencies_hz, amplitudes, begins_s), begins_s, frequencies_hz)
    steady = sound.levels[20:60, : sound.n_partials].mean(0)
    error_db = 20 * (steady / amplitudes[: sound.n_partials]).log10()
    assert sound.n_partials == 39
    assert float(error_db[:30].abs().max()) < 1.0
    noise = sound.levels[20:60, sound.n_partials :]
    assert float(noise.max()) < 0.02 * float(amplitudes.max())
    # and the onset is as sharp as it was: no slower than one step of the grid
    assert float(sound.levels[1, 0] / amplitudes[0]) == pytest.approx(1.0, abs=0.25)


def test_what_rings_in_a_struck_sound_is_found_and_noise_has_no_tones() -> None:
    frequencies_hz = torch.tensor([587.0, 845.0, 2510.0], dtype=torch.float64)  # a cowbell and claves
    begins_s = torch.arange(-0.04, 0.3, 0.005, dtype=torch.float64)
    found = find_tones(frames_of(frequencies_hz, torch.tensor([0.2, 0.3, 0.1]), begins_s), begins_s)
    assert len(found) == 3
    assert (found / frequencies_hz - 1).abs().max() < 0.02
    assert not len(find_tones(Tones().held(tone(instrument=1), 0.3)[1], Tones().held(tone(instrument=1), 0.3)[0]))


def test_tones_near_a_partial_take_its_frequency() -> None:
    tones = snapped(torch.tensor([445.0, 1220.0], dtype=torch.float64), 440.0 * torch.arange(1.0, 9.0).double())
    torch.testing.assert_close(tones, torch.tensor([440.0, 1220.0], dtype=torch.float64))


def test_known_tones_of_a_struck_sound_are_heard_where_they_are() -> None:
    ratios = (1.001, 2.03)  # the first so near to a partial that it is one; the mel has the second at 2
    note = tone(0.0, 1.0)
    sound = NotesToSound([note], Tones(struck=ratios), rate_hz=16_000, n_channels=1, seed=0, device=CPU)
    audio = sound.render(200).sum(0)[0].numpy()[3200:]
    for expected_hz in (440.0, 2.03 * 440.0):
        assert abs(cents(frequency_hz(audio, 16_000, expected_hz), expected_hz)) < 2.0


@pytest.mark.parametrize("rate_hz", sorted(HOPS))
@pytest.mark.parametrize("start_s", [0.0, 0.50031, 1.3332, 1.9999])  # some just before noise is read elsewhere
def test_noise_goes_on_without_a_step_behind_the_onset(rate_hz: int, start_s: float) -> None:
    """Of noise below 8 kHz, nothing lies above: a step between two of its kinds is heard up there."""
    audio = sound_of(tone(start_s, instrument=1), rate_hz=rate_hz)[0].astype(np.float64)
    kernel = np.array([1.0, -4.0, 6.0, -4.0, 1.0])
    rough = np.abs(np.convolve(audio, kernel, mode="valid"))
    onset = math.floor(start_s * rate_hz)
    near = rough[onset + HOPS[rate_hz] // 2 : onset + 5 * HOPS[rate_hz]]
    usual = rough[onset + rate_hz // 8 : onset + rate_hz // 2]
    assert near.max() < 1.3 * usual.max()
    early, later = (
        np.square(audio[onset + at : onset + at + 4 * HOPS[rate_hz]]).mean() for at in (HOPS[rate_hz], rate_hz // 4)
    )
    assert 0.3 < early / later < 3.0


@pytest.mark.parametrize("rate_hz", sorted(HOPS))
def test_the_bank_of_noise_has_no_seam(rate_hz: int) -> None:
    bank = noise_bank(rate_hz, HOPS[rate_hz], min(20_000.0, rate_hz / 2), CPU)
    low = bank._pieces[:, :8].sum(1)  # smooth, so that a step shows
    rough = torch.cat([low[-4:], low[:4]]).flatten().diff(n=2).abs()
    seam = slice(4 * HOPS[rate_hz] - 4, 4 * HOPS[rate_hz] + 4)
    assert rough[seam].max() < 2 * rough[: seam.start].max()
