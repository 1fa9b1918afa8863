"""Who plays what in a song: notes per instrument, ranges, polyphony."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from specdiff_cli.midi.notes import Note
from specdiff_cli.midi.programs import GM_NAMES, MODEL_CLASSES, model_class

_PITCH_CLASSES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")


@dataclass(frozen=True, slots=True)
class InstrumentSummary:
    """The notes of one (track, channel, program). Channels and tracks count from 0, as in :class:`Note`."""

    track: int
    channel: int
    program: int
    is_drum: bool
    n_notes: int
    lowest_pitch: int
    highest_pitch: int
    polyphony: int

    @property
    def name(self) -> str:
        """General MIDI name; on the drum channel a program is a kit."""
        if self.is_drum:
            return "Drums" if self.program == 0 else f"Drums (kit {self.program})"
        return GM_NAMES[self.program]

    @property
    def class_name(self) -> str:
        """What the models play it as."""
        return "drums" if self.is_drum else MODEL_CLASSES[model_class(self.program)]


def summarize_instruments(notes: Iterable[Note]) -> list[InstrumentSummary]:
    """One entry per instrument that plays, ordered by track, channel and program."""
    by_instrument: defaultdict[tuple[int, int, int, bool], list[Note]] = defaultdict(list)
    for note in notes:
        by_instrument[note.track, note.channel, note.program, note.is_drum].append(note)
    return [
        InstrumentSummary(
            track=track,
            channel=channel,
            program=program,
            is_drum=is_drum,
            n_notes=len(own),
            lowest_pitch=min(note.pitch for note in own),
            highest_pitch=max(note.pitch for note in own),
            polyphony=max_polyphony(own),
        )
        for (track, channel, program, is_drum), own in sorted(by_instrument.items())
    ]


def max_polyphony(notes: Sequence[Note]) -> int:
    """The most notes that sound at one time; a note that ends when another starts does not count with it."""
    moves = [(note.end_s, -1) for note in notes]
    moves.extend((note.start_s, 1) for note in notes)
    moves.sort()
    most = sounding = 0
    for _, move in moves:
        sounding += move
        most = max(most, sounding)
    return most


def pitch_name(pitch: int) -> str:
    """Scientific name of a MIDI pitch: 60 is C4."""
    octave, pitch_class = divmod(pitch, 12)
    return f"{_PITCH_CLASSES[pitch_class]}{octave - 1}"
