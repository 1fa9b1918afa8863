"""What a file's mixer does to each channel: volume and expression as one factor on velocities, and pan."""

from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Self

import mido

VOLUME_CONTROLLER, PAN_CONTROLLER, EXPRESSION_CONTROLLER, RESET_CONTROLLER = 7, 10, 11, 121
# General MIDI's values before a file says otherwise.
DEFAULT_VOLUME, DEFAULT_EXPRESSION = 100, 127
CENTRE_PAN = 64
PAN_STEPS = 127 - CENTRE_PAN  # from the centre to either side


@dataclass(slots=True)
class _Setting:
    """A value that changes at ticks."""

    ticks: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def set(self, tick: int, value: float) -> None:
        self.ticks.append(tick)
        self.values.append(value)

    def at(self, tick: int, default: float) -> float:
        index = bisect_right(self.ticks, tick) - 1
        return self.values[index] if index >= 0 else default


class ChannelLevels:
    """Levels and pan of all channels over time, read from every track.

    A level multiplies velocities: General MIDI's recommended curves are the same (40 log10) for velocity, volume and
    expression, so that a note with half the volume is as loud as one with half the velocity. 1 is what a file gets that
    sets nothing.
    """

    def __init__(self) -> None:
        self._levels: defaultdict[int, _Setting] = defaultdict(_Setting)
        self._pans: defaultdict[int, _Setting] = defaultdict(_Setting)

    @classmethod
    def from_midi(cls, midi: mido.MidiFile) -> Self:
        """Collect controllers 7, 10, 11 and 121 of every channel."""
        events: list[tuple[int, int, int, int]] = []
        for track in midi.tracks:
            tick = 0
            for message in track:
                tick += message.time
                if message.type == "control_change":
                    events.append((tick, message.channel, message.control, message.value))
        events.sort(key=lambda event: event[0])  # stable: at equal times in the order of the tracks
        found = cls()
        volumes, expressions = [DEFAULT_VOLUME] * 16, [DEFAULT_EXPRESSION] * 16
        for tick, channel, control, value in events:
            if control == PAN_CONTROLLER:
                # 0 and 1 are both hard left, so that 64 is the centre (General MIDI 2, RP-024).
                found._pans[channel].set(tick, max(-1.0, (value - CENTRE_PAN) / PAN_STEPS))
                continue
            if control == VOLUME_CONTROLLER:
                volumes[channel] = value
            elif control == EXPRESSION_CONTROLLER:
                expressions[channel] = value
            elif control == RESET_CONTROLLER:
                expressions[channel] = DEFAULT_EXPRESSION
            else:
                continue
            level = volumes[channel] / DEFAULT_VOLUME * expressions[channel] / DEFAULT_EXPRESSION
            found._levels[channel].set(tick, level)
        return found

    def of_note(self, channel: int, start_tick: int, end_tick: int) -> float:
        """The level of a note: at its start or, for a swell that begins in silence, at its middle if that is higher."""
        level = self._levels[channel]
        return max(level.at(start_tick, 1.0), level.at((start_tick + end_tick) // 2, 1.0))

    def pan(self, channel: int, tick: int) -> float:
        """From -1 (left) to 1 (right); 0 where the file says nothing. Reset messages leave it alone (RP-015)."""
        return self._pans[channel].at(tick, 0.0)
