"""Notes as players hear them: what belongs to a channel acts on all its notes, whatever track it stands in.

Programs, pedals, note-offs and the like belong to a port and channel. One exception: a track that sets programs of its
own keeps them when another track with notes sets others on the same channel; files made track by track mean that.
"""

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from specdiff_cli.midi import systems
from specdiff_cli.midi.drum_parts import DrumParts
from specdiff_cli.midi.expression import ChannelExpression, Curve
from specdiff_cli.midi.glides import Glides
from specdiff_cli.midi.holding import (
    PEDAL_DOWN_FROM,
    SOFT_CONTROLLER,
    SOSTENUTO_CONTROLLER,
    SUSTAIN_CONTROLLER,
    ChannelHold,
    Moment,
)
from specdiff_cli.midi.keys import KeyMove, Patience, pair_moves
from specdiff_cli.midi.levels import RESET_CONTROLLER
from specdiff_cli.midi.song import Note
from specdiff_cli.midi.tempo import TempoMap
from specdiff_cli.midi.timeline import Part, Timed, is_onset

_ALL_SOUND_OFF = 120
_ALL_NOTES_OFF = frozenset((123, 124, 125, 126, 127))  # omni, mono and poly modes switch notes off, too
_MONO, _POLY = 126, 127
_MAX_COVERING = 200  # later notes that may cover one in mono mode
# Drums sound as long as they do; this is what a hit without a length is given.
DRUM_LENGTH_S = 0.1
# A note that nothing ends does not reach further than this behind the last message that is played.
MAX_HANGING_S = 10.0
# Unison in two voices, one of them held, is over after a few beats; releases that are lost go on being lost.
STRETCH_S = 4.0
# Legato of one key, as sequencers write it, overlaps by a few hundredths of a second.
OVERLAP_S = 0.125
# So long at most a note is heard behind its end.
LONGEST_RELEASE_S = 6.0
# Below -60 dB of a channel at its defaults nothing is heard of a note.
_AUDIBLE_GAIN = 1e-3


@dataclass(slots=True)
class _Press:
    """A key pressed, and what its channel was set to."""

    moment: Moment
    part: Part
    pitch: int
    velocity: int
    track: int
    program: int
    is_drum: bool
    soft: float
    tuning_semitones: float
    glide_from: int | None
    glide_s: float
    is_mono: bool


class _Played(NamedTuple):
    """A press with the moments its key was released and it stopped; ``is_hanging``: nothing in the file ended it."""

    press: _Press
    up: Moment
    stop: Moment
    is_hanging: bool


def _one_at_a_time(played: Iterable[_Played]) -> Iterator[_Played]:
    """Notes in mono mode as one string sounds them: the key that was pressed last, and again the one before, if it is
    still held, when that is let go. Keys pressed at one tick are a chord all the same. Others are as they were."""
    by_part: defaultdict[Part, list[_Played]] = defaultdict(list)
    for item in played:
        if item.press.is_mono:
            by_part[item.press.part].append(item)
        else:
            yield item
    for own in by_part.values():
        own.sort(key=lambda item: item.press.moment)
        for index, item in enumerate(own):
            yield from _uncovered(item, own[index + 1 : index + 1 + _MAX_COVERING])


def _uncovered(item: _Played, later: Sequence[_Played]) -> Iterator[_Played]:
    """The stretches of a note in which none of the later ones sounds."""
    start = item.press.moment
    for other in later:
        if other.press.moment[1] >= item.stop[1]:
            break
        if other.press.moment[1] == item.press.moment[1]:
            continue
        if start[1] < other.press.moment[1]:
            until = other.press.moment
            yield _Played(replace(item.press, moment=start), min(item.up, until), until, is_hanging=False)
        start = max(start, other.stop)
    if start[1] < item.stop[1] or start == item.press.moment:
        yield item._replace(press=replace(item.press, moment=start))


@dataclass(frozen=True, slots=True)
class FoundNotes:
    """The notes of a file and what became of those that are not among them."""

    notes: list[Note]
    n_unclosed: int
    n_zero_length: int


@dataclass(slots=True)
class _Programs:
    """The program in force for each track of each port and channel."""

    playing: set[tuple[Part, int]]  # (part, track) of every onset
    latest: dict[Part, tuple[int, int]] = field(default_factory=dict)  # part -> (order, program), of any track
    silent: dict[Part, tuple[int, int]] = field(default_factory=dict)  # the same, of tracks without notes there
    own: dict[tuple[Part, int], tuple[int, int]] = field(default_factory=dict)

    def change(self, event: Timed, order: int) -> None:
        part, found = event.part, (order, event.message.program)
        self.latest[part] = self.own[part, event.track] = found
        if (part, event.track) not in self.playing:
            self.silent[part] = found

    def of(self, part: Part, track: int) -> int:
        own = self.own.get((part, track))
        if own is None:
            return self.latest.get(part, (0, 0))[1]
        return max(own, self.silent.get(part, own))[1]

    def reset(self) -> None:
        self.latest.clear()
        self.silent.clear()
        self.own.clear()


class MusicReader:
    """Follows the messages of all tracks in the order of :func:`specdiff_cli.midi.timeline.merge_tracks`."""

    def __init__(self, tempo_map: TempoMap, drum_parts: DrumParts, track_end_ticks: Sequence[int]) -> None:
        self._tempo_map = tempo_map
        self._drum_parts = drum_parts
        self._track_end_ticks = track_end_ticks
        self._patience = Patience(round(tempo_map.tick(STRETCH_S)), round(tempo_map.tick(OVERLAP_S)))
        self._presses: list[_Press] = []
        self._used: set[Part] = set()  # since the last reset of the device: it does nothing to the others
        self._keys: defaultdict[tuple[Part, int], list[KeyMove]] = defaultdict(list)
        self._holds: defaultdict[Part, ChannelHold] = defaultdict(ChannelHold)
        self._audible_s: dict[Part, list[float]] = {}  # when each channel is set to what can be heard
        self._soft: defaultdict[Part, float] = defaultdict(float)
        self._scales: dict[Part, list[float]] = {}
        self._glides = Glides()
        self._mono: set[Part] = set()
        self._programs = _Programs(set())

    def read(
        self, events: Sequence[Timed], expression: Mapping[Part, ChannelExpression], track: int | None = None
    ) -> FoundNotes:
        """The notes of all tracks or of one (from 0), with the levels and places that their channels give them."""
        self._programs.playing = {(event.part, event.track) for event in events if is_onset(event.message)}
        for order, event in enumerate(events):
            kind = event.message.type
            if kind == "note_on" or kind == "note_off":
                self._key(event, order)
            elif kind == "control_change":
                self._control(event, (order, event.tick))
            elif kind == "program_change":
                self._programs.change(event, order)
            elif kind == "sysex":
                self._device(event, (order, event.tick))
        end = (len(events), events[-1].tick if events else 0)
        notes: list[_Played] = []
        n_unclosed = n_zero_length = 0
        for played in _one_at_a_time(self._played(end)):
            if track not in (None, played.press.track):
                continue
            if played.stop[1] <= played.press.moment[1] and not played.press.is_drum:
                n_zero_length += 1
            else:
                n_unclosed += played.is_hanging
                notes.append(played)
        return FoundNotes(self._in_order(notes, expression), n_unclosed, n_zero_length)

    def _key(self, event: Timed, order: int) -> None:
        message, part = event.message, event.part
        pitch, velocity = message.note, message.velocity if message.type == "note_on" else 0
        number = len(self._presses) if velocity else -1
        self._keys[part, pitch].append(KeyMove(order, event.tick, event.track, velocity, number))
        if not velocity:
            return
        self._used.add(part)
        is_drum = self._drum_parts.at(part, event.tick)
        glide_from, glide_s = (None, 0.0) if is_drum else self._glides.onset(part, pitch, event.tick)
        scale = self._scales.get(part)
        self._presses.append(
            _Press(
                moment=(order, event.tick),
                part=part,
                pitch=pitch,
                velocity=velocity,
                track=event.track,
                program=self._programs.of(part, event.track),
                is_drum=is_drum,
                soft=self._soft[part],
                tuning_semitones=scale[pitch % 12] if scale else 0.0,
                glide_from=glide_from,
                glide_s=glide_s,
                is_mono=part in self._mono and not is_drum,
            )
        )

    def _control(self, event: Timed, moment: Moment) -> None:
        part, number, value = event.part, event.message.control, event.message.value
        hold = self._holds[part]
        self._used.add(part)
        if number == SUSTAIN_CONTROLLER:
            hold.sustain.move(moment, is_down=value >= PEDAL_DOWN_FROM)
        elif number == SOSTENUTO_CONTROLLER:
            hold.sostenuto.move(moment, is_down=value >= PEDAL_DOWN_FROM)
        elif number == SOFT_CONTROLLER:
            self._soft[part] = value / 127
        elif number == RESET_CONTROLLER:
            hold.lift(moment)
            self._soft[part] = 0.0
            self._glides.reset(part)
        elif number == _ALL_SOUND_OFF:
            hold.cut(moment)
        elif number in _ALL_NOTES_OFF:
            hold.releases.append(moment)
            if number == _MONO:
                self._mono.add(part)
            elif number == _POLY:
                self._mono.discard(part)
        else:
            self._glides.control(part, number, value)

    def _device(self, event: Timed, moment: Moment) -> None:
        data = event.message.data
        if systems.reset_system(data) is not None:
            for part in self._used:
                self._holds[part].lift(moment)
                self._holds[part].cut(moment)
            self._used.clear()
            self._soft.clear()
            self._scales.clear()
            self._glides = Glides()
            self._mono.clear()
            self._programs.reset()
        elif (tuned := systems.scale_tuning(data)) is not None:
            channels, semitones = tuned
            for channel in channels:
                scale = self._scales.setdefault((event.port, channel), [0.0] * 12)
                scale[:] = [old if new is None else new for old, new in zip(scale, semitones, strict=True)]

    def _played(self, end: Moment) -> Iterator[_Played]:
        """When each press ends."""
        hanging_tick = math.floor(self._tempo_map.tick(self._tempo_map.seconds(end[1]) + MAX_HANGING_S))
        for (part, _), moves in self._keys.items():
            hold = self._holds[part]
            pairs = pair_moves(moves, self._patience)
            for index, (down, off) in enumerate(pairs):
                press = self._presses[down.number]
                up = hold.key_up(press.moment, None if off is None else (off.order, off.tick))
                if press.is_drum:
                    yield _Played(press, up or press.moment, up or (end[0], down.tick), is_hanging=False)
                    continue
                is_hanging = up is None
                if up is None:
                    up = (end[0], min(self._track_end_ticks[press.track], hanging_tick))
                again = pairs[index + 1][0] if index + 1 < len(pairs) else None
                stop = hold.sounds_until(press.moment, up, None if again is None else (again.order, again.tick), end)
                yield _Played(press, up, stop, is_hanging)

    def _in_order(self, played: list[_Played], expression: Mapping[Part, ChannelExpression]) -> list[Note]:
        """The notes by track and instrument, in the order in which instruments and notes are first released."""
        played.sort(key=lambda item: (item.press.track, item.up, item.press.moment))
        by_instrument: defaultdict[tuple[int, Part, int, bool], list[Note]] = defaultdict(list)
        for item in played:
            press = item.press
            note = self._note(press, item.stop[1], expression[press.part])
            by_instrument[press.track, press.part, press.program, press.is_drum].append(note)
        return [note for own in by_instrument.values() for note in own]

    def _note(self, press: _Press, end_tick: int, channel: ChannelExpression) -> Note:
        start_s = self._tempo_map.seconds(press.moment[1])
        end_s = self._tempo_map.seconds(end_tick)
        if press.is_drum and end_tick <= press.moment[1]:
            end_s = start_s + DRUM_LENGTH_S
        level, audible_s = self._level(press.part, channel.gain, start_s, end_s)
        cut = self._holds[press.part].next_cut(press.moment)
        cut_s = None if cut is None else self._tempo_map.seconds(cut[1])
        if cut_s is not None and cut_s > end_s + LONGEST_RELEASE_S:
            cut_s = None
        port, number = press.part
        return Note(
            start_s=start_s,
            end_s=end_s,
            pitch=press.pitch,
            velocity=press.velocity,
            program=press.program,
            is_drum=press.is_drum,
            channel=number,
            track=press.track,
            level=level,
            pan=channel.pan.at(start_s),
            port=port,
            soft=press.soft,
            tuning_semitones=press.tuning_semitones,
            glide_from=press.glide_from,
            glide_s=press.glide_s,
            audible_s=audible_s,
            cut_s=cut_s,
        )

    def _level(self, part: Part, gain: Curve, start_s: float, end_s: float) -> tuple[float, float | None]:
        """(factor on a note's velocity, when it is first heard if not at once).

        Velocities count twice on amplitudes, as volumes do. Of a swell the middle counts, if that is louder than the
        start.
        """
        first = gain.at(start_s)
        if gain.is_constant:
            return math.sqrt(first), None
        audible_s = None
        if first < _AUDIBLE_GAIN:
            if part not in self._audible_s:
                self._audible_s[part] = gain.times_at_least(_AUDIBLE_GAIN)
            later = self._audible_s[part]
            index = bisect_right(later, start_s)
            audible_s = later[index] if index < len(later) and later[index] < end_s else None
        heard_s = start_s if audible_s is None else audible_s
        return math.sqrt(max(gain.at(heard_s), gain.at((heard_s + end_s) / 2))), audible_s
