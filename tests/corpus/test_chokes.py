from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from specdiff_cli.corpus.chokes import kit_chokes

RATE_HZ = 4000


class Drums:
    """Decaying tones, one per key, some of which end when another is struck."""

    def __init__(self, chokes: set[tuple[int, int]], silent: set[int]) -> None:
        self.chokes, self.silent = chokes, silent

    def strike_drums(self, kit: int, keys: Iterable[int | None], gap_samples: int) -> NDArray[np.float32]:
        keys = list(keys)
        out = np.zeros((len(keys) * gap_samples, 2))
        for place, key in enumerate(keys):
            if key is None or key in self.silent:
                continue
            chokers = [at for at, other in enumerate(keys) if at > place and (key, other) in self.chokes]
            first, last = place * gap_samples, (chokers[0] if chokers else len(keys)) * gap_samples
            time_s = np.arange(last - first) / RATE_HZ
            out[first:last] += (0.3 * np.exp(-time_s) * np.sin(2 * np.pi * 8 * key * time_s))[:, None]
        return out.astype(np.float32)


def test_a_drum_is_choked_where_another_ends_its_sound_and_nowhere_else() -> None:
    chokes = {(46, 42), (46, 44), (81, 80)}
    assert kit_chokes(0, Drums(chokes, set()), RATE_HZ) == sorted(chokes)  # type: ignore[arg-type]
    assert kit_chokes(25, Drums(set(), set()), RATE_HZ) == []  # type: ignore[arg-type]


def test_a_key_that_is_silent_is_not_said_to_be_choked() -> None:
    assert kit_chokes(48, Drums({(46, 42)}, {46}), RATE_HZ) == []  # type: ignore[arg-type]
