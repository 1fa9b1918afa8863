"""Re-orchestration and sections of a song: what the options of ``render`` ask for, done to its notes."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from specdiff_cli.errors import Message, MidiError, Option, UsageError, listed
from specdiff_cli.midi.instruments import DRUMS, Instrument, Part, find_instrument, name_parts
from specdiff_cli.midi.notes import MidiSong, Note
from specdiff_cli.midi.programs import GM_NAMES
from specdiff_cli.midi.sections import Moment, change_tempo, check_section, cut_section, parse_moment
from specdiff_cli.wording import count

MAX_TRANSPOSE = 127
MAX_SHOWN = 12  # tracks, in messages
_COMMA = re.compile(r',(?=(?:[^"]*"[^"]*")*[^"]*$)')  # one with an even number of quotes behind it
_TO_DRUMS = -1  # in place of a program
MIN_TEMPO_SCALE, MAX_TEMPO_SCALE = 0.1, 10.0


@dataclass(frozen=True, slots=True)
class Edits:
    """What is asked to be changed about a song, as the user typed it.

    Attributes:
        swaps: ``piano=cello``: what plays either plays the other.
        programs: ``piano:trumpet``, ``0:56``, ``ch1:trumpet``, ``track:2:drums``: an instrument (name or program), a
            channel or a track, and what is to play instead.
        only: instruments, channels or tracks; the rest is left out.
        mute: instruments, channels or tracks that are left out.
        transpose: semitones; drums stay.
        tempo_scale: 2 is twice as fast.
        start: where the section begins, in the file's own time: ``12.5``, ``1:30``, ``bar:17``.
        end: where it ends. The song is then as long as the section, even where its last notes are over before.

    An item of the first four may name several, parted by commas; commas between double quotes part nothing.
    """

    swaps: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    mute: tuple[str, ...] = ()
    transpose: int = 0
    tempo_scale: float = 1.0
    start: str | None = None
    end: str | None = None


@dataclass(frozen=True, slots=True)
class _Pair:
    """A mapping of ``swap`` or ``program``; ``option`` is how the user gave it."""

    option: Option
    left: Instrument
    right: Instrument


@dataclass(frozen=True, slots=True)
class _Choice:
    """An item of ``only`` or ``mute``."""

    option: Option
    instrument: Instrument


@dataclass(frozen=True, slots=True)
class _Plan:
    """Edits, understood."""

    swaps: list[_Pair] = field(default_factory=list)
    programs: list[_Pair] = field(default_factory=list)
    only: list[_Choice] = field(default_factory=list)
    mute: list[_Choice] = field(default_factory=list)
    start: Moment | None = None
    end: Moment | None = None


def check_edits(edits: Edits) -> None:
    """Refuse what no file could satisfy.

    Raises:
        UsageError: an instrument that does not exist, a number out of range, an end before the start, and so on; the
            message names the option.
    """
    _understand(edits)


def apply_edits(song: MidiSong, edits: Edits, name: str) -> tuple[MidiSong, list[str]]:
    """Do what is asked for; the song that is given stays as it is.

    Names mean the instruments that the file has, before any change: ``only`` and ``mute`` choose among them, swaps
    and programs happen at once. Where several options give one note a program, that of a channel counts before that of
    an instrument, and that before a swap. Times are those of the file, before the tempo is changed.

    Args:
        song: as it was read.
        edits: what to change.
        name: of the file, for error messages.

    Returns:
        The edited song, its notes in the same order, and one line for the user for each change.

    Raises:
        UsageError: as :func:`check_edits`.
        MidiError: the file has no such instrument or channel, no such bars, or no notes are left.
    """
    plan = _understand(edits)
    messages: list[str] = []
    names = [track.name for track in song.tracks]
    in_file = _count_parts(song.notes, names)
    if plan.start or plan.end:
        song, told = cut_section(song, plan.start, plan.end, name)
        messages += told
    if plan.swaps or plan.programs or plan.only or plan.mute:
        programs = _reassign(in_file, plan, name)
        kept = _choose(in_file, plan, name, messages)
        messages += _describe(_count_parts(song.notes, names), kept, programs)
        song = replace(song, notes=_orchestrate(song.notes, names, kept, programs))
        if not song.notes:
            raise MidiError(f"{name}: what is left to play has no notes in this section")
    if edits.transpose:
        notes = _transpose(song.notes, edits.transpose)
        n_lost = len(song.notes) - len(notes)
        if not notes:
            raise _lacking(Option("transpose", edits.transpose), f"{name}: ", " leaves no note within MIDI's range")
        if n_lost:
            messages.append(f"{count(n_lost, 'note')} left out: transposed beyond MIDI's range of pitches")
        song = replace(song, notes=notes)
    if edits.tempo_scale != 1:
        song = change_tempo(song, edits.tempo_scale)
    if plan.end is None:  # only now: until here the length is that of the file, which sections are measured by
        song = replace(song, end_s=max(note.end_s for note in song.notes))
    return song, messages


# --- what the options say --------------------------------------------------------------------------------------------


def _understand(edits: Edits) -> _Plan:
    if not (isinstance(edits.transpose, int) and abs(edits.transpose) <= MAX_TRANSPOSE):
        rule = f"must be -{MAX_TRANSPOSE} to {MAX_TRANSPOSE} semitones"
        raise UsageError.of("transpose", edits.transpose, rule)
    if not (math.isfinite(edits.tempo_scale) and MIN_TEMPO_SCALE <= edits.tempo_scale <= MAX_TEMPO_SCALE):
        limits = f"{MIN_TEMPO_SCALE:g} to {MAX_TEMPO_SCALE:g}"
        raise UsageError.of("tempo_scale", float(edits.tempo_scale), f"must be {limits} (2 is twice as fast)")
    swaps = [_pair("swap", item, "=", "piano=cello") for item in _items("swap", edits.swaps)]
    _check_swaps(swaps)
    plan = _Plan(
        swaps=swaps,
        programs=[_pair("program", item, ":", "piano:cello") for item in _items("program", edits.programs)],
        only=[_choice("only", item) for item in _items("only", edits.only)],
        mute=[_choice("mute", item) for item in _items("mute", edits.mute)],
        start=None if edits.start is None else parse_moment("start", edits.start),
        end=None if edits.end is None else parse_moment("end", edits.end),
    )
    check_section(plan.start, plan.end)
    return plan


def _items(name: str, given: Sequence[str]) -> list[str]:
    """Each item of an option that may be repeated, and may hold several parted by commas."""
    items = [item.strip() for text in given for item in _COMMA.split(text)]
    if "" in items:
        raise UsageError(Option(name), ": names nothing", option=name)
    return items


def _pair(name: str, item: str, sign: str, example: str) -> _Pair:
    # The goal never holds the sign; a channel of a port or a track may (port2:ch1, track:2).
    sides = [side.strip() for side in (item.rsplit(sign, 1) if sign == ":" else item.split(sign))]
    option = Option(name, item)
    if len(sides) != 2 or "" in sides:
        raise UsageError.of(name, item, f"write two instruments with {sign!r} between them, such as {example}")
    left, right = _named(option, sides[0]), _named(option, sides[1])
    if left.is_drums or right.is_drums and sign == "=":
        raise UsageError.of(name, item, "drums stay drums; ", Option("mute", DRUMS), " leaves them out")
    if right.is_place or sign == "=" and left.is_place:
        other = Option("program", "ch1:cello")
        raise UsageError.of(name, item, "takes instruments; ", other, " gives a channel another one")
    return _Pair(option, left, right)


def _choice(name: str, item: str) -> _Choice:
    option = Option(name, item)
    return _Choice(option, _named(option, item))


def _named(option: Option, text: str) -> Instrument:
    try:
        return find_instrument(text)
    except ValueError as error:
        raise UsageError.of(option.name, option.value, str(error)) from None


def _check_swaps(swaps: Sequence[_Pair]) -> None:
    """A program on two sides would have two places to go."""
    sides = [(pair.option, side) for pair in swaps for side in (pair.left, pair.right)]
    for index, (option, side) in enumerate(sides):
        for other_option, other in sides[:index]:
            if common := side.programs & other.programs:
                where = ("both sides",) if option == other_option else (other_option, ", too,")
                rule = f" named {GM_NAMES[min(common)]}; be more precise"
                raise UsageError.of(option.name, option.value, *where, rule)


# --- what the file makes of it ---------------------------------------------------------------------------------------


def part_of(note: Note, track_names: Sequence[str]) -> Part:
    """What names of instruments, channels and tracks know a note by."""
    name = track_names[note.track] if note.track < len(track_names) else ""
    return Part(note.program, note.channel, note.is_drum, note.port, note.track, name)


def _count_parts(notes: Sequence[Note], track_names: Sequence[str]) -> Counter[Part]:
    return Counter(part_of(note, track_names) for note in notes)


def _choose(counts: Counter[Part], plan: _Plan, name: str, messages: list[str]) -> set[Part]:
    """The parts that are to sound."""
    for choice in plan.only:
        _require(counts, choice.instrument, choice.option, name)
    muted: set[Part] = set()
    for choice in plan.mute:
        picked = {part for part in counts if choice.instrument.picks(part)}
        if not picked:
            messages.append(Message(choice.option, ": there is none in this file"))
        muted |= picked
    kept = {
        part
        for part in counts
        if part not in muted and (not plan.only or any(choice.instrument.picks(part) for choice in plan.only))
    }
    if not kept:
        options = listed(choice.option for choice in [*plan.only, *plan.mute])
        raise MidiError(f"{name}: nothing is left to play (", *options, f"); this file has {name_parts(counts)}")
    return kept


def _require(
    counts: Counter[Part], instrument: Instrument, option: Option, name: str, other: Instrument | None = None
) -> list[Part]:
    """The parts that an instrument or channel means. Raises MidiError if the file has none; ``other``: swapped with."""
    if found := [part for part in counts if instrument.picks(part)]:
        return found
    if instrument.channel is not None:
        ports = {part.port for part in counts}
        found_on = sorted({(part.port, part.channel) for part in counts})
        channels = ", ".join(f"port{port + 1}:ch{ch + 1}" if len(ports) > 1 else str(ch + 1) for port, ch in found_on)
        where = f"channel {instrument.channel + 1}"
        where += "" if instrument.port is None else f" of port {instrument.port + 1}"
        raise _lacking(option, f"{name}: has no notes on {where} (", f"), only on {channels}")
    if instrument.is_place:
        tracks = dict(sorted({part.track: part.track_name for part in counts}.items()))
        shown = ", ".join(f"{number + 1} {_quoted(named)}".strip() for number, named in [*tracks.items()][:MAX_SHOWN])
        shown += " ..." if len(tracks) > MAX_SHOWN else ""
        raise _lacking(option, f"{name}: has no notes on such a track (", f"); those with notes are {shown}")
    called = f"called {instrument.text!r}" if not instrument.text.isdigit() else f"of program {instrument.text}"
    hint: tuple[str | Option, ...] = ()
    if other is not None and any(other.picks(part) for part in counts):
        hint = ("; ", Option("program", f"{other.text}:{instrument.text}"), " does not need it")
    raise _lacking(option, f"{name}: no instrument {called} (", f"); this file has {name_parts(counts)}", *hint)


def _lacking(option: Option, before: str, *after: str | Option) -> MidiError:
    """What the file lacks for an option to be followed, which stands between these words."""
    return MidiError(before, option, *after, option=option.name, value=option.value)


def _quoted(name: str) -> str:
    plain = " ".join("".join(char if char.isprintable() else " " for char in name).split())
    return f'"{plain[:40]}"' if plain else ""


def _reassign(counts: Counter[Part], plan: _Plan, name: str) -> dict[Part, int]:
    """The new program of each part that gets one."""
    programs: dict[Part, int] = {}
    for pair in plan.swaps:
        left = _require(counts, pair.left, pair.option, name, other=pair.right)
        right = _require(counts, pair.right, pair.option, name, other=pair.left)
        for parts, others in ((left, right), (right, left)):
            # what the file itself plays of the other side: "strings" may be a viola here
            programs.update(dict.fromkeys(parts, max(others, key=lambda part: counts[part]).program))
    for pair in sorted(plan.programs, key=lambda pair: pair.left.is_place):
        parts = [part for part in _require(counts, pair.left, pair.option, name) if not part.is_drum]
        if not parts:
            place = "channel" if pair.left.channel is not None else "track"
            raise _lacking(pair.option, f"{name}: ", f": this {place} plays drums, which stay drums")
        programs.update(dict.fromkeys(parts, _TO_DRUMS if pair.right.is_drums else pair.right.program))
    return {part: program for part, program in programs.items() if program != part.program}


def _describe(counts: Counter[Part], kept: set[Part], programs: dict[Part, int]) -> list[str]:
    """What happens to the notes of the section, whose parts are counted here."""
    lines = []
    if others := [part for part in counts if part not in kept]:
        n_notes = sum(counts[part] for part in others)
        lines.append(f"{count(n_notes, 'note')} left out: {name_parts(others)}")
    moved: Counter[tuple[str, str]] = Counter()
    for part in counts:
        if part in kept and part in programs:
            goal = DRUMS if programs[part] == _TO_DRUMS else GM_NAMES[programs[part]]
            moved[part.name, goal] += counts[part]
    lines += [f"{count(n_notes, 'note')} of {old} played on {new}" for (old, new), n_notes in moved.items()]
    return lines


# --- what becomes of the notes ---------------------------------------------------------------------------------------


def _orchestrate(
    notes: Sequence[Note], track_names: Sequence[str], kept: set[Part], programs: dict[Part, int]
) -> list[Note]:
    result = []
    for note in notes:
        part = part_of(note, track_names)
        if part not in kept:
            continue
        program = programs.get(part)
        if program == _TO_DRUMS:
            result.append(replace(note, program=0, is_drum=True))
        else:
            result.append(note if program is None else replace(note, program=program))
    return result


def _transpose(notes: Sequence[Note], semitones: int) -> list[Note]:
    return [
        note if note.is_drum else replace(note, pitch=note.pitch + semitones)
        for note in notes
        if note.is_drum or 0 <= note.pitch + semitones <= 127
    ]
