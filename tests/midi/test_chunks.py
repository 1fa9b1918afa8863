"""What stands around the events of real files: RIFF, foreign chunks, statuses left out after system messages."""

from pathlib import Path

import pytest
from midi_files import from_hex, midi_bytes, midi_header, midi_track, note

from specdiff_cli.midi.notes import MidiSong, parse_midi
from specdiff_cli.rendering.inputs import expand

SONG = midi_bytes([*note(0, 480, 0, 60), *note(480, 960, 3, 67)], note(0, 480, 9, 36))
ON_OFF_60 = "00 90 3c 40  60 3c 00"  # a note of 96 ticks, its end in running status


def onsets(song: MidiSong) -> list[tuple[int, float]]:
    return sorted((found.pitch, found.start_s) for found in song.notes)


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"RMID" + b"".join(
        kind + len(content).to_bytes(4, "little") + content + b"\0" * (len(content) % 2) for kind, content in chunks
    )
    return b"RIFF" + len(body).to_bytes(4, "little") + body


@pytest.mark.parametrize("chunks", [[(b"data", SONG)], [(b"odd ", b"xyz"), (b"data", SONG), (b"LIST", b"INFO")]])
def test_a_song_inside_riff_is_the_song(chunks: list[tuple[bytes, bytes]]) -> None:
    assert parse_midi(riff(*chunks), "x.rmi") == parse_midi(SONG, "x.mid")


@pytest.mark.parametrize("n_claimed", [0, 1 << 31])
def test_inside_riff_the_length_of_the_song_may_be_wrong(n_claimed: int) -> None:
    data = b"RIFF" + bytes(4) + b"RMIDdata" + n_claimed.to_bytes(4, "little") + SONG
    assert onsets(parse_midi(data, "x.rmi")) == onsets(parse_midi(SONG, "x.mid"))


def test_a_folder_is_searched_for_them(tmp_path: Path) -> None:
    (tmp_path / "a.RMI").write_bytes(riff((b"data", SONG)))
    assert [source.path for source in expand(tmp_path)] == [tmp_path / "a.RMI"]


def test_foreign_chunks_are_passed_over() -> None:
    track = midi_track(from_hex(ON_OFF_60))
    junk = b"Junk" + (3).to_bytes(4, "big") + b"MTr"
    song = parse_midi(midi_header(1, 2, 96) + junk + track + junk + track + junk, "x.mid")
    assert onsets(song) == [(60, 0.0), (60, 0.0)]


def test_a_longer_header_is_passed_over() -> None:
    header = b"MThd" + (8).to_bytes(4, "big") + midi_header(1, 1, 96)[8:] + b"\0\0"
    assert onsets(parse_midi(header + midi_track(from_hex(ON_OFF_60)), "x.mid")) == [(60, 0.0)]


@pytest.mark.parametrize(
    "between",
    [
        "00 ff 01 02 4142",  # text
        "00 f0 05 7e7f0601f7",  # system exclusive
        "00 f0 03 7e7f06  00 f7 02 01f7",  # the same in two parts
        "00 f0 05 7e7f0601f7  00 ff 01 02 9091",  # text behind it
        "00 f8",  # timing clock, which has no place in a file
        "00 f2 7f7f",
    ],
)
def test_running_status_goes_on_behind_other_messages(between: str) -> None:
    track = midi_track(from_hex(f"{ON_OFF_60} {between} 00 3e 40  60 3e 00  00 ff 2f 00"))
    song = parse_midi(midi_header(0, 1, 96) + track, "x.mid")
    assert onsets(song) == [(60, 0.0), (62, 0.5)]
    assert [round(found.end_s - found.start_s, 6) for found in song.notes] == [0.5, 0.5]
