"""Composed notes as MIDI files."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import mido
import numpy as np

from specdiff_cli.composing.score import LOWER, MELODY, METRE_NAMES, STEPS_PER_BEAT, UPPER, Ints, Score
from specdiff_cli.files import PendingFile, check_target, output_error, shown_path
from specdiff_cli.midi.bars import BarMap
from specdiff_cli.midi.notes import Note
from specdiff_cli.midi.tempo import TempoMap
from specdiff_cli.midi.writer import TICKS_PER_BEAT, midi_bytes

TICKS_PER_STEP = TICKS_PER_BEAT // STEPS_PER_BEAT
#: Scores mark how loud a passage is; players bring out the tune and the first beat of a bar.
_VELOCITY_OF_PART = {MELODY: 7, UPPER: -5, LOWER: -2}
_VELOCITY_OF_DOWNBEAT = 4


def plain_bars(tempo_bpm: float, metre: int) -> BarMap:
    """Bars of one metre (an index of METRE_NAMES) at one tempo."""
    numerator, denominator = map(int, METRE_NAMES[metre].split("/"))
    midi = mido.MidiFile(ticks_per_beat=TICKS_PER_BEAT)
    track = midi.add_track()
    track.append(mido.MetaMessage("set_tempo", tempo=round(6e7 / tempo_bpm)))
    track.append(mido.MetaMessage("time_signature", numerator=numerator, denominator=denominator))
    bars = BarMap.from_midi(midi, TempoMap.from_midi(midi))
    assert bars is not None  # noqa: S101 - only SMPTE division has none
    return bars


def piece_bytes(score: Score, programs: tuple[int, int, int], tempo_bpm: float | None = None) -> bytes:
    """A composed piece as a MIDI file. ``programs``: of the melody, the upper and the lower part."""
    bars = plain_bars(tempo_bpm or score.tempo_bpm, int(score.metre[0]))
    seconds = [bars.tempo_map.seconds(step * TICKS_PER_STEP) for step in _edges(score)]
    n = len(score)
    notes = [
        Note(start_s, end_s, int(pitch), int(velocity), programs[part], is_drum=False, channel=part, track=part)
        for start_s, end_s, pitch, velocity, part in zip(
            seconds[:n], seconds[n:], score.pitch, played_velocity(score), score.part.tolist(), strict=True
        )
    ]
    return midi_bytes(notes, bars)


def _edges(score: Score) -> list[int]:
    """All onsets, then all ends, in steps."""
    onset = score.onset + score.origin_steps
    return [*onset.tolist(), *(onset + released(score)).tolist()]


def released(score: Score) -> Ints:
    """Durations, cut where the same key of a part is struck again, and where the tune goes on."""
    ends = score.onset + score.duration
    for index in range(len(score)):
        later = score.onset > score.onset[index]
        same = later & (score.part == score.part[index])
        if score.part[index] != MELODY:
            same &= score.pitch == score.pitch[index]
        following = score.onset[same]
        if len(following):
            ends[index] = min(ends[index], following[0])
    lengths: Ints = np.maximum(ends - score.onset, 1)
    return lengths


def played_velocity(score: Score) -> Ints:
    """Velocities with the weight of part and bar in them, 1 to 127."""
    weight = np.array([_VELOCITY_OF_PART[part] for part in score.part.tolist()])
    downbeat = np.where(score.position == 0, _VELOCITY_OF_DOWNBEAT, 0)
    velocity: Ints = np.clip(score.velocity + weight + downbeat, 1, 127)
    return velocity


def song_bytes(kept: Sequence[Note], made: Score, programs: tuple[int, int, int], bars: BarMap) -> bytes:
    """A song with composed notes among its own, in its own tempo and bars.

    The composed ones are on tracks of their own, so that no key is struck twice on one channel.
    """
    ticks_per_step = bars.tempo_map.ticks_per_beat / STEPS_PER_BEAT
    seconds = [bars.tempo_map.seconds(step * ticks_per_step) for step in _edges(made)]
    n, first_track = len(made), 1 + max((note.track for note in kept), default=0)
    composed = [
        Note(start_s, end_s, int(pitch), int(velocity), programs[part], is_drum=False, track=first_track + part)
        for start_s, end_s, pitch, velocity, part in zip(
            seconds[:n], seconds[n:], made.pitch, made.velocity, made.part.tolist(), strict=True
        )
    ]
    return midi_bytes([*kept, *composed], bars)


def repitched(notes: Sequence[Note], pitches: Ints) -> list[Note]:
    """The notes with other pitches."""
    return [replace(note, pitch=int(pitch)) for note, pitch in zip(notes, pitches, strict=True)]


def write_midi(path: Path, data: bytes, *, overwrite: bool) -> None:
    """Write a file that exists only when it is complete. Raises OutputError."""
    target = check_target(path, overwrite)
    pending = PendingFile(target, overwrite)
    try:
        pending.open().write(data)
        pending.commit()
    except OSError as error:
        raise output_error(shown_path(path), error) from None
    finally:
        pending.discard()
