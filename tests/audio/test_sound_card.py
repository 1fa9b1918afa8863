"""Sound cards and players: what they are given, and that sound nobody heard is told."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from specdiff_cli.audio import sound_card
from specdiff_cli.constants import SAMPLE_RATE_HZ
from specdiff_cli.errors import DeviceError

SOUND = np.full(SAMPLE_RATE_HZ // 5, 0.25, np.float32)  # 0.2 s


def _play(*pieces: npt.NDArray[np.float32]) -> None:
    open_sink, _ = sound_card.find_player()
    with open_sink() as sink:
        for piece in pieces:
            sink(piece)


@pytest.fixture
def player(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A script to fill, the only way to play sound."""
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    path = tmp_path / "player"
    monkeypatch.setattr(sound_card, "PLAYERS", ((str(path),),))
    path.touch(0o755)
    return path


def _clock(monkeypatch: pytest.MonkeyPatch, *seconds: float) -> None:
    """Of the first sample, and of the player's end, whatever the machine is busy with."""
    monkeypatch.setattr(sound_card, "time", SimpleNamespace(monotonic=iter(seconds).__next__))


def test_a_player_that_takes_the_sounds_time_has_played_it(player: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _clock(monkeypatch, 7.0, 7.16)
    player.write_text("#!/bin/sh\ncat > /dev/null\n")
    _play(SOUND)


@pytest.mark.parametrize(
    ("script", "code"),
    [("cat > /dev/null", 0), ("exit 3", 3), ("head -c 1000 > /dev/null; exit 4", 4), ("exec < /dev/null", 0)],
)
@pytest.mark.parametrize("n_pieces", [1, 50])  # within the pipe's buffer, and beyond it
def test_a_player_that_ends_too_early_has_not_played_it(
    player: Path, monkeypatch: pytest.MonkeyPatch, script: str, code: int, n_pieces: int
) -> None:
    _clock(monkeypatch, 7.0, 7.14)
    player.write_text(f"#!/bin/sh\n{script}\n")
    with pytest.raises(DeviceError, match=f"ended with code {code} before the sound was over: is there a sound card"):
        _play(*[SOUND] * n_pieces)


def test_a_slow_player_that_says_it_could_not_open_has_not_played_it(
    player: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _clock(monkeypatch, 7.0, 8.0)
    player.write_text("#!/bin/sh\ncat > /dev/null; echo \"Failed to open file 'pipe:'\" >&2\n")
    with pytest.raises(DeviceError, match=r"ended with code 0 .*\(Failed to open file 'pipe:'\)"):
        _play(SOUND)


def test_a_card_begins_with_the_first_sound_and_ends_with_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    class Stream(SimpleNamespace):
        active = False

        def start(self) -> None:
            self.active = True
            calls.append("start")

        def stop(self) -> None:
            calls.append("stop")

        def close(self) -> None:
            calls.append("close")

        def write(self, samples: npt.NDArray[np.float32]) -> None:
            calls.append((samples.shape, float(samples.max())))

    def output_stream(**settings: object) -> Stream:
        calls.append(settings)
        return Stream()

    device = SimpleNamespace(check_output_settings=lambda **_: None, OutputStream=output_stream)
    monkeypatch.setitem(sys.modules, "sounddevice", device)
    _play(SOUND, 8 * SOUND)
    settings = {"samplerate": SAMPLE_RATE_HZ, "channels": 1, "dtype": "float32"}
    assert calls == [settings, "start", ((len(SOUND), 1), 0.25), ((len(SOUND), 1), 1.0), "stop", "close"]
