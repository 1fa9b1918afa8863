"""MIDI files to notes in seconds.

Two readers: "music" follows what a player would do with the file (:mod:`specdiff_cli.midi.music`); "reference" is that
of the published checkpoints, with its errors (:mod:`specdiff_cli.midi.reference`). What the bytes are, the tempo, the
bars, and which channels are drums is the same for both.
"""

from collections import Counter
from pathlib import Path
from typing import Literal, get_args

import mido

from specdiff_cli.choices import DEFAULT_MAX_DURATION_S
from specdiff_cli.errors import MidiError, Option
from specdiff_cli.midi.bars import BarMap
from specdiff_cli.midi.device_parts import spelled_out
from specdiff_cli.midi.drum_parts import DrumParts
from specdiff_cli.midi.expression import ExpressionReader
from specdiff_cli.midi.levels import ChannelLevels
from specdiff_cli.midi.music import FoundNotes, MusicReader
from specdiff_cli.midi.opening import open_midi, read_bytes
from specdiff_cli.midi.pedal import apply_sustain
from specdiff_cli.midi.reference import ReferenceReader
from specdiff_cli.midi.remarks import Remark, count_messages, file_remarks
from specdiff_cli.midi.song import MidiSong, Note, TrackInfo
from specdiff_cli.midi.tempo import TempoMap
from specdiff_cli.midi.timeline import is_onset, merge_tracks
from specdiff_cli.midi.zones import share_zones
from specdiff_cli.wording import count

__all__ = [
    "DEFAULT_MAX_DURATION_S",
    "DEFAULT_READER",
    "MAX_NOTES",
    "READERS",
    "MidiSong",
    "Note",
    "Reader",
    "Remark",
    "TrackInfo",
    "parse_midi",
    "read_bytes",
    "read_midi",
]

Reader = Literal["music", "reference"]
READERS: tuple[Reader, ...] = get_args(Reader)
DEFAULT_READER: Reader = "music"
MAX_NOTES = 2_000_000
MAX_TRACKS_NAMED = 8  # in messages


def read_midi(
    path: Path | str,
    *,
    track: int | None = None,
    max_duration_s: float = DEFAULT_MAX_DURATION_S,
    reader: Reader = DEFAULT_READER,
) -> MidiSong:
    """Read a MIDI file.

    Args:
        path: the file.
        track: read the notes of this track (from 1) alone; of a type 2 file, this sequence. Tempo, volume and the like
            are still those of the whole file, save in a type 2 file, whose sequences are independent.
        max_duration_s: songs whose last note ends later are refused.
        reader: ``"music"``, what a player would do with the file; or ``"reference"``, the notes that the published
            checkpoints were trained on, exactly: programs, pedals and note-offs of a track alone, programs taken at the
            note-off, drums of no length left out.

    Raises:
        MidiError: the file is missing, unreadable, not MIDI, damaged, of type 2 with several sequences (without
            ``track``), without notes, of more than ``MAX_NOTES`` notes or 4096 tracks, or lasts longer than
            ``max_duration_s``; or it has no such track. The message is one line that names the file and the remedy.
        ValueError: there is no such reader.
    """
    path = Path(path)
    return parse_midi(read_bytes(path), str(path), track=track, max_duration_s=max_duration_s, reader=reader)


def parse_midi(
    data: bytes,
    name: str,
    *,
    track: int | None = None,
    max_duration_s: float = DEFAULT_MAX_DURATION_S,
    reader: Reader = DEFAULT_READER,
) -> MidiSong:
    """Parse the bytes of a MIDI file; ``name`` is used in error messages. See :func:`read_midi`."""
    if reader not in READERS:
        raise ValueError(f"no reader is called {reader!r}; there are {' and '.join(READERS)}")
    opened = open_midi(data, name, clips=reader == "reference")
    midi = opened.midi
    _check_track(midi, track, name)
    if midi.type == 2 and track is not None:  # what the other sequences say is not said to this one
        midi.tracks = [own if index + 1 == track else mido.MidiTrack() for index, own in enumerate(midi.tracks)]
    played = midi.tracks if track is None else [midi.tracks[track - 1]]
    n_onsets = sum(is_onset(message) for own in played for message in own)
    if n_onsets > MAX_NOTES:
        raise MidiError(f"{name}: holds {n_onsets} notes, more than the limit of {MAX_NOTES}; split it into parts")
    tempo_map = TempoMap.from_midi(midi)
    events, n_zones = share_zones(spelled_out(merge_tracks(midi.tracks)))
    expression_reader = ExpressionReader(tempo_map.seconds)
    expression = expression_reader.read(events)
    drum_parts = DrumParts.from_events(events)
    counts = count_messages(played, drum_parts)
    end_ticks = [sum(message.time for message in own) for own in midi.tracks]
    if reader == "reference":
        found = _read_as_reference(midi, track, tempo_map, drum_parts, counts)
    else:
        del counts["sostenuto pedal"]  # which is followed
        music = MusicReader(tempo_map, drum_parts, end_ticks)
        found = music.read(events, expression, None if track is None else track - 1)
    notes = found.notes
    if not notes:
        raise MidiError(_nothing_to_render(midi, track, name, found))
    end_s = max(note.end_s for note in notes)
    _check_length(name, end_s, max_duration_s)
    n_notes = Counter(note.track for note in notes)
    remarks = [*_reader_remarks(found, n_zones, expression_reader.n_clamped), *file_remarks(midi.tracks, counts)]
    return MidiSong(
        notes=notes,
        end_s=end_s,
        format=midi.type,
        ticks_per_beat=midi.ticks_per_beat,
        tempo_changes=tempo_map.changes(),
        tempo_tracks=tempo_map.tracks,
        tracks=[
            TrackInfo(own_name, len(own), n_notes[index])
            for index, (own_name, own) in enumerate(zip(opened.names, midi.tracks, strict=True))
        ],
        n_unclosed_notes=found.n_unclosed,
        n_zero_length_notes=found.n_zero_length,
        ignored=dict(counts),
        bars=BarMap.from_midi(midi, tempo_map),
        track=track,
        expression=expression,
        file_end_s=max(end_s, tempo_map.seconds(max(end_ticks))),
        reader=reader,
        file_remarks=(*opened.remarks, *remarks),
    )


def _read_as_reference(
    midi: mido.MidiFile, track: int | None, tempo_map: TempoMap, drum_parts: DrumParts, counts: Counter[str]
) -> FoundNotes:
    """The notes of the reference reader; it lets them outlast "all notes off", which ``counts`` then tells."""
    reader = ReferenceReader(tempo_map, ChannelLevels.from_midi(midi), drum_parts)
    for index, own in enumerate(midi.tracks):
        if track in (None, index + 1):
            reader.read(index, own)
    if reader.n_overruled_silences:
        counts["all notes off"] += reader.n_overruled_silences
    return FoundNotes(apply_sustain(reader.instruments), reader.n_unclosed_notes, reader.n_zero_length_notes)


def _reader_remarks(found: FoundNotes, n_zones: int, n_clamped: int) -> list[Remark]:
    n_short, n_open = found.n_zero_length, found.n_unclosed
    clamped = f"{count(n_clamped, 'parameter')} (bend range, tuning) beyond any use, cut down"
    remarks = [
        Remark("zero_length", n_short, f"{count(n_short, 'note')} of no length left out"),
        Remark("unclosed", n_open, f"{count(n_open, 'note')} never closed, ended with the track"),
        Remark("mpe", n_zones, "MPE: each note bends by itself", needs="pitch_bend"),
        Remark("clamped", n_clamped, clamped),
    ]
    return [remark for remark in remarks if remark.count]


def _check_length(name: str, end_s: float, max_duration_s: float) -> None:
    if not end_s <= max_duration_s:
        raise MidiError(
            f"{name}: lasts {_hours(end_s)} by its own clock, more than the limit of {_hours(max_duration_s)}; "
            "one delta time or tempo is probably corrupt (raise the limit with ",
            Option("max_duration"),
            " if it is not)",
            option="max_duration",
            value=max_duration_s,
        )


def _check_track(midi: mido.MidiFile, track: int | None, name: str) -> None:
    n_tracks = len(midi.tracks)
    if track is None and midi.type == 2 and n_tracks > 1:
        what = f"{name}: is a type 2 file (independent sequences, no common time line); choose one with "
        raise MidiError(what, Option("track"), f" (1 to {n_tracks})")
    if track is not None and not 1 <= track <= n_tracks:
        has = "has no tracks" if n_tracks == 0 else "has 1 track" if n_tracks == 1 else f"has tracks 1 to {n_tracks}"
        raise MidiError(f"{name}: {has}, there is no ", Option("track", track), option="track", value=track)


def _nothing_to_render(midi: mido.MidiFile, track: int | None, name: str, found: FoundNotes) -> str:
    if found.n_zero_length:
        short = f"its only {count(found.n_zero_length, 'note')} begin and end at one moment"
        return f"{name}: holds no notes that can be heard: {short}; give them lengths and export it again"
    if track is None:
        return f"{name}: holds no notes; there is nothing to render"
    others = [str(number) for number, own in enumerate(midi.tracks, 1) if any(is_onset(message) for message in own)]
    shown = ", ".join(others[:MAX_TRACKS_NAMED]) + (" ..." if len(others) > MAX_TRACKS_NAMED else "")
    where = f"; notes are on {'track' if len(others) == 1 else 'tracks'} {shown}" if others else ""
    return f"{name}: track {track} holds no notes{where}"


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds:.0f} s"
