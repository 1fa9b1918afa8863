"""Pictures, arrays and sounds of chosen denoising steps."""

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from specdiff_cli.errors import OutputError, UsageError
from specdiff_cli.rendering import sheet
from specdiff_cli.rendering.snapshots import SnapshotWriter, check_snapshots, parse_snapshots

pytest.importorskip("matplotlib")


@pytest.fixture(autouse=True)
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheet, "DPI", 40)


@dataclass
class State:
    window: int
    step: int
    n_steps: int = 4

    @property
    def state(self) -> np.ndarray:
        return np.full((256, 128), 10 * self.window + self.step, np.float32)


class Loud:
    """A vocoder whose samples are the log-mel values of the first band."""

    name = "loud"
    context_frames = 0

    def invert(self, mel: torch.Tensor, first_frame: int) -> torch.Tensor:
        return mel[:, 0].repeat_interleave(320)


def snapshots(stem: Path, text: str, **options: Any) -> SnapshotWriter:
    given = {"n_steps": 4, "window": 1, "n_windows": 3, "vocoder": Loud(), **options}
    return SnapshotWriter(stem, parse_snapshots(text), **given)


def test_lists_of_steps() -> None:
    assert parse_snapshots("1000,750,500,250,0") == (1000, 750, 500, 250, 0)
    assert parse_snapshots(" 0, 3 ,3") == (3, 0)


@pytest.mark.parametrize("text", ["", "1,,2", "-1", "1.5", "all", "²", "1" * 5000, "٣"])
def test_what_is_no_list_of_steps(text: str) -> None:
    with pytest.raises(UsageError, match="must be steps that are still to go"):
        parse_snapshots(text)


def test_a_step_outside_the_schedule_is_told() -> None:
    check_snapshots((4, 0), 4)
    with pytest.raises(UsageError, match=r"snapshots 750: the render has 50 steps; choose from 0 .* to 50"):
        check_snapshots((750, 0), 50)
    with pytest.raises(UsageError, match="has 1 step;"):
        check_snapshots((2,), 1)


def test_chosen_steps_of_one_window_are_written(tmp_path: Path) -> None:
    writer = snapshots(tmp_path / "song.v1", "4,1,0")
    for window in range(3):
        for step in range(5):
            writer(State(window, step))
    assert not list(tmp_path.iterdir())  # a song that fails leaves nothing behind
    writer.write()
    names = [f"song.v1.step-{left:04}{suffix}" for left in (4, 1, 0) for suffix in (".png", ".npy", ".wav")]
    assert [path.name for path in writer.paths] == names
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    for left in (4, 1, 0):
        mel = np.load(tmp_path / f"song.v1.step-{left:04}.npy")
        np.testing.assert_array_equal(mel, State(1, 4 - left).state)
        audio, rate_hz = soundfile.read(tmp_path / f"song.v1.step-{left:04}.wav")
        assert (rate_hz, len(audio)) == (16_000, 256 * 320)
        assert np.abs(audio).max() == pytest.approx(0.891, abs=1e-3)  # the vocoder gave 10 and more
        assert (tmp_path / f"song.v1.step-{left:04}.png").read_bytes()[:4] == b"\x89PNG"


def test_a_window_that_is_sampled_again_is_written_once_and_soft_sound_left_as_it_is(tmp_path: Path) -> None:
    writer = snapshots(tmp_path / "song", "3", window=0)
    for _ in range(2):
        thread = threading.Thread(target=writer, args=[State(0, 1)])
        thread.start()
        thread.join()
    writer.write()
    assert len(list(tmp_path.iterdir())) == 3
    Soft = type("Soft", (Loud,), {"invert": lambda self, mel, first: 0.25 * torch.ones(len(mel) * 320)})
    soft = snapshots(tmp_path / "soft", "3", window=0, vocoder=Soft())
    soft(State(0, 1))
    soft.write()
    assert np.abs(soundfile.read(tmp_path / "soft.step-0003.wav")[0]).max() == pytest.approx(0.25, abs=1e-4)


@pytest.mark.parametrize("suffix", ["png", "npy", "wav"])
def test_existing_files_are_refused_at_once_or_replaced(tmp_path: Path, suffix: str) -> None:
    there = tmp_path / f"song.step-0001.{suffix}"
    there.write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        snapshots(tmp_path / "song", "2,1")
    assert there.read_text() == "mine"
    writer = snapshots(tmp_path / "song", "2,1", overwrite=True)
    for step in range(5):
        writer(State(1, step))
    writer.write()
    assert there.read_bytes() != b"mine"
    assert len(list(tmp_path.iterdir())) == 6


def test_windows_and_steps_that_the_song_does_not_have(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="snapshot_window 4: the song has 3 windows"):
        snapshots(tmp_path / "song", "0", window=3)
    with pytest.raises(UsageError, match="snapshots 5: the render has 4 steps"):
        snapshots(tmp_path / "song", "5")
