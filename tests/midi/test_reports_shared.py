"""Files made after public problem reports, where they stand beside the checkout: what must be heard of each."""

from pathlib import Path

import pytest

from specdiff_cli.midi.notes import MidiSong, read_midi

pytestmark = pytest.mark.shared

SCALE = [(60, 0.0, 0.25), (62, 0.25, 0.5), (64, 0.5, 0.75), (65, 0.75, 1.0)]  # (pitch, start, end in seconds)

#: File -> its notes and the kinds of remarks about them.
HEARD: dict[str, tuple[list[tuple[int, float, float]], set[str]]] = {
    "01-organ-3-staves.mid": ([(72, 0, 0.4688), (60, 0.5, 1.4375), (36, 1.5, 2.4375)], set()),
    "02c-melody-no-length.mid": ([(64, 0.5, 1.0)], {"zero_length"}),
    "03-key-18-flats.mid": (SCALE, {"metadata"}),
    "03c-key-mode-2.mid": (SCALE, {"metadata"}),
    "04-timesig-2-bytes.mid": (SCALE, {"metadata"}),
    "04b-timesig-empty.mid": (SCALE, {"metadata"}),
    "04d-smpte-empty.mid": (SCALE, {"metadata"}),
    "04f-prefix-empty.mid": (SCALE, {"metadata"}),
    "04g-seqno-1-byte.mid": (SCALE, {"metadata"}),
    "04h-tempo-empty.mid": (SCALE, {"metadata"}),
    "06-pedal-one-hand.mid": ([(48, 0, 1.9792), (72, 0, 1.9792), (50, 2, 2.25), (74, 2, 2.25)], set()),
    "07-pedal-over-program.mid": ([(60, 0, 0.25), (64, 0.5, 1.0104), (72, 1.5, 1.75), (67, 5, 5.25)], set()),
    "08-cc121-pedal.mid": ([(60, 0, 0.5), (72, 5, 5.25)], set()),
    "09-noteoff-other-track.mid": ([(60, 0, 0.5), (64, 1, 1.5)], set()),
    "10-track-5-bytes-short.mid": (SCALE, {"track_length"}),
    "11-header-2-of-3-tracks.mid": (sorted([*SCALE, *SCALE], key=lambda item: item[1]), {"track_count"}),
    "11b-header-5-of-2-tracks.mid": (SCALE, {"track_count"}),
    "12-bend-octave.mid": ([(60, 0, 1), (60, 1, 2)], {"pitch"}),
    "12b-sostenuto.mid": ([(48, 0, 2), (60, 0.5, 0.75), (64, 1, 1.25), (67, 2.5, 2.75)], set()),
    "12c-master-volume-0.mid": (SCALE, {"silent", "level"}),
    "12e-mpe-program.mid": ([(60, 0, 0.5), (64, 0.5, 1.0), (67, 1, 1.5)], {"mpe"}),
    "13-expression-late.mid": ([(60, 0, 4)], {"fade", "level"}),
    "14-meter-2-255.mid": (SCALE, {"meter"}),
    "15-eot-5h.mid": (SCALE, set()),
    "17-legato-same-pitch.mid": ([(60, 0, 0.5104), (60, 0.5, 1.0104), (60, 1, 1.5104), (60, 1.5, 2.0104)], set()),
    "19-sjis-name.mid": (SCALE, set()),
    "20-note-200.mid": ([(60, 0.5, 0.75)], {"illegal_note"}),
    "21-odd-chunk.rmi": (SCALE, set()),
    "22-tempo-0.mid": (SCALE, {"tempo_zero"}),
}


@pytest.mark.parametrize("name", HEARD)
def test_what_is_heard_and_what_is_told(shared_midi: Path, name: str) -> None:
    song = read_midi(shared_midi / "reports" / name)
    expected, kinds = HEARD[name]
    found = sorted(((note.pitch, note.start_s, note.end_s) for note in song.notes), key=lambda item: (item[1], item[0]))
    assert [pitch for pitch, _, _ in found] == [pitch for pitch, _, _ in expected]
    for (_, *times), (_, *wanted) in zip(found, expected, strict=True):
        assert times == pytest.approx(wanted, abs=1e-4)
    assert {remark.kind for remark in song.remarks} == kinds


def read(folder: Path, name: str) -> MidiSong:
    return read_midi(folder / "reports" / name)


def test_programs_of_other_tracks(shared_midi: Path) -> None:
    assert {note.program for note in read(shared_midi, "01-organ-3-staves.mid").notes} == {19}
    conducted = read(shared_midi, "01c-programs-in-conductor.mid").notes
    assert {(note.channel, note.program) for note in conducted} == {(0, 40), (1, 56)}
    assert {note.program for note in read(shared_midi, "12e-mpe-program.mid").notes} == {40}


def test_drums_by_length_port_and_bank(shared_midi: Path) -> None:
    hits = read(shared_midi, "02-drums-no-length.mid").notes
    assert [note.start_s for note in hits] == [step / 4 for step in range(8)]
    ported = read(shared_midi, "05c-ports-drums.mid").notes
    assert [(note.port, note.is_drum) for note in ported] == [(0, True), (0, True), (1, False), (1, False)]
    assert all(note.is_drum for note in read(shared_midi, "16-ch10-bank121.mid").notes)


def test_ports_have_volumes_and_places_of_their_own(shared_midi: Path) -> None:
    song = read(shared_midi, "05-ports-volume-pan.mid")
    assert [(note.port, round(note.level, 2), round(note.pan, 2)) for note in song.notes] == [
        (0, 1.0, -0.7),
        (1, 0.3, 0.57),
        (2, 1.27, 0.0),
    ]


def test_bends_swells_meters_names_and_lengths(shared_midi: Path) -> None:
    bent = read(shared_midi, "12-bend-octave.mid").expression[0, 0].pitch_semitones
    assert (bent.at(0.5), bent.at(1.5)) == (12.0, 0.0)
    assert read(shared_midi, "13-expression-late.mid").notes[0].audible_s == 2.5
    bars = read(shared_midi, "14-meter-2-255.mid").bars
    assert bars is not None and bars.count(1.0) == 1
    assert read(shared_midi, "15-eot-5h.mid").file_end_s == pytest.approx(5 * 3600, rel=0.1)
    assert read(shared_midi, "19-sjis-name.mid").tracks[0].name == "ピアノ"
