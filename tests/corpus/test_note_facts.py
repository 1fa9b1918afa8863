import numpy as np
import pytest

from specdiff_cli.corpus.note_facts import measure_note

RATE_HZ = 48_000
TIMES_S = np.arange(round(2.5 * RATE_HZ)) / RATE_HZ


def _note(pitch: float, stretch: float = 0.0, swing_cents: float = 0.0, noise: float = 0.0) -> np.ndarray:
    f0_hz = 440 * 2 ** ((pitch - 69) / 12)
    # The phase of a pitch that swings sinusoidally in cents, integrated numerically.
    ratio = 2 ** (swing_cents / 1200 * np.sin(2 * np.pi * 5.5 * TIMES_S))
    turns = np.cumsum(ratio) / RATE_HZ
    partials = [
        0.1 / k * np.sin(2 * np.pi * k * f0_hz * np.sqrt(1 + stretch * k * k) * turns + k) for k in range(1, 13)
    ]
    mono = np.sum(partials, axis=0) + noise * np.random.default_rng(0).normal(size=len(TIMES_S))
    return np.stack([mono, mono], axis=1).astype(np.float32)


@pytest.mark.parametrize("pitch", [33, 60, 84])
def test_a_string_is_measured_in_tuning_and_stretch(pitch: int) -> None:
    facts = measure_note(_note(pitch + 0.12, stretch=4e-4), pitch, RATE_HZ)
    assert facts.detune_cents == pytest.approx(12, abs=0.5)
    assert facts.inharmonicity == pytest.approx(4e-4, rel=0.05)
    assert facts.vibrato_cents == 0
    assert facts.noise_share < 0.01
    assert facts.pan == pytest.approx(0, abs=1e-6)


def test_vibrato_is_measured_in_rate_and_swing() -> None:
    facts = measure_note(_note(69, swing_cents=20), 69, RATE_HZ)
    assert facts.vibrato_hz == pytest.approx(5.5, abs=0.2)
    assert facts.vibrato_cents == pytest.approx(20, rel=0.15)
    assert facts.detune_cents == pytest.approx(0, abs=2)


def test_a_tone_that_only_beats_far_from_its_pitch_has_no_vibrato_and_finite_facts() -> None:
    # Two tones a fifth apart, taken for the note between them: steps of phase that no vibrato makes.
    mono = 0.1 * sum(np.sin(2 * np.pi * hz * TIMES_S) for hz in (27.5, 41.2))
    facts = measure_note(np.stack([mono, mono], axis=1).astype(np.float32), 24, RATE_HZ)
    assert all(np.isfinite(getattr(facts, name)) for name in facts.__slots__)
    assert facts.vibrato_cents == 0


def test_noise_has_no_partials_and_silence_no_facts() -> None:
    noisy = measure_note(_note(60, noise=0.5), 60, RATE_HZ)
    assert noisy.noise_share > 0.8
    silent = measure_note(np.zeros((RATE_HZ, 2), dtype=np.float32), 60, RATE_HZ)
    assert silent.detune_cents == 0 and silent.noise_share == 1


def test_what_is_louder_on_the_right_lies_there() -> None:
    stereo = _note(60) * np.array([0.5, 1.0], dtype=np.float32)
    assert measure_note(stereo, 60, RATE_HZ).pan == pytest.approx(4 / np.pi * np.arctan2(1, 0.5) - 1, abs=1e-5)
