"""Which channels play drums: channel 10, and those that a file makes drum parts by the ways of GS, XG and GM2.

GS: system exclusive 41 dd 42 12 40 1p 15 mm, "use for rhythm part" (Roland SC-88 manual). XG: bank select 126 or 127
before a program change, or the part mode 43 1n 4C 08 pp 07 mm (Yamaha XG specification 1.26). GM2: bank select 120 for
drums, 121 for melody (General MIDI 2, RP-024). XG's banks mean this only after XG's reset message (in GS, bank 127
holds the tones of another machine), GM2's unless another system was switched on.
"""

from bisect import bisect_right
from collections import defaultdict
from typing import Self

import mido

from specdiff_cli.midi.systems import reset_system

DRUM_CHANNEL = 9
BANK_CONTROLLER = 0
_GM2_BANKS = {120: True, 121: False}
# System -> bank -> is it drums? Other banks leave a part what it is. "" before any system is switched on.
_BANKS = {"": _GM2_BANKS, "gm2": _GM2_BANKS, "xg": {126: True, 127: True}}


class DrumParts:
    """Which channel is a drum part when, read from every track."""

    def __init__(self) -> None:
        self._ticks: defaultdict[int, list[int]] = defaultdict(list)
        self._is_drum: defaultdict[int, list[bool]] = defaultdict(list)
        self._system_ticks: list[int] = []
        self._systems: list[str] = []

    @classmethod
    def from_midi(cls, midi: mido.MidiFile) -> Self:
        """Follow system exclusive messages, bank selects and program changes."""
        events: list[tuple[int, mido.Message]] = []
        for track in midi.tracks:
            tick = 0
            for message in track:
                tick += message.time
                if message.type in ("sysex", "program_change") or (
                    message.type == "control_change" and message.control == BANK_CONTROLLER
                ):
                    events.append((tick, message))
        events.sort(key=lambda event: event[0])  # stable: at equal times in the order of the tracks
        parts = cls()
        system, banks = "", [0] * 16
        by_bank: set[int] = set()  # channels that are what they are because of their bank
        for tick, message in events:
            if message.type == "sysex":
                if (reset := reset_system(message.data)) is not None:
                    system, banks, by_bank = reset, [0] * 16, set()
                    parts._system_ticks.append(tick)
                    parts._systems.append(system)
                    for channel in range(16):
                        parts._set(channel, tick, channel == DRUM_CHANNEL)
                elif (mode := _part_mode(message.data)) is not None:
                    parts._set(mode[0], tick, mode[1])
            elif message.type == "control_change":
                banks[message.channel] = message.value
            else:
                channel = message.channel
                is_drum = _BANKS.get(system, {}).get(banks[channel])
                if is_drum is not None:
                    by_bank.add(channel)
                    parts._set(channel, tick, is_drum)
                elif channel in by_bank:
                    by_bank.remove(channel)
                    parts._set(channel, tick, channel == DRUM_CHANNEL)
        return parts

    def at(self, channel: int, tick: int) -> bool:
        """Is a note drums that begins on this channel at this tick?"""
        if channel not in self._ticks:
            return channel == DRUM_CHANNEL
        index = bisect_right(self._ticks[channel], tick) - 1
        return self._is_drum[channel][index] if index >= 0 else channel == DRUM_CHANNEL

    def follows(self, message: mido.Message, tick: int) -> bool:
        """Is it a system exclusive message or a bank select that this class acts on?"""
        if message.type == "sysex":
            return reset_system(message.data) is not None or _part_mode(message.data) is not None
        index = bisect_right(self._system_ticks, tick) - 1
        system = self._systems[index] if index >= 0 else ""
        return message.control == BANK_CONTROLLER and message.value in _BANKS.get(system, {})

    def _set(self, channel: int, tick: int, is_drum: bool) -> None:
        known = self._is_drum.get(channel, [channel == DRUM_CHANNEL])
        if known[-1] != is_drum:
            self._ticks[channel].append(tick)
            self._is_drum[channel].append(is_drum)


def _part_mode(data: tuple[int, ...]) -> tuple[int, bool] | None:
    """(channel, is drums) of a message that says what a part plays, or None for any other message."""
    if len(data) == 9 and data[0] == 0x41 and data[2:5] == (0x42, 0x12, 0x40) and data[6] == 0x15:
        block, part = divmod(data[5], 16)
        if block != 1:
            return None
        # Roland numbers part 10 as block 0, and the parts before it from 1.
        return (DRUM_CHANNEL if part == 0 else part - 1 if part <= DRUM_CHANNEL else part), data[7] > 0
    if len(data) == 7 and data[0] == 0x43 and data[1] >> 4 == 1 and data[2:4] == (0x4C, 0x08) and data[5] == 0x07:
        return (data[4], data[6] > 0) if data[4] < 16 else None
    return None
