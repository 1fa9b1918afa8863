"""Music that repeats: where a file says that its loop begins and ends, and a song whose loop is played twice.

The second time round is what a player repeats: it begins as the end of the first leaves it, with what still rings.
"""

from dataclasses import dataclass, replace

import mido

from specdiff_cli.errors import MidiError
from specdiff_cli.midi.song import MidiSong, Note
from specdiff_cli.midi.tempo import TempoMap

LOOP_CONTROLLER = 111  # RPG Maker's, at the tick where the loop begins
START_MARKERS, END_MARKERS = ("loopstart", "[", "loop start"), ("loopend", "]", "loop end")
SHORTEST_LOOP_S = 0.5
_ROUNDING_S = 1e-6


@dataclass(frozen=True, slots=True)
class LoopSpan:
    """Where a loop begins and ends, in seconds; ``origin`` says who says so, as a phrase."""

    start_s: float
    end_s: float
    origin: str

    @property
    def length_s(self) -> float:
        """One time round."""
        return self.end_s - self.start_s


def written_loop(midi: mido.MidiFile) -> tuple[float | None, float | None, str]:
    """Where CC 111 or the markers loopStart and loopEnd of a file lie, in seconds; None where there are none."""
    tempo_map = TempoMap.from_midi(midi)
    start_s: float | None = None
    end_s: float | None = None
    origin = ""
    for track in midi.tracks:
        tick = 0
        for message in track:
            tick += message.time
            text = (
                str(getattr(message, "text", "")).strip().casefold() if message.type in ("marker", "cue_marker") else ""
            )
            if text in START_MARKERS and start_s is None:
                start_s, origin = tempo_map.seconds(tick), "its markers"
            elif text in END_MARKERS and end_s is None:
                end_s, origin = tempo_map.seconds(tick), "its markers"
            elif message.type == "control_change" and message.control == LOOP_CONTROLLER and start_s is None:
                start_s, origin = tempo_map.seconds(tick), "its controller 111"
    return start_s, end_s, origin


def find_loop(song: MidiSong, midi: mido.MidiFile | None, name: str) -> LoopSpan:
    """The loop of a song: what the file says (``midi``; None where that no longer applies), else all its bars.

    Raises MidiError where that is shorter than half a second, or holds no note.
    """
    start_s, end_s, origin = (None, None, "") if midi is None else written_loop(midi)
    if end_s is None:
        end_s = song.end_s if midi is None else _end_of_bar(song)
    span = LoopSpan(start_s or 0.0, end_s, origin or "the whole")
    if span.length_s < SHORTEST_LOOP_S:
        raise MidiError(f"{name}: its loop, {span.start_s:.2f} to {span.end_s:.2f} s, is shorter than half a second")
    if not any(span.start_s - _ROUNDING_S <= note.start_s < span.end_s - _ROUNDING_S for note in song.notes):
        raise MidiError(f"{name}: its loop, {span.start_s:.2f} to {span.end_s:.2f} s, holds no note")
    return span


def _end_of_bar(song: MidiSong) -> float:
    """Where the bar ends in which the last note does."""
    if song.bars is None:
        return song.end_s
    return song.bars.start_s(song.bars.count(song.end_s) + 1)


def play_twice(song: MidiSong, span: LoopSpan) -> MidiSong:
    """The song up to the loop's end, and the loop once more; notes that are held over an end stop there."""
    first: list[Note] = []
    again: list[Note] = []
    for note in song.notes:
        if note.start_s >= span.end_s - _ROUNDING_S:
            continue
        kept = replace(note, end_s=min(note.end_s, span.end_s))
        first.append(kept)
        if kept.start_s >= span.start_s - _ROUNDING_S:
            again.append(kept.moved(kept.start_s + span.length_s, kept.end_s + span.length_s, by_s=span.length_s))
    expression = {part: found.repeated(span.start_s, span.end_s) for part, found in song.expression.items()}
    end_s = span.end_s + span.length_s
    return replace(song, notes=[*first, *again], end_s=end_s, file_end_s=end_s, expression=expression)
