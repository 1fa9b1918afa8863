"""What a listener may miss or wonder about, as data: found in one place, told by every command."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import mido

from specdiff_cli.midi.bars import is_meter
from specdiff_cli.midi.drum_parts import BANK_CONTROLLER, DrumParts
from specdiff_cli.midi.expression import ChannelExpression
from specdiff_cli.midi.holding import PEDAL_DOWN_FROM, SUSTAIN_CONTROLLER
from specdiff_cli.midi.levels import CENTRE_PAN, PAN_CONTROLLER
from specdiff_cli.midi.timeline import Part
from specdiff_cli.wording import count

if TYPE_CHECKING:
    from specdiff_cli.midi.song import Note

#: What voices may be able to follow, beyond notes and programs:
CAPABILITIES = {
    "velocity": "loud and soft notes; channel volume and expression as notes begin",
    "gain": "channel volume and expression while notes sound",
    "pitch_bend": "pitch bend and tuning",
    "modulation": "vibrato by the modulation wheel and by pressure on a channel",
    "pan": "a place for each note in stereo",
    "portamento": "glides from note to note",
    "scale_tuning": "scales tuned note by note",
    "soft_pedal": "the soft pedal",
    "half_pedal": "a pedal that is half down",
    "breath": "breath and balance",
    "aftertouch": "pressure on single keys",
    "effects": "reverb and chorus as a file sets them",
    "banks": "sounds beyond General MIDI's, by bank",
}


@dataclass(frozen=True, slots=True)
class Remark:
    """Something about a file that its listener may miss or wonder about.

    Attributes:
        kind: one word for programs: ``zero_length``, ``pitch``, ``fade`` ...
        count: how many notes, messages or tracks.
        text: one short sentence, without a full stop.
        needs: what a voice must be able to follow for the remark to be idle (one of ``CAPABILITIES``); None:
            nothing helps.
        is_heard: it changes what is heard; else it is only odd.
    """

    kind: str
    count: int
    text: str
    needs: str | None = None
    is_heard: bool = True

    @property
    def unfollowed(self) -> str:
        """The text, for a voice that the remark is left for."""
        return self.text if self.needs is None else f"{self.text}: not followed"


BREATH_CONTROLLER, BALANCE_CONTROLLER = 2, 8

# Controller -> what it is called, and the smallest value that asks for something.
_COUNTED_CONTROLLERS = {
    BANK_CONTROLLER: ("bank select", 1),
    1: ("modulation", 1),
    BREATH_CONTROLLER: ("breath", 1),
    6: ("tuning or other parameter", 0),  # data entry: what the registered parameter before it is set to
    7: ("channel volume", 0),
    BALANCE_CONTROLLER: ("balance", 0),
    PAN_CONTROLLER: ("pan", 0),
    11: ("expression", 0),
    32: ("bank select", 1),
    65: ("portamento", 64),
    66: ("sostenuto pedal", 64),
    67: ("soft pedal", 64),
    84: ("portamento", 0),
    91: ("reverb", 0),
    93: ("chorus", 0),
}


def remaining(remarks: Iterable[Remark], follows: Collection[str]) -> list[Remark]:
    """The remarks about what is heard that are left for a voice that can follow some ``CAPABILITIES``."""
    return [remark for remark in remarks if remark.is_heard and (remark.needs is None or remark.needs not in follows)]


def count_messages(tracks: Iterable[mido.MidiTrack], drum_parts: DrumParts) -> Counter[str]:
    """What messages ask for that the published models cannot follow: kind -> how many messages."""
    found: Counter[str] = Counter()
    for track in tracks:
        tick = 0
        for message in track:
            tick += message.time
            kind = message.type
            if kind == "control_change":
                name, counts_from = _COUNTED_CONTROLLERS.get(message.control, ("", 0))
                asks_nothing = message.control in (PAN_CONTROLLER, BALANCE_CONTROLLER) and message.value == CENTRE_PAN
                if name and message.value >= counts_from and not (asks_nothing or drum_parts.follows(message, tick)):
                    found[name] += 1
                found["half pedal"] += message.control == SUSTAIN_CONTROLLER and 0 < message.value < PEDAL_DOWN_FROM
            elif kind == "pitchwheel":
                found["pitch bend"] += message.pitch != 0  # a bend back to the centre asks for nothing
            elif kind == "aftertouch":
                found["channel pressure"] += 1
            elif kind == "polytouch":
                found["aftertouch"] += 1
            elif kind == "sysex" and not drum_parts.follows(message, tick):
                found["system exclusive"] += 1
    return +found


def file_remarks(tracks: Sequence[mido.MidiTrack], counts: Mapping[str, int]) -> list[Remark]:
    """About messages that are not about single notes. ``counts``: of :func:`count_messages`."""
    n_still, n_meters = 0, 0
    for message in chain.from_iterable(tracks):
        if message.type == "set_tempo":
            n_still += message.tempo == 0
        elif message.type == "time_signature":
            n_meters += not is_meter(message.numerator, message.denominator)
    aftertouch = counts.get("aftertouch", 0)
    n_effects = counts.get("reverb", 0) + counts.get("chorus", 0)
    n_banks = counts.get("bank select", 0)
    n_half = counts.get("half pedal", 0)
    n_breath = counts.get("breath", 0) + counts.get("balance", 0)
    found = [
        Remark("tempo_zero", n_still, f"{count(n_still, 'tempo')} of 0 passed over: time would stand still"),
        Remark("meter", n_meters, f"{count(n_meters, 'impossible time signature')} passed over", is_heard=False),
        Remark(
            "aftertouch", aftertouch, f"pressure on single keys ({count(aftertouch, 'message')})", needs="aftertouch"
        ),
        Remark(
            "half_pedal",
            n_half,
            f"a pedal less than half down ({count(n_half, 'message')}), which is up here",
            needs="half_pedal",
        ),
        Remark("breath", n_breath, f"breath and balance ({count(n_breath, 'message')})", needs="breath"),
        Remark("effects", n_effects, f"reverb and chorus as the file sets them ({n_effects})", needs="effects"),
        Remark("banks", n_banks, f"sounds of other banks ({count(n_banks, 'bank select')})", needs="banks"),
    ]
    return [remark for remark in found if remark.count]


def note_remarks(notes: "Sequence[Note]", expression: Mapping[Part, ChannelExpression]) -> list[Remark]:
    """What the channels ask of the notes that sound on them, and how many notes that concerns."""
    found: Counter[str] = Counter()
    n_silent = 0
    for note in notes:
        channel = expression.get((note.port, note.channel))
        if channel is not None:
            found.update(_asked_of(note, channel))
            n_silent += note.audible_s is None and channel.gain.at(note.start_s) == 0
        if note.glide_from is not None:
            found["portamento"] += 1
        if note.tuning_semitones and not note.is_drum:
            found["scale_tuning"] += 1
        if note.soft >= 0.5:
            found["soft_pedal"] += 1
    remarks = [
        Remark(kind, found[kind], f"{count(found[kind], 'note')} {text}", needs=needs)
        for kind, (text, needs) in _ASKED.items()
        if found[kind]
    ]
    if notes and n_silent == len(notes):
        text = "volume or expression is 0 throughout: where a voice follows them, all is silent"
        remarks.insert(0, Remark("silent", n_silent, text))
    return remarks


# Kind -> the words behind "12 notes", and what a voice must be able to follow.
_ASKED = {
    "pitch": ("bent or tuned", "pitch_bend"),
    "fade": ("under moving volume or expression", "gain"),
    "level": ("begun at a volume or expression of the file's own", "velocity"),
    "modulation": ("with vibrato by the modulation wheel or pressure", "modulation"),
    "pan": ("placed to a side", "pan"),
    "portamento": ("gliding from another pitch", "portamento"),
    "scale_tuning": ("of a tuned scale", "scale_tuning"),
    "soft_pedal": ("under the soft pedal", "soft_pedal"),
}


def _asked_of(note: "Note", channel: ChannelExpression) -> list[str]:
    kinds = []
    start_s, end_s = note.start_s, note.end_s
    if not note.is_drum:
        pitch = channel.pitch_semitones
        if pitch.at(start_s) or pitch.changes_within(start_s, end_s):
            kinds.append("pitch")
        if channel.modulation.at(start_s) or channel.modulation.changes_within(start_s, end_s):
            kinds.append("modulation")
    if channel.gain.changes_within(start_s, end_s):
        kinds.append("fade")
    if channel.gain.at(start_s) != 1:
        kinds.append("level")
    if channel.pan.at(start_s):
        kinds.append("pan")
    return kinds
