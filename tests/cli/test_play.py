"""``specdiff play``: through a player that is found, and one line where there is none."""

import sys
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from command_line import specdiff
from midi_files import midi_bytes, note

from specdiff_cli.audio import sound_card as command
from specdiff_cli.cli.app import app
from specdiff_cli.engine.synthesizer import Synthesizer
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
    monkeypatch.setattr(command, "time", SimpleNamespace(monotonic=count(0, 2).__next__))  # as long as the sound
    done = specdiff("play", song, "-m", voice, "--device", "cpu")
    assert done.exit_code == 0, done.stderr
    with soundfile.SoundFile(tmp_path / "heard.wav") as file:
        heard = file.read(32_000)
    assert len(heard) == 32_000  # a second of music, and one more
    assert np.abs(heard).max() > 0


def test_a_player_that_fails_is_told_in_one_line(
    song: Path, voice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_player(monkeypatch, tmp_path, "cat > /dev/null; exit 3")
    done = specdiff("play", song, "-m", voice, "--device", "cpu", "-q")
    assert done.exit_code == DeviceError.exit_code
    assert "ended with code 3" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_player_that_takes_all_and_plays_nothing_is_told(
    song: Path, voice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "time", SimpleNamespace(monotonic=count(0, 1).__next__))  # half of it
    use_player(monkeypatch, tmp_path, "cat > /dev/null; printf 'no card\\nno hope\\n' >&2")
    done = specdiff("play", song, "-m", voice, "--device", "cpu", "-q")
    assert done.exit_code == DeviceError.exit_code
    assert done.stderr.count("\n") == 1
    assert "ended with code 0 before the sound was over (no hope): is there a sound card?" in done.stderr


def test_the_next_piece_is_made_while_one_plays(song: Path, voice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = [threading.Event() for _ in range(3)]
    played: list[int] = []

    def stream(*_: object, **__: object) -> Iterator[npt.NDArray[np.float32]]:
        for event in begun:
            event.set()
            yield np.zeros(16, np.float32)

    def slow_sink(samples: npt.NDArray[np.float32]) -> None:
        played.append(len(samples))
        assert begun[min(len(played), 2)].wait(timeout=5)  # the one behind this one

    monkeypatch.setattr(Synthesizer, "stream", stream)
    monkeypatch.setattr(command, "find_player", lambda: (lambda: nullcontext(slow_sink), "a player"))
    done = specdiff("play", song, "-m", voice, "--device", "cpu", catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    assert played == [16, 16, 16]


def test_without_any_player_one_line_says_what_to_install(song: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "PLAYERS", ())
    done = specdiff("play", song)
    assert done.exit_code == DeviceError.exit_code
    assert "specdiff[play]" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_help_of_render_fits_narrow_screens_and_names_the_rest() -> None:
    short = specdiff("render", "--help", env={"COLUMNS": "60"}).stdout
    full = specdiff("render", "--help-all", env={"COLUMNS": "60"}).stdout
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
