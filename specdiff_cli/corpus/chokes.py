"""Which drums of a kit silence each other: asked of the soundfont by striking them, since kits differ.

A font may say so by an exclusive class (SoundFont 2.04, generator 57), or not at all; what is heard counts.
"""

from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from specdiff_cli.corpus.soundfont import FluidSynth

#: Keys that may: hi-hats, whistles, guiros, cuicas and triangles of General MIDI; the lower keys of other kits.
CANDIDATES: tuple[tuple[int, ...], ...] = ((42, 44, 46), (71, 72), (73, 74), (78, 79), (80, 81), (27, 28, 29, 30))
GAP_S = 0.2
# Heard in the stretch that begins two gaps after the second stroke, when a choked voice has faded by 45 dB.
FIRST_GAP, LAST_GAP = 3, 6
LEFT_OVER, AUDIBLE_PEAK = 0.1, 1e-4


def kit_chokes(kit: int, synth: FluidSynth, rate_hz: int) -> list[tuple[int, int]]:
    """Pairs (key, the key that silences it) of one kit, in order."""
    gap_samples = round(GAP_S * rate_hz)

    def late(*keys: int | None) -> NDArray[np.float32]:
        stereo = synth.strike_drums(kit, [*keys, *[None] * (LAST_GAP - len(keys))], gap_samples)
        return stereo[FIRST_GAP * gap_samples :]

    found = []
    for key, other in (pair for group in CANDIDATES for pair in permutations(group, 2)):
        alone = float(np.abs(late(key)).max())
        left = float(np.abs(late(key, other) - late(None, other)).max())
        if alone > AUDIBLE_PEAK and left < LEFT_OVER * alone:
            found.append((key, other))
    return sorted(found)
