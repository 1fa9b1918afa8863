"""``--dry-run``: what would be done, without doing it."""

import json
from pathlib import Path

import pytest
from command_line import specdiff
from midi_files import midi_bytes, note
from random_voices import write_voice_folder
from typer.testing import Result

from specdiff_cli.engine import loading
from specdiff_cli.wording import about


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPECDIFF_MODEL", str(write_voice_folder(tmp_path / "voice")))
    Path("a.mid").write_bytes(midi_bytes(note(0, 240, 0, 60)))
    Path("b.mid").write_bytes(midi_bytes(note(0, 480 * 20, 0, 60)))  # 10 s
    return tmp_path


def run(*arguments: str) -> Result:
    return specdiff("render", *arguments)


def test_lists_what_would_be_done_and_does_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object, **__: object) -> None:
        raise AssertionError("the voice was loaded")

    assert run("a.mid", "-o", "out/").exit_code == 0
    monkeypatch.setattr(loading, "load_synthesizer", load)
    Path("c.mid").write_bytes(b"MThd")
    result = run("a.mid", "b.mid", "c.mid", "-o", "out", "--skip-existing", "--dry-run")
    assert result.exit_code == 1
    rows = result.stdout.splitlines()
    assert rows[2].split()[:2] == ["skip", "a.mid"]
    plan = rows[3].split()
    assert (plan[:4], plan[-1]) == (["render", "b.mid", "0:11", "3"], "out/b.wav")
    assert rows[4].split()[:2] == ["failed", "c.mid"]
    assert "1 render, 0:11 of audio in 3 windows: about " in result.stdout
    assert "a guess for two CPU cores" in result.stdout
    assert "error: c.mid: is a damaged MIDI file" in result.stderr
    assert [path.name for path in Path("out").iterdir()] == ["a.wav"]
    assert run("a.mid", "-o", "out", "--skip-existing", "-n").stdout.splitlines()[-1] == "nothing to render"


def test_for_programs(folder: Path) -> None:
    result = run("b.mid", "-n", "--json", "--tail", "0.24", "--steps", "7")
    assert result.exit_code == 0
    (line,) = result.stdout.splitlines()
    told = json.loads(line)
    assert (told["status"], told["output"], told["duration_s"], told["windows"]) == ("planned", "b.wav", 10.24, 2)
    assert told["estimated_seconds"] >= 0
    assert not Path("b.wav").exists()


def test_an_output_in_the_way_is_a_failure_of_the_plan(folder: Path) -> None:
    Path("a.wav").touch()
    result = run("a.mid", "--dry-run")
    assert result.exit_code == 5
    assert "a.wav exists already" in result.stderr


def test_rough_times() -> None:
    assert [about(s) for s in (0.1, 59, 91, 3000, 9000)] == ["1 s", "59 s", "2 min", "50 min", "2.5 h"]
