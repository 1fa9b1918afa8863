import io

import mido
import pytest

from specdiff_cli.midi.edits import Edits, apply_edits
from specdiff_cli.midi.notes import MidiSong, Note, parse_midi
from specdiff_cli.midi.writer import midi_bytes


def _read(data: bytes) -> MidiSong:
    return parse_midi(data, "written.mid")


def _plain(notes: list[Note]) -> list[tuple[float, float, int, int, int, bool]]:
    return sorted(
        (round(n.start_s, 2), round(n.end_s, 2), n.pitch, n.velocity, 0 if n.is_drum else n.program, n.is_drum)
        for n in notes
    )


def test_what_is_written_is_read_again() -> None:
    notes = [
        Note(0.0, 0.5, 60, 100, 0, False),
        Note(0.5, 1.25, 60, 64, 0, False),
        Note(0.25, 2.0, 43, 90, 32, False, channel=1, track=1),
        Note(1.0, 1.1, 38, 127, 0, True, channel=9, track=2),
    ]
    assert _plain(_read(midi_bytes(notes)).notes) == _plain(notes)


def test_forty_instruments_keep_their_programs_and_their_unisons() -> None:
    notes = [Note(0.1 * i, 5.0, 60, 100, i, False, channel=i % 16, track=i) for i in range(40)]
    data = midi_bytes(notes)
    by_port_and_channel = set()
    for track in mido.MidiFile(file=io.BytesIO(data)).tracks[1:]:
        port = next((message.port for message in track if message.type == "midi_port"), 0)
        by_port_and_channel.add((port, next(m.channel for m in track if m.type == "program_change")))
    assert len(by_port_and_channel) == 40, "no two instruments share a channel"
    assert {channel for _, channel in by_port_and_channel} == set(range(16)) - {9}


def test_levels_are_in_the_velocities() -> None:
    song = _read(
        midi_bytes([Note(0.0, 1.0, 60, 100, 0, False, level=0.5), Note(1.0, 2.0, 60, 100, 0, False, level=9.0)])
    )
    assert [note.velocity for note in song.notes] == [50, 127]


@pytest.mark.parametrize(
    "edits", [Edits(), Edits(start="bar:2"), Edits(tempo_scale=1.5), Edits(start="1", end="bar:5")]
)
def test_a_song_keeps_its_tempo_map_and_its_bars(edits: Edits) -> None:
    file = mido.MidiFile(ticks_per_beat=96)
    track = file.add_track()
    track.append(mido.MetaMessage("set_tempo", tempo=400_000))
    track.append(mido.MetaMessage("time_signature", numerator=3, denominator=4))
    for beat in range(24):
        if beat == 12:
            track.append(mido.MetaMessage("set_tempo", tempo=800_000))
        track.append(mido.Message("note_on", note=60 + beat % 12, velocity=80))
        track.append(mido.Message("note_off", note=60 + beat % 12, time=96))
    buffer = io.BytesIO()
    file.save(file=buffer)
    song, _ = apply_edits(_read(buffer.getvalue()), edits, "song.mid")
    again = _read(midi_bytes(song.notes, song.bars))
    assert _plain(again.notes) == _plain(song.notes)
    assert [round(bpm, 3) for _, bpm in again.tempo_changes] == [round(bpm, 3) for _, bpm in song.tempo_changes]
    assert again.bars is not None and again.bars.meters[-1].name == "3/4"
