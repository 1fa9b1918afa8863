"""MIDI files made in memory, for tests."""

import io
import os
import struct
from collections.abc import Iterable
from pathlib import Path

import mido

#: A message and the tick at which it happens, counted from the start of its track.
Timed = tuple[int, mido.Message | mido.MetaMessage]


def note(start: int, end: int, channel: int, pitch: int, velocity: int = 64) -> list[Timed]:
    """A note-on and its note-off."""
    return [
        (start, mido.Message("note_on", channel=channel, note=pitch, velocity=velocity)),
        (end, mido.Message("note_off", channel=channel, note=pitch)),
    ]


def control(tick: int, channel: int, number: int, value: int) -> Timed:
    """A control change."""
    return (tick, mido.Message("control_change", channel=channel, control=number, value=value))


def program(tick: int, channel: int, number: int) -> Timed:
    """A program change."""
    return (tick, mido.Message("program_change", channel=channel, program=number))


def tempo(tick: int, us_per_beat: int) -> Timed:
    """A tempo change."""
    return (tick, mido.MetaMessage("set_tempo", tempo=us_per_beat))


def midi_bytes(
    *tracks: Iterable[Timed], ticks_per_beat: int = 480, kind: int = 1, end_tick: int | None = None
) -> bytes:
    """A MIDI file of ``tracks``; messages at one tick keep their order. 480 ticks are 0.5 s unless a tempo is set.

    Tracks end with their last message, but not before ``end_tick``.
    """
    midi = mido.MidiFile(type=kind, ticks_per_beat=ticks_per_beat)
    for timed in tracks:
        track = mido.MidiTrack()
        now = 0
        for tick, message in sorted(timed, key=lambda item: item[0]):
            track.append(message.copy(time=tick - now))
            now = tick
        if end_tick is not None:
            track.append(mido.MetaMessage("end_of_track", time=max(0, end_tick - now)))
        midi.tracks.append(track)
    file = io.BytesIO()
    midi.save(file=file)
    return file.getvalue()


def write_song(
    path: str | os.PathLike[str], pitches: Iterable[int] = (60,), *, ticks: int = 240, channel: int = 0, number: int = 0
) -> Path:
    """A file of notes one after the other, each ``ticks`` long, in a folder that is made; ``number``: the program."""
    notes = [message for i, pitch in enumerate(pitches) for message in note(i * ticks, (i + 1) * ticks, channel, pitch)]
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(midi_bytes([program(0, channel, number), *notes]))
    return Path(path)


def midi_header(kind: int, n_tracks: int, division: int) -> bytes:
    """The MThd chunk."""
    return b"MThd" + struct.pack(">LHHH", 6, kind, n_tracks, division & 0xFFFF)


def midi_track(body: bytes) -> bytes:
    """An MTrk chunk around raw events."""
    return b"MTrk" + struct.pack(">L", len(body)) + body


def from_hex(dump: str) -> bytes:
    """Bytes of a hexdump; everything after a ``#`` is a comment."""
    return bytes.fromhex(" ".join(line.partition("#")[0] for line in dump.splitlines()))
