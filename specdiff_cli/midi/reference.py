"""Notes as the reference system's readers find them (pretty_midi, then note-seq's sustain handling).

A checkpoint was trained on these; what is musically wrong about them (programs, pedals and note-offs that stay within a
track, programs taken at the note-off, notes closed by the note-off of another) is kept, so that tokens are the same.
Deliberate differences: tempo changes are read from every track, SMPTE divisions are honoured, channels that GS, XG or
GM2 messages make drum parts are drums, and notes that no note-off ever closes end at the next "all notes off", or else
with their track, instead of vanishing.
"""

from bisect import bisect_right
from collections import defaultdict

import mido

from specdiff_cli.midi.drum_parts import DrumParts
from specdiff_cli.midi.holding import PEDAL_DOWN_FROM, SUSTAIN_CONTROLLER
from specdiff_cli.midi.levels import ChannelLevels
from specdiff_cli.midi.pedal import PedalledNotes
from specdiff_cli.midi.song import Note
from specdiff_cli.midi.tempo import TempoMap

SILENCE_CONTROLLERS = (120, 123)  # all sound off, all notes off


class ReferenceReader:
    """Collects notes per (program, channel, track), as pretty_midi does."""

    def __init__(self, tempo_map: TempoMap, levels: ChannelLevels, drum_parts: DrumParts) -> None:
        self._tempo_map = tempo_map
        self._levels = levels
        self._drum_parts = drum_parts
        self._instruments: dict[tuple[int, int, int, bool], PedalledNotes] = {}
        # Pedal moves seen before the first note of their instrument was closed. pretty_midi hands one and the
        # same list to every later instrument of that (channel, track), so they all share further moves too.
        self._early_pedal: dict[tuple[int, int], list[tuple[float, bool]]] = {}
        self.n_overruled_silences = 0  # of the reference, a note lasts until its note-off whatever comes before
        self._port = 0
        self.n_unclosed_notes = 0
        self.n_zero_length_notes = 0

    @property
    def instruments(self) -> list[PedalledNotes]:
        return list(self._instruments.values())

    def read(self, track_index: int, track: mido.MidiTrack) -> int:
        """Read one track, whose message times are deltas in ticks; how many notes it has."""
        self._port = next((message.port for message in track if message.type == "midi_port"), 0)
        open_notes: defaultdict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
        programs = [0] * 16
        silences: defaultdict[int, list[int]] = defaultdict(list)  # ticks at which a channel was told to be silent
        n_notes = 0
        tick = 0
        for message in track:
            tick += message.time
            kind = message.type
            if kind == "note_on" and message.velocity > 0:
                open_notes[message.channel, message.note].append((tick, message.velocity))
            elif kind == "note_off" or kind == "note_on":
                key = (message.channel, message.note)
                if key in open_notes:
                    starts = open_notes.pop(key)
                    closed = [start for start in starts if start[0] != tick]
                    kept = [start for start in starts if start[0] == tick]
                    if closed and kept:
                        open_notes[key] = kept
                    else:
                        self.n_zero_length_notes += len(kept)
                    n_notes += len(closed)
                    if closed and silences[message.channel] and closed[0][0] < silences[message.channel][-1]:
                        self.n_overruled_silences += 1
                    self._close(closed, tick, key, programs[message.channel], track_index)
            elif kind == "program_change":
                programs[message.channel] = message.program
            elif kind == "control_change":
                if message.control in SILENCE_CONTROLLERS:
                    silences[message.channel].append(tick)
                self._control(message, tick, programs[message.channel], track_index)
            elif kind == "pitchwheel":
                self._pedal_list(programs[message.channel], message.channel, track_index)
        for key, starts in open_notes.items():
            n_notes += self._close_hanging(starts, silences[key[0]], tick, key, programs[key[0]], track_index)
        return n_notes

    def _close_hanging(
        self,
        starts: list[tuple[int, int]],
        silences: list[int],
        last_tick: int,
        key: tuple[int, int],
        program: int,
        track: int,
    ) -> int:
        """End notes without a note-off where their channel next falls silent, or with the track; how many there are."""
        n_notes = 0
        for start in starts:
            index = bisect_right(silences, start[0])
            is_silenced = index < len(silences)
            end_tick = silences[index] if is_silenced else last_tick
            if end_tick > start[0]:
                n_notes += 1
                self.n_unclosed_notes += not is_silenced
                self._close([start], end_tick, key, program, track)
            else:
                self.n_zero_length_notes += 1
        return n_notes

    def _close(
        self, starts: list[tuple[int, int]], end_tick: int, key: tuple[int, int], program: int, track: int
    ) -> None:
        if not starts:
            return
        channel, pitch = key
        end_s = self._tempo_map.seconds(end_tick)
        for start_tick, velocity in starts:
            start_s = self._tempo_map.seconds(start_tick)
            level = self._levels.of_note(channel, start_tick, end_tick)
            is_drum = self._drum_parts.at((self._port, channel), start_tick)
            pan = self._levels.pan(channel, start_tick)
            note = Note(start_s, end_s, pitch, velocity, program, is_drum, channel, track, level, pan, self._port)
            self._instrument(program, channel, track, is_drum).notes.append(note)

    def _instrument(self, program: int, channel: int, track: int, is_drum: bool) -> PedalledNotes:
        instrument = self._instruments.get((program, channel, track, is_drum))
        if instrument is None:
            instrument = PedalledNotes(notes=[], pedal=self._early_pedal.get((channel, track), []))
            self._instruments[program, channel, track, is_drum] = instrument
        return instrument

    def _pedal_list(self, program: int, channel: int, track: int) -> list[tuple[float, bool]]:
        for is_drum in (False, True):  # of a part that is both, drums have no use for the pedal
            instrument = self._instruments.get((program, channel, track, is_drum))
            if instrument is not None:
                return instrument.pedal
        return self._early_pedal.setdefault((channel, track), [])

    def _control(self, message: mido.Message, tick: int, program: int, track: int) -> None:
        pedal = self._pedal_list(program, message.channel, track)
        if message.control == SUSTAIN_CONTROLLER:
            pedal.append((self._tempo_map.seconds(tick), message.value >= PEDAL_DOWN_FROM))
