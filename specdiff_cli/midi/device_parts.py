"""What GS and XG say to one part by system exclusive messages: volume, pan, program, key shift, bend range.

GS: 41 dd 42 12 40 1p aa, and 40 2p 10 (Roland SC-88 manual, patch parameters). XG: 43 1n 4C 08 pp aa (Yamaha XG
specification 1.26, multi part). A message may set several parameters in a row from an address on.
"""

from collections.abc import Sequence
from typing import NamedTuple

import mido

from specdiff_cli.midi.levels import PAN_CONTROLLER, VOLUME_CONTROLLER
from specdiff_cli.midi.systems import gs_channel
from specdiff_cli.midi.timeline import Timed

BANK_MSB, BANK_LSB = 0, 32
_CENTRE = 0x40
_MAX_SHIFT_SEMITONES = 24
# Address -> the controller that says the same; _PROGRAM stands for a program change.
_PROGRAM = -1
_GS_CONTROLS = {0x00: BANK_MSB, 0x01: _PROGRAM, 0x19: VOLUME_CONTROLLER, 0x1C: PAN_CONTROLLER}
_XG_CONTROLS = {0x01: BANK_MSB, 0x02: BANK_LSB, 0x03: _PROGRAM, 0x0B: VOLUME_CONTROLLER, 0x0E: PAN_CONTROLLER}
_GS_KEY_SHIFT, _XG_KEY_SHIFT = 0x16, 0x08
_GS_BEND_RANGE, _XG_BEND_RANGE = 0x10, 0x23  # GS: of the block that says what controllers do


class PartSetting(NamedTuple):
    """Semitones by which a channel's keys are shifted, or its bends reach."""

    channel: int
    key_shift: int | None = None
    bend_range: int | None = None


def spelled_out(events: Sequence[Timed]) -> list[Timed]:
    """The events, each system exclusive message that has a channel message's meaning followed by that message."""
    spelled: list[Timed] = []
    for event in events:
        spelled.append(event)
        if event.message.type == "sysex":
            spelled += [event._replace(message=message) for message in _channel_messages(event.message.data)]
    return spelled


def part_settings(data: tuple[int, ...]) -> list[PartSetting]:
    """What a message sets that no channel message sets alike; nothing for any other message."""
    found = []
    for block, channel, address, value in _parameters(data):
        semitones = value - _CENTRE
        if abs(semitones) > _MAX_SHIFT_SEMITONES:
            continue
        if (block, address) in (("gs", _GS_KEY_SHIFT), ("xg", _XG_KEY_SHIFT)):
            found.append(PartSetting(channel, key_shift=semitones))
        elif (block, address) in (("gs controllers", _GS_BEND_RANGE), ("xg", _XG_BEND_RANGE)) and semitones >= 0:
            found.append(PartSetting(channel, bend_range=semitones))
    return found


def _channel_messages(data: tuple[int, ...]) -> list[mido.Message]:
    messages = []
    for block, channel, address, value in _parameters(data):
        number = {"gs": _GS_CONTROLS, "xg": _XG_CONTROLS}.get(block, {}).get(address)
        if number == _PROGRAM:
            messages.append(mido.Message("program_change", channel=channel, program=value))
        elif number == PAN_CONTROLLER and value == 0:  # at random: where it is
            continue
        elif number is not None:
            messages.append(mido.Message("control_change", channel=channel, control=number, value=value))
    return messages


def _parameters(data: tuple[int, ...]) -> list[tuple[str, int, int, int]]:
    """(block, channel, address, value) of each parameter that a message sets."""
    if len(data) >= 9 and data[0] == 0x41 and data[2:5] == (0x42, 0x12, 0x40) and data[5] >> 4 in (1, 2):
        block = "gs" if data[5] >> 4 == 1 else "gs controllers"
        channel, first, values = gs_channel(data[5] & 0x0F), data[6], data[7:-1]
    elif len(data) >= 7 and data[0] == 0x43 and data[1] >> 4 == 1 and data[2:4] == (0x4C, 0x08) and data[4] < 16:
        block, channel, first, values = "xg", data[4], data[5], data[6:]
    else:
        return []
    return [(block, channel, first + index, value) for index, value in enumerate(values)]
