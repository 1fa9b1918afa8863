"""One level for a whole corpus, whatever soundfont it is rendered with."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from specdiff_cli.constants import SAMPLE_RATE_HZ
from specdiff_cli.corpus.compose import ComposeConfig, compose
from specdiff_cli.corpus.soundfont import GAIN, FluidSynth

# Pieces that measure a soundfont, of seeds that no corpus reaches.
CALIBRATION_SEED = 1 << 41
N_CALIBRATION_PIECES = 8
CALIBRATION_LENGTH_S = (15.0, 20.0)
# A gain on a coarse grid is the same on every machine, though the last digits of a measurement may not be.
GAIN_STEP = 0.05
GAIN_LIMITS = (0.05, 10.0)


def calibrated_gain(soundfont: Path, loudness_lufs: float, config: ComposeConfig) -> float:
    """FluidSynth's gain with which pieces of ``config`` have ``loudness_lufs`` (ITU-R BS.1770, integrated) on average.

    Raises UsageError when FluidSynth or the soundfont cannot be loaded.
    """
    from pyloudnorm import Meter

    short = replace(config, length_s=CALIBRATION_LENGTH_S)
    meter = Meter(SAMPLE_RATE_HZ)
    synth = FluidSynth(soundfont, GAIN)
    try:
        audio = [synth.render(compose(CALIBRATION_SEED + k, short)) for k in range(N_CALIBRATION_PIECES)]
    finally:
        synth.close()
    measured_lufs = float(np.mean([meter.integrated_loudness(samples.astype(np.float64)) for samples in audio]))
    gain = GAIN * 10 ** ((loudness_lufs - measured_lufs) / 20) if np.isfinite(measured_lufs) else GAIN
    return float(np.clip(round(gain / GAIN_STEP) * GAIN_STEP, *GAIN_LIMITS).round(2))
