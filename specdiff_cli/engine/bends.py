"""Spectra of notes whose pitch is moved: bent, tuned, swinging or gliding."""

import numpy as np
import torch
from torch import Tensor

from specdiff_cli.audio.mel import hz_to_mel
from specdiff_cli.audio.partials.responses import band_centres_hz, lobe_powers, noise_response, to_mel
from specdiff_cli.audio.partials.sounds import fit_partials
from specdiff_cli.constants import MEL_MAX_HZ, N_MELS

LEAST_SHIFT_SEMITONES = 0.05  # a spectrum that is moved by less stays where it is
SHIFT_STEP_SEMITONES = 0.1
_TINY = 1e-12


def moved(log_power: Tensor, semitones: np.ndarray, partials_hz: Tensor) -> Tensor:
    """Frames of one note as they are at another pitch, with the level that they had.

    Partials are told apart from noise and put where they lie then: a mel band hears more or less of the same partial
    from place to place, so that moving the spectrum itself would change the level by some decibels.

    Args:
        log_power: (R, 128) natural logarithms of squared mel values.
        semitones: (R,) by which each frame lies higher.
        partials_hz: (K,) float64 on the CPU, where the partials lie now.
    """
    power = log_power.exp()
    low_hz = partials_hz[partials_hz < MEL_MAX_HZ]
    amplitudes, explained = fit_partials(power.sqrt(), low_hz)
    tonal = explained.square()
    noise = (power - tonal).clamp(min=0.0)
    out = _moved_noise(noise, semitones)
    strength = amplitudes.square()
    steps = np.rint(semitones / SHIFT_STEP_SEMITONES)
    for step in np.unique(steps):
        rows = torch.from_numpy(np.flatnonzero(steps == step)).to(power.device)
        higher_hz = low_hz * 2.0 ** (float(step) * SHIFT_STEP_SEMITONES / 12)
        heard = higher_hz < MEL_MAX_HZ
        bins = strength[rows][:, heard.to(power.device)] @ lobe_powers(higher_hz[heard]).to(power.device)
        out[rows] += to_mel(power.device).product(bins.sqrt_()).square_()
    return out.clamp_(min=_TINY).log_()


def _moved_noise(power: Tensor, semitones: np.ndarray) -> Tensor:
    """(R, 128) squared mel values of noise at another pitch: spread over a wider range it is as strong in all."""
    ratio = 2.0 ** (semitones[:, None] / 12)
    heard_hz = band_centres_hz()[:N_MELS].numpy() / ratio
    place = hz_to_mel(heard_hz) * ((N_MELS + 1) / float(hz_to_mel(MEL_MAX_HZ))) - 1
    below = torch.from_numpy(place.clip(0, N_MELS - 1)).float().to(power.device)
    first = below.floor().long()
    second = (first + 1).clamp(max=N_MELS - 1)
    response = noise_response().square().to(power.device)
    density = torch.where(response > 0, power / response.clamp(min=_TINY), 0.0)
    moved = torch.lerp(density.gather(1, first), density.gather(1, second), below - first)
    return moved * response / torch.from_numpy(ratio).float().to(power.device)
