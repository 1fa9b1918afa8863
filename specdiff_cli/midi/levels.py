"""How loud a file's mixer plays each channel: volume and expression, as one factor on velocities."""

from bisect import bisect_right
from collections import defaultdict
from typing import Self

import mido

VOLUME_CONTROLLER, EXPRESSION_CONTROLLER, RESET_CONTROLLER = 7, 11, 121
# General MIDI's values before a file says otherwise.
DEFAULT_VOLUME, DEFAULT_EXPRESSION = 100, 127


class ChannelLevels:
    """Levels of all channels over time, read from every track.

    A level multiplies velocities: General MIDI's recommended curves are the same (40 log10) for velocity, volume and
    expression, so that a note with half the volume is as loud as one with half the velocity. 1 is what a file gets that
    sets nothing.
    """

    def __init__(self, ticks: dict[int, list[int]], levels: dict[int, list[float]]) -> None:
        self._ticks = ticks
        self._levels = levels

    @classmethod
    def from_midi(cls, midi: mido.MidiFile) -> Self:
        """Collect controllers 7, 11 and 121 of every channel."""
        events: list[tuple[int, int, int, int]] = []
        for track in midi.tracks:
            tick = 0
            for message in track:
                tick += message.time
                if message.type == "control_change":
                    events.append((tick, message.channel, message.control, message.value))
        events.sort(key=lambda event: event[0])  # stable: at equal times in the order of the tracks
        ticks: defaultdict[int, list[int]] = defaultdict(list)
        levels: defaultdict[int, list[float]] = defaultdict(list)
        volumes, expressions = [DEFAULT_VOLUME] * 16, [DEFAULT_EXPRESSION] * 16
        for tick, channel, control, value in events:
            if control == VOLUME_CONTROLLER:
                volumes[channel] = value
            elif control == EXPRESSION_CONTROLLER:
                expressions[channel] = value
            elif control == RESET_CONTROLLER:
                expressions[channel] = DEFAULT_EXPRESSION
            else:
                continue
            ticks[channel].append(tick)
            levels[channel].append(volumes[channel] / DEFAULT_VOLUME * expressions[channel] / DEFAULT_EXPRESSION)
        return cls(dict(ticks), dict(levels))

    def of_note(self, channel: int, start_tick: int, end_tick: int) -> float:
        """The level of a note: at its start or, for a swell that begins in silence, at its middle if that is higher."""
        if channel not in self._ticks:
            return 1.0
        return max(self._at(channel, start_tick), self._at(channel, (start_tick + end_tick) // 2))

    def _at(self, channel: int, tick: int) -> float:
        index = bisect_right(self._ticks[channel], tick) - 1
        return self._levels[channel][index] if index >= 0 else 1.0
