"""Many notes at once: what is computed together is what each would be by itself, exactly in time, on any device."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from specdiff_cli.audio.partials import chorus
from specdiff_cli.audio.partials.chorus import Chorus, Fading, Stretch, Timbre
from specdiff_cli.audio.partials.correction import MelCorrection
from specdiff_cli.audio.partials.noise import NoiseBank, noise_centres_hz
from specdiff_cli.audio.partials.oscillators import Oscillators, whole_hz, whole_seconds, whole_turns
from specdiff_cli.audio.partials.sounds import Sound

RATE_HZ, HOP, N_KNOTS = 16_000, 80, 60
N_BANDS = len(noise_centres_hz(8000.0))
CPU, META = torch.device("cpu"), torch.device("meta")


def stretch(
    n_partials: int, onset_s: float, device: torch.device = CPU, noise: float = 0.0, pan: float = 1.0
) -> Stretch:
    generator = torch.Generator().manual_seed(n_partials)
    ages_s = torch.arange(40, dtype=torch.float64) * 0.02
    levels = torch.rand(40, n_partials + N_BANDS, generator=generator) / (n_partials + 1)
    levels[:, n_partials:] *= noise
    frequencies_hz = 97.3 * torch.arange(1, n_partials + 1, dtype=torch.float64)
    timbre = Timbre.of(Sound(ages_s, frequencies_hz, levels.to(device), torch.empty(0)))
    log_gains = torch.tensor([0.0, -1.0, -9.0])[:, None].expand(-1, timbre.levels.shape[1]).to(device)
    fading = Fading(np.array([-0.02, 0.0, 0.05]), log_gains, 0.05)
    first = max(0, int(onset_s * RATE_HZ // HOP))
    times_s = np.arange(first, N_KNOTS + 1, dtype=np.float64) * (HOP / RATE_HZ)
    since_s = times_s - onset_s
    phases = whole_turns(torch.rand(timbre.n_columns, dtype=torch.float64, generator=generator)).to(device)
    turned = whole_seconds(since_s)
    return Stretch(
        timbre, fading, first, onset_s * RATE_HZ, since_s, times_s - 0.2, turned, 0.0, phases, None, (pan, 2.0 - pan)
    )


def bank(device: torch.device) -> NoiseBank:
    made = NoiseBank(RATE_HZ, HOP, 8000.0, CPU)
    for name, value in vars(made).items():
        if isinstance(value, torch.Tensor):
            setattr(made, name, value.to(device))
    return made


def sung(*stretches: Stretch, device: torch.device = CPU) -> torch.Tensor:
    made = Chorus(Oscillators(RATE_HZ, HOP, device), bank(device), 2, N_KNOTS, 1000, seed=1)
    made.add(stretches)
    return made.samples().sum(0)


def plain(note: Stretch) -> np.ndarray:
    """(2, n) of a note without noise in float64: at each knot a sinusoid, faded into the one of the next knot."""
    frequencies_hz = note.timbre.frequencies_hz.numpy()
    n_partials = len(frequencies_hz)
    points = [np.interp(note.ages_s, note.timbre.ages_s, column) for column in note.timbre.levels.T.double().numpy()]
    amplitudes = np.stack(points[:n_partials], axis=1)
    falls = np.interp(note.rests_s, note.fading.since_end_s, [0.0, -1.0, -9.0])
    amplitudes *= (np.exp(falls) * (note.rests_s < note.fading.tail_s))[:, None]
    phases = note.phases[:n_partials].numpy() / 2.0**64
    mono = np.zeros(N_KNOTS * HOP)
    for sample in range(note.first * HOP, N_KNOTS * HOP):
        knot, into = divmod(sample, HOP)
        for at, weight in ((knot, 1 - into / HOP), (knot + 1, into / HOP)):
            turns = phases + frequencies_hz * (sample / RATE_HZ - note.onset / RATE_HZ)
            mono[sample] += weight * (amplitudes[at - note.first] * np.cos(2 * np.pi * turns)).sum()
    x = ((np.arange(len(mono)) - note.onset) / (chorus.ONSET_S * RATE_HZ)).clip(0, 1)
    return np.asarray(np.array(note.sides)[:, None] * mono * (x * x * (3 - 2 * x)))


@pytest.mark.parametrize("onset_s", [0.0, 0.0613, 0.29999, -0.013])
def test_a_note_is_the_plain_sum_of_its_partials(onset_s: float) -> None:
    note = stretch(7, onset_s, pan=0.5)
    np.testing.assert_allclose(sung(note).numpy(), plain(note), atol=2e-6)


def test_notes_at_once_are_the_sum_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = np.linspace(-0.4, 0.9, N_KNOTS + 1)
    notes = [stretch(n, onset_s) for n, onset_s in ((3, 0.01), (8, 0.1234), (17, 0.02), (3, 0.2), (40, -0.3))]
    notes.append(replace(stretch(8, 0.0), semitones=steps, turned=whole_seconds(np.cumsum(2 ** (steps / 12)) * 0.005)))
    notes.append(replace(stretch(8, 0.0), gains=np.linspace(0.2, 1.0, N_KNOTS + 1), sides=(1.0, 0.0)))
    expected = sum(sung(note).double() for note in notes)
    torch.testing.assert_close(sung(*notes).double(), expected, atol=1e-5, rtol=0)
    monkeypatch.setattr(chorus, "ROWS_AT_ONCE", 70)
    torch.testing.assert_close(sung(*notes).double(), expected, atol=1e-5, rtol=0)


def test_noise_begins_where_its_note_does_and_powers_add_up() -> None:
    one, two = stretch(0, 0.1013, noise=0.1), stretch(0, 0.1013, noise=0.2)
    audio = sung(one)[0]
    onset = int(0.1013 * RATE_HZ)
    assert audio[: onset + 1].abs().max() == 0.0
    assert audio[onset + 8 : onset + 90].abs().max() > 0.02
    early = slice(onset + 40, onset + 1500)
    powers = [float(sung(*some)[0, early].double().square().mean()) for some in ((one,), (two,), (one, two))]
    assert powers[1] / powers[0] == pytest.approx(4.0, rel=0.02)
    assert powers[2] / powers[0] == pytest.approx(5.0, rel=0.1)


def test_phases_are_exact_after_an_hour() -> None:
    generator = np.random.default_rng(1)
    frequencies_hz, times_s = generator.uniform(20, 20_000, 200), generator.uniform(3000, 3600, 200)
    turns = whole_hz(torch.from_numpy(frequencies_hz)) * torch.from_numpy(whole_seconds(times_s))
    angles = Oscillators(RATE_HZ, HOP, CPU).angles(turns).double().numpy() / (2 * np.pi)
    for found, frequency_hz, time_s in zip(angles, frequencies_hz, times_s, strict=True):
        error = float((Fraction(float(found)) - Fraction(frequency_hz) * Fraction(time_s)) % 1)
        assert min(error, 1 - error) < 1e-4


def test_a_block_stays_on_its_device_and_never_waits_for_it() -> None:
    """The meta device refuses to meet tensors of the CPU, and has no values that could be asked for."""
    notes = [stretch(n, onset_s, META, noise=0.1) for n, onset_s in ((0, 0.1), (5, 0.01), (20, 0.2))]
    notes.append(replace(notes[1], semitones=np.linspace(0, 1, len(notes[1].ages_s))))
    audio = sung(*notes, device=META)
    assert audio.device == META
    correction = MelCorrection(RATE_HZ, META)
    assert correction.apply(audio[None], torch.zeros(N_KNOTS // 4, 128, device=META)).device == META
