import numpy as np
import pytest
import torch

from specdiff_cli.constants import LEVEL_VELOCITIES
from specdiff_cli.model.note_frames import NoteFrames
from specdiff_cli.model.note_function import NoteFunction, note_function_config
from specdiff_cli.train.notes import LARGEST_CHANGE, LEVEL_TOLERANCE, level_changes

KEYS = (40, 60, 61, 62, 63)


def level(frames: NoteFrames, key: int, velocity: int) -> float:
    """Of a held note in its first 0.58 s, by the curve that a render reads."""
    begins_s, curve = frames.held_curve(3, key, velocity, 0.6)
    wanted = [int((begins_s - age_s).abs().argmin()) for age_s in np.arange(-0.02, 0.56, 0.04)]
    return float(curve[wanted, :128].flatten().logsumexp(0))


def test_notes_become_as_loud_as_was_measured_and_what_is_near_is_left_alone() -> None:
    function = NoteFunction(note_function_config((0,)))
    function.initialise(torch.Generator().manual_seed(3))
    function.eval().requires_grad_(False)
    own = np.array([[level(NoteFrames(function), key, velocity) for velocity in LEVEL_VELOCITIES] for key in KEYS])
    wanted = own + np.array([0.5, 0.1, -0.5, 9.0, 0.0])[:, None]
    measured = np.full((len(function.facts), 128, len(LEVEL_VELOCITIES)), np.nan, dtype=np.float32)
    measured[3, list(KEYS)] = wanted
    measured[3, 63] = -29.9  # nothing sounds there
    changes = level_changes(function, measured)
    assert float(changes.abs().sum() - changes[3, list(KEYS)].abs().sum()) == 0
    found = changes[3, list(KEYS), 5].tolist()
    rest = LEVEL_TOLERANCE
    assert found == pytest.approx([0.5 - rest, 0.0, rest - 0.5, LARGEST_CHANGE - rest, 0.0], abs=0.01)

    function.levels.copy_(changes)
    frames = NoteFrames(function)
    assert level(frames, 40, 88) == pytest.approx(wanted[0, 5] - rest, abs=0.01)
    assert level(frames, 60, 88) == pytest.approx(own[1, 5], abs=1e-4)
