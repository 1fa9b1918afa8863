"""MIDI files to notes in seconds.

The rules are those of the reference system's readers (pretty_midi, then note-seq's sustain handling), so that a
checkpoint sees the notes it was trained on, with four deliberate differences: tempo changes are read from every
track, SMPTE divisions are honoured, channels that GS, XG or GM2 messages make drum parts are drums, and notes that no
note-off ever closes end at the next "all notes off", or else with their track, instead of vanishing.
"""

import io
import re
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import mido
from mido.midifiles.meta import KeySignatureError

from specdiff_cli.errors import MidiError
from specdiff_cli.midi import chunks
from specdiff_cli.midi.bars import BarMap
from specdiff_cli.midi.drum_parts import DrumParts
from specdiff_cli.midi.expression import ChannelExpression, ExpressionReader
from specdiff_cli.midi.levels import CENTRE_PAN, PAN_CONTROLLER, ChannelLevels
from specdiff_cli.midi.pedal import SUSTAIN_CONTROLLER, SUSTAIN_ON_FROM, PedalledNotes, apply_sustain
from specdiff_cli.midi.tempo import TempoMap
from specdiff_cli.midi.timeline import Part, merge_tracks
from specdiff_cli.midi.zones import share_zones

SILENCE_CONTROLLERS = (120, 123)  # all sound off, all notes off
DEFAULT_MAX_DURATION_S = 3 * 3600.0
MAX_FILE_BYTES = 16 * 1024 * 1024  # millions of notes; mido needs about a hundred bytes of memory for each byte
MAX_NOTES = 2_000_000
MAX_TRACKS = 4096
MAX_DELTA_TICKS = 0x0FFF_FFFF  # four bytes of seven bits, the most the format allows
MAX_DETAIL_CHARS = 120
MAX_TRACKS_NAMED = 8  # in messages

# A run of bytes with the high bit set reads as one number, and mido's time for it grows with the square of its
# length. Nothing in real files comes near this length: numbers have four bytes, text and data have gaps.
_ENDLESS_NUMBER = re.compile(rb"[\x80-\xff]{1024}")

# What mido raises on damaged files; anything else would be a bug of ours.
_MIDO_ERRORS = (
    OSError,
    EOFError,
    ValueError,
    IndexError,
    KeyError,
    TypeError,
    KeySignatureError,
    ZeroDivisionError,
    OverflowError,
    UnicodeError,
)


@dataclass(slots=True)
class Note:
    """One note. Times in seconds from the start of the file; velocity 1-127.

    ``level`` is what channel volume and expression ask for: a factor on the velocity, 1 where a file says nothing.
    ``pan`` is where the channel stands when the note begins: -1 left, 0 centre, 1 right. ``port`` and ``channel``
    name what the file's controllers act on: see ``MidiSong.expression``.
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
    that it lacks ask for nothing. ``end_s`` is when the last note ends, pedal included. ``bars`` is None with SMPTE
    division. ``track`` is the track that was asked for alone, from 1.
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


def read_midi(
    path: Path | str, *, track: int | None = None, max_duration_s: float = DEFAULT_MAX_DURATION_S
) -> MidiSong:
    """Read a MIDI file.

    Args:
        path: the file.
        track: read the notes of this track (from 1) alone; of a type 2 file, this sequence. Tempo, volume and the like
            are still those of the whole file, save in a type 2 file, whose sequences are independent.
        max_duration_s: longer songs are refused.

    Raises:
        MidiError: the file is missing, unreadable, not MIDI, damaged, of type 2 (without ``track``), without notes, of
            more than ``MAX_NOTES`` notes or ``MAX_TRACKS`` tracks, or lasts longer than ``max_duration_s``; or it has
            no such track. The message is one line that names the file and the remedy.
    """
    path = Path(path)
    return parse_midi(read_bytes(path), str(path), track=track, max_duration_s=max_duration_s)


def parse_midi(
    data: bytes, name: str, *, track: int | None = None, max_duration_s: float = DEFAULT_MAX_DURATION_S
) -> MidiSong:
    """Parse the bytes of a MIDI file; ``name`` is used in error messages. See :func:`read_midi`."""
    midi = _parse_with_mido(data, name)
    _check_track(midi, track, name)
    if midi.type == 2:  # what the other sequences say is not said to this one
        midi.tracks = [own if index + 1 == track else mido.MidiTrack() for index, own in enumerate(midi.tracks)]
    played = midi.tracks if track is None else [midi.tracks[track - 1]]
    if any(message.time > MAX_DELTA_TICKS for own in midi.tracks for message in own):
        raise _damaged(name, "it holds a time of more than four bytes")
    n_onsets = sum(_is_onset(message) for own in played for message in own)
    if n_onsets > MAX_NOTES:
        raise MidiError(f"{name}: holds {n_onsets} notes, more than the limit of {MAX_NOTES}; split it into parts")
    tempo_map = TempoMap.from_midi(midi)
    last_tick = max((sum(message.time for message in own) for own in played), default=0)
    last_s = tempo_map.seconds(last_tick)
    if not last_s <= max_duration_s:
        raise MidiError(
            f"{name}: lasts {_hours(last_s)} by its own clock, more than the limit of {_hours(max_duration_s)}; "
            "one delta time or tempo is probably corrupt (raise the limit with --max-duration if it is not)"
        )
    events, _ = share_zones(merge_tracks(midi.tracks))
    reader = _TrackReader(tempo_map, ChannelLevels.from_midi(midi), DrumParts.from_midi(midi))
    tracks = [
        reader.read(index, own) if track in (None, index + 1) else TrackInfo(own.name, len(own), n_notes=0)
        for index, own in enumerate(midi.tracks)
    ]
    notes = apply_sustain(reader.instruments)
    if not notes:
        raise MidiError(_nothing_to_render(midi, track, name))
    return MidiSong(
        notes=notes,
        end_s=max(note.end_s for note in notes),
        format=midi.type,
        ticks_per_beat=midi.ticks_per_beat,
        tempo_changes=tempo_map.changes(),
        tempo_tracks=tempo_map.tracks,
        tracks=tracks,
        n_unclosed_notes=reader.n_unclosed_notes,
        n_zero_length_notes=reader.n_zero_length_notes,
        ignored=dict(reader.ignored),
        bars=BarMap.from_midi(midi, tempo_map),
        track=track,
        expression=ExpressionReader(tempo_map.seconds).read(events),
    )


def _check_track(midi: mido.MidiFile, track: int | None, name: str) -> None:
    n_tracks = len(midi.tracks)
    if track is None and midi.type == 2:
        choice = f"choose one with --track (1 to {n_tracks})" if n_tracks > 1 else "render it with --track 1"
        raise MidiError(f"{name}: is a type 2 file (independent sequences, no common time line); {choice}")
    if track is not None and not 1 <= track <= n_tracks:
        has = "has no tracks" if n_tracks == 0 else "has 1 track" if n_tracks == 1 else f"has tracks 1 to {n_tracks}"
        raise MidiError(f"{name}: {has}, there is no --track {track}")


def _nothing_to_render(midi: mido.MidiFile, track: int | None, name: str) -> str:
    if track is None:
        return f"{name}: holds no notes; there is nothing to render"
    others = [str(number) for number, own in enumerate(midi.tracks, 1) if any(_is_onset(message) for message in own)]
    shown = ", ".join(others[:MAX_TRACKS_NAMED]) + (" ..." if len(others) > MAX_TRACKS_NAMED else "")
    where = f"; notes are on {'track' if len(others) == 1 else 'tracks'} {shown}" if others else ""
    return f"{name}: track {track} holds no notes{where}"


def _is_onset(message: mido.Message) -> bool:
    return bool(message.type == "note_on" and message.velocity > 0)


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds:.0f} s"


def read_bytes(path: Path) -> bytes:
    """The bytes of a file that may be MIDI. Raises MidiError where they cannot be read, or are far too many."""
    try:
        if path.is_dir():
            raise MidiError(f"{path}: is a folder, not a MIDI file")
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise MidiError(f"{path}: no such file; check the path") from None
    except OSError as error:
        raise MidiError(f"{path}: cannot be read ({error.strerror or error})") from None
    except ValueError:
        raise MidiError(f"{path!s:.200}: is not a usable file name") from None
    if len(data) > MAX_FILE_BYTES:
        raise MidiError(f"{path}: is larger than {MAX_FILE_BYTES >> 20} MiB, too large for a MIDI file")
    return data


def _parse_with_mido(data: bytes, name: str) -> mido.MidiFile:
    if not data:
        raise MidiError(f"{name}: is empty; export it again")
    if chunks.is_riff(data):
        data = chunks.unwrap_riff(data, name)
    if data[:4] != b"MThd":
        raise MidiError(f"{name}: is not a standard MIDI file (it does not begin with MThd)")
    if _ENDLESS_NUMBER.search(data):
        raise _damaged(name, "it holds a number of more than a thousand bytes")
    n_tracks = int.from_bytes(data[10:12], "big")
    if MAX_TRACKS < n_tracks <= 0x7FFF:
        raise MidiError(f"{name}: says it has {n_tracks} tracks, more than the limit of {MAX_TRACKS}; export it again")
    try:
        midi = mido.MidiFile(file=io.BytesIO(chunks.plain_tracks(data)), clip=True)
    except _MIDO_ERRORS as error:
        raise _damaged(name, _mido_detail(error)) from None
    if n_tracks != len(midi.tracks):  # mido reads more than 32767 as a negative number, and then no track at all
        raise _damaged(name, f"its header says {n_tracks} tracks")
    if midi.type not in (0, 1, 2):
        raise MidiError(f"{name}: says it is a type {midi.type & 0xFFFF} MIDI file; only types 0, 1 and 2 exist")
    if midi.ticks_per_beat == 0:
        raise _damaged(name, "its header says 0 ticks per beat")
    if midi.ticks_per_beat < 0 and midi.ticks_per_beat & 0xFF == 0:
        raise _damaged(name, "its header says 0 ticks per SMPTE frame")
    return midi


def _mido_detail(error: Exception) -> str:
    if isinstance(error, EOFError):
        return "it ends too early"
    if isinstance(error, LookupError | TypeError | ArithmeticError) or not str(error):
        return "it holds a malformed message"  # what mido's code stumbled over says nothing about the file
    return str(error).splitlines()[0]


def _damaged(name: str, detail: str) -> MidiError:
    return MidiError(f"{name}: is a damaged MIDI file ({detail[:MAX_DETAIL_CHARS]}); export it again")


class _TrackReader:
    """Collects notes per (program, channel, track), as pretty_midi does."""

    def __init__(self, tempo_map: TempoMap, levels: ChannelLevels, drum_parts: DrumParts) -> None:
        self._tempo_map = tempo_map
        self._levels = levels
        self._drum_parts = drum_parts
        self._instruments: dict[tuple[int, int, int, bool], PedalledNotes] = {}
        # Pedal moves seen before the first note of their instrument was closed. pretty_midi hands one and the
        # same list to every later instrument of that (channel, track), so they all share further moves too.
        self._early_pedal: dict[tuple[int, int], list[tuple[float, bool]]] = {}
        self.ignored: Counter[str] = Counter()
        self._port = 0
        self.n_unclosed_notes = 0
        self.n_zero_length_notes = 0

    @property
    def instruments(self) -> list[PedalledNotes]:
        return list(self._instruments.values())

    def read(self, track_index: int, track: mido.MidiTrack) -> TrackInfo:
        """Read one track; message times are deltas in ticks."""
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
                        self.ignored["all notes off"] += 1  # the reference lets a note last until its note-off
                    self._close(closed, tick, key, programs[message.channel], track_index)
            elif kind == "program_change":
                programs[message.channel] = message.program
            elif kind == "control_change":
                if message.control in SILENCE_CONTROLLERS:
                    silences[message.channel].append(tick)
                self._control(message, tick, programs[message.channel], track_index)
            elif kind == "pitchwheel":
                if message.pitch:  # a bend back to the centre asks for nothing
                    self.ignored["pitch bend"] += 1
                self._pedal_list(programs[message.channel], message.channel, track_index)
            elif kind in ("aftertouch", "polytouch"):
                self.ignored["aftertouch"] += 1
            elif kind == "sysex" and not self._drum_parts.follows(message, tick):
                self.ignored["system exclusive"] += 1
        for key, starts in open_notes.items():
            n_notes += self._close_hanging(starts, silences[key[0]], tick, key, programs[key[0]], track_index)
        return TrackInfo(name=track.name, n_messages=len(track), n_notes=n_notes)

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
            is_drum = self._drum_parts.at(channel, start_tick)
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
            pedal.append((self._tempo_map.seconds(tick), message.value >= SUSTAIN_ON_FROM))
            return
        name, counts_from = _IGNORED_CONTROLLERS.get(message.control, ("", 0))
        asks_nothing = message.control == PAN_CONTROLLER and message.value == CENTRE_PAN
        if name and message.value >= counts_from and not asks_nothing and not self._drum_parts.follows(message, tick):
            self.ignored[name] += 1


# Controller -> what it is called, and the smallest value that asks for something.
_IGNORED_CONTROLLERS = {
    0: ("bank select", 1),
    1: ("modulation", 1),
    2: ("breath", 1),
    6: ("tuning or other parameter", 0),  # data entry: what the registered parameter before it is set to
    7: ("channel volume", 0),
    8: ("balance", 0),
    10: ("pan", 0),
    11: ("expression", 0),
    32: ("bank select", 1),
    65: ("portamento", 64),
    66: ("sostenuto pedal", 64),
    67: ("soft pedal", 64),
    84: ("portamento", 0),
    91: ("reverb", 0),
    93: ("chorus", 0),
}
