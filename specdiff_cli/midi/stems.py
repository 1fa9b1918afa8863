"""A song's notes by instrument, each to be rendered on its own."""

import itertools
import re
from collections import defaultdict
from collections.abc import Container, Sequence
from dataclasses import dataclass

from specdiff_cli.midi.instruments import DRUMS
from specdiff_cli.midi.levels import PAN_STEPS
from specdiff_cli.midi.notes import Note
from specdiff_cli.midi.programs import GM_NAMES, MODEL_CLASSES, model_class

_DRUMS = -1  # in place of a model class


@dataclass(frozen=True, slots=True)
class Stem:
    """One instrument of a song.

    Attributes:
        name: General MIDI's name, that of the model class where several of its programs play, or ``Drums``.
        slug: the name for files, unlike that of any other stem of the song: ``violin``, ``violin-2``.
        notes: in the order of the song's.
        pan: -1 (left) to 1 (right): the mean over its notes, each as much as it lasts.
    """

    name: str
    slug: str
    notes: list[Note]
    pan: float


def split_stems(notes: Sequence[Note]) -> list[Stem]:
    """One stem for each instrument that a voice tells apart, and one for the drums, in the order of their first notes.

    Channels of one instrument that stand in different places (first violins left, second violins right) are stems of
    their own.
    """
    channels: defaultdict[tuple[int, int], list[int]] = defaultdict(list)  # (class, channel) -> positions in `notes`
    for index, note in enumerate(notes):
        channels[_DRUMS if note.is_drum else model_class(note.program), note.channel].append(index)
    places: defaultdict[tuple[int, int], list[int]] = defaultdict(list)  # (class, place) -> positions in `notes`
    for (kind, _), indices in channels.items():
        places[kind, round(_mean_pan([notes[index] for index in indices]) * PAN_STEPS)] += indices
    groups = [[notes[index] for index in sorted(indices)] for indices in places.values()]
    groups.sort(key=lambda group: min(note.start_s for note in group))  # stable: at one time as the song has them
    stems: dict[str, Stem] = {}
    for group in groups:
        name = _name(group)
        slug = _unused_slug(name, stems)
        stems[slug] = Stem(name, slug, group, _mean_pan(group))
    return list(stems.values())


def _unused_slug(name: str, used: Container[str]) -> str:
    plain = "-".join(re.findall(r"[a-z0-9]+", name.lower()))
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
