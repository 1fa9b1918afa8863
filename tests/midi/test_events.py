"""Our own reader of events gives what mido gives, and reads on where mido refuses."""

import random
from pathlib import Path
from typing import Any

import mido
import pytest
from midi_files import from_hex, midi_header, midi_track

from specdiff_cli.errors import MidiError
from specdiff_cli.midi import chunks
from specdiff_cli.midi.events import TrackDamage, TrackParser
from specdiff_cli.midi.notes import parse_midi
from specdiff_cli.midi.opening import open_midi

NOTE = "00 90 3c 40  60 80 3c 40"
END = "00 ff 2f 00"
HEADER = midi_header(1, 1, 96)


def facts(tracks: list[Any]) -> list[list[tuple[int, Any]]]:
    """(tick, message) of what is heard or measured, track by track."""
    result = []
    for track in tracks:
        tick, found = 0, []
        for message in track:
            tick += message.time
            if not message.is_meta and message.type not in _PASSED_OVER:
                found.append((tick, message.copy(time=0)))
            elif message.type == "set_tempo":
                found.append((tick, message.tempo))
            elif message.type == "time_signature":
                found.append((tick, (message.numerator, message.denominator)))
            elif message.type in ("track_name", "device_name"):
                found.append((tick, message.name))
        result.append([*found, (tick, "end")])
    return result


_PASSED_OVER = ("quarter_frame", "songpos", "song_select", "tune_request", "clock", "start", "continue", "stop") + (
    "active_sensing",
)


def by_own_reader(data: bytes) -> list[Any]:
    bodies = chunks.find_tracks(data, 8 + int.from_bytes(data[4:8], "big")).bodies
    parser = TrackParser()
    return [parser.read(body) for body in bodies]


@pytest.mark.shared
def test_it_gives_what_mido_gives_on_all_files(shared_midi: Path) -> None:
    paths = sorted(shared_midi.rglob("*.mid"))
    random.Random(1).shuffle(paths)
    n_compared = 0
    for path in [*paths[:60], *sorted((shared_midi / "edge-cases").glob("*.mid"))]:
        data = path.read_bytes()
        try:
            opened = open_midi(data, path.name)
            own = by_own_reader(data)
        except (MidiError, TrackDamage):
            continue
        assert facts(own) == facts(opened.midi.tracks), path.name
        n_compared += 1
    assert n_compared > 100


META_EVENTS = {
    "key of 18 flats": "00 ff 59 02 ee 01",
    "key of mode 2": "00 ff 59 02 00 02",
    "key of one byte": "00 ff 59 01 00",
    "key of three bytes": "00 ff 59 03 00 00 00",
    "empty key": "00 ff 59 00",
    "empty time signature": "00 ff 58 00",
    "time signature of one byte": "00 ff 58 01 03",
    "time signature of three bytes": "00 ff 58 03 03 02 18",
    "time signature in units of 2^-29": "00 ff 58 04 04 1d 18 08",
    "empty offset": "00 ff 54 00",
    "offset of frame rate 7": "00 ff 54 05 e0 00 00 00 00",
    "empty prefix": "00 ff 20 00",
    "empty port": "00 ff 21 00",
    "sequence number of one byte": "00 ff 00 01 07",
    "empty tempo": "00 ff 51 00",
    "tempo of two bytes": "00 ff 51 02 07 a1",
    "tempo of 0": "00 ff 51 03 00 00 00",
    "meta event that nobody knows": "00 ff 6e 03 01 02 03",
    "text of bytes that are no text": "00 ff 01 04 ff fe 80 00",
    "name of bytes that are no text": "00 ff 03 02 ff 81",
    "maker's own, empty": "00 ff 7f 00",
}


@pytest.mark.parametrize("dump", META_EVENTS.values(), ids=META_EVENTS.keys())
@pytest.mark.parametrize("reader", ["music", "reference"])
def test_what_means_nothing_for_the_sound_costs_nothing(dump: str, reader: Any) -> None:
    song = parse_midi(HEADER + midi_track(from_hex(f"{dump} {NOTE} {END}")), "x.mid", reader=reader)
    assert [(note.pitch, note.start_s, note.end_s) for note in song.notes] == [(60, 0.0, 0.5)]


def test_two_bytes_of_a_time_signature_are_enough() -> None:
    song = parse_midi(HEADER + midi_track(from_hex(f"00 ff 58 02 03 02 {NOTE} {END}")), "x.mid")
    assert song.bars is not None
    assert [meter.name for meter in song.bars.meters] == ["3/4"]


def test_a_tempo_of_too_many_bytes_is_its_first_three() -> None:
    song = parse_midi(HEADER + midi_track(from_hex(f"00 ff 51 04 0f 42 40 00 {NOTE} {END}")), "x.mid")
    assert song.notes[0].end_s == 1.0


@pytest.mark.parametrize("claimed", [0, 1, 9, 11, 13, 17, 40, 0x7FFF_FFFF])
@pytest.mark.parametrize("is_last", [True, False])
def test_a_track_whose_length_is_wrong_is_played_to_its_end_mark(claimed: int, is_last: bool) -> None:
    body = from_hex(f"{NOTE} {END}")
    wrong = b"MTrk" + claimed.to_bytes(4, "big") + body
    right = midi_track(from_hex(f"00 91 43 40 60 81 43 40 {END}"))
    data = midi_header(1, 2, 96) + (right + wrong if is_last else wrong + right)
    song = parse_midi(data, "x.mid")
    assert sorted((note.pitch, note.end_s) for note in song.notes) == [(60, 0.5), (67, 0.5)]
    assert [remark.kind for remark in song.file_remarks] == ["track_length"]


@pytest.mark.parametrize("n_claimed", [0, 1, 3, 5, 0x7FFF, 0xFFFF])
def test_a_wrong_number_of_tracks_is_told_and_all_are_played(n_claimed: int) -> None:
    track = midi_track(from_hex(f"{NOTE} {END}"))
    song = parse_midi(midi_header(1, n_claimed, 96) + track + track, "x.mid")
    assert len(song.notes) == 2
    assert [remark.kind for remark in song.file_remarks] == ["track_count"]


def test_padding_behind_a_track_and_junk_behind_and_before_the_file() -> None:
    padded = midi_track(from_hex(f"{NOTE} {END} 00 00 00 00 00"))
    for data in (HEADER + padded, HEADER + midi_track(from_hex(f"{NOTE} {END}")) + bytes(7)):
        assert len(parse_midi(data, "x.mid").notes) == 1
        assert len(parse_midi(bytes(128) + data, "x.mid").notes) == 1  # as MacBinary puts it


def test_notes_of_pitches_that_do_not_exist_are_left_out_and_told() -> None:
    data = HEADER + midi_track(from_hex(f"00 90 c8 40 60 80 c8 40 {NOTE} 00 c0 ff {NOTE} {END}"))
    song = parse_midi(data, "x.mid")
    assert [(note.pitch, note.program) for note in song.notes] == [(60, 0), (60, 0)]
    assert {remark.kind: remark.count for remark in song.file_remarks} == {"illegal_note": 1, "illegal_data": 1}
    assert [note.pitch for note in parse_midi(data, "x.mid", reader="reference").notes].count(127) == 1


@pytest.mark.parametrize(
    ("dump", "detail"),
    [
        ("00 f4 00", "undefined status byte 0xf4"),
        ("00 3c 40", "running status without a status"),
        (NOTE + " ff ff ff ff 7f 90 3c 40", "a time of more than four bytes"),
        (NOTE + " 00 90 3c", "it ends too early"),
    ],
)
def test_bytes_that_are_no_messages_are_damage(dump: str, detail: str) -> None:
    with pytest.raises(MidiError, match=detail):
        parse_midi(HEADER + midi_track(from_hex(dump)), "x.mid")


def test_system_messages_with_a_place_in_no_file_keep_their_time() -> None:
    track = TrackParser().read(from_hex(f"60 f8 60 f2 01 02 {NOTE} {END}"))
    assert [(message.type, message.time) for message in track] == [
        ("note_on", 192),
        ("note_off", 96),
        ("end_of_track", 0),
    ]
    assert isinstance(track[0], mido.Message)
