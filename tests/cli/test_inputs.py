"""Files and folders named on the command line."""

from pathlib import Path

import pytest

from specdiff_cli.cli.inputs import expand
from specdiff_cli.errors import MidiError


def test_a_file_stands_for_itself_even_if_it_is_missing(tmp_path: Path) -> None:
    assert expand(tmp_path / "none.mid") == [tmp_path / "none.mid"]


def test_a_folder_stands_for_its_midi_files(tmp_path: Path) -> None:
    for name in ("b.mid", "a.MIDI", "c.kar", "d.smf", "notes.txt", "e.midx"):
        (tmp_path / name).touch()
    (tmp_path / "folder.mid").mkdir()
    assert [path.name for path in expand(tmp_path)] == ["a.MIDI", "b.mid", "c.kar", "d.smf"]


def test_a_folder_without_midi_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(MidiError, match="holds no MIDI file") as caught:
        expand(tmp_path)
    assert str(tmp_path) in str(caught.value)
