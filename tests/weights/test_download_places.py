"""Downloading without a network, onto full disks, and by two processes at once."""

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from downloads import CUT, FAST, ONE_TRY, assert_complete, failure, lock_text
from loopback_server import (
    Handler,
    Recorder,
    Site,
    proper,
)

from specdiff_cli.errors import UsageError
from specdiff_cli.weights.download import download_model
from specdiff_cli.weights.lock import Lock

# --- environment, disk, other processes ------------------------------------------------------------------------------


def test_offline(site: Site, lock: Lock, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    line = failure(lock)
    assert "HF_HUB_OFFLINE is set" in line and "sub/w.bin" in line
    assert not (tmp_path / "cache").exists()
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    download_model("pinned", lock=lock, options=FAST)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    download_model("pinned", lock=lock, options=FAST)
    target.write_bytes(b"damaged")
    assert "HF_HUB_OFFLINE is set" in failure(lock)
    assert len(site.seen) == 1


def test_bad_endpoint(lock: Lock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "huggingface.co")
    with pytest.raises(UsageError, match="HF_ENDPOINT"):
        download_model("pinned", lock=lock)


def test_unwritable_cache(lock: Lock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SPECDIFF_CACHE", str(tmp_path / "file"))
    assert "cannot write to the cache" in failure(lock)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk_found_while_writing(site: Site, lock: Lock, part: Path) -> None:
    site.plan["/r1/w.bin"] = [proper(stop_after=0)]
    failure(lock, ONE_TRY)  # leaves the note of an empty part
    part.unlink(missing_ok=True)
    part.symlink_to("/dev/full")
    site.plan.clear()
    assert f"cannot write to the cache ({os.strerror(errno.ENOSPC)})" in failure(lock)
    assert len(site.seen) == 2  # no use in trying again


@pytest.mark.parametrize("stage", ["folder", "lock", "note", "flush", "rename", "record"])
def test_no_space_left_at_any_other_stage(
    site: Site, lock: Lock, target: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    """Writing itself is in the test above."""
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def only_if(condition: Callable[..., bool], real: Callable[..., object]) -> Callable[..., object]:
        def act(*args: object, **more: object) -> object:
            if condition(*args):
                raise full
            return real(*args, **more)

        return act

    with monkeypatch.context() as disk:
        if stage == "folder":
            disk.setattr(Path, "mkdir", only_if(lambda path, *_: path.name == "sub", Path.mkdir))
        elif stage == "lock":
            disk.setattr(Path, "open", only_if(lambda path, *_: path.name == ".lock", Path.open))
        elif stage == "note":
            disk.setattr(
                Path, "write_text", only_if(lambda path, *_: path.name.endswith(".part.json"), Path.write_text)
            )
        elif stage == "flush":
            disk.setattr(os, "fsync", only_if(lambda _: True, os.fsync))
        elif stage == "rename":
            disk.setattr(os, "replace", only_if(lambda _, to: to == target, os.replace))
        else:
            disk.setattr(os, "replace", only_if(lambda _, to: to != target, os.replace))
        line = failure(lock)
    assert f"cannot write to the cache ({os.strerror(errno.ENOSPC)}): free some space, or set SPECDIFF_CACHE" in line
    n_requests = len(site.seen)
    download_model("pinned", lock=lock, options=FAST)
    assert_complete(target)
    if stage in ("flush", "rename", "record"):
        assert len(site.seen) == n_requests  # what had arrived is not fetched again


def test_disk_plainly_too_small(site: Site, lock: Lock, monkeypatch: pytest.MonkeyPatch) -> None:
    small = type("Usage", (), {"free": 1000})()
    monkeypatch.setattr("shutil.disk_usage", lambda _: small)
    assert "not enough space (524 kB needed, 1 kB free" in failure(lock)


PROCESS = """
import sys
from specdiff_cli.weights.download import download_model
from specdiff_cli.weights.lock import parse_lock
print("ready", flush=True)
sys.stdin.readline()
download_model("pinned", lock=parse_lock(sys.argv[1]))
"""


def start_process() -> "subprocess.Popen[str]":
    """Another process that downloads when told to."""
    command = [sys.executable, "-c", PROCESS, lock_text()]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def go(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def slowly(handler: Handler, content: bytes) -> None:
    handler.head(200, Content_Length=len(content))
    for start in range(0, len(content), 65536):
        handler.body(content[start : start + 65536])
        time.sleep(0.03)


def test_two_processes_at_once(site: Site, lock: Lock, target: Path) -> None:
    site.plan["/r1/w.bin"] = [slowly]
    processes = [start_process(), start_process()]
    for process in processes:
        go(process)
    for process in processes:
        process.communicate(timeout=20)
        assert process.returncode == 0
    assert len(site.seen) == 1  # the second waited, then found the work done
    assert_complete(target)


def test_killed_process_leaves_neither_a_lock_nor_a_lost_part(site: Site, lock: Lock, target: Path, part: Path) -> None:
    site.plan["/r1/w.bin"] = [proper(stop_after=CUT, stall_s=1.0), proper()]
    process = start_process()
    go(process)
    deadline_s = time.monotonic() + 10
    while not (part.exists() and part.stat().st_size == CUT) and time.monotonic() < deadline_s:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
    process.communicate(timeout=10)
    recorder = Recorder()
    download_model("pinned", lock=lock, options=FAST, progress=recorder)
    assert recorder.notes == []
    assert site.ranges() == [None, f"bytes={CUT}-"]
    assert_complete(target)
