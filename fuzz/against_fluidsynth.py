"""Which notes sound when: our reader of MIDI files against FluidSynth's own rules, file by file.

    python fuzz/against_fluidsynth.py FOLDER... --soundfont FILE.sf3 [--show 10]

FluidSynth gets the messages of a file tick by tick, tracks in order, and is asked after each tick which of its notes
are held by a key or pedal. All programs are a synth lead, whose notes last as long as they are held; drums are left
out. Prints how many notes agree within a tick and, for the others, which known difference of the rules explains them
(see docs/reliability.md). The exit status is 1 if any is left unexplained.
"""

import argparse
import ctypes
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import mido

from specdiff_cli.corpus.soundfont import FluidSynth
from specdiff_cli.errors import MidiError
from specdiff_cli.midi.drum_parts import DRUM_CHANNEL
from specdiff_cli.midi.notes import Note, parse_midi
from specdiff_cli.midi.opening import open_midi
from specdiff_cli.midi.tempo import TempoMap

N_CHANNELS = 64  # 4 ports
LEAD = 80  # a sound that has every key and lasts as long as it is held
MAX_VOICES = 1024
BLOCK_SAMPLES = 64
RELEASE_GENERATOR, SHORTEST = 38, -12000.0  # timecents: notes that are let go must not crowd the list


class Key(NamedTuple):
    """A note by what every rule agrees on."""

    channel: int  # 16 for each port
    pitch: int
    tick: int


class HoldingSynth(FluidSynth):
    """FluidSynth, asked which notes it holds."""

    def __init__(self, soundfont: Path) -> None:
        super().__init__(soundfont)
        for setting, value in ((b"synth.midi-channels", N_CHANNELS), (b"synth.polyphony", MAX_VOICES)):
            self._library.fluid_settings_setint(self._settings, setting, value)
        for name in ("is_on", "is_sustained", "is_sostenuto", "get_id", "get_channel"):
            getattr(self._library, f"fluid_voice_{name}").argtypes = [ctypes.c_void_p]
        self._voice_list = (ctypes.c_void_p * MAX_VOICES)()
        self._number = -1  # FluidSynth counts its notes; the first one is asked for

    def held(self, tracks: list[mido.MidiTrack]) -> Iterator[tuple[Key, int | None]]:
        """(note, tick at which nothing holds it any more, or None) of every note-on but those of drums."""
        with self._fresh_synth():
            for channel in range(N_CHANNELS):
                self._library.fluid_synth_program_change(self._synth, channel, LEAD)
                self._library.fluid_synth_set_gen(self._synth, channel, RELEASE_GENERATOR, ctypes.c_float(SHORTEST))
            self._number = -1
            open_notes: dict[int, Key] = {}
            tick = 0
            for at, channel, message in merged(tracks):
                is_silencing = message.type == "control_change" and message.control >= 64
                if at != tick or is_silencing:
                    yield from self._ended(open_notes, tick)
                    tick = at
                self._play_message(message, channel, tick, open_notes)
                if is_silencing:
                    yield from self._ended(open_notes, tick)
            yield from self._ended(open_notes, tick)
            yield from ((key, None) for key in open_notes.values())

    def _play_message(self, message: mido.Message, channel: int, tick: int, open_notes: dict[int, Key]) -> None:
        library, synth = self._library, self._synth
        if message.type == "note_on" and message.velocity > 0:
            if channel % 16 != DRUM_CHANNEL:
                library.fluid_synth_noteon(synth, channel, message.note, message.velocity)
                self._number = self._number + 1 if self._number >= 0 else max(self._voices(), default=-1)
                open_notes[self._number] = Key(channel, message.note, tick)
        elif message.type in ("note_on", "note_off"):
            library.fluid_synth_noteoff(synth, channel, message.note)
        elif message.type == "control_change" and message.control not in (0, 32):
            library.fluid_synth_cc(synth, channel, message.control, message.value)

    def _voices(self) -> dict[int, bool]:
        """Number of each sounding note -> is it held?"""
        voices = self._voice_list
        self._library.fluid_synth_get_voicelist(self._synth, voices, MAX_VOICES, -1)
        found: defaultdict[int, bool] = defaultdict(bool)
        for voice in voices:
            if not voice:
                break
            found[self._library.fluid_voice_get_id(voice)] |= self._is_held(voice)
        return found

    def _is_held(self, voice: int) -> bool:
        """FluidSynth leaves a voice marked as sustained while it fades, so the pedals are asked, too."""
        if self._library.fluid_voice_is_on(voice):
            return True
        channel = self._library.fluid_voice_get_channel(voice)
        is_sustained = self._library.fluid_voice_is_sustained(voice) and self._is_down(channel, 64)
        return bool(is_sustained or self._library.fluid_voice_is_sostenuto(voice) and self._is_down(channel, 66))

    def _is_down(self, channel: int, pedal: int) -> bool:
        value = ctypes.c_int()
        self._library.fluid_synth_get_cc(self._synth, channel, pedal, ctypes.byref(value))
        return value.value >= 64

    def _ended(self, open_notes: dict[int, Key], tick: int) -> Iterator[tuple[Key, int | None]]:
        self._write_stereo(BLOCK_SAMPLES)
        voices = self._voices()
        for number in [number for number in open_notes if not voices.get(number)]:
            yield open_notes.pop(number), tick


def merged(tracks: list[mido.MidiTrack]) -> list[tuple[int, int, mido.Message]]:
    """(tick, channel with its port, message) by tick, then by track."""
    found = []
    for track in tracks:
        tick, port = 0, 0
        for message in track:
            tick += message.time
            if message.type == "midi_port":
                port = message.port
            elif not message.is_meta and hasattr(message, "channel"):
                found.append((tick, 16 * port + message.channel, message))
    return sorted(found, key=lambda item: item[0])


def compare(data: bytes, name: str, synth: HoldingSynth) -> Iterator[tuple[str, str]]:
    """(how a note compares, where it is) of each note of a file."""
    song = parse_midi(data, name, max_duration_s=float("inf"))
    midi = open_midi(data, name).midi
    tempo_map = TempoMap.from_midi(midi)
    ours: defaultdict[Key, list[Note]] = defaultdict(list)
    onsets: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
    spans: defaultdict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    for note in song.notes:
        key = Key(16 * note.port + note.channel, note.pitch, round(tempo_map.tick(note.start_s)))
        ours[key].append(note)
        onsets[key[:2]].append(key.tick)
        spans[key[:2]].append((key.tick, round(tempo_map.tick(note.end_s))))
    theirs: defaultdict[Key, list[int | None]] = defaultdict(list)
    for key, end in synth.held(midi.tracks):
        theirs[key].append(end)
    last_tick = max(sum(message.time for message in track) for track in midi.tracks)
    for key in sorted(ours.keys() | theirs.keys()):
        if key.channel % 16 == DRUM_CHANNEL or any(note.is_drum for note in ours.get(key, ())):
            continue
        ends = sorted(round(tempo_map.tick(note.end_s)) for note in ours.get(key, ()))
        their_ends = sorted(last_tick if end is None else end for end in theirs.get(key, ()))
        where = f"{name}: channel {key.channel + 1}, pitch {key.pitch}, tick {key.tick}: {ends} and {their_ends}"
        presses = [tick for tick in onsets[key[:2]] if tick > key.tick]
        overlapped = any(end > key.tick for tick, end in spans[key[:2]] if tick < key.tick)
        yield explain(key, ends, their_ends, presses, last_tick, overlapped), where


def explain(
    key: Key, ends: list[int], their_ends: list[int], presses: list[int], last_tick: int, overlapped: bool
) -> str:
    """In one word or two, how the ends of the notes of one key that begin at one tick compare."""
    if len(ends) == len(their_ends) and all(abs(a - b) <= 1 for a, b in zip(ends, their_ends, strict=True)):
        return "same"
    if all(end <= key.tick for end in their_ends) and not ends:
        return "of no length"
    if ends and key.tick in their_ends and len(ends) == 1:
        return "released at the tick of its press"
    if last_tick in their_ends:
        return "never ended"
    if len(ends) > 1 or len(their_ends) > 1:
        return "pressed twice at once"
    if ends and their_ends and any(abs(tick - their_ends[0]) <= 1 for tick in presses):
        return "ended by the next press"
    if ends and any(tick <= max([*ends, *their_ends]) for tick in presses) or overlapped:
        return "pressed again while down"
    return "unexplained"


def main() -> int:
    """Compare all files; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", help="MIDI files, or folders of them")
    parser.add_argument("--soundfont", type=Path, required=True)
    parser.add_argument("--show", type=int, default=10, help="how many of each kind of difference to list")
    arguments = parser.parse_args()
    synth = HoldingSynth(arguments.soundfont)
    counts: Counter[str] = Counter()
    n_files = 0
    paths = [path for folder in arguments.folders for path in (sorted(folder.rglob("*.mid")) or [folder])]
    for path in paths:
        try:
            for kind, where in compare(path.read_bytes(), path.name, synth):
                counts[kind] += 1
                if kind != "same" and counts[kind] <= arguments.show:
                    sys.stdout.write(f"{kind}: {where}\n")
        except MidiError:
            continue
        n_files += 1
    synth.close()
    told = ", ".join(f"{number} {kind}" for kind, number in counts.most_common())
    sys.stdout.write(f"{n_files} files, {counts.total()} notes: {told}\n")
    return 1 if counts["unexplained"] else 0


if __name__ == "__main__":
    sys.exit(main())
