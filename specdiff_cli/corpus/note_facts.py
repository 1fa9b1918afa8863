"""What can be measured of a note's frequencies: detuning, inharmonicity, vibrato, noise, and its place in stereo.

A note's mel does not tell its frequencies; a vocoder that knows the notes needs them. The model of a string's partials
is ``f_k = k f0 sqrt(1 + B k^2)`` (Fletcher and Rossing, "The Physics of Musical Instruments", section 2.18).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from specdiff_cli.audio.partials.score import pitch_hz
from specdiff_cli.corpus.soundfont import BLOCK_SAMPLES, FluidSynth, Stroke, whole_blocks

PITCH_STEP = 3
PITCHES = range(21, 109, PITCH_STEP)
HOLD_S, TAIL_S = 2.6, 0.05
VELOCITY = 100
# The steady part of a note, and how far off a partial may lie to be taken for it.
STEADY_S = (0.12, 1.2)
NEAR_SEMITONES = 0.7
MAX_PARTIALS = 16
FAINTEST = 1e-3  # of the strongest partial's amplitude
MAX_INHARMONICITY = 3e-3
# Detuned voices and formants bend the fit, too: a stretch counts where it explains this share of what is left without.
STRETCH_EXPLAINS = 0.6
# Vibrato: the strongest partial's frequency is followed in steps of 10 ms.
TRACK_WINDOW_S, TRACK_HOP_S, TRACK_FROM_S = 0.05, 0.01, 0.1
VIBRATO_HZ, VIBRATO_CENTS, LEAST_SHARE, DELAY_S = (3.0, 9.0), (4.0, 150.0), 0.45, 0.35
HARMONIC_HZ, HARMONIC_SHARE = 12.0, 0.002  # what lies so near to a partial belongs to it


@dataclass(frozen=True, slots=True)
class NoteFacts:
    """As in :data:`specdiff_cli.model.note_function.FACTS`, in that order."""

    inharmonicity: float = 0.0
    detune_cents: float = 0.0
    vibrato_hz: float = 0.0
    vibrato_cents: float = 0.0
    vibrato_delay_s: float = 0.0
    noise_share: float = 1.0
    pan: float = 0.0


N_KEYS, N_FACTS = 128, len(NoteFacts.__slots__)


def measure_note(stereo: NDArray[np.float32], pitch: int, rate_hz: int) -> NoteFacts:
    """Facts of one note that begins with the first of (n, 2) samples and is held to their end."""
    mono = stereo.mean(axis=1).astype(np.float64)
    f0_hz = pitch_hz(pitch)
    first, last = (round(time_s * rate_hz) for time_s in STEADY_S)
    steady = mono[first:last]
    if len(steady) < rate_hz // 10 or np.abs(steady).max() < 1e-5:
        return NoteFacts(pan=_pan(stereo))
    spectrum, bin_hz = _spectrum(steady, rate_hz)
    numbers, found_hz, amplitudes = _partials(spectrum, bin_hz, f0_hz)
    if not len(numbers):
        return NoteFacts(pan=_pan(stereo))
    tuned_hz, stretch = _fit(numbers, found_hz, amplitudes)
    power = spectrum**2
    bins_hz = np.arange(len(power)) * bin_hz
    near = np.zeros(len(power), dtype=bool)
    for k in range(1, int(rate_hz / 2 / tuned_hz) + 1):
        at_hz = k * tuned_hz * math.sqrt(1 + stretch * k * k)
        near |= np.abs(bins_hz - at_hz) < HARMONIC_HZ + HARMONIC_SHARE * at_hz
    # Noise lies under the partials as it does between them.
    density = float(power[~near].mean()) if not near.all() else 0.0
    noise_share = min(1.0, density * len(power) / float(power.sum()))
    strongest = int(np.argmax(amplitudes))
    swing, centre_hz = _vibrato(mono, float(found_hz[strongest]), rate_hz)
    if swing[0]:  # sidebands stand beside the partials: the pitch that is swung around is the better measure
        tuned_hz, stretch = centre_hz / float(numbers[strongest]), 0.0
    detune = 1200 * math.log2(tuned_hz / f0_hz)
    return NoteFacts(stretch, detune, *swing, noise_share, _pan(stereo))


def _pan(stereo: NDArray[np.float32]) -> float:
    """Where the power lies, -1 (left) to 1 (right)."""
    left, right = np.sqrt((stereo.astype(np.float64) ** 2).sum(axis=0))
    return 0.0 if left + right == 0 else float(4 / math.pi * math.atan2(right, left) - 1)


def _spectrum(samples: NDArray[np.float64], rate_hz: int) -> tuple[NDArray[np.float64], float]:
    """Magnitudes under a Hann window, padded fourfold, and the hertz from bin to bin."""
    n_fft = 4 * 2 ** math.ceil(math.log2(len(samples)))
    return np.abs(np.fft.rfft(samples * np.hanning(len(samples)), n_fft)), rate_hz / n_fft


def _partials(
    spectrum: NDArray[np.float64], bin_hz: float, f0_hz: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Numbers, frequencies and amplitudes of the partials that stand out near k f0."""
    numbers, found_hz, amplitudes = [], [], []
    ratio = 2 ** (NEAR_SEMITONES / 12)
    for k in range(1, MAX_PARTIALS + 1):
        # Bounded by the neighbours, too: high partials of low notes lie less than a semitone apart.
        low = max(k * f0_hz / ratio, (k - 0.4) * f0_hz)
        high = min(k * f0_hz * ratio, (k + 0.4) * f0_hz)
        first, last = int(low / bin_hz), int(high / bin_hz) + 1
        if last + 1 >= len(spectrum):
            break
        peak = first + int(np.argmax(spectrum[first:last]))
        around = np.log(spectrum[peak - 1 : peak + 2] + 1e-30)
        if not first < peak < last - 1 or around[1] < max(around[0], around[2]):
            continue
        shift = 0.5 * (around[0] - around[2]) / min(around[0] - 2 * around[1] + around[2], -1e-9)
        numbers.append(k)
        found_hz.append((peak + shift) * bin_hz)
        amplitudes.append(spectrum[peak])
    amplitude = np.array(amplitudes, dtype=np.float64)
    kept = amplitude > FAINTEST * amplitude.max(initial=0.0)
    return np.array(numbers, dtype=np.float64)[kept], np.array(found_hz, dtype=np.float64)[kept], amplitude[kept]


def _fit(
    numbers: NDArray[np.float64], found_hz: NDArray[np.float64], amplitudes: NDArray[np.float64]
) -> tuple[float, float]:
    """f0 and inharmonicity by weighted least squares of (f_k / k)^2 over k^2; outliers are left out once."""
    x, y, weight = numbers**2, (found_hz / numbers) ** 2, np.sqrt(amplitudes)
    plain = float(np.average(y, weights=weight))
    if len(x) < 3:
        return math.sqrt(plain), 0.0
    base, stretch = _line(x, y, weight)
    cents = np.abs(600 * np.log2(y / (base * (1 + stretch * x))))
    kept = cents <= max(5.0, 2 * float(np.median(cents)))
    x, y, weight = x[kept], y[kept], weight[kept]
    if len(x) < 3:
        return math.sqrt(plain), 0.0
    base, stretch = _line(x, y, weight)
    left = np.average(np.abs(np.log2(y / (base * (1 + stretch * x)))), weights=weight)
    unexplained = np.average(np.abs(np.log2(y / np.average(y, weights=weight))), weights=weight)
    return (math.sqrt(base), stretch) if left <= (1 - STRETCH_EXPLAINS) * unexplained else (math.sqrt(plain), 0.0)


def _line(x: NDArray[np.float64], y: NDArray[np.float64], weight: NDArray[np.float64]) -> tuple[float, float]:
    """f0 squared, and the stretch B within its limits, of y = f0^2 (1 + B x)."""
    slope, offset = np.polyfit(x, y, 1, w=weight)
    stretch = float(np.clip(slope / offset, 0.0, MAX_INHARMONICITY)) if offset > 0 else 0.0
    return float(np.average(y / (1 + stretch * x), weights=weight)), stretch


def _vibrato(mono: NDArray[np.float64], partial_hz: float, rate_hz: int) -> tuple[tuple[float, float, float], float]:
    """Rate in hertz, swing in cents to either side, and when it begins, zeros where the pitch is steady; and the
    frequency around which the partial swings."""
    steady = (0.0, 0.0, 0.0), partial_hz
    n_window, n_hop = round(TRACK_WINDOW_S * rate_hz), round(TRACK_HOP_S * rate_hz)
    first = round(TRACK_FROM_S * rate_hz)
    times = np.arange(n_window) / rate_hz
    kernel = np.hanning(n_window) * np.exp(-2j * np.pi * partial_hz * times)
    starts = np.arange(first, len(mono) - n_window, n_hop)
    if len(starts) < 100:
        return steady
    values = np.array([mono[start : start + n_window] @ kernel for start in starts])
    values *= np.exp(-2j * np.pi * partial_hz * starts / rate_hz)
    if np.abs(values).min() < 0.02 * np.abs(values).max():  # it fades, or beats: phases say little
        return steady
    offset_hz = np.angle(values[1:] / values[:-1]) / (2 * np.pi * TRACK_HOP_S)
    cents = 1200 * np.log2(np.maximum(1 + offset_hz / partial_hz, 0.5))
    centre_hz = partial_hz * 2 ** (float(np.mean(cents)) / 1200)
    position = np.arange(len(cents))
    cents = cents - np.polyval(np.polyfit(position, cents, 1), position)
    power = np.abs(np.fft.rfft(cents * np.hanning(len(cents)), 1024)) ** 2
    rates_hz = np.arange(len(power)) / (1024 * TRACK_HOP_S)
    inside = (rates_hz >= VIBRATO_HZ[0]) & (rates_hz <= VIBRATO_HZ[1])
    peak_hz = float(rates_hz[inside][np.argmax(power[inside])])
    near = np.abs(rates_hz - peak_hz) < 1.2
    if power.sum() <= 0.0:  # a pitch so far off that every step is cut to the same
        return steady
    swing = float(np.sqrt(2 * np.mean(cents**2) * power[near].sum() / power.sum()))
    # A window of 50 ms flattens what swings at several hertz.
    swing /= max(0.3, float(np.sinc(0.5 * peak_hz * TRACK_WINDOW_S)))
    if not VIBRATO_CENTS[0] <= swing <= VIBRATO_CENTS[1] or power[near].sum() < LEAST_SHARE * power.sum():
        return steady
    n_early = round(DELAY_S / TRACK_HOP_S)
    is_late = np.sqrt(np.mean(cents[:n_early] ** 2)) < 0.4 * np.sqrt(np.mean(cents[n_early:] ** 2))
    return (peak_hz, swing, DELAY_S if is_late else 0.0), centre_hz


def program_facts(program: int, synth: FluidSynth, rate_hz: int) -> NDArray[np.float32]:
    """(128, 7) facts of a program of the font, each key as the nearest of those that are measured."""
    measured = list(_measured(program, synth, rate_hz))
    table = np.zeros((N_KEYS, N_FACTS), dtype=np.float32)
    for key in range(N_KEYS):
        facts = measured[int(np.clip(round((key - PITCHES[0]) / PITCH_STEP), 0, len(measured) - 1))]
        table[key] = [getattr(facts, name) for name in NoteFacts.__slots__]
    return table


def _measured(program: int, synth: FluidSynth, rate_hz: int) -> Iterator[NoteFacts]:
    hold, tail = (whole_blocks(time_s, rate_hz) for time_s in (HOLD_S, TAIL_S))
    plan = [Stroke(pitch, VELOCITY, BLOCK_SAMPLES, hold, tail) for pitch in PITCHES]
    for stroke, stereo in zip(plan, synth.play_notes(program, False, plan), strict=True):
        held = stereo[stroke.lead_samples : stroke.lead_samples + stroke.hold_samples]
        yield measure_note(held, stroke.pitch, rate_hz)
