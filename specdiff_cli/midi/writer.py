"""Songs back to MIDI files: notes as they are played, with the tempo map and meters of where they came from."""

import io
from collections import defaultdict
from collections.abc import Sequence
from itertools import groupby

import mido

from specdiff_cli.midi.bars import BarMap
from specdiff_cli.midi.drum_parts import DRUM_CHANNEL
from specdiff_cli.midi.notes import Note
from specdiff_cli.midi.programs import GM_NAMES
from specdiff_cli.midi.tempo import DEFAULT_BEATS_PER_MINUTE, TempoMap

TICKS_PER_BEAT = 960  # for notes without a tempo map: half a millisecond at 120 beats per minute
MELODIC_CHANNELS = tuple(channel for channel in range(16) if channel != DRUM_CHANNEL)
_LARGEST_DENOMINATOR = 1 << 15

_Event = tuple[int, int, int, mido.Message]  # tick, rank, pitch: note-offs come before the note-ons of their tick


def midi_bytes(notes: Sequence[Note], bars: BarMap | None = None, *, beats_per_minute: float | None = None) -> bytes:
    """A MIDI file of type 1: a conductor track, then a track for each instrument of each track the notes are from.

    A note's level is in its velocity, as a voice would play it. Sixteen instruments and more are spread over ports.

    Args:
        notes: in any order; times in seconds.
        bars: the song's tempo map and meters. Without it there is one tempo, ``beats_per_minute`` (120 by default).
    """
    if bars is None:
        bars = _plain_bars(beats_per_minute or DEFAULT_BEATS_PER_MINUTE)
    file = mido.MidiFile(type=1, ticks_per_beat=bars.tempo_map.ticks_per_beat)
    file.tracks.append(_conductor(bars, max((note.end_s for note in notes), default=0.0)))
    by_part: defaultdict[tuple[int, bool, int], list[Note]] = defaultdict(list)
    for note in notes:
        by_part[note.track, note.is_drum, note.program].append(note)
    n_melodic = 0
    for (_, is_drum, program), own in sorted(by_part.items(), key=lambda item: item[0]):
        port, slot = (0, 0) if is_drum else divmod(n_melodic, len(MELODIC_CHANNELS))
        channel = DRUM_CHANNEL if is_drum else MELODIC_CHANNELS[slot]
        n_melodic += not is_drum
        file.tracks.append(_track(own, program, channel, port, bars.tempo_map))
    buffer = io.BytesIO()
    file.save(file=buffer)
    return buffer.getvalue()


def _plain_bars(beats_per_minute: float) -> BarMap:
    tempo = mido.MidiFile(ticks_per_beat=TICKS_PER_BEAT)
    tempo.add_track().append(mido.MetaMessage("set_tempo", tempo=round(6e7 / beats_per_minute)))
    bars = BarMap.from_midi(tempo, TempoMap.from_midi(tempo))
    assert bars is not None  # noqa: S101 - only SMPTE division has none
    return bars


def _conductor(bars: BarMap, end_s: float) -> mido.MidiTrack:
    """Tempi and meters as far as there are notes: those behind a section are of no concern to it."""
    tempo_map = bars.tempo_map
    events: list[_Event] = []
    first_tick = tempo_map.tick(0.0)  # a section's time line begins inside the file's
    for start_s, beats_per_minute in tempo_map.changes():
        if start_s >= end_s > 0:
            break
        tick = max(0, round(tempo_map.tick(max(start_s, 0.0)) - first_tick))
        tempo = min(max(round(6e7 / beats_per_minute), 1), 0xFFFFFF)
        events.append((tick, 0, 0, mido.MetaMessage("set_tempo", tempo=tempo)))
    for meter in bars.meters:
        is_power_of_two = meter.denominator & (meter.denominator - 1) == 0
        is_heard = tempo_map.seconds(meter.start_tick) < max(end_s, 1e-9)
        if is_heard and meter.numerator <= 255 and meter.denominator <= _LARGEST_DENOMINATOR and is_power_of_two:
            tick = max(0, round(meter.start_tick - first_tick))
            message = mido.MetaMessage("time_signature", numerator=meter.numerator, denominator=meter.denominator)
            events.append((tick, 1, 0, message))
    # What was in force before the section is so from its start: of several at one tick the last one counts.
    events.sort(key=lambda event: event[:2])
    last_of_each = [list(same)[-1] for _, same in groupby(events, key=lambda event: event[:2])]
    return _with_deltas(last_of_each)


def _track(notes: Sequence[Note], program: int, channel: int, port: int, tempo_map: TempoMap) -> mido.MidiTrack:
    first_tick = tempo_map.tick(0.0)
    events: list[_Event] = []
    for note in notes:
        start = max(0, round(tempo_map.tick(note.start_s) - first_tick))
        end = max(start + 1, round(tempo_map.tick(note.end_s) - first_tick))
        velocity = min(max(round(note.velocity * note.level), 1), 127)
        on = mido.Message("note_on", channel=channel, note=note.pitch, velocity=velocity)
        events.append((start, 1, note.pitch, on))
        events.append((end, 0, note.pitch, mido.Message("note_off", channel=channel, note=note.pitch, velocity=64)))
    events.sort(key=lambda event: event[:3])
    track = _with_deltas(events)
    head = [
        mido.MetaMessage("track_name", name="Drums" if channel == DRUM_CHANNEL else GM_NAMES[program]),
        mido.Message("program_change", channel=channel, program=program),
    ]
    if port:
        head.insert(1, mido.MetaMessage("midi_port", port=port))
    return mido.MidiTrack([*head, *track])


def _with_deltas(events: Sequence[_Event]) -> mido.MidiTrack:
    track = mido.MidiTrack()
    before = 0
    for tick, _, _, message in events:
        track.append(message.copy(time=tick - before))
        before = tick
    return track
