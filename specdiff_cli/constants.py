"""Audio geometry shared by every room of the package.

Each number is derived from the ones above it; nothing is retyped elsewhere.
Source: features of the reference system (Hawthorne et al., ISMIR 2022, section 3; SoundStream mel features).
"""

import math


def exact_div(numerator: int, denominator: int) -> int:
    """Divide where a remainder would be a contradiction in the constants."""
    quotient, remainder = divmod(numerator, denominator)
    if remainder:
        raise ValueError(f"{numerator} is not a multiple of {denominator}")
    return quotient


SAMPLE_RATE_HZ = 16_000
HOP_SAMPLES = 320
FRAME_SAMPLES = 640  # length of the analysis (Hann) window
FFT_SAMPLES = 1024  # each analysis frame is zero-padded to this
N_MELS = 128
MEL_MAX_HZ = 8000.0

FRAMES_PER_SECOND = exact_div(SAMPLE_RATE_HZ, HOP_SAMPLES)  # 50 frames per second
WINDOW_FRAMES = 256
WINDOW_SAMPLES = WINDOW_FRAMES * HOP_SAMPLES  # 81 920 samples
WINDOW_S = WINDOW_SAMPLES / SAMPLE_RATE_HZ  # 5.12 s

STEPS_PER_SECOND = 100  # MIDI event times are quantised to 10 ms
MAX_TOKENS = 2048  # rows of the note encoder's position table

MEL_FLOOR = 1e-5  # mel values are clipped to [MEL_FLOOR, MEL_CEILING] before the logarithm
MEL_CEILING = 1e8
LOG_MEL_MIN = math.log(MEL_FLOOR)  # silence; maps to -1 in model range
LOG_MEL_MAX = 4.0  # maps to +1 in model range

# Sound above the reference's band, in bands of equal width: what full-band output adds to the mel.
HIGH_MIN_HZ = MEL_MAX_HZ
HIGH_BAND_HZ = 750.0
N_HIGH_BANDS = 16  # up to 20 kHz

# Where the level of a held note is measured: at which velocities, and in which frames (seconds from its onset), of its
# first half second and of the next.
LEVEL_VELOCITIES = (8, 24, 40, 56, 72, 88, 104, 120)
LEVEL_AGES_S, LATER_LEVEL_AGES_S = (tuple(round(start_s + 0.04 * k, 2) for k in range(15)) for start_s in (-0.02, 0.58))
# At which ages a held note's swell is known: seconds from its onset to the middles of frames.
SWELL_AGES_S = (*(round(0.04 * k, 2) for k in range(51)), *(round(2.0 + 0.08 * k, 2) for k in range(1, 31)))
