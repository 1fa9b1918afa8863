"""A part of a song, between two moments given in seconds or bars."""

import re
from dataclasses import dataclass, replace

from specdiff_cli.errors import Message, MidiError, Option, UsageError, listed
from specdiff_cli.midi.notes import MidiSong, Note
from specdiff_cli.wording import count, exact_clock

# A drum struck this shortly before a section belongs to it: players are early, and a drum has no rest to be played.
EARLY_HIT_S = 0.05
_SHORTEST_S = 1e-6  # what is left of a note by the rounding of times is no note

_BAR = re.compile(r"bar ?:? ?(\d{1,9})", re.IGNORECASE)
_CLOCK = re.compile(r"(?:(?:(\d{1,4}):)?(\d{1,4}):)?(\d{1,9}(?:\.\d*)?|\.\d+)(?: ?s)?")


@dataclass(frozen=True, slots=True)
class Moment:
    """A time in a song: seconds, or where a bar (from 1) begins. ``option`` is how the user gave it."""

    option: Option
    time_s: float = 0.0
    bar: int | None = None

    def seconds(self, song: MidiSong, name: str) -> float:
        """Seconds from the start of the song. Raises MidiError for bars of a song that has none."""
        if self.bar is None:
            return self.time_s
        if song.bars is None:
            raise self.error(f"{name}: runs by the SMPTE clock and has no bars; give ", self.option, " in seconds")
        return song.bars.start_s(self.bar)

    def error(self, *parts: str | Option) -> MidiError:
        """That a song has no such moment, in these words."""
        return MidiError(*parts, option=self.option.name, value=self.option.value)


def parse_moment(option: str, text: str) -> Moment:
    """The moment that an option, such as ``start`` or ``end``, names: 12.5, 1:30, 1:02:03, bar 17, bar:17.

    Raises:
        UsageError: it names none.
    """
    text = text.strip()
    if match := _BAR.fullmatch(text):
        bar = int(match[1])
        if bar == 0:
            raise UsageError.of(option, text, "bars are counted from 1")
        return Moment(Option(option, text), bar=bar)
    match = _CLOCK.fullmatch(text)
    if match is None:
        raise UsageError.of(option, text, "is no time; write seconds (12.5), minutes and seconds (1:30), or bar:17")
    hours, minutes, seconds = int(match[1] or 0), int(match[2] or 0), float(match[3])
    if match[2] and seconds >= 60 or match[1] and minutes >= 60:
        raise UsageError.of(option, text, "has 60 or more seconds or minutes behind a colon")
    return Moment(Option(option, text), time_s=hours * 3600 + minutes * 60 + seconds)


def check_section(start: Moment | None, end: Moment | None) -> None:
    """Raise UsageError where no song could have such a section."""
    if end is not None and (end.bar == 1 or end.bar is None and end.time_s == 0):
        raise UsageError.of(end.option.name, end.option.value, "nothing comes before it")
    if start is None or end is None:
        return
    is_same_kind = (start.bar is None) == (end.bar is None)
    if is_same_kind and (start.bar or start.time_s) >= (end.bar or end.time_s):
        raise UsageError(end.option, " does not come after ", start.option, option=end.option.name)


def cut_section(song: MidiSong, start: Moment | None, end: Moment | None, name: str) -> tuple[MidiSong, list[str]]:
    """The song between two moments, and lines for the user. The section begins at 0 s.

    Pitched notes that sound when it begins start there, those that sound when it ends stop there. Drum hits before it
    are left out, whatever their note-offs say.

    Raises:
        MidiError: the section lies past the end, is empty, or holds no notes; the song has no bars.
    """
    start_s = 0.0 if start is None else start.seconds(song, name)
    end_s = song.end_s if end is None else end.seconds(song, name)
    if start is not None and start_s >= song.end_s:
        raise start.error(f"{name}: ", start.option, f" is past its end ({_length(song)})")
    if end is not None and end_s <= start_s:
        begin = ("the start",) if start is None else (start.option, f" ({start_s:.2f} s)")
        raise end.error(f"{name}: ", end.option, f" ({end_s:.2f} s) does not come after ", *begin)
    messages: list[str] = []
    if end is not None and end_s > song.end_s and not _is_last_bar_line(end, song):
        messages.append(Message(end.option, f" is past the end ({_length(song)}): played to the end"))
    is_open = end is None or end_s >= song.end_s
    notes = [cut for note in song.notes if (cut := _cut_note(note, start_s, end_s, is_open)) is not None]
    if not notes:
        where = listed((moment.option for moment in (start, end) if moment is not None), " to ")
        raise MidiError(f"{name}: holds no notes in this section (", *where, ")")
    return _moved(song, notes, start_s, end_s), messages


def _cut_note(note: Note, start_s: float, end_s: float, is_open: bool) -> Note | None:
    """What of a note is in the section; None: nothing. ``is_open``: nothing of the song comes behind the section."""
    first_s = max(note.start_s, start_s)
    if note.is_drum:
        if note.start_s < start_s - EARLY_HIT_S or not is_open and note.start_s >= end_s - EARLY_HIT_S:
            return None
        last_s = min(first_s + note.end_s - note.start_s, end_s)
    else:
        last_s = min(note.end_s, end_s)
    if last_s - first_s < _SHORTEST_S:
        return None
    return note.moved(first_s - start_s, last_s - start_s, by_s=-start_s)


def _is_last_bar_line(moment: Moment, song: MidiSong) -> bool:
    """Is it the bar line that closes the song? Last notes often end a little before it."""
    return moment.bar is not None and song.bars is not None and moment.bar == song.bars.count(song.end_s) + 1


def _moved(song: MidiSong, notes: list[Note], start_s: float, end_s: float) -> MidiSong:
    """The song with the notes of a section and a time line that begins there."""
    before = [bpm for time_s, bpm in song.tempo_changes if time_s <= start_s]
    changes = [(0.0, before[-1])] if before else []
    changes += [(time_s - start_s, bpm) for time_s, bpm in song.tempo_changes if start_s < time_s < end_s]
    return replace(
        song,
        notes=notes,
        end_s=min(end_s, song.end_s) - start_s,
        tempo_changes=changes,
        bars=None if song.bars is None else song.bars.retimed(start_s=start_s),
        expression={part: found.retimed(start_s=start_s) for part, found in song.expression.items()},
    )


def change_tempo(song: MidiSong, speed: float) -> MidiSong:
    """The song ``speed`` times as fast."""
    return replace(
        song,
        notes=[note.moved(note.start_s / speed, note.end_s / speed, speed=speed) for note in song.notes],
        end_s=song.end_s / speed,
        tempo_changes=[(time_s / speed, bpm * speed) for time_s, bpm in song.tempo_changes],
        bars=None if song.bars is None else song.bars.retimed(speed=speed),
        expression={part: found.retimed(speed=speed) for part, found in song.expression.items()},
    )


def _length(song: MidiSong) -> str:
    length = exact_clock(song.end_s)
    return length if song.bars is None else f"{length}, {count(song.bars.count(song.end_s), 'bar')}"
