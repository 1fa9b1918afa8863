from collections.abc import Iterable, Iterator

import numpy as np
import pytest

from specdiff_cli.corpus.note_tones import measure_tones, preset_tones
from specdiff_cli.corpus.soundfont import FluidSynth, Stroke
from specdiff_cli.model.note_function import N_TONES

RATE_HZ = 48_000
TIMES_S = np.arange(round(0.6 * RATE_HZ)) / RATE_HZ


def struck(frequencies_hz: list[float], fades_s: list[float], noise: float = 0.0) -> np.ndarray:
    hertz, fade_s = np.array(frequencies_hz)[:, None], np.array(fades_s)[:, None]
    hiss = noise * np.random.default_rng(0).normal(size=len(TIMES_S)) * np.exp(-TIMES_S / 0.05)
    return np.asarray((np.sin(2 * np.pi * hertz * TIMES_S) * np.exp(-TIMES_S / fade_s)).sum(0) + hiss)


def found(mono: np.ndarray) -> list[float]:
    tones = measure_tones(mono, RATE_HZ)
    assert tones.shape == (N_TONES,)
    return [float(tone) for tone in tones if not np.isnan(tone)]


@pytest.mark.parametrize(
    ("frequencies_hz", "fade_s"),
    [([53.4], 0.2), ([130.8, 196.2, 261.0], 0.5), ([2162.0], 0.02), ([162.0, 317.5, 764.0, 1343.0, 1371.0], 1.0)],
    ids=["tom", "timpani", "claves", "bell"],
)
def test_what_rings_is_found_where_it_is(frequencies_hz: list[float], fade_s: float) -> None:
    tones = found(struck(frequencies_hz, [fade_s] * len(frequencies_hz), noise=0.05))
    assert len(tones) == len(frequencies_hz)
    for tone, expected_hz in zip(tones, frequencies_hz, strict=True):
        assert abs(1200 * np.log2(tone / expected_hz)) < 15 if fade_s > 0.1 else 30


def test_noise_silence_and_what_is_too_faint_are_no_tones() -> None:
    assert not found(np.zeros(len(TIMES_S)))
    assert not found(struck([400.0], [0.3])[: RATE_HZ // 10])
    for seed in range(5):
        assert not found(np.random.default_rng(seed).normal(size=len(TIMES_S)) * np.exp(-TIMES_S / 0.3))
    both = struck([400.0], [0.3]) + 0.003 * struck([900.0], [0.3])
    assert found(both) == pytest.approx([400.0], abs=0.5)


class _Synth(FluidSynth):
    """Strikes a tone of three times the key's number in hertz, times ten."""

    def __init__(self) -> None:
        pass

    def play_notes(self, program: int, is_drum: bool, strokes: Iterable[Stroke]) -> Iterator[np.ndarray]:
        for stroke in strokes:
            tone = struck([30.0 * stroke.pitch], [0.3])
            silence = np.zeros(stroke.lead_samples)
            yield np.repeat(np.concatenate([silence, tone])[:, None], 2, axis=1).astype(np.float32)


def test_programs_fill_the_keys_between_and_drums_have_no_neighbours() -> None:
    table = preset_tones((14, False), range(60, 67, 3), _Synth(), RATE_HZ)
    assert table[60, 0] == pytest.approx(1800.0, abs=0.5)
    assert table[61, 0] == pytest.approx(1800.0 * 2 ** (1 / 12), abs=0.5)
    assert table[69, 0] == pytest.approx(1980.0 * 2 ** (3 / 12), abs=0.5)
    assert np.isnan(table[:, 1:]).all()
    drums = preset_tones((0, True), range(60, 62), _Synth(), RATE_HZ)
    assert np.flatnonzero(~np.isnan(drums[:, 0])).tolist() == [60, 61]
