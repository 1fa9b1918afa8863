"""The messages of all tracks in the order in which a player meets them, each with its port."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import mido

from specdiff_cli.midi.systems import reset_system

#: (port, channel), both from 0: what volume, programs, pedals and the like belong to.
Part = tuple[int, int]

# Order at one tick across tracks: resets, then what prepares a note, then notes and what follows them.
_RESET, _BEFORE_ONSETS, _FROM_ONSET = range(3)


class Timed(NamedTuple):
    """A channel or system exclusive message of a track, at a tick from the start of the file.

    ``is_shared``: it was sent to the manager channel of an MPE zone and reaches this member besides.
    """

    tick: int
    track: int
    port: int
    message: mido.Message
    is_shared: bool = False

    @property
    def part(self) -> Part:
        """The port and channel of a channel message."""
        return self.port, self.message.channel


def is_onset(message: mido.Message) -> bool:
    """Does it begin a note? A note-on of velocity 0 is a note-off."""
    return bool(message.type == "note_on" and message.velocity > 0)


def merge_tracks(tracks: Sequence[mido.MidiTrack]) -> list[Timed]:
    """Channel and system exclusive messages of all tracks by time.

    The messages of a track keep their order. At one tick, what each track says before its first onset there comes
    before the onsets of any track: a program or pedal on a conductor's track holds for the notes that begin with it,
    whatever the order of the tracks. Resets of the whole device come before all else.
    """
    named_ports = _ports_by_name(tracks)
    keyed: list[tuple[int, int, int, int, Timed]] = []
    for index, track in enumerate(tracks):
        keyed += _keyed(index, track, named_ports.get(index, _first_port(track)))
    keyed.sort(key=lambda item: item[:4])
    return [item[4] for item in keyed]


def _keyed(index: int, track: mido.MidiTrack, port: int) -> list[tuple[int, int, int, int, Timed]]:
    """(tick, phase, track, position, message) of each message of a track."""
    found: list[tuple[int, int, int, int, Timed]] = []
    tick = 0
    phase = _BEFORE_ONSETS
    n_before_tick = 0  # messages that stay where they are, whatever resets the device at this tick
    for position, message in enumerate(track):
        if message.time:
            tick += message.time
            phase = _BEFORE_ONSETS
            n_before_tick = len(found)
        if message.is_meta:
            if message.type == "midi_port":
                port = message.port
            continue
        if message.type == "note_on" and message.velocity > 0:
            phase = _FROM_ONSET
        elif message.type == "sysex":
            if phase == _BEFORE_ONSETS and reset_system(message.data) is not None:
                found[n_before_tick:] = [(tick, _RESET, index, *item[3:]) for item in found[n_before_tick:]]
                found.append((tick, _RESET, index, position, Timed(tick, index, port, message)))
                n_before_tick = len(found)  # all of these come with a reset by now
                continue
        elif message.type not in _CHANNEL_MESSAGES:
            continue
        found.append((tick, phase, index, position, Timed(tick, index, port, message)))
    return found


_CHANNEL_MESSAGES = frozenset(
    ("note_on", "note_off", "control_change", "program_change", "pitchwheel", "aftertouch", "polytouch")
)


def _first_port(track: mido.MidiTrack) -> int:
    """The port that a track names before its first note: programs and volumes that it says before that mean it, too."""
    for message in track:
        if message.type == "midi_port":
            return int(message.port)
        if is_onset(message):
            break
    return 0


def _ports_by_name(tracks: Sequence[mido.MidiTrack]) -> dict[int, int]:
    """Track -> port by device names, for files that part their devices by name alone.

    Names count where every track that plays has one and no track has a port number; elsewhere they mean nothing here
    (some programs write the name of an instrument).
    """
    names: dict[int, str] = {}
    for index, track in enumerate(tracks):
        if any(message.type == "midi_port" for message in track):
            return {}
        name = next((message.name for message in track if message.type == "device_name"), None)
        if name is not None:
            names[index] = name
        elif any(message.type in _CHANNEL_MESSAGES for message in track):
            return {}
    numbers: dict[str, int] = {}
    return {index: numbers.setdefault(name, len(numbers)) for index, name in names.items()}


def by_part(events: Sequence[Timed]) -> Iterator[Part]:
    """Each part that a channel message speaks to, once, in the order of their first messages."""
    seen: dict[Part, None] = {}
    for event in events:
        if event.message.type != "sysex" and (part := event.part) not in seen:
            seen[part] = None
            yield part
