"""MIDI files to notes: damaged files, the rules of notes, and reading one track alone."""

import io
from pathlib import Path
from typing import Any

import mido
import numpy as np
import pytest
from midi_files import Timed, control, from_hex, midi_bytes, midi_header, midi_track, note, program, tempo

from specdiff_cli.errors import ExitCode, MidiError
from specdiff_cli.midi import notes as notes_module
from specdiff_cli.midi import opening as opening_module
from specdiff_cli.midi.notes import MidiSong, Reader, parse_midi, read_midi
from specdiff_cli.midi.remarks import CAPABILITIES

TICKS_PER_S = 960  # of `midi_bytes` without a tempo


def notes_of(
    *tracks: list[Timed], end_tick: int | None = None, reader: Reader = "music"
) -> list[tuple[int, int, int, int]]:
    """(start tick, end tick, pitch, program) of every note of a file, in the reader's order."""
    return [
        (round(note.start_s * TICKS_PER_S), round(note.end_s * TICKS_PER_S), note.pitch, note.program)
        for note in song_of(*tracks, end_tick=end_tick, reader=reader).notes
    ]


def song_of(*tracks: list[Timed], end_tick: int | None = None, reader: Reader = "music") -> MidiSong:
    return parse_midi(midi_bytes(*tracks, end_tick=end_tick), "test.mid", reader=reader)


def refusal(data: bytes, **options: Any) -> str:
    """The one line with which a file is refused."""
    with pytest.raises(MidiError) as caught:
        parse_midi(data, "dir/bad.mid", **options)
    line = str(caught.value)
    assert int(caught.value.exit_code) == int(ExitCode.MIDI) == 3
    assert line.startswith("dir/bad.mid: ")
    assert "\n" not in line
    assert len(line) < 300
    return line


# --- damaged files ---------------------------------------------------------------------------------------------------

HEADER = "4d546864 00000006 0000 0001 0060"  # MThd, 6 bytes, type 0, 1 track, 96 ticks per beat

DAMAGED = {
    "undefined status byte": (OSError, f"{HEADER} 4d54726b 00000004  00 f4 3c 40"),
    "running status without a status": (OSError, f"{HEADER} 4d54726b 00000003  00 3c 40"),
    "no MTrk where a track should begin": (OSError, f"{HEADER} 4d546868 00000004  00 90 3c 40"),
    "sysex of 200 MB in a small file": (OSError, f"{HEADER} 4d54726b 00000006  00 f0 e0808000"),
    "header cut short": (EOFError, "4d546864 00000006 0000 00"),
    "no track at all": (EOFError, HEADER),
    "track cut inside a message": (EOFError, f"{HEADER} 4d54726b 00000008  00 90 3c 40  60 80"),
    "track shorter than its chunk says": (EOFError, f"{HEADER} 4d54726b 000000ff  00 90 3c 40  60 80 3c 00"),
    "chunk length of 4 GB": (EOFError, f"{HEADER} 4d54726b ffffffff  00 90 3c 40  60 80 3c 00"),
    "stop message with data": (ValueError, f"{HEADER} 4d54726b 00000004  00 fc  00 01"),
}


@pytest.mark.parametrize(("raised", "dump"), DAMAGED.values(), ids=DAMAGED.keys())
def test_what_mido_raises_becomes_one_line(raised: type[Exception], dump: str) -> None:
    data = from_hex(dump)
    with pytest.raises(raised):  # the fixture still is what its name says
        mido.MidiFile(file=io.BytesIO(data), clip=True)
    assert "is a damaged MIDI file (" in refusal(data)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "is empty"),
        (b"This is not music.\n", "is not a standard MIDI file"),
        (b"RIFF\x10\0\0\0WAVEdata", "is not a standard MIDI file"),
        (b"RIFF\x10\0\0\0RMIDdata", "is a RIFF file without MIDI data"),
        (b"RIFF\x14\0\0\0RMIDdata\4\0\0\0text", "is not a standard MIDI file"),
        (midi_header(1, 5000, 96) + midi_track(b"\0\xff\x2f\0") * 5000, "5000 tracks, more than the limit of 4096"),
        (from_hex(f"{HEADER} 4d54726b 00000004 00 ff 2f 00"), "holds no notes"),
        (from_hex(f"{HEADER} 4d54726b 00000008 00 90 3c 40  00 80 3c 00"), "holds no notes"),  # of no length
        (midi_header(1, 0, 96), "holds no notes"),
        (midi_bytes(note(0, 480, 0, 60), note(0, 480, 0, 62), kind=2), "is a type 2 file"),
        (b"\x1f\x8b\x08\0", "gzip; unpack it first"),
        (b"PK\x03\x04" + bytes(20), "a zip file; unpack it first"),
        (b"\r\n<!DOCTYPE html><html>", "a web page; download the file itself"),
        (b'<?xml version="1.0"?><score-partwise/>', "XML, perhaps a score; open it in its program"),
        (b"OggS\0\2", "it is sound"),
        (b"\x18FICHIER GUITAR PRO v5.10", "export it as MIDI"),
        (midi_header(3, 1, 96) + midi_track(b"\0\xff\x2f\0"), "says it is a type 3 MIDI file"),
        (midi_header(0xFFFF, 1, 96) + midi_track(b"\0\xff\x2f\0"), "says it is a type 65535 MIDI file"),
        (midi_header(1, 0xFFFF, 96) + midi_track(b"\0\xff\x2f\0"), "holds no notes"),
        (midi_header(1, 1, 96) + b"Junk" + bytes(4), "it ends too early"),
        # mido divides by it only later, and would raise ZeroDivisionError then
        (midi_header(1, 1, 0) + midi_track(b"\0\x90\x3c\x40\x60\x80\x3c\0"), "says 0 ticks per beat"),
        (midi_header(1, 1, 0xE700) + midi_track(b"\0\x90\x3c\x40\x60\x80\x3c\0"), "says 0 ticks per SMPTE frame"),
        (midi_header(1, 1, 96) + midi_track(b"\xff" * 500 + b"\0\x90\x3c\x40"), "a time of more than four bytes"),
        # as one number this would take minutes
        (midi_header(1, 1, 96) + midi_track(b"\xff" * 2_000_000 + b"\0\x90\x3c\x40"), "a number of more than"),
    ],
)
def test_other_files_without_music(data: bytes, expected: str) -> None:
    assert expected in refusal(data)


def test_thirty_hours_from_one_delta() -> None:
    data = midi_bytes([*note(0, 480, 0, 60), *note(30 * 3600 * TICKS_PER_S, 30 * 3600 * TICKS_PER_S + 9, 0, 62)])
    line = refusal(data)
    assert "30.0 h" in line
    assert "max_duration" in line
    assert len(parse_midi(data, "long.mid", max_duration_s=31 * 3600).notes) == 2


def test_silence_behind_the_notes_costs_nothing() -> None:
    song = parse_midi(midi_bytes(note(0, 480, 0, 60), end_tick=100 * TICKS_PER_S), "x.mid", max_duration_s=1.0)
    assert song.end_s == pytest.approx(0.5)
    assert song.file_end_s == pytest.approx(100.0)  # the file's own length is known all the same


def test_data_bytes_over_127_are_clipped() -> None:
    song = parse_midi(midi_header(0, 1, 96) + midi_track(b"\0\x90\x3c\xff\x60\x80\x3c\0"), "x.mid")
    assert song.notes[0].velocity == 127


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: path.write_bytes(b""), "is empty"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, make: Any, expected: str) -> None:
    path = tmp_path / "in.mid"
    make(path)
    with pytest.raises(MidiError, match=expected) as caught:
        read_midi(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_impossible_names_and_too_large_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MidiError, match="not a usable file name"):
        read_midi("a\0b.mid")
    monkeypatch.setattr(opening_module, "MAX_FILE_BYTES", 1 << 20)
    (tmp_path / "big.mid").write_bytes(b"MThd" + bytes(1 << 20))
    with pytest.raises(MidiError, match="larger than 1 MiB"):
        read_midi(tmp_path / "big.mid")


# --- notes -----------------------------------------------------------------------------------------------------------


def test_note_on_of_velocity_zero_ends_a_note() -> None:
    silent = mido.Message("note_on", note=60, velocity=0)
    assert notes_of([note(0, 0, 0, 60)[0], (480, silent)], end_tick=960) == [(0, 480, 60, 0)]


def test_of_the_reference_a_note_off_closes_every_earlier_note_of_its_pitch() -> None:
    first, off = note(0, 300, 0, 60, 10)
    second, _ = note(100, 300, 0, 60, 20)
    song = song_of([first, second, off, *note(400, 500, 0, 60)], reader="reference")
    assert [(found.velocity, round(found.end_s * TICKS_PER_S)) for found in song.notes[:2]] == [(10, 300), (20, 300)]
    assert len(song.notes) == 3


def test_note_off_leaves_other_pitches_and_channels_alone() -> None:
    assert notes_of([*note(0, 300, 0, 60), *note(0, 500, 0, 61), *note(0, 700, 1, 60)]) == [
        (0, 300, 60, 0),
        (0, 500, 61, 0),
        (0, 700, 60, 0),
    ]


def test_note_begun_on_the_tick_of_a_note_off_goes_on() -> None:
    (on, off), (on_again, off_again) = note(0, 300, 0, 60), note(300, 700, 0, 60)
    for order in ([on, off, on_again, off_again], [on, on_again, off, off_again]):
        assert notes_of(order) == [(0, 300, 60, 0), (300, 700, 60, 0)]


def test_note_of_no_length_is_dropped() -> None:
    song = song_of([*note(300, 300, 0, 60), *note(400, 500, 0, 60)])
    assert len(song.notes) == 1
    assert song.n_zero_length_notes == 1


def test_note_off_without_a_note_is_passed_over() -> None:
    assert notes_of([note(0, 100, 0, 60)[1], *note(200, 300, 0, 60)]) == [(200, 300, 60, 0)]


@pytest.mark.parametrize(("reader", "first"), [("music", 10), ("reference", 20)])
def test_program_is_the_one_at_the_note_on_but_for_the_reference(reader: Reader, first: int) -> None:
    track = [program(0, 0, 10), *note(0, 300, 0, 60), program(200, 0, 20), *note(310, 400, 0, 61)]
    assert notes_of(track, reader=reader) == [(0, 300, 60, first), (310, 400, 61, 20)]


@pytest.mark.parametrize(("reader", "second"), [("music", 40), ("reference", 0)])
def test_program_belongs_to_its_channel_and_for_the_reference_to_its_track(reader: Reader, second: int) -> None:
    tracks = [program(0, 0, 40), *note(0, 9, 0, 60)], [*note(0, 9, 0, 61), *note(0, 9, 1, 62)]
    assert notes_of(*tracks, reader=reader) == [(0, 9, 60, 40), (0, 9, 61, second), (0, 9, 62, 0)]


def test_notes_never_closed_end_with_their_track() -> None:
    (on, _), (late_on, _) = note(100, 0, 0, 60), note(900, 0, 0, 62)
    song = song_of([program(0, 0, 5), on, late_on], note(0, 2000, 1, 64), end_tick=900)
    assert song.n_unclosed_notes == 1
    assert song.n_zero_length_notes == 1  # begun on the last tick of its track
    assert [(round(found.end_s * TICKS_PER_S), found.program) for found in song.notes] == [(900, 5), (2000, 0)]


@pytest.mark.parametrize("number", [120, 123])
def test_all_notes_off_ends_what_no_note_off_ever_closes(number: int) -> None:
    (on, _), (again, _), (other, _) = note(0, 0, 0, 60), note(500, 0, 0, 60), note(0, 0, 1, 62)
    song = song_of([on, other, control(300, 0, number, 0), again, control(700, 0, number, 0)], end_tick=900)
    ends = [(found.pitch, round(found.start_s * TICKS_PER_S), round(found.end_s * TICKS_PER_S)) for found in song.notes]
    assert ends == [(60, 0, 300), (60, 500, 700), (62, 0, 900)]
    assert song.n_unclosed_notes == 1  # the one that only the end of the track ends
    assert song.ignored == {}


def test_all_notes_off_ends_notes_but_for_the_reference_where_a_note_off_follows() -> None:
    track = [*note(0, 500, 0, 60), control(300, 0, 123, 0), control(600, 0, 123, 0)]
    assert [round(found.end_s * TICKS_PER_S) for found in song_of(track).notes] == [300]
    song = song_of(track, reader="reference")
    assert [round(found.end_s * TICKS_PER_S) for found in song.notes] == [500]
    assert song.ignored == {"all notes off": 1}


def test_the_whole_range_of_pitches_and_velocities() -> None:
    track = [item for pitch in range(128) for item in note(0, 480, 0, pitch, max(1, pitch))]
    assert [(found.pitch, found.velocity) for found in song_of(track).notes] == [(n, max(1, n)) for n in range(128)]


def test_too_many_notes(monkeypatch: pytest.MonkeyPatch) -> None:
    data = midi_bytes([*note(0, 480, 0, 60), *note(0, 480, 0, 61)], note(0, 480, 0, 62))
    monkeypatch.setattr(notes_module, "MAX_NOTES", 3)
    assert len(parse_midi(data, "x.mid").notes) == 3
    monkeypatch.setattr(notes_module, "MAX_NOTES", 2)
    assert "holds 3 notes, more than the limit of 2" in refusal(data)


def test_channel_ten_is_drums() -> None:
    song = song_of([program(0, 9, 16), *note(0, 100, 9, 36), *note(0, 100, 8, 36)])
    assert [(found.is_drum, found.channel, found.program) for found in song.notes] == [(True, 9, 16), (False, 8, 0)]


def test_type_0_keeps_channels_apart() -> None:
    data = midi_bytes([*note(0, 100, 0, 60), *note(50, 200, 3, 60)], kind=0)
    song = parse_midi(data, "x.mid")
    assert song.format == 0
    assert [(found.channel, found.track) for found in song.notes] == [(0, 0), (3, 0)]


def test_order_is_that_of_instruments_as_they_first_close_a_note() -> None:
    track = [*note(0, 500, 0, 60), *note(100, 200, 1, 61), *note(300, 400, 0, 62)]
    assert [found[2] for found in notes_of(track)] == [61, 62, 60]


def test_what_is_known_about_the_file() -> None:
    named = [(0, mido.MetaMessage("track_name", name="Strings")), *note(0, 480, 0, 60), tempo(0, 600_000)]
    song = song_of([], named)
    assert (song.format, song.ticks_per_beat, song.tempo_tracks) == (1, 480, [1])
    np.testing.assert_allclose(song.tempo_changes, [(0.0, 100.0)])
    assert [(track.name, track.n_messages, track.n_notes) for track in song.tracks] == [("", 1, 0), ("Strings", 5, 1)]
    assert song.end_s == pytest.approx(0.6)


def test_messages_the_models_cannot_follow_are_counted() -> None:
    track: list[Timed] = [
        (0, mido.Message("pitchwheel", pitch=100)),
        (1, mido.Message("pitchwheel", pitch=0)),  # back to the centre
        control(0, 0, 7, 100),
        control(1, 0, 7, 90),
        *(control(0, 0, 101, 0), control(0, 0, 100, 1), control(0, 0, 6, 70)),  # fine tuning
        control(0, 0, 10, 0),
        control(0, 0, 11, 80),
        control(0, 0, 91, 40),
        control(0, 0, 1, 0),  # no modulation
        control(0, 0, 67, 127),
        control(0, 0, 64, 127),  # the models do follow this pedal
        (0, mido.Message("aftertouch", value=9)),
        (0, mido.Message("polytouch", note=60, value=9)),
        (0, mido.Message("sysex", data=[1, 2])),
        *note(0, 480, 0, 60),
    ]
    assert song_of(track).ignored == {
        "pitch bend": 1,
        "channel volume": 2,
        "tuning or other parameter": 1,
        "pan": 1,
        "expression": 1,
        "reverb": 1,
        "soft pedal": 1,
        "aftertouch": 1,
        "channel pressure": 1,
        "system exclusive": 1,
    }


def test_what_no_voice_follows_is_told() -> None:
    asked = [control(0, 0, number, value) for number, value in ((64, 1), (64, 63), (64, 64), (2, 50), (8, 90), (8, 64))]
    song = song_of([*asked, (0, mido.Message("polytouch", note=60, value=9)), *note(0, 480, 0, 60)])
    assert {remark.kind: remark.count for remark in song.remarks} == {"half_pedal": 2, "breath": 2, "aftertouch": 1}
    assert {remark.needs for remark in song.remarks} <= set(CAPABILITIES)


def test_notes_carry_their_channels_level_and_pan() -> None:
    song = parse_midi(midi_bytes([control(0, 0, 7, 50), control(0, 0, 10, 127), *note(0, 480, 0, 60)]), "test")
    assert [(found.level, found.pan) for found in song.notes] == [(0.5, 1.0)]


def test_messages_that_make_drum_parts_are_not_called_ignored() -> None:
    gs_reset = mido.Message("sysex", data=bytes.fromhex("41 10 42 12 40 00 7F 00 41"))
    gs_drums = mido.Message("sysex", data=bytes.fromhex("41 10 42 12 40 11 15 02 18"))
    gm2 = mido.Message("sysex", data=bytes.fromhex("7E 7F 09 03"))
    melody = [program(0, 3, 0), *note(10, 480, 3, 60)]
    assert song_of([(0, gs_reset), (0, gs_drums), *melody]).ignored == {}
    assert song_of([(0, gm2), control(0, 3, 0, 120), *melody]).ignored == {}
    assert song_of([(0, gs_reset), control(0, 3, 0, 120), *melody]).ignored == {"bank select": 1}  # no drums in GS
    assert song_of([control(0, 3, 0, 127), *melody]).ignored == {"bank select": 1}  # drums in XG only
    assert song_of([control(0, 3, 0, 8), *melody]).ignored == {"bank select": 1}


def test_pan_to_the_centre_asks_for_nothing() -> None:
    assert song_of([control(0, 0, 10, 64), *note(0, 480, 0, 60)]).ignored == {}
    assert song_of([control(0, 0, 10, 63), *note(0, 480, 0, 60)]).ignored == {"pan": 1}


# --- one track -------------------------------------------------------------------------------------------------------


def sequences() -> bytes:
    """A type 2 file: every sequence has its own tempo, program and volume."""
    first = [tempo(0, 1_000_000), program(0, 0, 40), control(0, 0, 7, 50), *note(0, 480, 0, 60)]
    return midi_bytes(first, note(0, 480, 0, 62), [tempo(0, 250_000)], kind=2)


def test_a_type_2_file_of_one_sequence_leaves_nothing_to_choose() -> None:
    only = midi_bytes([tempo(0, 1_000_000), *note(0, 480, 0, 60)], kind=2)
    assert [(found.pitch, found.end_s) for found in parse_midi(only, "x.mid").notes] == [(60, 1.0)]


def test_one_sequence_of_a_type_2_file() -> None:
    first, second = (parse_midi(sequences(), "x.mid", track=track) for track in (1, 2))
    assert [(found.pitch, found.program, found.end_s, found.level) for found in first.notes] == [(60, 40, 1.0, 0.5)]
    assert [(found.pitch, found.program, found.end_s, found.level) for found in second.notes] == [(62, 0, 0.5, 1.0)]
    assert (first.format, first.track, first.tempo_tracks, second.tempo_tracks) == (2, 1, [0], [])
    assert [found.track for found in second.notes] == [1]


def test_a_type_2_file_is_refused_with_the_way_out() -> None:
    assert "choose one with track (1 to 3)" in refusal(sequences())


def test_one_track_of_a_type_1_file_keeps_the_files_tempo_volume_and_program_of_its_own() -> None:
    conductor = [tempo(0, 1_000_000), control(0, 1, 7, 50)]
    piano, cello = note(0, 480, 0, 60), [program(0, 1, 42), *note(0, 480, 1, 48), note(600, 0, 1, 50)[0]]
    data = midi_bytes(conductor, piano, cello, end_tick=960)
    song = parse_midi(data, "x.mid", track=3)
    assert [(found.pitch, found.program, found.end_s, found.level) for found in song.notes] == [
        (48, 42, 1.0, 0.5),
        (50, 42, 2.0, 0.5),
    ]
    assert (song.n_unclosed_notes, song.track, len(song.tracks)) == (1, 3, 3)
    assert parse_midi(data, "x.mid", track=2).n_unclosed_notes == 0
    together = parse_midi(data, "x.mid").notes
    assert [found for track in (2, 3) for found in parse_midi(data, "x.mid", track=track).notes] == together


def test_limits_are_those_of_the_track_that_is_read() -> None:
    data = midi_bytes(note(0, 480, 0, 60), note(0, 100 * TICKS_PER_S, 0, 60))
    assert parse_midi(data, "x.mid", track=1, max_duration_s=10.0).end_s == pytest.approx(0.5)
    assert "100 s" in refusal(data, track=2, max_duration_s=10.0)


@pytest.mark.parametrize(
    ("track", "expected"),
    [
        (0, "has tracks 1 to 3, there is no track 0"),
        (-1, "there is no track -1"),
        (4, "has tracks 1 to 3, there is no track 4"),
        (3, "track 3 holds no notes; notes are on tracks 1, 2"),
    ],
)
def test_tracks_that_are_not_there(track: int, expected: str) -> None:
    data = midi_bytes(note(0, 480, 0, 60), note(0, 480, 0, 62), [tempo(0, 500_000)])
    assert expected in refusal(data, track=track)


def test_a_single_track_has_no_other() -> None:
    assert "has 1 track, there is no track 2" in refusal(midi_bytes(note(0, 480, 0, 60), kind=0), track=2)
    assert "has no tracks" in refusal(midi_header(1, 0, 96), track=1)
    many = midi_bytes([], *[note(0, 480, 0, 60)] * 12)
    assert "notes are on tracks 2, 3, 4, 5, 6, 7, 8, 9 ..." in refusal(many, track=1)
