"""What users call instruments: General MIDI's names, the model classes, families, numbers, channels, tracks."""

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from specdiff_cli.midi.programs import GM_NAMES, MODEL_CLASSES, N_PROGRAMS, model_class

N_CHANNELS = 16
DRUMS = "drums"

#: Family -> its programs, and the one that stands for it. These are what musicians mean, which is not always the group
#: of that name in General MIDI's list (whose strings hold timpani, and whose piano holds a harpsichord).
FAMILIES: dict[str, tuple[tuple[int, ...], int]] = {
    "piano": (tuple(range(4)), 0),
    "keyboard": (tuple(range(8)), 0),
    "guitar": (tuple(range(24, 32)), 24),
    "bass": (tuple(range(32, 40)), 32),
    "strings": ((*range(40, 46), *range(48, 52)), 48),
    "choir": (tuple(range(52, 55)), 52),
    "brass": (tuple(range(56, 64)), 61),
    "sax": (tuple(range(64, 68)), 65),
    "saxophone": (tuple(range(64, 68)), 65),
    "reed": (tuple(range(64, 72)), 68),
    "woodwinds": (tuple(range(64, 80)), 73),
    "synth effects": (tuple(range(96, 104)), 96),
    "ethnic": (tuple(range(104, 112)), 104),
    "percussive": (tuple(range(112, 120)), 112),
    "sound effects": (tuple(range(120, 128)), 120),
}

_CHANNEL = re.compile(r"(?:port ?(\d{1,3}) )?ch(?:annel)? ?(\d{1,3})")
_TRACK = re.compile(r"\s*track\s*(?::\s*|\s)(.+)", re.IGNORECASE | re.DOTALL)
_MAX_SUGGESTIONS = 4


@dataclass(frozen=True, slots=True)
class Part:
    """Notes that every name picks alike: one program on one channel of one track (from 0), drums or not."""

    program: int
    channel: int
    is_drum: bool
    port: int = 0
    track: int = 0
    track_name: str = ""

    @property
    def name(self) -> str:
        """As ``inspect-midi`` shows it."""
        return DRUMS if self.is_drum else GM_NAMES[self.program]


@dataclass(frozen=True, slots=True)
class Instrument:
    """What a name stands for.

    Attributes:
        text: as the user typed it.
        programs: of the notes it picks; none for drums and channels.
        program: the one that plays where this name is a goal; -1 for drums, channels and tracks.
        channel: from 0, where the name is that of a channel.
        port: from 0, where the channel is that of one port; None: of every port.
        track: from 0, where the name is that of a track.
        track_name: in plain letters, where a track is named by its name.
        is_drums: it means the drums.
    """

    text: str
    programs: frozenset[int] = frozenset()
    program: int = -1
    channel: int | None = None
    is_drums: bool = False
    port: int | None = None
    track: int | None = None
    track_name: str | None = None

    @property
    def is_place(self) -> bool:
        """Does it name a channel or track, whatever plays there?"""
        return self.channel is not None or self.track is not None or self.track_name is not None

    def picks(self, part: Part) -> bool:
        """Does the name mean these notes?"""
        if self.channel is not None:
            return part.channel == self.channel and self.port in (None, part.port)
        if self.track is not None:
            return part.track == self.track
        if self.track_name is not None:
            return _plain(part.track_name) == self.track_name
        return part.is_drum if self.is_drums else not part.is_drum and part.program in self.programs


def find_instrument(text: str) -> Instrument:
    """The instrument, channel or track called ``text``; capitals and punctuation do not matter.

    The first of these that fits: ``track:2`` (a track, from 1) or ``track:Left hand`` (by its name in the file);
    ``ch10`` (a channel, from 1, of every port) or ``port2:ch10`` (of one port, from 1); a program number, from 0;
    ``drums``; a General MIDI name, model class or family; the only class, or else the only General MIDI name, that
    holds all the words; the only name that begins so.

    Raises:
        ValueError: nothing or several things are called so; the message is for the user and does not name an option.
    """
    if match := _TRACK.fullmatch(text):
        return _find_track(text, match[1])
    name = _plain(text)
    if match := _CHANNEL.fullmatch(name):
        channel = int(match[2])
        if match[1] is not None and int(match[1]) == 0:
            raise ValueError("there is no port 0; ports are counted from 1")
        if not 1 <= channel <= N_CHANNELS:
            raise ValueError(f"there is no channel {channel}; they are ch1 to ch{N_CHANNELS}")
        return Instrument(text, channel=channel - 1, port=None if match[1] is None else int(match[1]) - 1)
    if re.fullmatch(r"\d+", name):
        if len(name) > 3 or int(name) >= N_PROGRAMS:
            raise ValueError(
                f"there is no program {name:.9}; they are 0 to {N_PROGRAMS - 1} (a channel is written ch1)"
            )
        return Instrument(text, frozenset([int(name)]), int(name))
    if name in (DRUMS, "drum", "percussion"):
        return Instrument(text, is_drums=True)
    if name in _NAMES:
        return Instrument(text, *_NAMES[name])
    words = set(name.split())
    for names in (_CLASS_NAMES, _PROGRAM_NAMES):
        if found := [other for other in names if words and words <= set(other.split())]:
            return _only(text, found)
    if found := [other for other in _NAMES if name and other.startswith(name)]:
        return _only(text, found)
    close = difflib.get_close_matches(name, _NAMES, n=_MAX_SUGGESTIONS)
    hint = f"; did you mean {_either(close)}?" if close else ""
    raise ValueError(f"no instrument is called {text!r}{hint}")


def _find_track(text: str, name: str) -> Instrument:
    plain = _plain(name)
    if not plain:
        raise ValueError(f'{text!r} names no track; write track:2 or track:"Left hand"')
    if re.fullmatch(r"\d{1,5}", name.strip()):
        if int(name) == 0:
            raise ValueError("there is no track 0; tracks are counted from 1")
        return Instrument(text, track=int(name) - 1)
    return Instrument(text, track_name=plain)


def _only(text: str, names: list[str]) -> Instrument:
    meanings = {_NAMES[name][0] for name in names}
    if len(meanings) > 1:
        raise ValueError(f"{text!r} can mean {_either(names)}")
    return Instrument(text, *_NAMES[names[0]])


def _either(names: list[str]) -> str:
    if len(names) > _MAX_SUGGESTIONS:
        return ", ".join(names[:_MAX_SUGGESTIONS]) + " ..."
    return " or ".join(", ".join(names).rsplit(", ", 1))


def _plain(name: str) -> str:
    """Lower case, words parted by single blanks."""
    return " ".join(re.findall(r"[^\W_]+", name.lower()))


def _program_names() -> dict[str, tuple[frozenset[int], int]]:
    return {_plain(name): (frozenset([program]), program) for program, name in enumerate(GM_NAMES)}


def _class_names() -> dict[str, tuple[frozenset[int], int]]:
    programs: dict[int, list[int]] = {first: [] for first in MODEL_CLASSES}
    for program in range(N_PROGRAMS):
        programs[model_class(program)].append(program)
    return {_plain(name): (frozenset(programs[first]), first) for first, name in MODEL_CLASSES.items()}


_PROGRAM_NAMES = _program_names()
_CLASS_NAMES = _class_names()
_FAMILY_NAMES = {name: (frozenset(programs), program) for name, (programs, program) in FAMILIES.items()}
_NAMES = _FAMILY_NAMES | _CLASS_NAMES | _PROGRAM_NAMES  # of equal names the later ones count


def name_parts(parts: Iterable[Part], limit: int = 12) -> str:
    """What a file has, for messages: names in the order given, each once."""
    names = list(dict.fromkeys(part.name for part in parts))
    shown = ", ".join(names[:limit])
    return f"{shown} and {len(names) - limit} more" if len(names) > limit else shown
