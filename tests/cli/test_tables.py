"""Tables of commands on screens of any width."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from command_line import specdiff
from midi_files import midi_bytes, note
from random_voices import write_voice_folder


def lines_of(monkeypatch: pytest.MonkeyPatch, columns: int, *arguments: str) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(columns))
    result = specdiff(*arguments)
    assert result.exit_code == 0, result.stderr
    return result.stdout.splitlines()


def test_inspect_wav(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    soundfile.write("in.wav", np.zeros(16_000), 16_000)
    wide = lines_of(monkeypatch, 80, "inspect-wav", "in.wav")
    assert [line.split()[:2] for line in wide[1:3]] == [["Length", "0:01"], ["Format", "WAV"]]
    Path("a.mid").write_bytes(midi_bytes(note(0, 48, 0, 60)))
    lines_of(monkeypatch, 80, "render", "a.mid", "--model", str(write_voice_folder(tmp_path / "voice")))
    narrow = lines_of(monkeypatch, 40, "inspect-wav", "a.wav")
    assert max(map(len, narrow)) <= 40
    assert any(line.startswith("  -  Options steps: ") for line in narrow)
    assert len(narrow) < 60  # not a letter to a line


def test_a_plan(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.mid").write_bytes(midi_bytes(note(0, 48, 0, 60)))
    wide = lines_of(monkeypatch, 80, "render", "-n", "a.mid")
    assert wide[0].split() == ["Plan", "Input", "Length", "Windows", "Time", "Output", "or", "reason"]
    assert wide[2].split()[:2] == ["render", "a.mid"]
    narrow = lines_of(monkeypatch, 40, "render", "-n", "a.mid")
    assert " ".join(" ".join(narrow[:-1]).split()).startswith("- Plan render, Input a.mid, Length 0:0")
    assert max(map(len, narrow[:-1])) <= 40
