"""How loud a soundfont plays each key at each velocity: what a few notes per key do not say.

Soundfonts change their samples with velocity. A network that has heard a key at four velocities guesses the others from
its neighbours, and can be some decibels off where a layer begins, or where one layer fades before another; measuring
that takes a second of sound.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from specdiff_cli.constants import (
    FRAME_SAMPLES,
    LATER_LEVEL_AGES_S,
    LEVEL_AGES_S,
    LEVEL_VELOCITIES,
    N_MELS,
    SAMPLE_RATE_HZ,
)
from specdiff_cli.corpus.note_facts import N_KEYS
from specdiff_cli.corpus.soundfont import BLOCK_SAMPLES, FluidSynth, Stroke

FRAME_S = FRAME_SAMPLES / SAMPLE_RATE_HZ
HOLD_S, TAIL_S = LATER_LEVEL_AGES_S[-1] + FRAME_S, 0.01
N_SPANS = 2
FAINTEST = 1e-13  # power: nothing sounds

#: Mono audio and where frames begin, in seconds -> log power of their bands, see ``atlas.log_powers``.
LogPowers = Callable[[NDArray[np.float32], NDArray[np.float64]], NDArray[np.float32]]


def preset_levels(
    preset: tuple[int, bool], keys: range, synth: FluidSynth, rate_hz: int, log_powers: LogPowers
) -> NDArray[np.float32]:
    """(128, velocities, 2) levels of a preset (program, whether it is a drum kit) at ``LEVEL_VELOCITIES``.

    A level is the natural logarithm of the power of the 128 mel bands, added up over frames at ``LEVEL_AGES_S``, and at
    ``LATER_LEVEL_AGES_S``, of a held note. Keys between those that are measured have the levels of the nearest one;
    beyond them there are none, NaN.
    """
    hold, tail = (-(-round(time_s * rate_hz) // BLOCK_SAMPLES) * BLOCK_SAMPLES for time_s in (HOLD_S, TAIL_S))
    plan = [Stroke(key, velocity, BLOCK_SAMPLES, hold, tail) for key in keys for velocity in LEVEL_VELOCITIES]
    times_s = np.array(LEVEL_AGES_S + LATER_LEVEL_AGES_S) + FRAME_S  # behind a frame of silence
    n_silent = round(FRAME_S * rate_hz) - BLOCK_SAMPLES
    powers = []
    for stereo in synth.play_notes(*preset, plan):
        mono = np.pad(stereo.mean(axis=1), (n_silent, 0)).astype(np.float32)
        power = np.exp(log_powers(mono, times_s)[:, :N_MELS].astype(np.float64))
        powers.append(power.reshape(N_SPANS, -1).sum(axis=1))
    measured = np.log(np.maximum(powers, FAINTEST)).reshape(len(keys), len(LEVEL_VELOCITIES), N_SPANS)
    table = np.full((N_KEYS, len(LEVEL_VELOCITIES), N_SPANS), np.nan, dtype=np.float32)
    for key in range(N_KEYS):
        nearest = int(np.abs(np.array(keys) - key).argmin())
        if abs(keys[nearest] - key) < keys.step:
            table[key] = measured[nearest]
    return table
