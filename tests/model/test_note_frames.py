import numpy as np
import pytest
import torch

from specdiff_cli.constants import SWELL_AGES_S
from specdiff_cli.midi.notes import Note
from specdiff_cli.model.note_curves import (
    HOLD_RATIO,
    INAUDIBLE_LOG_POWER,
    NoteCurves,
    between,
    ending_of,
    held_position,
    held_times_s,
)
from specdiff_cli.model.note_frames import NoteFrames
from specdiff_cli.model.note_function import FACTS, N_BANDS, NoteFunction, note_function_config
from specdiff_cli.model.note_rows import SILENCE_LOG_POWER, note_rows


@pytest.fixture(scope="module")
def function() -> NoteFunction:
    made = NoteFunction(note_function_config((0, 25)))
    made.initialise(torch.Generator().manual_seed(1))
    torch.nn.init.constant_(made.fade.bias, 40.0)  # a release of some tens of milliseconds
    return made.eval()


NOTES = [
    Note(0.013, 0.5, 60, 100, 0, False),
    Note(0.113, 0.2, 64, 90, 40, False, channel=1),
    Note(0.25, 0.3, 38, 120, 25, True, channel=9),
    Note(1.0, 7.0, 40, 64, 19, False, channel=2),
]


def test_the_powers_add_up_to_what_the_function_says_of_each_note(function: NoteFunction) -> None:
    frames = NoteFrames(function)
    rows = note_rows(NOTES, frames.kits)
    total = frames.total(rows, 0, 60)
    expected = torch.zeros(60, N_BANDS)
    times_s = torch.arange(60) / 50
    with torch.no_grad():
        for k, note in enumerate(NOTES):
            code = function.encode(*(torch.tensor([int(c[k])]) for c in (rows.instrument, rows.key, rows.velocity)))
            velocity = torch.tensor([float(note.velocity)])
            age_s, rest_s = times_s - note.start_s, times_s - note.end_s
            log_power = function.sustained(code, velocity, age_s[None])
            log_power = log_power + function.released(code, rest_s[None], torch.tensor([note.end_s - note.start_s]))
            expected += torch.where(age_s[:, None] > -0.04, log_power[0].exp(), 0.0)
    loud = expected > 1e-8
    # Curves are kept on grids, velocities and lengths on coarser ones.
    assert (total.log() - expected.log())[loud].abs().mean() < 0.1


def test_windows_equal_the_whole(function: NoteFunction) -> None:
    rows = note_rows(NOTES, [0, 25])
    whole = NoteFrames(function).total(rows, 0, 400)
    frames = NoteFrames(function)
    parts = torch.cat([frames.total(rows, first, 100) for first in range(0, 400, 100)])
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-12)


def test_what_is_said_of_a_note_depends_on_nothing_that_was_asked_before_or_beside_it(function: NoteFunction) -> None:
    key = 0, 60, 100
    alone = NoteCurves(function)
    held, (ended, tail_s) = alone.held(key, 2.0), alone.ended(key, ending_of(0.5, False))
    busy = NoteCurves(function, n_threads=3)
    busy.held_all({(program, 60, 100): 0.1 * program + 0.3 for program in range(6)})
    busy.ended_all([((program, 60, 100), ending_of(0.5, False)) for program in range(6)])
    assert torch.equal(busy.held(key, 2.0), held)
    assert torch.equal(busy.ended(key, ending_of(0.5, False))[0], ended)
    busy.forget()
    assert torch.equal(busy.held(key, 5.0)[: len(held)], held)
    assert busy.ended(key, ending_of(0.5, False))[1] == tail_s


def test_half_the_channel_volume_is_12_decibels_less(function: NoteFunction) -> None:
    quiet = [Note(0.013, 0.5, 60, 100, 0, False, level=0.5)]
    frames = NoteFrames(function)
    loud = frames.total(note_rows(NOTES[:1], frames.kits), 5, 10)
    ratio = frames.total(note_rows(quiet, frames.kits), 5, 10) / loud
    torch.testing.assert_close(10 * ratio.log10(), torch.full_like(ratio, -12.04), atol=0.01, rtol=0)


def test_a_key_struck_again_and_a_choked_hat_end_early() -> None:
    notes = [
        Note(0.0, 3.0, 60, 100, 0, False),
        Note(1.0, 2.0, 60, 100, 0, False),
        Note(0.0, 3.0, 46, 100, 0, True, channel=9),
        Note(0.5, 0.6, 42, 100, 0, True, channel=9),
        Note(0.25, 0.6, 38, 100, 0, True, channel=9),
    ]
    rows = note_rows(notes, [0], [(0, 46, 42)])
    np.testing.assert_allclose(rows.end_s, [0.998, 2.0, 0.498, 0.6, 0.6])
    assert rows.is_choked.tolist() == [False, False, True, False, False]
    ringing = note_rows(notes, [0, 25], [(25, 46, 42)])  # another kit's hats are not this one's
    np.testing.assert_allclose(ringing.end_s, [0.998, 2.0, 3.0, 0.6, 0.6])


def test_hats_struck_together_both_ring_until_the_next_which_cuts_them_off(function: NoteFunction) -> None:
    together = [Note(0.0, 0.1, pitch, 100, 0, True, channel=9) for pitch in (42, 46)]
    frames = NoteFrames(function)
    chokes = [(frames.kits[0], 42, 44), (frames.kits[0], 46, 44)]
    rows = note_rows([*together, Note(0.5, 0.6, 44, 100, 0, True, channel=9)], frames.kits, chokes)
    np.testing.assert_allclose(rows.end_s, [0.498, 0.498, 0.6])
    assert rows.is_choked.tolist() == [True, True, False]
    open_hat = frames.release_curve(128, 46, 100, 0.498, True)[1]
    assert float(open_hat[-1].max()) < -20  # 100 dB in 0.89 s


def test_a_long_ringing_drum_goes_on_falling_where_nothing_was_learned(function: NoteFunction) -> None:
    times_s, curve, _ = NoteFrames(function).release_curve(128, 49, 100, 0.1)
    late = times_s > 3.0
    assert late.sum() > 3 and float(times_s[-1]) > 5.9
    slope = curve[late].diff(dim=0) / times_s[late].diff().float()[:, None]
    torch.testing.assert_close(slope, slope[:1].expand_as(slope), atol=2e-3, rtol=1e-3)  # a straight line
    assert float(slope.max()) <= 1e-3


def test_a_note_that_has_ended_grows_no_louder_and_is_heard_until_it_has_faded(function: NoteFunction) -> None:
    curves = NoteCurves(function)
    for key in ((0, 60, 100), (48, 72, 40), (128, 38, 120)):
        change, tail_s = curves.ended(key, ending_of(0.5, False))
        assert float(change.diff(dim=0).max()) <= 0
        length_s = HOLD_RATIO ** ending_of(0.5, False)[0]
        ages_s = (curves.ended_times_s + length_s).float()
        level = between(curves.held(key, 8.0), held_position(ages_s), torch.zeros(len(ages_s), dtype=torch.int64))
        loudest = (level + change).amax(1)
        assert float(loudest[curves.ended_times_s > tail_s].max()) <= INAUDIBLE_LOG_POWER
        before = (curves.ended_times_s < tail_s).sum()
        assert tail_s == 0 or float(loudest[before - 1]) > INAUDIBLE_LOG_POWER


@pytest.mark.parametrize("trembles", [False, True])
def test_points_that_are_not_asked_for_lie_near_what_the_function_says(
    function: NoteFunction, trembles: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    curves = NoteCurves(function)
    n_asked = 0

    def points(note: object, which: slice) -> torch.Tensor:
        nonlocal n_asked
        times_s = held_times_s(0, which.stop)[which].float()[:, None]
        n_asked += len(times_s)
        return -2 * times_s + trembles * torch.sin(2 * torch.pi * 6 * times_s) + torch.zeros(N_BANDS)

    monkeypatch.setattr(curves, "_points", points)
    curve = curves.held((0, 60, 100), 3.0)
    expected = points(None, slice(0, len(curve)))
    n_asked -= len(curve)
    assert (curve - expected).abs().max() < 1e-4
    assert n_asked == len(curve) if trembles else n_asked < 0.7 * len(curve)


def test_a_kit_that_the_voice_lacks_is_played_by_the_one_it_varies_or_the_first() -> None:
    notes = [Note(0.0, 1.0, 38, 100, program, True) for program in (99, 25, 9, 30)]
    assert note_rows(notes, [0, 8, 25]).instrument.tolist() == [128, 130, 129, 128]


def test_the_function_compiles_and_computes_the_same(function: NoteFunction) -> None:
    compiled = torch.jit.script(function)
    key = (torch.tensor([3, 128]), torch.tensor([60, 38]), torch.tensor([90.0, 64.0]))
    times_s = torch.rand(2, 5)
    with torch.no_grad():
        for it in (function, compiled):
            code = it.encode(*key)
            out = it.sustained(code, key[2], times_s) + it.released(code, times_s, torch.tensor([0.1, 2.0]))
            if it is function:
                expected = out
    torch.testing.assert_close(out, expected)


def test_a_fact_that_could_not_be_measured_counts_as_nothing() -> None:
    function = NoteFunction(note_function_config((0,)))
    function.facts[16, 3, FACTS.index("detune_cents")] = float("nan")
    assert NoteFrames(function).fact(16, 3, "detune_cents") == 0.0


def test_levels_are_added_to_held_notes_between_the_velocities_they_were_measured_at() -> None:
    function = NoteFunction(note_function_config((0,)))
    function.initialise(torch.Generator().manual_seed(1))
    _, plain = NoteFrames(function.eval()).held_curve(5, 60, 32, 0.5)
    _, other = NoteFrames(function).held_curve(5, 61, 32, 0.5)
    function.levels[5, 60, 1:3] = torch.tensor([0.2, 0.6])  # of velocities 24 and 40
    frames = NoteFrames(function)
    torch.testing.assert_close(frames.held_curve(5, 60, 32, 0.5)[1], plain + 0.4)
    torch.testing.assert_close(frames.held_curve(5, 61, 32, 0.5)[1], other)


def test_later_levels_and_swells_are_added_at_their_ages() -> None:
    function = NoteFunction(note_function_config((0,)))
    function.initialise(torch.Generator().manual_seed(1))
    begins_s, plain = NoteFrames(function.eval()).held_curve(5, 60, 32, 5.0)
    function.later_levels[5, 60, 1:3] = torch.tensor([0.2, 0.6])  # of velocities 24 and 40
    function.swells[5, 60] = torch.tensor(SWELL_AGES_S).float().clamp(max=2.0) * 0.1
    middles_s = (begins_s + 0.02).float()
    added = NoteFrames(function).held_curve(5, 60, 32, 5.0)[1] - plain
    early, late = middles_s < 0.43, (middles_s > 0.69) & (begins_s < 4.3)
    below = plain.amax(1, keepdim=True) - plain
    share = ((5.8 - below) / 3.5).clamp(0.0, 1.0)  # of a swell, in soft bands
    expected = middles_s[:, None].clamp(0.0, 2.0) * 0.1 * share
    torch.testing.assert_close(added[early], expected[early], atol=1e-4, rtol=0.0)
    # where the curve is nearly straight, every other point is asked for
    torch.testing.assert_close(added[late].mean(1), expected[late].mean(1) + 0.4, atol=0.01, rtol=0.0)


def test_tones_are_those_of_a_key_and_none_where_none_is_known() -> None:
    function = NoteFunction(note_function_config((0,)))
    function.tones[47, 45, :2] = torch.tensor([110.0, 165.0])
    assert NoteFrames(function).tones(47, 45).tolist() == [110.0, 165.0]
    assert not len(NoteFrames(function).tones(47, 46))


def test_weights_may_lack_what_was_measured_but_the_facts() -> None:
    function = NoteFunction(note_function_config((0,)))
    for name in NoteFunction.lacking:
        getattr(function, name).fill_(0.5)
    state = {name: tensor for name, tensor in function.state_dict().items() if name not in NoteFunction.lacking}
    function.load_state_dict(state)
    assert not function.levels.any() and not function.later_levels.any() and not function.swells.any()
    assert function.phases.isnan().all() and function.tones.isnan().all()
    del state["facts"]
    with pytest.raises(RuntimeError, match="facts"):
        function.load_state_dict(state)


def test_a_key_that_two_voices_press_at_once_sounds_once(function: NoteFunction) -> None:
    doubled = [Note(0.5, 1.0, 60, 90, 4, False), Note(0.5, 1.5, 60, 90, 4, False), Note(0.5, 1.0, 60, 70, 4, False)]
    apart = [
        Note(0.5, 1.0, 60, 90, 5, False),
        Note(0.5, 1.0, 60, 90, 4, False, channel=1),
        Note(0.5, 1.0, 36, 90, 0, True, channel=9),
        Note(0.5, 1.0, 36, 90, 0, True, channel=9),
    ]
    rows = note_rows([*doubled, *apart], [0])
    assert (rows.log_gain == SILENCE_LOG_POWER).tolist() == [True, False, True, False, False, False, False]
    frames = NoteFrames(function)
    once = frames.total(note_rows(doubled[1:2], [0]), 20, 60)
    torch.testing.assert_close(frames.total(note_rows(doubled, [0]), 20, 60), once)
