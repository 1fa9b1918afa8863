"""What killed processes leave beside their targets is removed by the next writer, and nothing else is."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from specdiff_cli import files
from specdiff_cli.errors import OutputError
from specdiff_cli.files import PendingFile, check_target, sweep

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs locks of POSIX")

WRITER = """
import sys, time
from pathlib import Path
from specdiff_cli.files import PendingFile
file = PendingFile(Path(sys.argv[1]), overwrite=False)
file.open().write(b"half")
if "settled" in sys.argv:
    file.settle()
print("ready", flush=True)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def not_swept() -> Iterator[None]:
    sweep.cache_clear()
    yield
    sweep.cache_clear()


def start_writer(target: Path, *arguments: str) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(target), *arguments], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    return process


def write(target: Path) -> None:
    file = PendingFile(target, overwrite=False)
    file.open().write(b"whole")
    file.commit()


@pytest.mark.parametrize("state", ["writing", "settled"])
def test_only_files_of_dead_processes_are_removed(tmp_path: Path, state: str) -> None:
    with start_writer(tmp_path / "a", state) as process:
        (temporary,) = os.listdir(tmp_path)
        write(tmp_path / "b")
        assert sorted(os.listdir(tmp_path)) == [temporary, "b"]  # in use: kept
        process.send_signal(signal.SIGKILL)
    sweep.cache_clear()
    write(tmp_path / "c")
    assert sorted(os.listdir(tmp_path)) == ["b", "c"]


def test_files_that_only_look_like_ours_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = files._temporary_name(tmp_path / "a").name
    monkeypatch.setattr(files, "_HOST", "0" * 8)
    elsewhere = files._temporary_name(tmp_path / "a").name
    other = [elsewhere, f"{own}.wav", own.upper(), ".specdiff-mine.tmp", ".specdiff-0123456789ab.tmp"]
    for name in other:
        (tmp_path / name).write_bytes(b"mine")
    (tmp_path / "target").write_bytes(b"mine")
    (tmp_path / own).symlink_to("target")
    folder = own[:-5] + "f.tmp" if own[-5] != "f" else own[:-5] + "e.tmp"
    (tmp_path / folder).mkdir()
    before = sorted([*other, "target", own, folder])
    write(tmp_path / "new")
    assert sorted(os.listdir(tmp_path)) == sorted([*before, "new"])


def test_files_of_other_users_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = files._temporary_name(tmp_path / "a")
    own.write_bytes(b"half")
    monkeypatch.setattr(os, "geteuid", lambda: own.stat().st_uid + 1)
    write(tmp_path / "new")
    assert own.exists()
    sweep.cache_clear()
    monkeypatch.undo()
    write(tmp_path / "newer")
    assert not own.exists()


def test_a_sweeper_that_comes_between_creation_and_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it holds its lock still or has removed the file already, the writer takes another name."""
    import fcntl

    real, calls = fcntl.flock, []

    def flock(descriptor: int, operation: int) -> None:
        calls.append(descriptor)
        if len(calls) == 1:
            raise BlockingIOError
        if len(calls) == 2:
            (found,) = tmp_path.glob(".specdiff-*")
            found.unlink()
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    write(tmp_path / "a")
    assert len(calls) == 3
    assert (tmp_path / "a").read_bytes() == b"whole"
    assert os.listdir(tmp_path) == ["a"]


def test_a_file_system_without_locks_is_written_to_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    def refuse(_descriptor: int, _operation: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    left = files._temporary_name(tmp_path / "a")
    left.write_bytes(b"half")  # in use or not: nobody can tell
    write(tmp_path / "b")
    assert sorted(os.listdir(tmp_path)) == sorted([left.name, "b"])


def test_a_name_of_a_pipe_is_told_from_a_folder_that_is_gone(tmp_path: Path) -> None:
    """What ``/dev/stdout`` stands for where it is a pipe has no real path."""
    reader, writer = os.pipe()
    try:
        for name in (f"/dev/fd/{writer}", f"/proc/self/fd/{writer}"):
            if os.path.exists(name):
                with pytest.raises(OutputError, match="is not a regular file"):
                    check_target(name, overwrite=True)
    finally:
        os.close(reader)
        os.close(writer)
    (tmp_path / "link").symlink_to(tmp_path / "nothing yet.wav")
    assert check_target(tmp_path / "link", overwrite=False) == (tmp_path / "nothing yet.wav").resolve()
