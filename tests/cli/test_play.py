"""``specdiff play``: through a player that is found, and one line where there is none."""

import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from midi_files import midi_bytes, note
from typer.testing import CliRunner

from specdiff_cli.audio import sound_card as command
from specdiff_cli.cli.app import app
from specdiff_cli.errors import DeviceError


@pytest.fixture
def song(tmp_path: Path) -> Path:
    path = tmp_path / "song.mid"
    path.write_bytes(midi_bytes(note(0, 960, 0, 60)))
    return path


@pytest.fixture(autouse=True)
def no_sound_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)


def use_player(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str) -> None:
    player = folder / "player"
    player.write_text(f"#!/bin/sh\n{script}\n")
    player.chmod(0o755)
    monkeypatch.setattr(command, "PLAYERS", ((str(player), "-"),))


def test_a_player_gets_the_audio_as_a_wav(
    song: Path, voice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_player(monkeypatch, tmp_path, f"cat > {tmp_path}/heard.wav")
    done = CliRunner().invoke(app, ["play", str(song), "-m", voice, "--device", "cpu"])
    assert done.exit_code == 0, done.stderr
    with soundfile.SoundFile(tmp_path / "heard.wav") as file:
        heard = file.read(32_000)
    assert len(heard) == 32_000  # a second of music, and one more
    assert np.abs(heard).max() > 0


def test_a_player_that_fails_is_told_in_one_line(
    song: Path, voice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_player(monkeypatch, tmp_path, "cat > /dev/null; exit 3")
    done = CliRunner().invoke(app, ["play", str(song), "-m", voice, "--device", "cpu", "-q"])
    assert done.exit_code == DeviceError.exit_code
    assert "ended with code 3" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_without_any_player_one_line_says_what_to_install(song: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "PLAYERS", ())
    done = CliRunner().invoke(app, ["play", str(song)])
    assert done.exit_code == DeviceError.exit_code
    assert "specdiff[play]" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_help_of_render_fits_narrow_screens_and_names_the_rest() -> None:
    short = CliRunner().invoke(app, ["render", "--help"], env={"COLUMNS": "60"}).stdout
    full = CliRunner().invoke(app, ["render", "--help-all"], env={"COLUMNS": "60"}).stdout
    for text in (short, full):
        assert max(map(len, text.splitlines())) <= 60
        assert "<bool>" not in text
        assert "…" not in text.replace("N,N,…", "")
    assert "--guidance" not in short and "--guidance" in full
    assert "SPECDIFF_STEPS" not in short and "SPECDIFF_STEPS" in full
    assert "Batches and long songs" in short.replace("\n", " ")
    options = typer_options()
    assert all(name in full for name in options)


def typer_options() -> list[str]:
    import typer

    render = typer.main.get_command(app).commands["render"]  # type: ignore[attr-defined]
    return [name for param in render.params for name in param.opts if name.startswith("--")]
