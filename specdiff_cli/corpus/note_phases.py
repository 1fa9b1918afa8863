"""What phases a note's partials begin with: where instruments play in unison, they decide what is left of both."""

import math

import numpy as np
from numpy.typing import NDArray

from specdiff_cli.audio.partials.score import pitch_hz
from specdiff_cli.corpus.note_facts import N_KEYS, VELOCITY, NoteFacts
from specdiff_cli.corpus.soundfont import BLOCK_SAMPLES, FluidSynth, Stroke, whole_blocks
from specdiff_cli.model.note_function import N_PHASES

KEYS = range(12, 120)  # beyond these, the nearest one's
HOLD_S, TAIL_S = 0.4, 0.02
# Long enough to tell neighbouring partials apart, as far as a note lasts long enough.
PERIODS, WINDOW_S = 4, (0.06, 0.2)
FIRST_S, LATER_S = 0.01, (0.05, 0.15)  # where the window begins, and how much later it looks again
LARGEST_DRIFT = 0.12  # turns by then: a partial that moves more has no phase of its own
FAINTEST_DB = -40.0  # below the strongest
FINE_STEPS = 64


def measure_phases(mono: NDArray[np.float64], pitch: int, rate_hz: int, facts: NoteFacts) -> NDArray[np.float32]:
    """Turns (-0.5 to 0.5) that the cosines of the first ``N_PHASES`` partials have at the onset, the first sample.

    The partials lie where ``facts`` has them; NaN for those that are faint, or do not stand still there.
    """
    f0_hz = pitch_hz(pitch + facts.detune_cents / 100)
    window_s = min(max(PERIODS / f0_hz, WINDOW_S[0]), WINDOW_S[1])
    n_window = round(window_s * rate_hz)
    window = np.hanning(n_window)
    number = np.arange(1, N_PHASES + 1)
    frequencies_hz = number * f0_hz * np.sqrt(1 + facts.inharmonicity * number**2)
    starts = [round((FIRST_S + later_s) * rate_hz) for later_s in (0.0, *LATER_S)]
    turns = np.full(N_PHASES, np.nan, dtype=np.float32)
    if starts[-1] + n_window > len(mono):
        return turns
    waves = window * _turning(frequencies_hz / rate_hz, n_window)
    begins_s = np.array(starts) / rate_hz
    stretches = np.array([mono[start : start + n_window] for start in starts])
    heard = np.einsum("kn,sn->ks", waves, stretches)  # small: a product by many threads takes longer
    heard *= np.exp(-2j * math.pi * frequencies_hz[:, None] * begins_s)  # back to the onset
    amplitudes = np.abs(heard[:, 0])
    drift = np.abs(np.angle(heard[:, 1:] * heard[:, :1].conj())).max(axis=1) / (2 * math.pi)
    audible = amplitudes > max(amplitudes.max() * 10 ** (FAINTEST_DB / 20), 1e-9)
    known = audible & (drift <= LARGEST_DRIFT) & (frequencies_hz < rate_hz / 2)
    turns[known] = np.angle(heard[known, 0]) / (2 * math.pi)
    return turns


def _turning(turns_per_sample: NDArray[np.float64], n_samples: int) -> NDArray[np.complex128]:
    """Unit vectors that turn backwards, (K, n_samples): coarse steps times fine ones, which are few."""
    rate = -2j * math.pi * turns_per_sample[:, None]
    fine, coarse = np.exp(rate * np.arange(FINE_STEPS)), np.exp(rate * np.arange(0, n_samples, FINE_STEPS))
    product: NDArray[np.complex128] = (coarse[:, :, None] * fine[:, None]).reshape(len(rate), -1)
    return product[:, :n_samples]


def program_phases(program: int, synth: FluidSynth, rate_hz: int, facts: NDArray[np.float32]) -> NDArray[np.float32]:
    """(128, N_PHASES) turns of a program of the font; ``facts`` (128, n) are :func:`program_facts`' of it."""
    hold, tail = (whole_blocks(time_s, rate_hz) for time_s in (HOLD_S, TAIL_S))
    plan = [Stroke(key, VELOCITY, BLOCK_SAMPLES, hold, tail) for key in KEYS]
    measured = []
    for stroke, stereo in zip(plan, synth.play_notes(program, False, plan), strict=True):
        mono = stereo[stroke.lead_samples : stroke.lead_samples + stroke.hold_samples].mean(axis=1)
        own = NoteFacts(*map(float, facts[stroke.pitch]))
        measured.append(measure_phases(mono.astype(np.float64), stroke.pitch, rate_hz, own))
    nearest = np.arange(N_KEYS).clip(KEYS[0], KEYS[-1]) - KEYS[0]
    table: NDArray[np.float32] = np.array(measured)[nearest]
    return table
