"""Damaged MIDI files are read or refused with one line: nothing else ever happens. The long run is in ``fuzz/``."""

import ctypes.util
import importlib.util
import random
import sys
import time
import tracemalloc
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from midi_files import control, midi_bytes, midi_header, midi_track, note, program, tempo

from specdiff_cli.errors import MidiError
from specdiff_cli.midi.notes import parse_midi
from specdiff_cli.midi.windows import tokenize

SONGS = [
    midi_bytes(
        [tempo(0, 400_000), tempo(960, 700_000)],
        [
            program(0, 0, 40),
            control(0, 0, 64, 127),
            *note(0, 480, 0, 60),
            *note(480, 960, 0, 64),
            control(990, 0, 64, 0),
        ],
        [*note(0, 100, 9, 36), *note(240, 300, 9, 38), control(400, 9, 123, 0)],
    ),
    midi_bytes([item for step in range(60) for item in note(60 * step, 60 * step + 90, step % 16, 30 + step)], kind=0),
    midi_bytes(note(0, 480, 0, 60), ticks_per_beat=96),
]


def check(data: bytes) -> bool:
    """Was it read? Any exception but ours fails the test."""
    try:
        song = parse_midi(data, "x.mid")
    except MidiError as error:
        assert str(error).startswith("x.mid: ")
        assert "\n" not in str(error)
        assert len(str(error)) < 400
        return False
    assert all(0 <= found.start_s < found.end_s <= song.end_s for found in song.notes)
    assert all(0 <= found.pitch < 128 and 0 < found.velocity < 128 for found in song.notes)
    for window in tokenize(song.notes):
        assert len(window.tokens) <= 2048
    return True


def fuzz_module(name: str) -> ModuleType:
    path = Path(__file__).parents[1] / "fuzz" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"fuzz_{name}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look their annotations up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def mutations() -> ModuleType:
    return fuzz_module("mutations")


def test_files_damaged_at_random(mutations: ModuleType) -> None:
    rng = random.Random(5)
    n_read = sum(check(mutations.mutate(rng.choice(SONGS), rng, 10_000)) for _ in range(600))
    assert 50 < n_read < 550  # both ends are tried


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(SONGS),
    st.lists(st.tuples(st.floats(0, 0.999), st.binary(max_size=6), st.integers(0, 6)), max_size=5),
)
def test_bytes_replaced_by_any_others(song: bytes, edits: list[tuple[float, bytes, int]]) -> None:
    damaged = bytearray(song)
    for place, piece, n_removed in edits:
        at = int(place * len(damaged))
        damaged[at : at + n_removed] = piece
    check(bytes(damaged))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 0xFFFF), st.integers(0, 3), st.integers(0, 0xFFFF), st.integers(0, 2**32 - 1))
def test_whatever_lengths_and_divisions_are_claimed(kind: int, n_tracks: int, division: int, n_bytes: int) -> None:
    song = SONGS[0]
    header = song[:8] + b"".join(value.to_bytes(2, "big") for value in (kind % 4, n_tracks, division))
    check(header + song[14:])
    check(header + song[14:18] + n_bytes.to_bytes(4, "big") + song[22:])


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=80))
def test_a_track_of_any_bytes(body: bytes) -> None:
    check(b"MThd" + bytes((0, 0, 0, 6, 0, 0, 0, 1, 0, 96)) + b"MTrk" + len(body).to_bytes(4, "big") + body)
    check(b"RIFF" + len(body).to_bytes(4, "little") + b"RMIDdata" + body)


END = b"\x00\xff\x2f\x00"
THREE_HOURS = b"\x81\x83\xb5\x60"  # 2 153 184 ticks: 10 766 s at 100 ticks per beat of 0.5 s


def held_chords() -> bytes:
    """24 576 notes, on 48 tracks and all channels, held for three hours: all of 2100 windows begin with them."""
    onsets = b"".join(bytes((0, 0x90 | channel, pitch, 64)) for channel in range(16) for pitch in range(0, 128, 4))
    return midi_header(1, 48, 100) + midi_track(onsets + THREE_HOURS + END[1:]) * 48


NOTE = b"\0\x90\x3c\x40\x60\x3c\0"
RESET = b"\0\xf0\5\x7e\x7f\x09\1\xf7"  # General MIDI on


def all_channels() -> bytes:
    """A volume on each channel of 128 ports."""
    volumes = b"".join(bytes((0, 0xB0 | channel, 7, 90)) for channel in range(16))
    return b"".join(b"\0\xff\x21\1" + bytes((port,)) + volumes for port in range(128))


#: Up to 100 kB each, and the most of something.
WORST = {
    "one pitch 33 000 times at once": midi_header(0, 1, 96)
    + midi_track(b"\0\x90" + b"\x3c\x40\0" * 33_000 + b"\x3c\x40\x60\x80\x3c\0"),
    "every pitch under the pedal": midi_header(0, 1, 96)
    + midi_track(
        b"\0\xb0\x40\x7f\0\x90" + b"\0".join(bytes((i % 128, 64, 1, i % 128, 0)) for i in range(16_600)) + END
    ),
    "14 000 tempi": midi_header(0, 1, 96)
    + midi_track(b"\1\xff\x51\3\7\xa1\x20\1\xff\x51\3\6\xa1\x20" * 7000 + b"\0\x90\x3c\x40\x60\x3c\0" + END),
    "4096 tracks": midi_header(1, 4096, 96) + midi_track(b"\0\x90\x3c\x40\x60\x3c\0" + END) * 4096,
    "12 000 system messages": midi_header(0, 1, 96)
    + midi_track(b"\0\x90\x3c\x40" + b"\0\xf0\1\xf7" * 12_000 + b"\0\x3e\x40" * 16_000 + b"\x60\x3e\0" + END),
    "chords of three hours": held_chords(),
    "6000 resets behind 15 000 controllers": midi_header(0, 1, 96)
    + midi_track(b"\0\xb0\x0b\x40" + b"\0\x0b\x41" * 15_000 + RESET * 6000 + NOTE + END),
    "6000 resets behind 16 000 notes": midi_header(0, 1, 96)
    + midi_track(b"\0\x90\x3c\x40" + b"\0\x3c\x40" * 16_000 + b"\1\x3e\x40" + RESET * 6000 + END),
    "8000 resets of 2048 channels": midi_header(0, 1, 96)
    + midi_track(all_channels() + b"".join(b"\1" + RESET[1:] for _ in range(8000)) + NOTE + END),
    "7500 volumes of 2048 channels": midi_header(0, 1, 96)
    + midi_track(
        all_channels() + b"".join(b"\1\xf0\7\x7f\x7f\4\1\0" + bytes((i % 128, 0xF7)) for i in range(7500)) + NOTE + END
    ),
    "16 000 swells from silence": midi_header(0, 1, 96)
    + midi_track(
        b"\0\xb0\7\1\0\x90"
        + b"\0".join(bytes((i % 128, 64)) for i in range(16_000))
        + b"\1\xb0"
        + b"\1".join(bytes((7, 1 + i % 2)) for i in range(16_000))
        + END
    ),
    "MPE configured 30 000 times": midi_header(0, 1, 96)
    + midi_track(b"\0\xb0\x65\0\0\x64\6" + b"\0\6\x0f\0\6\x0e" * 15_000 + NOTE + END),
    "8000 messages to a zone of MPE": midi_header(0, 1, 96)
    + midi_track(b"\0\xb0\x65\0\0\x64\6\0\6\x0f" + b"\1\x0b\x40\1\x0b\x41" * 4000 + NOTE + END),
}


@pytest.mark.parametrize("name", WORST)
def test_the_worst_files_of_100_kb_do_not_take_long(name: str) -> None:
    assert len(WORST[name]) < 101_000
    start_s = time.process_time()
    assert check(WORST[name])
    assert time.process_time() - start_s < 10.0  # 4 s are promised of a laptop; some machines are slower


@pytest.mark.slow  # counting every allocation
@pytest.mark.parametrize("name", WORST)
def test_the_worst_files_of_100_kb_take_500_mb_at_most(name: str) -> None:
    tracemalloc.start()
    try:
        check(WORST[name])
        assert tracemalloc.get_traced_memory()[1] < 500e6
    finally:
        tracemalloc.stop()


@pytest.mark.shared
def test_messages_moved_between_tracks_change_no_note(shared_midi: Path) -> None:
    moving = fuzz_module("move_state")
    rng = random.Random(4)
    paths = sorted(shared_midi.glob("[ls]*/*.mid"))
    n_moved = 0
    for path in rng.sample(paths, 12):
        data = path.read_bytes()
        moved = moving.move_state(data, rng)
        if moved is not None and moved != data:
            n_moved += 1
            assert moving.heard(parse_midi(moved, path.name)) == moving.heard(parse_midi(data, path.name)), path.name
    assert n_moved > 6


_RULES = ("02", "06", "07", "08", "09", "17")  # all the others by fuzz/against_fluidsynth.py


@pytest.mark.slow  # FluidSynth unpacks its soundfont
@pytest.mark.shared
def test_notes_sound_when_fluidsynth_lets_them_sound(shared_midi: Path) -> None:
    """On files about the rules themselves; nothing but overlaps of one key may differ."""
    soundfont = Path("/usr/share/sounds/sf3/MuseScore_General_Lite.sf3")
    if not soundfont.exists() or ctypes.util.find_library("fluidsynth") is None:
        pytest.skip("needs FluidSynth and a soundfont")
    against = fuzz_module("against_fluidsynth")
    synth = against.HoldingSynth(soundfont)
    try:
        for path in [path for path in sorted(shared_midi.glob("reports/*.mid")) if path.name[:2] in _RULES]:
            kinds = {kind for kind, _ in against.compare(path.read_bytes(), path.name, synth)}
            allowed = {"same"}
            if path.name.startswith("17"):  # first in, first out is what FluidSynth does not do
                allowed |= {"ended by the next press", "pressed again while down"}
            if path.name.startswith("02c"):
                allowed |= {"of no length"}
            assert kinds <= allowed, path.name
    finally:
        synth.close()
