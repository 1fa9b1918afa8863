"""Songs continued, filled in, reharmonised and accompanied, as MIDI files."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from specdiff_cli.composing.bundle import Composer
from specdiff_cli.composing.composer import continue_song
from specdiff_cli.composing.dataset import Rng
from specdiff_cli.composing.generation import Manner
from specdiff_cli.composing.jobs import Made, Order
from specdiff_cli.composing.rewriting import Task, accompany, fill, reharmonise, with_tune
from specdiff_cli.composing.score import MELODY, PART_NAMES, STEPS_PER_BEAT, Score, score_with_notes
from specdiff_cli.composing.writing import repitched, song_bytes
from specdiff_cli.errors import MidiError, UsageError
from specdiff_cli.midi.notes import MidiSong, Note
from specdiff_cli.midi.sections import Moment
from specdiff_cli.midi.writer import midi_bytes


def work_on_song(composer: Composer, order: Order, song: MidiSong, rng: Rng, manner: Manner) -> Made:
    """What the order asks to be done with the song. Raises MidiError, UsageError."""
    (option, path), *_ = order.songs.chosen.items()
    score, notes = score_with_notes(song, aligns_bars=True)
    task = Task(composer.network, rng, manner, str(path))
    if order.songs.reharmonised is not None:
        pitches = reharmonise(task, score)
        drums = [note for note in song.notes if note.is_drum]
        return _made(
            [*drums, *repitched(notes, pitches)], None, song, order, int((with_tune(score).part != MELODY).sum())
        )
    if order.songs.continued is not None:
        made = continue_song(composer.network, score, order.n_notes, rng, manner, str(path), lambda step: None)
        return _made(song.notes, made, song, _with_programs(order, score, notes), len(made))
    if order.songs.accompanied is not None:
        made = accompany(task, score, order.conditions.density)
        return _made(song.notes, made, song, order, len(made))
    assert order.songs.filled is not None  # noqa: S101 - one of them is given
    start_s, end_s = _gap(order.songs.filled[0], song, path)
    start, end = (_step(song, time_s) for time_s in (start_s, end_s))
    made = fill(task, score, start, end)
    kept = [note for note in song.notes if note.is_drum or not start_s - 1e-6 <= note.start_s < end_s - 1e-6]
    kept = [_let_go(note, start_s) for note in kept]
    return _made(kept, made, song, _with_programs(order, score, notes), len(made))


def _gap(moments: tuple[Moment, Moment], song: MidiSong, path: Path) -> tuple[float, float]:
    start_s, end_s = (moment.seconds(song, str(path)) for moment in moments)
    if not start_s < song.end_s:
        what = f": the song ends before that, at {song.end_s:.1f} s"
        raise MidiError(f"{path}: ", moments[0].option, what, option="fill")
    if not start_s < end_s:
        what = f" to {moments[1].option.value}: ends before it begins"
        raise UsageError(moments[0].option, what, option="fill")
    return start_s, min(end_s, song.end_s)


def _step(song: MidiSong, time_s: float) -> int:
    assert song.bars is not None  # noqa: S101 - checked when the song was read
    tempo_map = song.bars.tempo_map
    return round(tempo_map.tick(time_s) / tempo_map.ticks_per_beat * STEPS_PER_BEAT)


def _let_go(note: Note, time_s: float) -> Note:
    """The note, ended by then if it began before (drums ring on)."""
    return replace(note, end_s=min(note.end_s, time_s)) if note.start_s < time_s and not note.is_drum else note


def _with_programs(order: Order, score: Score, notes: Sequence[Note]) -> Order:
    """The order with each part's own instrument in the song; what the song lacks stays as it was."""
    programs = list(order.programs)
    for part in range(len(PART_NAMES)):
        own = Counter(note.program for note, is_of in zip(notes, score.part.tolist(), strict=True) if is_of == part)
        if own:
            programs[part] = own.most_common(1)[0][0]
    return replace(order, programs=(programs[0], programs[1], programs[2]))


def _made(kept: Sequence[Note], made: Score | None, song: MidiSong, order: Order, n_notes: int) -> Made:
    assert song.bars is not None  # noqa: S101 - checked when the song was read
    data = midi_bytes(kept, song.bars) if made is None else song_bytes(kept, made, order.programs, song.bars)
    end_s = max((note.end_s for note in kept), default=0.0)
    if made is not None and len(made):
        last = int(np.max(made.onset + made.duration)) + made.origin_steps
        tempo_map = song.bars.tempo_map
        end_s = max(end_s, tempo_map.seconds(last * tempo_map.ticks_per_beat / STEPS_PER_BEAT))
    return Made(data, n_notes, end_s, "composed anew" if made is None else "composed", {})
