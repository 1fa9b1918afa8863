"""Real MIDI files, where they stand beside the checkout."""

import hashlib
import json
from pathlib import Path

import mido
import pytest

from specdiff_cli.errors import MidiError
from specdiff_cli.midi.notes import read_midi
from specdiff_cli.midi.windows import tokenize

pytestmark = pytest.mark.shared

# sha256 of json.dumps(token ids of every window, end-of-sequence included, without padding), as made by Diffusers
# 0.31's MidiProcessor (note-seq 0.0.5, pretty_midi 0.2.11). All songs whose tempo changes are in track 0: of the
# others that reader plays a wrong tempo.
REFERENCE_SHA256 = {
    "d_bunny": "d86cb614d822dd6b5a90617c9764abd3c95f583afb4c7026964902056d60f7cd",
    "d_dm05": "0747ed144996050260284de3003eac91c0e70821fc166be227aadf806412d15c",
    "d_dm10": "d08f2daf07386ccf65b06a86f9c5a2092a0a5f52776a83cc9ff09b9e3e54e845",
    "d_dm15": "089f41e9f4f527e814717204b43f04500f240c79892e5835999e36b0689c6a7d",
    "d_e2m2": "ee0624d5ef46f71aa6ee62f56ff61d026866934e45aa4fdb92ac9f66003c02de",
    "d_e2m7": "97709ae0eebbdb8846bc1d9ad67e6e80abaf79c86af923daea5532a4966972e0",
    "d_e3m3": "3aa734390636ae3d6e94e8866702eeaa39657c40772b857550dbacd4c6532a21",
    "d_e3m8": "2230e0f83ddc6ad5e6b9d5d02a4d9e5ed319f635c63c324e58e6f1451180e711",
    "d_e4m4": "fdf795bd041b42947d86e9139a0e0e429028890aa440a8319b58d46a7d8cac42",
    "d_e4m9": "062fd54bdab13ee41ef937bc1a71d1bdfd612c60f1116e3494ede6979b7e7c65",
    "d_map09": "8b594115ccafe1b79f694b1fe2a0d58c4172109a308b027794f82419e9b838ea",
    "d_map14": "fd6b444ea8379fd3f54019c18f512e29f37c035b6fb03e672749bf5f29cb413b",
    "d_map19": "0e641e9975aedeef57944a95bb7356a6bc6808d344ee8f62d2ab6712ce61c974",
    "d_map29": "5771686db2ab1364e065abaed0a4b4e377dd542148f8e309fadebf5d9940e941",
}


@pytest.mark.parametrize("name", REFERENCE_SHA256)
def test_tokens_are_those_of_the_reference(shared_midi: Path, name: str) -> None:
    song = read_midi(shared_midi / "songs" / f"{name}.mid")
    assert song.tempo_tracks == [0]
    tokens = [window.tokens.tolist() for window in tokenize(song.notes)]
    assert hashlib.sha256(json.dumps(tokens).encode()).hexdigest() == REFERENCE_SHA256[name]


def test_tempo_outside_track_0_is_heard(shared_midi: Path) -> None:
    n_checked = 0
    for path in sorted((shared_midi / "songs").glob("*.mid")):
        song = read_midi(path)
        if song.tempo_tracks == [0]:
            continue
        n_checked += 1
        # mido's own clock merges all tracks; it counts trailing silence too.
        assert song.end_s <= mido.MidiFile(path).length + 1e-6
        assert song.end_s > 0.9 * mido.MidiFile(path).length, path.name
    assert n_checked == 9


def test_edge_cases_give_notes_or_one_clear_line(shared_midi: Path) -> None:
    read, refused = [], []
    for path in sorted((shared_midi / "edge-cases").glob("*.mid")):
        try:
            song = read_midi(path)
        except MidiError as error:
            line = str(error)
            assert line.startswith(f"{path}: ")
            assert "\n" not in line
            refused.append(path.stem)
            continue
        assert all(0 <= note.start_s < note.end_s <= song.end_s for note in song.notes), path.name
        for window in tokenize(song.notes):
            assert 2 <= len(window.tokens) <= 2048
        read.append(path.stem)
    assert len(read) + len(refused) == 72
    assert "test-c-major-scale" in read
    assert {"test-not-a-midi-file", "test-empty-file", "test-2-tracks-type-2"} <= set(refused)
    assert len(read) > 40
