"""MPE: what is sent to a zone's manager channel reaches its members (MIDI Polyphonic Expression, RP-053).

Each note of an MPE file has a channel of its own, with bends of its own; programs, pedals and volumes are sent once, to
the manager: channel 1 with the channels above it, or channel 16 with those below it.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import mido

from specdiff_cli.midi import parameters
from specdiff_cli.midi.drum_parts import DRUM_CHANNEL
from specdiff_cli.midi.timeline import Part, Timed

_MANAGERS = {0: 1, 15: -1}  # channel -> the direction of its members
_MAX_MEMBERS = 15
#: So many are followed, some dozens of messages each; music has one or two.
MAX_CONFIGURATIONS = 1000
MEMBER_BEND_RANGE_SEMITONES = 48


def share_zones(events: Sequence[Timed]) -> tuple[list[Timed], int]:
    """The events with those of managers repeated for their members, and how many zones were switched on."""
    if not any(_selects_configuration(event.message) for event in events):
        return list(events), 0
    shared: list[Timed] = []
    selected: dict[Part, parameters.Parameters] = {}
    zones: dict[Part, list[int]] = {}
    n_zones = n_configurations = 0
    for event in events:
        message = event.message
        if message.type == "aftertouch" and _is_in_zone(event.part, zones):
            continue  # each finger presses all the time: no wish for vibrato
        shared.append(event)
        if message.type in ("sysex", "note_on", "note_off") or message.channel not in _MANAGERS:
            continue
        is_parameter = message.type == "control_change" and message.control in parameters.PARAMETER_CONTROLLERS
        if is_parameter:
            found = selected.setdefault(event.part, parameters.Parameters())
            found.control(message.control, message.value)
            if found.selected == parameters.MPE_CONFIGURATION and message.control == parameters.DATA_MSB:
                n_configurations += 1
                if n_configurations > MAX_CONFIGURATIONS:
                    continue
                members = _members(message.channel, message.value)
                zones[event.part] = members
                n_zones += bool(members)
                shared += [event._replace(message=extra) for channel in members for extra in _preparations(channel)]
        elif message.type in ("control_change", "program_change", "pitchwheel"):
            for channel in zones.get(event.part, ()):
                copy = message.copy(skip_checks=True, channel=channel)
                shared.append(Timed(event.tick, event.track, event.port, copy, is_shared=True))
    return shared, n_zones


def _selects_configuration(message: mido.Message) -> bool:
    return bool(
        message.type == "control_change"
        and message.control == parameters.RPN_LSB
        and message.value == parameters.MPE_CONFIGURATION
    )


def _is_in_zone(part: Part, zones: Mapping[Part, Sequence[int]]) -> bool:
    """Is it a zone's manager or one of its members?"""
    port, channel = part
    return any(
        manager[0] == port and members and (channel == manager[1] or channel in members)
        for manager, members in zones.items()
    )


def _members(manager: int, n_members: int) -> list[int]:
    step = _MANAGERS[manager]
    return [manager + step * number for number in range(1, min(n_members, _MAX_MEMBERS) + 1)]


@lru_cache(maxsize=16)
def _preparations(channel: int) -> list[mido.Message]:
    """What a new member is set to: the wide bends of MPE, and no drums."""
    values = {
        parameters.RPN_MSB: 0,
        parameters.RPN_LSB: parameters.BEND_RANGE,
        parameters.DATA_MSB: MEMBER_BEND_RANGE_SEMITONES,
    }
    messages = [
        mido.Message("control_change", channel=channel, control=number, value=value) for number, value in values.items()
    ]
    if channel == DRUM_CHANNEL:
        messages.append(mido.Message("sysex", data=bytes.fromhex("41 10 42 12 40 10 15 00 1B")))  # GS: no rhythm part
    return messages
