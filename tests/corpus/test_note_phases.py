import numpy as np
import pytest

from specdiff_cli.corpus.note_facts import NoteFacts
from specdiff_cli.corpus.note_phases import measure_phases
from specdiff_cli.model.note_function import N_PHASES

RATE_HZ = 48_000
TIMES_S = np.arange(round(0.4 * RATE_HZ)) / RATE_HZ
F0_HZ = 440 * 2 ** ((60 - 69) / 12)


def tones(turns: list[float], detune_cents: float = 0.0, stretch: float = 0.0) -> np.ndarray:
    numbers = np.arange(1, len(turns) + 1)
    hertz = numbers * F0_HZ * 2 ** (detune_cents / 1200) * np.sqrt(1 + stretch * numbers**2)
    waves = np.cos(2 * np.pi * (hertz[:, None] * TIMES_S + np.array(turns)[:, None]))
    return np.asarray((waves * np.exp(-3 * TIMES_S) / numbers[:, None]).sum(0))


@pytest.mark.parametrize(("detune_cents", "stretch"), [(0.0, 0.0), (14.0, 4e-4)])
def test_the_phases_at_the_onset_are_found(detune_cents: float, stretch: float) -> None:
    turns = [0.1, -0.4, 0.49, 0.0, -0.25]
    facts = NoteFacts(inharmonicity=stretch, detune_cents=detune_cents)
    found = measure_phases(tones(turns, detune_cents, stretch), 60, RATE_HZ, facts)
    assert found.shape == (N_PHASES,)
    off = np.abs((found[:5] - turns + 0.5) % 1.0 - 0.5)
    assert off.max() < 0.01
    assert np.isnan(found[5:]).all()


def test_a_partial_that_lies_elsewhere_or_is_not_there_has_no_phase() -> None:
    assert np.isnan(measure_phases(tones([0.1, 0.2], detune_cents=20.0), 60, RATE_HZ, NoteFacts())).all()
    noise = np.random.default_rng(0).normal(size=len(TIMES_S))
    assert np.isnan(measure_phases(noise, 60, RATE_HZ, NoteFacts())).mean() > 0.7
    assert np.isnan(measure_phases(np.zeros(len(TIMES_S)), 60, RATE_HZ, NoteFacts())).all()
    assert np.isnan(measure_phases(tones([0.1])[:2000], 60, RATE_HZ, NoteFacts())).all()
