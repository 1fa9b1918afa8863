"""``kill -9`` at random moments: a final name is absent or complete, and the next run is right.

Renders run in forks of one process that has rendered once and imported everything, so that the moments fall into the
rendering and not into seconds of imports.
"""

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import specdiff
from midi_files import midi_bytes, note
from random_voices import write_voice_folder

from specdiff_cli.audio.record import inspect_audio
from specdiff_cli.rendering.resume import sidecar_path

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs fork and kill -9")

# Per line of input a command line and the seconds after which it is killed, or null; per line of output its exit status
# (-9 if killed) and the seconds it took.
FORKS = """
import json, os, signal, sys, time
from specdiff_cli.__main__ import main
from specdiff_cli.files import sweep
sys.argv = ["specdiff", "render", "--threads", "1", "a.mid", "-o", "warm-up.wav"]
try:
    main()
except SystemExit as stop:
    assert not stop.code
for line in sys.stdin:
    arguments, kill_after_s = json.loads(line)
    start_s = time.monotonic()
    child = os.fork()
    if child == 0:
        sweep.cache_clear()  # a process of its own has swept no folder yet
        sys.argv = ["specdiff", *arguments]
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)
        os.dup2(2, 1)
        try:
            main()
        except SystemExit as stop:
            os._exit(stop.code or 0)
        finally:
            os._exit(99)
    if kill_after_s is not None:
        time.sleep(kill_after_s)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    print(json.dumps([os.waitstatus_to_exitcode(status), time.monotonic() - start_s]), flush=True)
"""


class Forks:
    """Runs of the command, killed when told to."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", FORKS],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def run(self, *arguments: str, kill_after_s: float | None = None) -> tuple[int, float]:
        """(exit status, or -9 where the kill came in time; seconds)."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps([["render", "--threads", "1", *arguments], kill_after_s]) + "\n")
        self._process.stdin.flush()
        status, seconds = json.loads(self._process.stdout.readline())
        return status, seconds

    def close(self) -> None:
        self._process.communicate(timeout=60)


@pytest.fixture
def forks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Forks]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPECDIFF_MODEL", str(write_voice_folder(tmp_path / "voice")))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    Path("a.mid").write_bytes(midi_bytes([item for i in range(24) for item in note(480 * i, 480 * i + 400, 0, 50 + i)]))
    forks = Forks()
    yield forks
    forks.close()


TIMES = [pytest.param(3, id="3 times"), pytest.param(100, id="100 times", marks=pytest.mark.slow)]


def kill_moments(n_times: int, duration_s: float) -> list[float]:
    """Moments spread over a whole run and a little beyond, one in each of as many equal parts, in random order."""
    rng = random.Random(7)
    moments = [1.1 * duration_s * (part + rng.random()) / n_times for part in range(n_times)]
    rng.shuffle(moments)
    return moments


@pytest.mark.parametrize("n_times", TIMES)
def test_a_killed_render_leaves_no_file_or_a_complete_one(forks: Forks, n_times: int) -> None:
    status, duration_s = forks.run("a.mid", "-o", "whole.wav")
    assert status == 0
    whole, target = Path("whole.wav").read_bytes(), Path("a.wav")
    n_killed = n_complete = 0
    for moment_s in kill_moments(n_times, duration_s):
        target.unlink(missing_ok=True)
        n_killed += forks.run("a.mid", "-o", "a.wav", kill_after_s=moment_s)[0] == -9
        if target.exists():
            n_complete += 1
            assert target.read_bytes() == whole
            assert specdiff("inspect-wav", "a.wav").exit_code == 0  # calls it complete
        assert forks.run("a.mid", "-o", "a.wav", "--skip-existing")[0] == 0
        assert target.read_bytes() == whole
    assert n_killed > n_times // 2
    assert n_complete < n_times
    # Killed runs cannot clean up, but what they leave has no name of a result, and the next run removes it.
    assert sorted(path.name for path in Path().glob("*.wav")) == ["a.wav", "warm-up.wav", "whole.wav"]
    assert not list(Path().glob(".specdiff-*"))


@pytest.mark.slow
def test_an_old_file_survives_a_killed_overwrite(forks: Forks) -> None:
    assert forks.run("a.mid", "-o", "old.wav", "--seed", "1")[0] == 0
    status, duration_s = forks.run("a.mid", "-o", "new.wav")
    assert status == 0
    old, new, target = Path("old.wav").read_bytes(), Path("new.wav").read_bytes(), Path("a.wav")
    assert old != new
    for moment_s in kill_moments(100, duration_s):
        target.write_bytes(old)
        forks.run("a.mid", "-o", "a.wav", "-f", kill_after_s=moment_s)
        assert target.read_bytes() in (old, new)


@pytest.mark.slow
def test_songs_side_by_side_are_absent_or_complete(forks: Forks) -> None:
    songs = ["a.mid", "b.mid", "c.mid"]
    for song in songs[1:]:
        shutil.copy("a.mid", song)
    batch = [*songs, "-o", "out/", "--batch", "2"]
    status, duration_s = forks.run(*batch)
    assert status == 0
    n_complete = 0
    for moment_s in kill_moments(100, duration_s):
        shutil.rmtree("out")
        forks.run(*batch, kill_after_s=moment_s)
        targets = list(Path("out").glob("*.wav"))
        n_complete += len(targets)
        assert all(inspect_audio(target).problem is None for target in targets)
        before = {target: target.read_bytes() for target in targets}
        assert forks.run(*batch, "--skip-existing")[0] == 0
        assert sorted(os.listdir("out")) == ["a.wav", "b.wav", "c.wav"]
        assert all(target.read_bytes() == content for target, content in before.items())
    assert 0 < n_complete < 300


@pytest.mark.slow
def test_a_killed_render_resumes_to_the_same_bytes(forks: Forks) -> None:
    options = ["--sampler", "ddpm", "--steps", "4", "--resume"]
    status, duration_s = forks.run("a.mid", "-o", "whole.wav", *options)
    assert status == 0
    whole, target = Path("whole.wav").read_bytes(), Path("a.wav")
    n_begun = 0
    for moment_s in kill_moments(100, duration_s):
        target.unlink(missing_ok=True)
        sidecar_path(target).unlink(missing_ok=True)
        forks.run("a.mid", "-o", "a.wav", *options, kill_after_s=moment_s)
        if not target.exists():
            n_begun += sidecar_path(target).exists()
            assert forks.run("a.mid", "-o", "a.wav", *options)[0] == 0
        assert target.read_bytes() == whole
        assert not sidecar_path(target).exists()
    assert n_begun > 0
