"""Messages moved between tracks, which must not change a note: programs, controllers, pedals, note-offs.

    python fuzz/move_state.py FOLDER [--seconds 60] [--seed 0] [--findings DIR]

A message is moved only where nothing else happens on its port and channel at its tick, so that its order stays; a
program only where one track plays the channel (a track's own program is its own); a note-off only of a key that one
track presses, as often as it is released (unison of two tracks is told apart by tracks). Files whose notes change are
written to the findings folder, and the exit status is 1.
"""

import argparse
import io
import random
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

import mido

from specdiff_cli.errors import MidiError
from specdiff_cli.midi.notes import MidiSong, parse_midi
from specdiff_cli.midi.opening import open_midi

_MOVED = ("control_change", "program_change", "pitchwheel", "note_off")
Event = tuple[int, mido.Message | mido.MetaMessage]


def move_state(data: bytes, rng: random.Random) -> bytes | None:
    """The file of type 1 with some of its messages in other tracks of the same port; None: nothing to move."""
    midi = open_midi(data, "seed").midi
    if midi.type != 1 or len(midi.tracks) < 2:
        return None
    tracks, ports = [_timed(track) for track in midi.tracks], [_port(track) for track in midi.tracks]
    crowd: Counter[tuple[int, int, int]] = Counter()
    players: defaultdict[tuple[int, int], set[int]] = defaultdict(set)
    pressing: defaultdict[tuple[int, int, int], set[int]] = defaultdict(set)
    depths: Counter[tuple[int, int, int]] = Counter()
    for index, track in enumerate(tracks):
        for tick, message in track:
            if hasattr(message, "channel"):
                crowd[ports[index], message.channel, tick] += 1
                if message.type in ("note_on", "note_off"):
                    key = (ports[index], message.channel, message.note)
                    is_press = message.type == "note_on" and message.velocity > 0
                    depths[key] += 1 if is_press else -1
                    pressing[key] |= {index} if is_press else set()
                    players[key[:2]] |= {index} if is_press else set()
    arrivals: list[list[Event]] = [[] for _ in tracks]
    share = rng.choice((0.05, 0.5, 1.0))
    for index, track in enumerate(tracks):
        goals = [other for other, port in enumerate(ports) if port == ports[index] and other != index]
        kept: list[Event] = []
        for tick, message in track:
            is_alone = message.type in _MOVED and crowd[ports[index], message.channel, tick] == 1
            if is_alone and message.type == "program_change":
                is_alone = len(players[ports[index], message.channel]) < 2
            elif is_alone and message.type == "note_off":
                key = (ports[index], message.channel, message.note)
                is_alone = len(pressing[key]) == 1 and depths[key] == 0
            if is_alone and goals and rng.random() < share:
                arrivals[rng.choice(goals)].append((tick, message))
            else:
                kept.append((tick, message))
        track[:] = kept
    if not any(arrivals):
        return None
    for track, more, own in zip(tracks, arrivals, midi.tracks, strict=True):
        own[:] = _deltas(sorted([*track, *more], key=lambda item: item[0]))
    file = io.BytesIO()
    midi.save(file=file)
    return file.getvalue()


def _timed(track: mido.MidiTrack) -> list[Event]:
    tick, found = 0, []
    for message in track:
        tick += message.time
        if message.type != "end_of_track":
            found.append((tick, message))
    return [*found, (tick, mido.MetaMessage("marker"))]  # the track stays as long as it was


def _port(track: mido.MidiTrack) -> int:
    return next((message.port for message in track if message.type == "midi_port"), 0)


def _deltas(events: list[Event]) -> list[mido.Message | mido.MetaMessage]:
    last, found = 0, []
    for tick, message in events:
        found.append(message.copy(time=tick - last))
        last = tick
    return found


def heard(song: MidiSong) -> list[tuple[object, ...]]:
    """Everything about the notes of a song that a listener could tell."""
    return sorted(
        (note.start_s, note.end_s, note.pitch, note.velocity, note.program, note.is_drum, note.port, note.channel)
        + (note.level, note.pan, note.soft)
        for note in song.notes
    )


def main() -> int:
    """Run until the time is over; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="MIDI files to start from")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--findings", type=Path, default=Path("findings"))
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)  # noqa: S311 - no secret
    paths = sorted(arguments.folder.rglob("*.mid"))
    n_moved = n_findings = 0
    end_s = time.monotonic() + arguments.seconds
    while paths and time.monotonic() < end_s:
        path = rng.choice(paths)
        try:
            song = parse_midi(path.read_bytes(), path.name)
            moved = move_state(path.read_bytes(), rng)
        except MidiError:
            continue
        if moved is None:
            continue
        n_moved += 1
        if heard(parse_midi(moved, path.name)) != heard(song):
            n_findings += 1
            arguments.findings.mkdir(parents=True, exist_ok=True)
            finding = arguments.findings / f"moved{arguments.seed}-{n_moved}-{path.name}"
            finding.write_bytes(moved)
            sys.stdout.write(f"{finding}: notes change when messages move between tracks\n")
    sys.stdout.write(f"{n_moved} files with messages moved, {n_findings} findings\n")
    return 1 if n_findings else 0


if __name__ == "__main__":
    sys.exit(main())
