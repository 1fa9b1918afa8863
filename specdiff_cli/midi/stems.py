"""A song's notes by instrument, each to be rendered on its own."""

import itertools
import re
from collections import defaultdict
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Literal

from specdiff_cli.midi.instruments import DRUMS
from specdiff_cli.midi.levels import PAN_STEPS
from specdiff_cli.midi.notes import Note
from specdiff_cli.midi.programs import GM_NAMES, MODEL_CLASSES, model_class
from specdiff_cli.midi.timeline import Part

_DRUMS = -1  # in place of a model class
_MAX_SLUG_CHARS = 60


@dataclass(frozen=True, slots=True)
class Stem:
    """One instrument or track of a song.

    Attributes:
        name: General MIDI's name, that of the model class where several of its programs play, or ``Drums``; or that of
            the track.
        slug: the name for files, unlike that of any other stem of the song: ``violin``, ``violin-2``.
        notes: in the order of the song's.
        pan: -1 (left) to 1 (right): the mean over its notes, each as much as it lasts.
    """

    name: str
    slug: str
    notes: list[Note]
    pan: float


def split_stems(
    notes: Sequence[Note], *, by: Literal["instruments", "tracks"] = "instruments", track_names: Sequence[str] = ()
) -> list[Stem]:
    """The notes in stems, in the order of their first notes.

    Args:
        notes: of a song.
        by: ``"instruments"``: a stem for each instrument that a voice tells apart, and one for the drums; channels of
            one instrument that stand in different places (first violins left, second violins right) are stems of
            their own. ``"tracks"``: a stem for each track of the file, whatever plays on it.
        track_names: of the song's tracks; those without a name are called by their number.
    """
    if by == "tracks":
        return _by_track(notes, track_names)
    channels: defaultdict[tuple[int, Part], list[int]] = defaultdict(list)  # (class, channel) -> positions in `notes`
    for index, note in enumerate(notes):
        kind = _DRUMS if note.is_drum else model_class(note.program)
        channels[kind, (note.port, note.channel)].append(index)
    places: defaultdict[tuple[int, int], list[int]] = defaultdict(list)  # (class, place) -> positions in `notes`
    for (kind, _), indices in channels.items():
        places[kind, round(_mean_pan([notes[index] for index in indices]) * PAN_STEPS)] += indices
    groups = [[notes[index] for index in sorted(indices)] for indices in places.values()]
    groups.sort(key=lambda group: min(note.start_s for note in group))  # stable: at one time as the song has them
    return _named_stems(groups, [_name(group) for group in groups])


def _by_track(notes: Sequence[Note], track_names: Sequence[str]) -> list[Stem]:
    tracks: defaultdict[int, list[Note]] = defaultdict(list)
    for note in notes:
        tracks[note.track].append(note)
    order = sorted(tracks, key=lambda track: min(note.start_s for note in tracks[track]))
    names = [track_names[track].strip() if track < len(track_names) else "" for track in order]
    named = [name or f"Track {track + 1}" for name, track in zip(names, order, strict=True)]
    return _named_stems([tracks[track] for track in order], named)


def _named_stems(groups: Sequence[list[Note]], names: Sequence[str]) -> list[Stem]:
    stems: dict[str, Stem] = {}
    for group, name in zip(groups, names, strict=True):
        slug = _unused_slug(name, stems)
        stems[slug] = Stem(name, slug, group, _mean_pan(group))
    return list(stems.values())


def _unused_slug(name: str, used: Container[str]) -> str:
    plain = "-".join(re.findall(r"[a-z0-9]+", name.lower()))[:_MAX_SLUG_CHARS].strip("-") or "track"
    slugs = itertools.chain([plain], (f"{plain}-{number}" for number in itertools.count(2)))
    return next(slug for slug in slugs if slug not in used)


def _name(notes: Sequence[Note]) -> str:
    if notes[0].is_drum:
        return DRUMS.capitalize()
    programs = {note.program for note in notes}
    return GM_NAMES[programs.pop()] if len(programs) == 1 else MODEL_CLASSES[model_class(programs.pop())].capitalize()


def _mean_pan(notes: Sequence[Note]) -> float:
    lengths_s = [max(note.end_s - note.start_s, 0.0) for note in notes]
    total_s = sum(lengths_s)
    if not total_s:
        return notes[0].pan
    mean = sum(note.pan * length_s for note, length_s in zip(notes, lengths_s, strict=True)) / total_s
    return min(1.0, max(-1.0, mean))
