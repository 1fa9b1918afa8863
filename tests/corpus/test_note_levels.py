from collections.abc import Iterable, Iterator

import numpy as np
import pytest
import torch

from specdiff_cli.audio.mel import log_mel
from specdiff_cli.constants import LEVEL_VELOCITIES
from specdiff_cli.corpus.atlas import RATE_HZ, log_powers
from specdiff_cli.corpus.note_levels import preset_levels
from specdiff_cli.corpus.soundfont import FluidSynth, Stroke


class _Tones:
    """Plays a steady tone of 1 kHz per note, 6 dB louder from velocity 64 on and from key 62 on.

    Softer notes fade by 6 dB half a second after their onset.
    """

    def play_notes(self, program: int, is_drum: bool, strokes: Iterable[Stroke]) -> Iterator[np.ndarray]:
        assert (program, is_drum) in ((5, False), (0, True))
        for stroke in strokes:
            n_samples = stroke.lead_samples + stroke.hold_samples + stroke.tail_samples
            times_s = (np.arange(n_samples) - stroke.lead_samples) / RATE_HZ
            amplitude = 0.1 * 2.0 ** (stroke.velocity >= 64) * 2.0 ** (stroke.pitch >= 62) * (times_s >= 0)
            amplitude *= 1 - 0.5 * (stroke.velocity < 64) * (times_s >= 0.59)
            yield np.repeat((amplitude * np.sin(2 * np.pi * 1000 * times_s))[:, None], 2, axis=1).astype(np.float32)


class _Synth(_Tones, FluidSynth):
    def __init__(self) -> None:
        pass


def test_levels_are_those_of_each_key_at_each_velocity() -> None:
    levels = preset_levels((5, False), range(60, 64), _Synth(), RATE_HZ, log_powers)
    assert levels.shape == (128, len(LEVEL_VELOCITIES), 2)
    assert np.isnan(levels[[0, 59, 64, 127]]).all()
    assert levels[60, -1, 0] - levels[60, 0, 0] == pytest.approx(2 * np.log(2), abs=1e-3)
    assert levels[60, -1, 1] - levels[60, 0, 1] == pytest.approx(4 * np.log(2), abs=0.05)
    assert levels[62, 0, 0] - levels[61, 0, 0] == pytest.approx(2 * np.log(2), abs=1e-3)
    # 14 frames, and a quarter of the power in the one that the onset halves
    tone = torch.sin(2 * torch.pi * 1000 * torch.arange(16_000) / 16_000)
    steady = float((2 * log_mel(0.1 * tone)[20]).exp().sum())
    assert levels[60, 0, 0] == pytest.approx(np.log(14.25 * steady), abs=0.05)
    assert levels[60, -1, 1] == pytest.approx(np.log(15 * 4 * steady), abs=0.05)


def test_between_measured_keys_the_nearest_counts_and_drums_have_no_neighbours() -> None:
    levels = preset_levels((5, False), range(60, 67, 3), _Synth(), RATE_HZ, log_powers)
    assert (levels[61] == levels[60]).all() and (levels[62] == levels[63]).all() and not np.isnan(levels[58:69]).any()
    assert np.isnan(levels[57]).all() and np.isnan(levels[69]).all()
    drums = preset_levels((0, True), range(60, 62), _Synth(), RATE_HZ, log_powers)
    assert np.flatnonzero(~np.isnan(drums[:, 0, 0])).tolist() == [60, 61]
