"""At which frequencies struck sounds ring: of bells, timpani and drums, whose partials are no multiples of one.

The mel's bands lie 20 Hz apart and more under a lobe of 100 Hz. They tell that something rings, but not where: toms
that were read off them were two semitones sharp, and timpani were noise.
"""

import numpy as np
from numpy.typing import NDArray

from specdiff_cli.constants import MEL_MAX_HZ
from specdiff_cli.corpus.note_facts import N_KEYS
from specdiff_cli.corpus.soundfont import BLOCK_SAMPLES, FluidSynth, Stroke, whole_blocks
from specdiff_cli.model.note_function import N_TONES

VELOCITY = 100
HOLD_S, TAIL_S = 0.6, 0.02
# A Blackman window over so many times the time in which 90 % of the power sound.
SHARE, WINDOWS, WINDOW_S = 0.9, 1.5, (0.08, 0.5)
LOBE_BINS, PADDING = 3, 8
LOWEST_HZ = 25.0
# A tone stands so high above what lies around it, and no further below the strongest. Two that are nearer than this
# beat slowly: they are one tone whose level changes.
AROUND_HZ, HEIGHT_DB, FAINTEST_DB, APART_HZ = 200.0, 18.0, -36.0, 22.0
SILENT_PEAK = 1e-5


def measure_tones(mono: NDArray[np.float64], rate_hz: int) -> NDArray[np.float32]:
    """(N_TONES,) frequencies in hertz of what rings in a sound that begins with the first sample, rising, then NaN."""
    tones = np.full(N_TONES, np.nan, dtype=np.float32)
    power = np.cumsum(np.square(mono))
    if len(mono) < WINDOW_S[1] * rate_hz or np.abs(mono).max() < SILENT_PEAK:
        return tones
    lasts_s = float(np.searchsorted(power, SHARE * power[-1])) / rate_hz
    window_s = min(max(WINDOWS * lasts_s, WINDOW_S[0]), WINDOW_S[1])
    n_window = round(window_s * rate_hz)
    n_fft = PADDING * 2 ** int(np.ceil(np.log2(n_window)))
    bin_hz = rate_hz / n_fft
    magnitude = np.abs(np.fft.rfft(mono[:n_window] * np.blackman(n_window), n_fft))[: round(MEL_MAX_HZ / bin_hz)]
    level_db = 20 * np.log10(magnitude + 1e-12)
    inner = level_db[1:-1]
    peaks = 1 + np.flatnonzero((inner > level_db[:-2]) & (inner >= level_db[2:]))
    peaks = peaks[(peaks * bin_hz > LOWEST_HZ) & (level_db[peaks] > level_db.max() + FAINTEST_DB)]
    found: list[float] = []
    n_around, apart_hz = round(AROUND_HZ / bin_hz), max(APART_HZ, LOBE_BINS / window_s)
    for peak in peaks[np.argsort(-level_db[peaks])]:
        around = level_db[max(0, peak - n_around) : peak + n_around]
        left, middle, right = level_db[peak - 1 : peak + 2]
        at_hz = float(peak + 0.5 * (left - right) / min(left - 2 * middle + right, -1e-9)) * bin_hz
        if middle > np.median(around) + HEIGHT_DB and all(abs(at_hz - other) > apart_hz for other in found):
            found.append(at_hz)
    found = sorted(found[:N_TONES])
    tones[: len(found)] = found
    return tones


def preset_tones(preset: tuple[int, bool], keys: range, synth: FluidSynth, rate_hz: int) -> NDArray[np.float32]:
    """(128, N_TONES) tones of a preset (program, whether it is a drum kit), NaN where there are none.

    Programs' keys between those that are measured, and beyond them, have those of the nearest one, moved along with
    the pitch.
    """
    hold, tail = (whole_blocks(time_s, rate_hz) for time_s in (HOLD_S, TAIL_S))
    plan = [Stroke(key, VELOCITY, BLOCK_SAMPLES, hold, tail) for key in keys]
    table = np.full((N_KEYS, N_TONES), np.nan, dtype=np.float32)
    for stroke, stereo in zip(plan, synth.play_notes(*preset, plan), strict=True):
        mono = stereo[stroke.lead_samples :].mean(axis=1).astype(np.float64)
        table[stroke.pitch] = measure_tones(mono, rate_hz)
    is_drum = preset[1]
    for key in () if is_drum else range(N_KEYS):
        nearest = keys[int(np.abs(np.array(keys) - key).argmin())]
        table[key] = table[nearest] * 2.0 ** ((key - nearest) / 12)
    return table
