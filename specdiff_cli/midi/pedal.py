"""The sustain pedal of the reference reader: how long notes go on after their keys went up (rules of note-seq)."""

import itertools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter

from specdiff_cli.midi.song import Note

# Event order at equal times.
_PEDAL_DOWN, _PEDAL_UP, _NOTE_ON, _NOTE_OFF = range(4)


@dataclass(slots=True)
class PedalledNotes:
    """Notes of one (program, channel, track, drums or not), and its pedal moves: (seconds, is_down)."""

    notes: list[Note]
    pedal: list[tuple[float, bool]]


def apply_sustain(instruments: Sequence[PedalledNotes]) -> list[Note]:
    """Lengthen notes held by the pedal, instrument by instrument; drums are left alone.

    A note ends at pedal-up or at the next onset of its pitch, whichever comes first; notes still held when the file
    ends are closed at the last event of any instrument.
    """
    last_event_s = max(
        itertools.chain(
            (note.end_s for item in instruments for note in item.notes if not note.is_drum),
            (time_s for item in instruments for time_s, _ in item.pedal),
        ),
        default=0.0,
    )
    notes: list[Note] = []
    for instrument in instruments:
        if instrument.notes[0].is_drum or not any(is_down for _, is_down in instrument.pedal):
            notes.extend(instrument.notes)
        else:
            notes.extend(_sustain_one(instrument, last_event_s))
    return notes


def _sustain_one(instrument: PedalledNotes, last_event_s: float) -> list[Note]:
    """Apply the pedal to one instrument; linear in its events after the sort."""
    notes = instrument.notes
    events: list[tuple[float, int, int]] = []
    events.extend((note.start_s, _NOTE_ON, index) for index, note in enumerate(notes))
    events.extend((note.end_s, _NOTE_OFF, index) for index, note in enumerate(notes))
    events.extend((time_s, _PEDAL_DOWN if is_down else _PEDAL_UP, -1) for time_s, is_down in instrument.pedal)
    events.sort(key=itemgetter(0, 1))
    sounding: defaultdict[int, dict[int, Note]] = defaultdict(dict)  # pitch -> {index: note}
    held: list[int] = []  # notes whose key went up while the pedal was down
    removed: set[int] = set()
    is_down = False
    for time_s, kind, index in events:
        if kind == _PEDAL_DOWN:
            is_down = True
        elif kind == _PEDAL_UP:
            is_down = False
            for held_index in held:
                note = sounding[notes[held_index].pitch].pop(held_index, None)
                if note is not None:
                    note.end_s = time_s
            held.clear()
        elif kind == _NOTE_ON:
            pitch = notes[index].pitch
            if is_down:
                for other_index, other in sounding[pitch].items():
                    other.end_s = time_s
                    if other.start_s == time_s:
                        removed.add(other_index)  # of two onsets of one pitch at one time the later stays
                sounding[pitch].clear()
            sounding[pitch][index] = notes[index]
        elif is_down:
            held.append(index)
        else:
            sounding[notes[index].pitch].pop(index, None)
    for same_pitch in sounding.values():
        for note in same_pitch.values():
            note.end_s = last_event_s
    return [note for index, note in enumerate(notes) if index not in removed]
