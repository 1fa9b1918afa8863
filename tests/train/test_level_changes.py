import numpy as np
import pytest
import torch

from specdiff_cli.constants import LEVEL_VELOCITIES, SWELL_AGES_S
from specdiff_cli.model.note_curves import swell_at
from specdiff_cli.model.note_frames import NoteFrames
from specdiff_cli.model.note_function import NoteFunction, note_function_config
from specdiff_cli.train.atlas_notes import AtlasNotes
from specdiff_cli.train.note_corrections import LARGEST_CHANGE, LEVEL_TOLERANCE, level_changes, swell_changes

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
    measured = np.full((len(function.facts), 128, len(LEVEL_VELOCITIES), 2), np.nan, dtype=np.float32)
    measured[3, list(KEYS)] = wanted[..., None]
    measured[3, 63] = -29.9  # nothing sounds there
    changes = level_changes(function, measured)
    others = changes.clone()
    others[3, list(KEYS)] = 0
    assert not others.any()
    changes = changes[..., 0]
    found = changes[3, list(KEYS), 5].tolist()
    rest = LEVEL_TOLERANCE
    assert found == pytest.approx([0.5 - rest, 0.0, rest - 0.5, LARGEST_CHANGE - rest, 0.0], abs=0.01)

    function.levels.copy_(changes)
    frames = NoteFrames(function)
    assert level(frames, 40, 88) == pytest.approx(wanted[0, 5] - rest, abs=0.01)
    assert level(frames, 60, 88) == pytest.approx(own[1, 5], abs=1e-4)


def test_a_level_of_the_next_half_second_that_is_elsewhere_is_met_as_well() -> None:
    function = NoteFunction(note_function_config((0,)))
    function.initialise(torch.Generator().manual_seed(3))
    function.eval().requires_grad_(False)
    velocity, first_s, later_s = 88, np.arange(-0.02, 0.56, 0.04), np.arange(0.58, 1.16, 0.04)

    def levels() -> tuple[float, float]:
        begins_s, curve = NoteFrames(function).held_curve(3, 60, velocity, 1.3)
        rows = [[int((begins_s - age_s).abs().argmin()) for age_s in span] for span in (first_s, later_s)]
        first, later = (float(curve[span, :128].flatten().logsumexp(0)) for span in rows)
        return first, later

    own = levels()
    measured = np.full((len(function.facts), 128, len(LEVEL_VELOCITIES), 2), np.nan, dtype=np.float32)
    measured[3, 60] = np.array(own) + (0.4, -0.6)
    first, later = level_changes(function, measured).unbind(3)
    function.levels.copy_(first)
    function.later_levels.copy_(later)
    rest = 2 * LEVEL_TOLERANCE  # each is changed beyond its own
    assert levels() == pytest.approx((own[0] + 0.4, own[1] - 0.6), abs=rest)
    assert levels()[1] - own[1] < -0.6 + rest


class _Notes(AtlasNotes):
    """Held notes of one key that beat: by what the network says of them plus a known swell."""

    def __init__(self, function: NoteFunction, swells: list[np.ndarray], velocities: list[int]) -> None:
        hold_s = 4.5 - 2.0 * np.arange(len(swells))
        self.columns = {
            "instrument": np.full(len(swells), 7),
            "pitch": np.full(len(swells), 64),
            "count": np.full(len(swells), 1),
            "peak": np.full(len(swells), 0.0),
            "velocity": np.array(velocities, dtype=np.int16),
            "hold_s": hold_s,
        }
        self._function, self._swells = function, swells

    @torch.no_grad()
    def held_levels(self, note: int) -> tuple[np.ndarray, np.ndarray]:
        begins_s = np.arange(-0.02, self.columns["hold_s"][note] - 0.04, 0.02, dtype=np.float32)
        velocity = torch.tensor([float(self.columns["velocity"][note])])
        code = self._function.encode(torch.tensor([7]), torch.tensor([64]), velocity)
        bands = self._function.sustained(code, velocity, torch.from_numpy(begins_s)[None])[0, :, :128]
        return begins_s, bands.logsumexp(1).numpy() + swell_at(begins_s, self._swells[note])


def test_a_key_that_beats_at_two_velocities_is_given_its_swell_and_one_that_does_so_once_is_not() -> None:
    function = NoteFunction(note_function_config((0,)))
    function.initialise(torch.Generator().manual_seed(3))
    function.eval().requires_grad_(False)
    ages_s = np.array(SWELL_AGES_S)
    beats = 0.8 * np.sin(2 * np.pi * 1.5 * ages_s) * (ages_s > 0.6)
    found = swell_changes(function, _Notes(function, [beats, beats], [100, 40]))
    assert not found[7, :64].any() and not found[:7].any()
    within = ages_s < 4.3
    assert found[7, 64].numpy()[within] == pytest.approx(beats[within], abs=0.12)
    assert not swell_changes(function, _Notes(function, [beats, -beats], [100, 40])).any()
    assert not swell_changes(function, _Notes(function, [beats], [100])).any()
    silent = _Notes(function, [beats, beats], [100, 40])
    silent.columns["peak"][:] = -27.6
    assert not swell_changes(function, silent).any()
