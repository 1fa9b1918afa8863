import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from midi_files import midi_bytes, note, program

from specdiff_cli.errors import UsageError
from specdiff_cli.midi.programs import GM_NAMES
from specdiff_cli.serving.limits import Limits
from specdiff_cli.serving.orchestra import KEEP, MUTE, chosen, shown
from specdiff_cli.serving.uploads import OpenSong, read_upload
from specdiff_cli.serving.voices import VoiceFacts

EACH = VoiceFacts((), True, 44_100, tuple(range(128)), True, frozenset())
CLASSES = VoiceFacts(("draft",), False, 16_000, None, False, frozenset())


@pytest.fixture
def song(tmp_path: Path) -> OpenSong:
    import mido

    path = tmp_path / "song.mid"
    named = [(0, mido.MetaMessage("track_name", name="<script>&\n"))]
    flute = [*named, *program(0, 0, 73)] if isinstance(program(0, 0, 73), list) else [*named, program(0, 0, 73)]
    path.write_bytes(midi_bytes([*flute, *note(0, 480, 0, 60)], note(0, 480, 9, 36)))
    return read_upload(path, "song.mid", Limits())


def _rows(markup: str) -> list[list[str]]:
    body = ET.fromstring(markup).find(".//tbody")
    assert body is not None
    return [["".join(cell.itertext()) for cell in row][:7] for row in body]


def test_the_table_has_what_inspect_midi_shows(song: OpenSong) -> None:
    flute, drums = _rows(shown(song, EACH))
    assert flute == ["Flute 73", "1 <script>&", "1", "1", "C4", "1", "Flute"]
    assert drums == ["Drums", "2", "10", "1", "36", "1", "Drums"]
    assert [row[6] for row in _rows(shown(song, CLASSES))] == ["Pipe", "silent"]


def test_every_instrument_can_be_kept_muted_or_play_every_program_and_drums_stay_drums(song: OpenSong) -> None:
    flute, drums = ET.fromstring(shown(song, EACH)).iter("select")
    options = [option.attrib["value"] for option in flute.iter("option")]
    assert options == [KEEP, MUTE, *map(str, range(len(GM_NAMES)))]
    assert [option.attrib["value"] for option in drums.iter("option")] == [KEEP, MUTE]


def test_choices_become_edits_and_others_are_refused(song: OpenSong) -> None:
    assert chosen(song, [KEEP, KEEP]) == ((), ())
    assert chosen(song, ["40", MUTE]) == (("73:40",), ("drums",))
    assert chosen(song, None) == ((), ())
    for wrong in (["128"], ["-1"], ["x"], [KEEP, "0"], [{"a": 1}]):
        with pytest.raises(UsageError, match="can be kept"):
            chosen(song, wrong)
