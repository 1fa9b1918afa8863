"""``--resume``: a killed render goes on after its last whole window, and gives the very bytes of an undisturbed one."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import specdiff
from midi_files import midi_bytes, note
from random_voices import write_voice_folder
from typer.testing import Result

from specdiff_cli.audio.wav import AtomicWriter
from specdiff_cli.engine.synthesizer import FinishedWindow
from specdiff_cli.errors import OutputError
from specdiff_cli.rendering.resume import Sidecar, sidecar_path

KEY = {"options": {"seed": 0}, "device": "cpu"}


def window(number: int) -> FinishedWindow:
    mel = np.random.default_rng(number).standard_normal((256, 128)).astype(np.float32)
    return FinishedWindow(mel=mel, noise_state=bytes([number]) * 100)


def kept(target: Path, key: dict[str, Any] = KEY, n_windows: int = 5) -> tuple[list[FinishedWindow], str | None]:
    with Sidecar(target, key, n_windows) as sidecar:
        return list(sidecar.finished()), sidecar.why_from_start


def fill(target: Path, *numbers: int) -> Path:
    with Sidecar(target, KEY, 5) as sidecar:
        for number in numbers:
            sidecar.add(window(number))
    return sidecar_path(target)


def test_windows_come_back_as_they_were(tmp_path: Path) -> None:
    target = tmp_path / "a.wav"
    path = fill(target, 0, 1)
    assert path.name == ".a.wav.specdiff-resume"
    fill(target, 2)  # goes on behind what is there
    windows, why = kept(target)
    assert why is None
    assert [item.noise_state for item in windows] == [window(number).noise_state for number in range(3)]
    for number, item in enumerate(windows):
        np.testing.assert_array_equal(item.mel, window(number).mel)


def test_a_kill_at_any_byte_costs_at_most_the_window_it_cut(tmp_path: Path) -> None:
    target = tmp_path / "a.wav"
    whole = fill(target, 0, 1).read_bytes()
    record_bytes = (len(whole) - whole.index(b"\n") - 1) // 2
    for cut, n_left in ((1, 1), (16, 1), (17, 1), (record_bytes - 1, 1), (record_bytes, 1), (record_bytes + 1, 0)):
        sidecar_path(target).write_bytes(whole[:-cut])
        windows, _ = kept(target)
        assert len(windows) == n_left
    sidecar_path(target).write_bytes(whole[:10])  # within the first line
    assert kept(target) == ([], "the file with the finished windows is damaged")


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    target = tmp_path / "a.wav"
    path = fill(target, 0, 1, 2)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    windows, _ = kept(target)
    assert len(windows) == 1


@pytest.mark.parametrize(
    ("key", "n_windows", "word"),
    [
        ({"options": {"seed": 1}, "device": "cpu"}, 5, "seed"),
        ({"options": {}, "device": "cpu"}, 5, "seed"),
        ({"options": {"seed": 0, "sample_rate_hz": 48000}, "device": "cpu"}, 5, "sample-rate"),
        (KEY, 6, "windows"),
        (KEY | {"device": "x"}, 5, "device"),
    ],
)
def test_windows_of_another_render_are_not_used(tmp_path: Path, key: dict[str, Any], n_windows: int, word: str) -> None:
    target = tmp_path / "a.wav"
    fill(target, 0)
    windows, why = kept(target, key, n_windows)
    assert windows == []
    assert why is not None
    assert f"({word} changed)" in why


def test_nothing_is_left_of_a_render_that_finished_no_window(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), Sidecar(tmp_path / "a.wav", KEY, 5):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="file locks of POSIX")
def test_two_processes_do_not_share_a_file(tmp_path: Path) -> None:
    with Sidecar(tmp_path / "a.wav", KEY, 5):
        with pytest.raises(OutputError, match="another process"), Sidecar(tmp_path / "a.wav", KEY, 5):
            pass


def test_long_names_and_folders_that_are_not_there(tmp_path: Path) -> None:
    target = tmp_path / ("n" * 250 + ".wav")
    assert fill(target, 0).is_file()
    assert len(kept(target)[0]) == 1
    with pytest.raises(OutputError, match="folder"), Sidecar(tmp_path / "none" / "a.wav", KEY, 5):
        pass


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPECDIFF_MODEL", str(write_voice_folder(tmp_path / "voice")))
    Path("a.mid").write_bytes(midi_bytes(*[note(480 * i, 480 * i + 400, 0, 50 + i) for i in range(40)]))  # 20 s
    return tmp_path


def run(*arguments: str) -> Result:
    return specdiff("render", "--threads", "1", "--sampler", "ddpm", *arguments)


def test_an_interrupted_render_goes_on_with_the_same_bytes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("a.mid", "-o", "a.wav", "--save-mel", "a.npy").exit_code == 0
    whole, mel = Path("a.wav").read_bytes(), Path("a.npy").read_bytes()
    real = AtomicWriter.write
    n_writes = 0

    def write(self: AtomicWriter, samples: Any) -> None:
        nonlocal n_writes
        n_writes += 1
        if n_writes == 3:
            raise KeyboardInterrupt
        real(self, samples)

    monkeypatch.setattr(AtomicWriter, "write", write)
    result = run("a.mid", "-o", "a.wav", "--save-mel", "a.npy", "--resume", "-f")
    assert result.exit_code == 130
    assert "finished windows are kept" in result.stderr
    Path("a.wav").unlink()
    Path("a.npy").unlink()
    result = run("a.mid", "-o", "a.wav", "--save-mel", "a.npy", "--resume")
    assert result.exit_code == 0, result.stderr
    assert "a.mid: 3 windows of 5 done earlier" in result.stderr
    assert "a.mid: rendering 2 windows of 2 steps" in result.stderr
    assert Path("a.wav").read_bytes() == whole
    assert Path("a.npy").read_bytes() == mel
    assert not sidecar_path(Path("a.wav")).exists()


@pytest.mark.slow
def test_kill_9_and_resume(folder: Path) -> None:
    assert run("a.mid", "-o", "whole.wav", "--steps", "40").exit_code == 0
    command = [sys.executable, "-m", "specdiff_cli", "render", "a.mid", "-o", "a.wav", "--resume", "--threads", "1"]
    command += ["--sampler", "ddpm", "--steps", "40"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    sidecar = sidecar_path(Path("a.wav"))
    deadline_s = time.monotonic() + 300
    while not (sidecar.exists() and sidecar.stat().st_size > 300_000):  # two windows
        assert process.poll() is None
        assert time.monotonic() < deadline_s
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=60)
    assert not Path("a.wav").exists()
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"NO_COLOR": "1"})
    assert done.returncode == 0, done.stderr
    assert "done earlier" in done.stderr
    assert Path("a.wav").read_bytes() == Path("whole.wav").read_bytes()
    assert not sidecar.exists()
