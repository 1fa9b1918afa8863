"""What a MIDI file is read into: notes, and what was learnt on the way."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from specdiff_cli.midi.bars import BarMap
from specdiff_cli.midi.expression import ChannelExpression
from specdiff_cli.midi.remarks import Remark, note_remarks
from specdiff_cli.midi.timeline import Part


@dataclass(slots=True)
class Note:
    """One note. Times in seconds from the start of the file; velocity 1-127.

    Attributes:
        start_s: its key goes down.
        end_s: it stops; pedals included.
        pitch: 0-127.
        velocity: 1-127.
        program: 0-127; of drums the kit.
        is_drum: its channel is a drum part. Drums sound as long as they do: their end says little.
        channel: from 0.
        track: from 0.
        level: what channel volume and expression ask for as it begins: a factor on the velocity, 1 where a file says
            nothing.
        pan: where the channel stands as it begins: -1 left, 0 centre, 1 right.
        port: from 0. Port and channel name what the file's controllers act on: see ``MidiSong.expression``.
        soft: how far the soft pedal is down as it begins, 0 to 1.
        tuning_semitones: by how much a tuned scale moves this pitch class, besides the channel's own pitch.
        glide_from: the pitch that portamento makes it begin at, or None.
        glide_s: how long it takes from there to its own pitch.
        audible_s: when it is first heard, if volume or expression is shut as it begins and opens later; else None.
        cut_s: when all sound of its channel is switched off while it may ring, its release included; else None.
    """

    start_s: float
    end_s: float
    pitch: int
    velocity: int
    program: int
    is_drum: bool
    channel: int = 0
    track: int = 0
    level: float = 1.0
    pan: float = 0.0
    port: int = 0
    soft: float = 0.0
    tuning_semitones: float = 0.0
    glide_from: int | None = None
    glide_s: float = 0.0
    audible_s: float | None = None
    cut_s: float | None = None

    def moved(self, start_s: float, end_s: float, *, by_s: float = 0.0, speed: float = 1.0) -> "Note":
        """The note from ``start_s`` to ``end_s``, its other times put ``by_s`` later and then made ``speed`` times as
        fast."""
        audible_s, cut_s = (
            None if time_s is None else max(0.0, (time_s + by_s) / speed) for time_s in (self.audible_s, self.cut_s)
        )
        return replace(self, start_s=start_s, end_s=end_s, audible_s=audible_s, cut_s=cut_s)


@dataclass(frozen=True, slots=True)
class TrackInfo:
    """What one track of the file holds."""

    name: str
    n_messages: int
    n_notes: int


@dataclass(frozen=True)
class MidiSong:
    """The notes of a MIDI file and what was learnt on the way.

    ``notes`` are in the order in which their instruments first sound and are closed, which later stable sorts
    rely on. ``expression`` says for each (port, channel) what controllers, bends and tunings ask for over time; those
    that it lacks ask for nothing. ``end_s`` is when the last note ends, pedal included; ``file_end_s`` when the file's
    last track does, silence included. ``bars`` is None with SMPTE division. ``track`` is the track that was asked for
    alone, from 1. ``reader`` is how it was read, see :func:`specdiff_cli.midi.notes.read_midi`. ``file_remarks`` are
    about the file as it was read; ``remarks`` says also what its notes ask for.
    """

    notes: list[Note]
    end_s: float
    format: int
    ticks_per_beat: int
    tempo_changes: list[tuple[float, float]]  # (seconds, beats per minute)
    tempo_tracks: list[int]
    tracks: list[TrackInfo]
    n_unclosed_notes: int
    n_zero_length_notes: int
    ignored: dict[str, int] = field(default_factory=dict)  # kind of message the models cannot follow -> count
    bars: BarMap | None = None
    track: int | None = None
    expression: Mapping[Part, ChannelExpression] = field(default_factory=dict)
    file_end_s: float = 0.0
    reader: str = "music"
    file_remarks: tuple[Remark, ...] = ()

    @property
    def remarks(self) -> tuple[Remark, ...]:
        """What was dropped, and what not every voice can follow; of the notes as they are now, edits included."""
        return (*self.file_remarks, *note_remarks(self.notes, self.expression))
