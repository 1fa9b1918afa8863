"""A file that a visitor dropped: read, and described for the page."""

import re
import secrets
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from specdiff_cli.midi.edits import part_of
from specdiff_cli.midi.instruments import DRUMS, Part, find_instrument
from specdiff_cli.midi.notes import MidiSong, Note, parse_midi, read_bytes
from specdiff_cli.midi.summary import max_polyphony, pitch_name, summarize_instruments
from specdiff_cli.serving.limits import Limits
from specdiff_cli.wording import count, exact_clock

MIDI_SUFFIXES = [".mid", ".midi", ".kar", ".rmi"]  # what the page takes
MAX_BAR_LINES = 400
MAX_ROWS = 256  # of the table of instruments
MAX_NAME_CHARS = 80
MAX_TRACK_NAME_CHARS = 24
_Row = tuple[int, int, int, bool]  # track, channel, program, whether it is drums


@dataclass(frozen=True, slots=True)
class PlayedInstrument:
    """A row of the table of instruments: what a visitor keeps, gives another sound, or mutes.

    Attributes:
        name: as General MIDI calls it; of drums with the kit.
        program: from 0; of drums the kit.
        selector: what :class:`~specdiff_cli.midi.edits.Edits` knows just these notes by.
        tracks: where it plays, from 1, like the channels.
        track_name: of its only track, else empty.
        polyphony: the most notes at one time.
    """

    name: str
    program: int
    is_drum: bool
    selector: str
    tracks: tuple[int, ...]
    channels: tuple[int, ...]
    track_name: str
    n_notes: int
    lowest_pitch: int
    highest_pitch: int
    polyphony: int

    @property
    def pitch_range(self) -> str:
        """Lowest and highest key, by name; of drums by number, since their keys are no pitches."""
        shown = [str(key) if self.is_drum else pitch_name(key) for key in (self.lowest_pitch, self.highest_pitch)]
        return "–".join(dict.fromkeys(shown))


@dataclass(frozen=True, slots=True)
class OpenSong:
    """An upload that was read.

    ``name`` is the visitor's, shown and never used as a file's; ``token`` tells this upload from others.
    """

    path: Path
    name: str
    song: MidiSong
    instruments: tuple[PlayedInstrument, ...]
    bar_starts_s: tuple[float, ...]
    facts: str
    token: str = field(default_factory=lambda: secrets.token_hex(4))


def read_upload(path: Path, name: str, limits: Limits) -> OpenSong:
    """Raises MidiError: it is no MIDI file, damaged, or more than the page takes. OSError: it cannot be read."""
    limits.check_bytes(path.stat().st_size, name)
    song = parse_midi(read_bytes(path), name, max_duration_s=limits.max_duration_s)
    limits.check_notes(len(song.notes), name)
    return OpenSong(
        path=path,
        name=name,
        song=song,
        instruments=tuple(played_instruments(song)),
        bar_starts_s=bar_starts_s(song),
        facts=_facts(name, song),
    )


def shown_name(name: str) -> str:
    """A visitor's name for a file, without folders and control characters, and not endless."""
    plain = "".join(c for c in re.split(r"[/\\]", name)[-1] if c.isprintable()).strip()
    return _short(plain, MAX_NAME_CHARS)


def played_instruments(song: MidiSong) -> list[PlayedInstrument]:
    """The instruments as ``inspect-midi`` lists them, one row for each that can be chosen by itself.

    Parts that no name tells apart (one instrument on several tracks, each of which plays others, too) share a row, and
    so do all of one instrument in a file of more than ``MAX_ROWS``.
    """
    names = [track.name for track in song.tracks]
    notes: defaultdict[_Row, list[Note]] = defaultdict(list)
    for note in song.notes:
        notes[note.track, note.channel, note.program, note.is_drum].append(note)
    parts = {row: {part_of(note, names) for note in own} for row, own in notes.items()}
    all_parts = frozenset().union(*parts.values())
    sounds: defaultdict[str, list[_Row]] = defaultdict(list)
    for row in sorted(notes):
        sounds[DRUMS if row[3] else str(row[2])].append(row)
    found = []
    for sound, rows in sounds.items():
        # A visitor cannot look through thousands of rows, and finding names for them takes the square of their number.
        selectors = [_selector(parts[row], all_parts) for row in rows] if len(notes) <= MAX_ROWS else [None]
        if all(selectors):
            found += [_described(notes[row], str(name), names) for row, name in zip(rows, selectors, strict=True)]
        else:
            found.append(_described([note for row in rows for note in notes[row]], sound, names))
    return sorted(found, key=lambda item: (item.tracks, item.channels, item.program))


def bar_starts_s(song: MidiSong) -> tuple[float, ...]:
    """Where bars begin; none where there are too many to draw, or no beats."""
    if song.bars is None:
        return ()
    n_bars = song.bars.count(song.end_s)
    return tuple(song.bars.start_s(bar) for bar in range(1, n_bars + 1)) if n_bars <= MAX_BAR_LINES else ()


def _selector(wanted: set[Part], all_parts: Iterable[Part]) -> str | None:
    """A name that picks just these parts, which play one program on one channel of one track; None: there is none."""
    part = next(iter(wanted))
    sound = DRUMS if part.is_drum else str(part.program)
    channel = f"ch{part.channel + 1}"
    for text in (sound, channel, f"track:{part.track + 1}", f"port{part.port + 1}:{channel}"):
        instrument = find_instrument(text)
        if {other for other in all_parts if instrument.picks(other)} == wanted:
            return text
    return None


def _described(notes: Sequence[Note], selector: str, track_names: Sequence[str]) -> PlayedInstrument:
    """The row of notes that one name picks."""
    found = summarize_instruments(notes)
    first = found[0]
    tracks = sorted({item.track for item in found})
    name = track_names[tracks[0]] if len(tracks) == 1 and tracks[0] < len(track_names) else ""
    return PlayedInstrument(
        name=first.name if len({item.name for item in found}) == 1 else DRUMS.capitalize(),
        program=first.program,
        is_drum=first.is_drum,
        selector=selector,
        tracks=tuple(track + 1 for track in tracks),
        channels=tuple(sorted({item.channel + 1 for item in found})),
        track_name=_short(_printable(name), MAX_TRACK_NAME_CHARS),
        n_notes=len(notes),
        lowest_pitch=min(item.lowest_pitch for item in found),
        highest_pitch=max(item.highest_pitch for item in found),
        polyphony=max_polyphony(notes),
    )


def _printable(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _short(text: str, n_chars: int) -> str:
    return text if len(text) <= n_chars else f"{text[: n_chars - 1]}…"


def _facts(name: str, song: MidiSong) -> str:
    facts = [name, exact_clock(song.end_s), count(len(song.notes), "note")]
    if song.bars is not None:
        facts.append(count(song.bars.count(song.end_s), "bar"))
        if len(song.tempo_changes) == 1:
            facts.append(f"{song.tempo_changes[0][1]:.4g} bpm")
    return " · ".join(facts)
