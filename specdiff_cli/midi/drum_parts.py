"""Which channels play drums: channel 10, and those that a file makes drum parts by the ways of GS, XG and GM2.

GS: system exclusive 41 dd 42 12 40 1p 15 mm, "use for rhythm part" (Roland SC-88 manual). XG: bank select 126 or 127
before a program change, or the part mode 43 1n 4C 08 pp 07 mm (Yamaha XG specification 1.26). GM2: bank select 120 for
drums, 121 for melody (General MIDI 2, RP-024); channel 10 becomes melodic so only in a file that speaks GM2. XG's banks
mean this only after XG's reset message (in GS, bank 127 holds the tones of another machine), GM2's unless another
system was switched on.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable
from typing import Self

import mido

from specdiff_cli.midi.systems import gs_channel, reset_system
from specdiff_cli.midi.timeline import Part, Timed

DRUM_CHANNEL = 9
DRUM_KEYS = tuple(range(35, 82))  # General MIDI's percussion map
BANK_CONTROLLER = 0
_GM2_BANKS = {120: True, 121: False}
# System -> bank -> is it drums? Other banks leave a part what it is. "" before any system is switched on.
_BANKS = {"": _GM2_BANKS, "gm2": _GM2_BANKS, "xg": {126: True, 127: True}}


class DrumParts:
    """Which port and channel is a drum part when, read from every track."""

    def __init__(self) -> None:
        self._ticks: defaultdict[Part, list[int]] = defaultdict(list)
        self._is_drum: defaultdict[Part, list[bool]] = defaultdict(list)
        self._changed: set[Part] = set()  # parts that are not what their channel is by itself
        self._system_ticks: list[int] = []
        self._systems: list[str] = []
        self._banks: defaultdict[Part, int] = defaultdict(int)
        self._by_bank: set[Part] = set()  # parts that are what they are because of their bank
        self._speaks_gm2 = False

    @classmethod
    def from_events(cls, events: Iterable[Timed]) -> Self:
        """Follow system exclusive messages, bank selects and program changes, in the order of the events."""
        parts = cls()
        for event in events:
            message = event.message
            if message.type == "sysex":
                parts._system_message(event)
            elif message.type == "control_change":
                if message.control == BANK_CONTROLLER:
                    parts._banks[event.part] = message.value
            elif message.type == "program_change":
                parts._program_change(event.part, event.tick)
        return parts

    def _system_message(self, event: Timed) -> None:
        if (reset := reset_system(event.message.data)) is not None:
            self._banks.clear()
            self._by_bank.clear()
            self._speaks_gm2 = reset == "gm2"
            self._system_ticks.append(event.tick)
            self._systems.append(reset)
            for part in list(self._changed):
                self._set(part, event.tick, part[1] == DRUM_CHANNEL)
        elif (mode := _part_mode(event.message.data)) is not None:
            self._set((event.port, mode[0]), event.tick, mode[1])

    def _program_change(self, part: Part, tick: int) -> None:
        system = self._systems[-1] if self._systems else ""
        is_drum = _BANKS.get(system, {}).get(self._banks[part])
        # Many programs select bank 121 on every channel without meaning channel 10, and without switching GM2 on.
        # A file that makes other channels drums by bank 120 means what it says.
        if part[1] != DRUM_CHANNEL:
            self._speaks_gm2 |= is_drum is True and system == ""
        elif is_drum is False and not self._speaks_gm2:
            is_drum = None
        if is_drum is not None:
            self._by_bank.add(part)
            self._set(part, tick, is_drum)
        elif part in self._by_bank:
            self._by_bank.remove(part)
            self._set(part, tick, part[1] == DRUM_CHANNEL)

    def at(self, part: Part, tick: int) -> bool:
        """Is a note drums that begins on this port and channel at this tick?"""
        ticks = self._ticks.get(part)
        if not ticks:
            return part[1] == DRUM_CHANNEL
        index = bisect_right(ticks, tick) - 1
        return self._is_drum[part][index] if index >= 0 else part[1] == DRUM_CHANNEL

    def follows(self, message: mido.Message, tick: int) -> bool:
        """Is it a system exclusive message or a bank select that this class acts on?"""
        if message.type == "sysex":
            return reset_system(message.data) is not None or _part_mode(message.data) is not None
        index = bisect_right(self._system_ticks, tick) - 1
        system = self._systems[index] if index >= 0 else ""
        return message.control == BANK_CONTROLLER and message.value in _BANKS.get(system, {})

    def _set(self, part: Part, tick: int, is_drum: bool) -> None:
        known = self._is_drum.get(part) or [part[1] == DRUM_CHANNEL]
        if known[-1] != is_drum:
            self._ticks[part].append(tick)
            self._is_drum[part].append(is_drum)
            (self._changed.discard if is_drum == (part[1] == DRUM_CHANNEL) else self._changed.add)(part)


def _part_mode(data: tuple[int, ...]) -> tuple[int, bool] | None:
    """(channel, is drums) of a message that says what a part plays, or None for any other message."""
    if len(data) == 9 and data[0] == 0x41 and data[2:5] == (0x42, 0x12, 0x40) and data[6] == 0x15:
        block, part = divmod(data[5], 16)
        if block != 1:
            return None
        return gs_channel(part), data[7] > 0
    if len(data) == 7 and data[0] == 0x43 and data[1] >> 4 == 1 and data[2:4] == (0x4C, 0x08) and data[5] == 0x07:
        return (data[4], data[6] > 0) if data[4] < 16 else None
    return None
