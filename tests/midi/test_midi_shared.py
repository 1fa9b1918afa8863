"""Real MIDI files, where they stand beside the checkout."""

import hashlib
import json
from pathlib import Path

import mido
import pytest

from specdiff_cli.errors import MidiError
from specdiff_cli.midi.edits import Edits, apply_edits
from specdiff_cli.midi.notes import read_midi
from specdiff_cli.midi.stems import split_stems
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
    song = read_midi(shared_midi / "songs" / f"{name}.mid", reader="reference")
    assert song.tempo_tracks == [0]
    tokens = [window.tokens.tolist() for window in tokenize(song.notes, joins_keys=True)]
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


#: Every file of edge-cases: how many notes it gives, or words of the line with which it is refused. The numbers were
#: counted by another reader, byte by byte, and agree with what the files' own texts announce ("You must hear ...").
NO_NOTES = "holds no notes"
EDGE_CASES: dict[str, int | str] = {
    "2-tracks-type-0": 16,
    "2-tracks-type-1": 16,
    "2-tracks-type-2": "type 2",
    "all-gm-percussion": 183,
    "all-gm-sounds": 512,
    "all-gm2-sounds": 1060,
    "all-gs-sounds": 5044,
    "all-microsoft-gs-wavetable-synth-sounds": 904,
    "all-xg-sounds": 4560,
    "c-major-scale": 8,
    "control-00-20-bank-select": 8,
    "control-40-damper": 8,
    "control-41-portamento": 8,
    "control-54-portamento-control": 1,
    "control-7c-omni-mode-off": NO_NOTES,
    "control-7d-omni-mode-on": NO_NOTES,
    "control-7e-mono-mode-on": NO_NOTES,
    "control-7f-poly-mode-on": NO_NOTES,
    "corrupt-file-extra-byte": 8,
    "corrupt-file-missing-byte": "damaged MIDI file (it ends too early)",
    "empty-file": "is empty",
    "empty": NO_NOTES,
    "gm2-doggy-78-00-38-4c": 3,
    "gm2-doggy-79-01-7b": 3,
    "gs-doggy-01-00-7b": 3,
    "illegal-message-all": "undefined status byte 0xf4",
    "illegal-message-f1-xx": 8,
    "illegal-message-f2-xx-xx": 8,
    "illegal-message-f3-xx": 8,
    "illegal-message-f4": "undefined status byte 0xf4",
    "illegal-message-f5": "undefined status byte 0xf5",
    "illegal-message-f6": 8,
    "illegal-message-f8": 8,
    "illegal-message-f9": "undefined status byte 0xf9",
    "illegal-message-fa": 8,
    "illegal-message-fb": 8,
    "illegal-message-fc": 8,
    "illegal-message-fd": "undefined status byte 0xfd",
    "illegal-message-fe": 8,
    "karaoke-kar": 29,
    "multichannel-chords-0": 24,
    "multichannel-chords-1": 24,
    "multichannel-chords-2": 24,
    "multichannel-chords-3": 24,
    "non-midi-track": 8,
    "not-a-midi-file": "is not a standard MIDI file",
    "note-on-velocity": 9,
    "rpn-00-00-pitch-bend-range": 5,
    "rpn-00-01-fine-tuning": 25,
    "rpn-00-02-coarse-tuning": 8,
    "rpn-00-05-modulation-depth-range": 5,
    "running-status-metaevent": 8,
    "running-status-sysex": 8,
    "silence-all-notes-off": NO_NOTES,
    "silence-end-of-track": NO_NOTES,
    "silence-text-metaevent": NO_NOTES,
    "smpte-offset": 8,
    "sysex-7e-06-01-id-request": NO_NOTES,
    "sysex-7e-09-01-gm1-enable": NO_NOTES,
    "sysex-7e-09-02-gm-disable": NO_NOTES,
    "sysex-7e-09-03-gm2-enable": NO_NOTES,
    "sysex-7f-04-03-master-fine-tuning": 5,
    "sysex-7f-04-04-master-coarse-tuning": 8,
    "sysex-7x-08-0x-scale-tuning": 65,
    "sysex-gs-40-1x-15-drum-part-change": 8,
    "sysex-gs-40-1x-4x-scale-tuning": 3,
    "track-length": 1,
    "vlq-2-byte": 8,
    "vlq-3-byte": 8,
    "vlq-4-byte": 8,
    "xg-doggy-40-00-30": 3,
    "xg-doggy-7e-00-00-54": 3,
}

#: (drum notes, end in seconds) where that is what the file is about.
EDGE_CASE_DETAILS = {
    "all-gm-percussion": (183, 137.25),
    "control-00-20-bank-select": (4, 5.0),  # percussion on channel 1 by bank 120, melody on 10 by bank 121
    "control-40-damper": (0, 7.5),
    "gm2-doggy-78-00-38-4c": (3, 1.5),
    "gm2-doggy-79-01-7b": (0, 1.5),
    "running-status-metaevent": (0, 4.0),
    "running-status-sysex": (0, 4.0),
    "smpte-offset": (0, 4.0),  # the offset of a minute moves nothing
    "sysex-gs-40-1x-15-drum-part-change": (4, 5.0),  # drums on channel 1, then piano on channel 10
    "track-length": (0, 0.5),
    "xg-doggy-40-00-30": (0, 1.5),
    "xg-doggy-7e-00-00-54": (3, 1.5),
}


@pytest.mark.parametrize("name", EDGE_CASES)
def test_edge_cases(shared_midi: Path, name: str) -> None:
    path = shared_midi / "edge-cases" / f"test-{name}.mid"
    expected = EDGE_CASES[name]
    if isinstance(expected, str):
        with pytest.raises(MidiError) as caught:
            read_midi(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert expected in str(caught.value)
        assert "\n" not in str(caught.value)
        return
    song = read_midi(path)
    assert len(song.notes) == expected
    assert all(0 <= note.start_s < note.end_s <= song.end_s for note in song.notes)
    if name in EDGE_CASE_DETAILS:
        assert (sum(note.is_drum for note in song.notes), round(song.end_s, 6)) == EDGE_CASE_DETAILS[name]
    for window in tokenize(song.notes):
        assert 2 <= len(window.tokens) <= 2048


def test_every_edge_case_has_its_outcome(shared_midi: Path) -> None:
    assert {path.stem.removeprefix("test-") for path in (shared_midi / "edge-cases").glob("*.mid")} == set(EDGE_CASES)


C_MAJOR = [60, 62, 64, 65, 67, 69, 71, 72]


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, expected in EDGE_CASES.items()
        if expected == 8 and name.startswith(("c-major", "corrupt", "illegal", "non-midi", "running", "smpte", "vlq"))
    ],
)
def test_you_must_hear_a_c_major_scale(shared_midi: Path, name: str) -> None:
    song = read_midi(shared_midi / "edge-cases" / f"test-{name}.mid")
    assert [note.pitch for note in song.notes] == C_MAJOR
    assert [note.start_s for note in song.notes] == pytest.approx([step / 2 for step in range(8)])


def test_the_sequences_of_a_type_2_file_one_by_one(shared_midi: Path) -> None:
    path = shared_midi / "edge-cases" / "test-2-tracks-type-2.mid"
    first, second = (read_midi(path, track=track) for track in (1, 2))
    assert [note.pitch for note in first.notes] == C_MAJOR
    assert [note.pitch for note in second.notes] == [pitch + 1 for pitch in C_MAJOR]
    assert [note.start_s for note in second.notes] == [note.start_s for note in first.notes]  # not one after the other


def test_piano_and_cello_of_a_real_song_swapped_and_cut_at_bars(shared_midi: Path) -> None:
    song = read_midi(shared_midi / "lieder" / "lc29199584.mid")
    edits = Edits(swaps=("piano=cello",), start="bar:5", end="bar:9")
    edited, _ = apply_edits(song, edits, "lc29199584.mid")
    start_s, end_s = 16 * 60 / 63, 32 * 60 / 63  # 4/4, 63 quarters a minute
    expected = [
        (note.pitch, {0: 42, 42: 0}[note.program])
        for note in song.notes
        if note.end_s > start_s + 1e-4 and note.start_s < end_s - 1e-4
    ]
    assert [(note.pitch, note.program) for note in edited.notes] == expected
    assert len(expected) > 50
    assert edited.end_s == pytest.approx(end_s - start_s, abs=0.05)
    assert {stem.slug for stem in split_stems(edited.notes)} == {"cello", "acoustic-grand-piano"}
