"""Songs rewritten by the token model: a gap filled, other harmonies, an accompaniment."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from specdiff_cli.composing.composer import Wish, new_draft, wish_of
from specdiff_cli.composing.dataset import Rng
from specdiff_cli.composing.generation import Draft, Manner, OnStep, Rhythm, settle, unmask
from specdiff_cli.composing.network import TokensNetwork
from specdiff_cli.composing.score import MELODY, STEPS_PER_BEAT, Ints, Score
from specdiff_cli.composing.vocabulary import (
    CONDITION_SIZES,
    DENSITY_EDGES,
    KEY,
    LOWEST_PITCH,
    MOST_BARS_AHEAD,
    N_POSITIONS,
    ONSET,
    PART,
    PITCH,
    SIZES,
    Tokens,
    score_from,
    tokens_of,
)
from specdiff_cli.errors import MidiError, Option

NEIGHBOUR_NOTES = 40  # known notes on each side of what is composed
CHUNK_NOTES = 64
MOST_ADDED_NOTES = 20_000
MOST_REDRAWS = 16
NOTES_PER_TUNE_NOTE = 4.0  # of voice and piano together in songs


@dataclass(frozen=True)
class Task:
    """Who composes, and how."""

    network: TokensNetwork
    rng: Rng
    manner: Manner
    name: str
    on_step: OnStep = lambda step: None


def fill(task: Task, score: Score, start: int, end: int) -> Score:
    """Notes for the gap between two steps of a song (from the song's beginning); what the song has there is ignored."""
    onset = score.onset + score.origin_steps
    before, after = score.part_of(onset < start), score.part_of(onset >= end)
    wish = wish_of(score, task.name)
    made: list[Score] = []
    while True:
        n_made = sum(map(len, made))
        if n_made > MOST_ADDED_NOTES:
            raise MidiError(f"{task.name}: the gap is too long to be filled; choose a shorter one")
        context = _joined([before, *made]).part_of(slice(-NEIGHBOUR_NOTES, None))
        chunk, is_last = _fill_chunk(task, context, after.part_of(slice(NEIGHBOUR_NOTES)), wish, start, end)
        made += [chunk] if len(chunk) else []
        if is_last:
            return _joined(made) if made else score.part_of(slice(0))


def _fill_chunk(task: Task, before: Score, after: Score, wish: Wish, start: int, end: int) -> tuple[Score, bool]:
    """Up to CHUNK_NOTES notes between the neighbours, and whether the gap is full then."""
    tokens, n_known = tokens_of(before), len(before)
    first_bar = before.origin_steps + int(before.onset[0] - before.position[0]) if n_known else _bar_start(after, start)
    known = tokens.fields[None].copy()
    if n_known:
        known[0, 0, ONSET] %= N_POSITIONS
    draft = new_draft(known, n_known + CHUNK_NOTES, [wish])
    draft.times[0, :n_known] = torch.from_numpy(tokens.times)
    rhythm = Rhythm(task.network, draft, task.manner, [task.rng])
    n, is_last = n_known, False
    while n < n_known + CHUNK_NOTES:
        rhythm.draw(n, earliest=max(0, start - first_bar))
        if draft.times[0, n] + first_bar >= end:
            is_last = True
            break
        n += 1
    if n == n_known:
        return before.part_of(slice(0)), is_last
    draft = _cut(draft, n)
    if is_last and len(after):
        draft = _with_suffix(draft, after, first_bar)
    settle(task.network, draft, task.manner, [task.rng], task.on_step)
    return _made(draft, slice(n_known, n), first_bar, wish, before.tempo_bpm), is_last


def _bar_start(after: Score, start: int) -> int:
    """The bar line before a step, counted back from the first note behind it."""
    if not len(after):
        return start
    line = int(after.origin_steps + after.onset[0] - after.position[0])
    length = max(1, int(np.max(after.position)) + 1, 12)
    return line if line <= start else max(0, line - -(-(line - start) // length) * length)


def _cut(draft: Draft, n: int) -> Draft:
    return Draft(
        draft.fields[:, :n],
        draft.times[:, :n],
        draft.is_free[:, :n],
        draft.left[:, :n],
        draft.begins[:, :n],
        draft.conditions,
        draft.bar_steps,
    )


def _with_suffix(draft: Draft, after: Score, first_bar: int) -> Draft:
    """The draft with the notes behind the gap at its end."""
    tokens = tokens_of(after)
    fields = torch.from_numpy(tokens.fields)[None].clone()
    times = torch.from_numpy(after.onset + after.origin_steps - first_bar)[None]
    gap = (times[0, 0] - after.position[0]) - (draft.times[0, -1] - draft.fields[0, -1, ONSET] % N_POSITIONS)
    ahead = (gap.float() / draft.bar_steps[0]).round().long().clamp(0, MOST_BARS_AHEAD)
    fields[0, 0, ONSET] = ahead * N_POSITIONS + fields[0, 0, ONSET] % N_POSITIONS
    n = len(after)
    return Draft(
        torch.cat([draft.fields, fields], dim=1),
        torch.cat([draft.times, times], dim=1),
        torch.cat([draft.is_free, torch.zeros((1, n), dtype=torch.bool)], dim=1),
        torch.cat([draft.left, draft.left[:, :1].expand(1, n)], dim=1),
        torch.cat([draft.begins, torch.zeros((1, n), dtype=torch.long)], dim=1),
        draft.conditions,
        draft.bar_steps,
    )


def _made(draft: Draft, chosen: slice, first_bar: int, wish: Wish, tempo_bpm: float) -> Score:
    """Composed notes of a draft, with onsets as the draft has them."""
    fields, times = draft.fields[0, chosen].numpy(), draft.times[0, chosen].numpy()
    plain = score_from(fields, wish.metre, tempo_bpm)
    bar = (times - plain.position) // wish.bar_steps
    return replace(plain, onset=times, bar=bar, origin_steps=first_bar)


def _joined(scores: list[Score]) -> Score:
    """One after the other, counted from the first one's beginning."""
    scores = [score for score in scores if len(score)] or scores[:1]
    origin = scores[0].origin_steps
    if len(scores) == 1:
        return scores[0]
    onset = np.concatenate([score.onset + score.origin_steps - origin for score in scores])
    bars, shift = [scores[0].bar], 0
    for earlier, later in zip(scores, scores[1:], strict=False):
        lines = [int(s.origin_steps + s.onset[i] - s.position[i]) for s, i in ((earlier, -1), (later, 0))]
        n_bars = min(MOST_BARS_AHEAD, max(0, round((lines[1] - lines[0]) / max(1, int(later.position.max()) + 1))))
        shift = int(bars[-1][-1]) + n_bars - int(later.bar[0])
        bars.append(later.bar + shift)
    names = ("position", "metre", "part", "pitch", "duration", "velocity")
    rest = {name: np.concatenate([getattr(score, name) for score in scores]) for name in names}
    return Score(onset, np.concatenate(bars), **rest, tempo_bpm=scores[0].tempo_bpm, origin_steps=origin)


def reharmonise(task: Task, score: Score) -> Ints:
    """Other pitches (n_notes,) for everything but the tune: rhythm, lengths and loudness stay.

    Without a melody of its own, a song's highest notes are the tune.
    """
    wish = replace(wish_of(score, task.name), key=CONDITION_SIZES[KEY])
    tokens = tokens_of(with_tune(score))
    is_tune = with_tune(score).part == MELODY
    if is_tune.all():
        what = f"{task.name}: is a tune alone, with nothing to harmonise anew; "
        raise MidiError(what, Option("accompany"), " adds to it")
    ids = tokens.fields.copy()
    for first in range(0, len(score), CHUNK_NOTES):
        window = slice(max(0, first - NEIGHBOUR_NOTES), first + CHUNK_NOTES)
        known, times = ids[window][None].copy(), tokens.times[window]
        known[0, 0, ONSET] %= N_POSITIONS
        free = ~is_tune[window] & (np.arange(len(score))[window] >= first)
        known[0, free, PITCH] = SIZES[PITCH]
        draft = new_draft(known, known.shape[1], [wish])
        draft.times[0] = torch.from_numpy(times - times[0] + tokens.fields[window.start, ONSET] % N_POSITIONS)
        draft.is_free[0] = torch.from_numpy(free)
        unmask(task.network, draft, PITCH, task.manner, [task.rng], task.on_step)
        ids[window] = draft.fields[0].numpy()
    return np.where(is_tune, score.pitch, ids[:, PITCH] + LOWEST_PITCH)


def with_tune(score: Score) -> Score:
    """The score itself if it has a melody, else with its highest notes as one."""
    if (score.part == MELODY).any():
        return score
    is_highest = np.append(score.onset[1:] != score.onset[:-1], True)
    return replace(score, part=np.where(is_highest, MELODY, score.part))


def accompany(task: Task, tune: Score, density: int | None = None) -> Score:
    """Notes of two hands to a tune, up to where its last note begins. All notes of ``tune`` are the tune."""
    wish = wish_of(tune, task.name)
    wish = replace(wish, density=_density_with_hands(tune) if density is None else density)
    tune = replace(tune, part=np.full(len(tune), MELODY))
    given = tokens_of(tune)
    merged, n_used = _Merged([], []), 0
    while n_used < len(tune):
        n_used = _accompany_chunk(task, given, merged, n_used, wish)
    fields = np.array([row for row, is_made in zip(merged.fields, merged.is_made, strict=True) if is_made]).reshape(
        -1, 5
    )
    times = np.array(
        [time for time, is_made in zip(merged.times, merged.is_made, strict=True) if is_made], dtype=np.int64
    )
    if not len(fields):
        raise MidiError(f"{task.name}: no accompaniment came about; try another ", Option("seed"))
    plain = score_from(fields, wish.metre, tune.tempo_bpm)
    return replace(plain, onset=times, origin_steps=tune.origin_steps + int(tune.onset[0] - tune.position[0]))


def _density_with_hands(tune: Score) -> int:
    """The class of density of a tune together with the accompaniment that it usually has."""
    beats = max(1, int(tune.onset[-1] - tune.onset[0])) / STEPS_PER_BEAT
    return int(np.searchsorted(DENSITY_EDGES, NOTES_PER_TUNE_NOTE * len(tune) / beats))


class _Merged:
    """Tune and accompaniment so far: ids, onsets, and which of them were composed."""

    def __init__(self, fields: list[list[int]], times: list[int]) -> None:
        self.fields, self.times = fields, times
        self.is_made: list[bool] = []


def _accompany_chunk(task: Task, tune: Tokens, merged: _Merged, n_used: int, wish: Wish) -> int:
    """Add up to CHUNK_NOTES notes; returns how many of the tune's are among them by then."""
    n_known = min(len(merged.fields), NEIGHBOUR_NOTES)
    known = np.array(merged.fields[len(merged.fields) - n_known :], dtype=np.int64).reshape(1, -1, len(SIZES))
    if n_known:
        base = merged.times[-n_known] - int(known[0, 0, ONSET]) % N_POSITIONS
        known[0, 0, ONSET] %= N_POSITIONS
    else:
        base = 0
    draft = new_draft(known, n_known + CHUNK_NOTES, [wish])
    draft.times[0, :n_known] = torch.tensor(merged.times[len(merged.times) - n_known :]) - base
    draft.begins[0, 0] = int(not n_known)
    rhythm = Rhythm(task.network, draft, task.manner, [task.rng])
    n = n_known
    while n < n_known + CHUNK_NOTES and n_used < len(tune.times):
        due = int(tune.times[n_used]) - base
        if _tune_is_next(rhythm, draft, n, due):
            onset = _onset_id(draft, n, due, int(tune.fields[n_used, ONSET]) % N_POSITIONS)
            rhythm.place(n, torch.tensor([onset]), torch.tensor([MELODY]))
            draft.times[0, n] = due
            draft.fields[0, n] = torch.tensor([onset, *tune.fields[n_used, 1:].tolist()])
            draft.is_free[0, n] = False
            n_used += 1
        n += 1
    draft = _cut(draft, n)
    settle(task.network, draft, task.manner, [task.rng], task.on_step)
    merged.fields += draft.fields[0, n_known:].tolist()
    merged.times += (draft.times[0, n_known:] + base).tolist()
    merged.is_made += draft.is_free[0, n_known:].tolist()
    return n_used


def _tune_is_next(rhythm: Rhythm, draft: Draft, index: int, due: int) -> bool:
    """Draw note ``index``, and say whether the tune's next note, which begins at step ``due``, comes before it.

    That is so where the model would have the tune go on, and not before its time.
    """
    for _ in range(MOST_REDRAWS):
        rhythm.draw(index)
        is_late = int(draft.times[0, index]) > due
        if int(draft.fields[0, index, PART]) != MELODY:
            return is_late
        if is_late or int(draft.times[0, index]) == due:
            return True
    return True


def _onset_id(draft: Draft, index: int, time: int, position: int) -> int:
    """The id of an onset at a step, behind the note before it."""
    if index == 0:
        return position
    line = int(draft.times[0, index - 1] - draft.fields[0, index - 1, ONSET] % N_POSITIONS)
    ahead = round((time - position - line) / int(draft.bar_steps[0]))
    return min(max(ahead, 0), MOST_BARS_AHEAD) * N_POSITIONS + position
