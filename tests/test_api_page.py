"""The examples of docs/api.md run, from top to bottom, as they stand there."""

import re
from pathlib import Path

import pytest
from midi_files import midi_bytes, note
from random_voices import write_voice_folder

import specdiff_cli
from specdiff_cli.weights.load import load_voice, load_voice_folder

PAGE = Path(__file__).parents[1] / "docs" / "api.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)


def test_every_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    small = load_voice_folder(write_voice_folder(tmp_path / "small"))
    monkeypatch.setattr(specdiff_cli, "load_voice", lambda name: small if name == "base" else load_voice(name))
    Path("song.mid").write_bytes(midi_bytes(note(0, 480, 0, 60)))
    names: dict[str, object] = {}
    assert len(BLOCKS) > 10
    for block in BLOCKS:
        # Errors show the line of the page.
        line = PAGE.read_text(encoding="utf-8").partition(block)[0].count("\n")
        exec(compile("\n" * line + block, str(PAGE), "exec"), names)
