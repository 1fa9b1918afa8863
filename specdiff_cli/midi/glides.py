"""Portamento: from which pitch a note glides to its own, and how long that takes."""

from dataclasses import dataclass

from specdiff_cli.midi.holding import PEDAL_DOWN_FROM
from specdiff_cli.midi.timeline import Part

_TIME, _SWITCH, _FROM = 5, 65, 84
# No specification says how long portamento time lasts. Devices agree that small values are quick and that the largest
# takes seconds: a cube does both (64 is 0.6 s).
_LONGEST_S = 5.0


@dataclass(slots=True)
class _Channel:
    is_on: bool = False
    time: int = 0
    source: int | None = None  # said by controller 84, for the next note
    pitch: int | None = None  # the last onset's
    tick: int = -1
    earlier: int | None = None  # of the onsets before that tick


class Glides:
    """Follows controllers 5, 65 and 84 and the onsets of each part."""

    def __init__(self) -> None:
        self._channels: dict[Part, _Channel] = {}

    def control(self, part: Part, number: int, value: int) -> None:
        """Take a controller; others than the three change nothing."""
        if number not in (_TIME, _SWITCH, _FROM):
            return
        channel = self._channels.setdefault(part, _Channel())
        if number == _TIME:
            channel.time = value
        elif number == _SWITCH:
            channel.is_on = value >= PEDAL_DOWN_FROM
        else:
            channel.source = value

    def reset(self, part: Part) -> None:
        """Reset all controllers switches it off (RP-015)."""
        if (channel := self._channels.get(part)) is not None:
            channel.is_on = False
            channel.source = None

    def onset(self, part: Part, pitch: int, tick: int) -> tuple[int | None, float]:
        """(pitch it begins at, or None; seconds of its glide) of a note that begins now."""
        channel = self._channels.get(part)
        if channel is None:  # until a file speaks of portamento there is nothing to keep
            return None, 0.0
        if tick != channel.tick:
            channel.earlier, channel.tick = channel.pitch, tick
        channel.pitch = pitch
        source = channel.source
        channel.source = None
        if source is None and channel.is_on:
            source = channel.earlier
        if source is None or source == pitch:
            return None, 0.0
        return source, _LONGEST_S * (channel.time / 127) ** 3
