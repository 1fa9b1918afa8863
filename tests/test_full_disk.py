"""``ENOSPC`` for real: renders into a file system of a few kilobytes, mounted in a namespace of its own.

Where user namespaces are not to be had the tests are skipped; limits on file sizes (tests/audio/test_encoding.py) then
stand in for them.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from midi_files import midi_bytes, note
from random_voices import write_voice_folder

from specdiff_cli.rendering.resume import sidecar_path

UNSHARE = [shutil.which("unshare") or "unshare", "-rm"]

# Per line of input the size of the file system, how many files it may hold, whether it is to be empty, and a command
# line; per line of output the exit status, standard error, and the files that are there then, with their sizes.
DRIVER = """
import json, os, subprocess, sys
from specdiff_cli.__main__ import main
def mount(options):
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", "small"], check=True)
sys.argv = ["specdiff", "render", "--threads", "1", "a.mid", "-o", "warm-up.wav"]
try:
    main()
except SystemExit as stop:
    assert not stop.code
is_mounted = False
for line in sys.stdin:
    size, n_files, is_new, arguments = json.loads(line)
    if is_new and is_mounted:
        subprocess.run(["umount", "small"], check=True)
    options = f"size={size},nr_inodes={n_files + 1}"
    mount(options if is_new else "remount," + options)
    is_mounted = True
    child = os.fork()
    if child == 0:
        sys.argv = ["specdiff", *arguments]
        os.dup2(os.open("stderr.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        os.dup2(2, 1)
        try:
            main()
        except SystemExit as stop:
            os._exit(stop.code or 0)
        finally:
            os._exit(99)
    _, status = os.waitpid(child, 0)
    files = {entry.name: entry.stat().st_size for entry in os.scandir("small")}
    print(json.dumps([os.waitstatus_to_exitcode(status), open("stderr.txt").read(), files]), flush=True)
"""


@dataclass
class Run:
    """How a command ended, and what was in the small file system then."""

    status: int
    stderr: str
    files: dict[str, int]


class SmallDisk:
    """Commands with ``small/`` as a disk of a given size."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [*UNSHARE, sys.executable, "-c", DRIVER],
            cwd=folder,
            env=os.environ | {"SPECDIFF_MODEL": "voice", "SPECDIFF_CONFIG": os.devnull, "SPECDIFF_CACHE": "cache"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def run(self, size: int, *arguments: str, n_files: int = 100, is_new: bool = True) -> Run:
        """``size`` in bytes, of which the system makes whole pages."""
        assert self._process.stdin is not None and self._process.stdout is not None
        command = ["render", "--threads", "1", *arguments]
        self._process.stdin.write(json.dumps([size, n_files, is_new, command]) + "\n")
        self._process.stdin.flush()
        return Run(*json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        self._process.communicate(timeout=60)


def require_mounts(folder: Path) -> None:
    """Skip the test where no file system can be mounted."""
    mount = [*UNSHARE, "mount", "-t", "tmpfs", "tmpfs", str(folder)]
    try:
        can_mount = subprocess.run(mount, capture_output=True, check=False, timeout=30).returncode == 0
    except OSError:
        can_mount = False
    if not can_mount:
        pytest.skip("needs Linux with user namespaces, to mount a small tmpfs")


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallDisk]:
    folder = tmp_path_factory.mktemp("disk")
    (folder / "small").mkdir()
    require_mounts(folder / "small")
    write_voice_folder(folder / "voice")
    song = midi_bytes([item for i in range(24) for item in note(480 * i, 480 * i + 400, 0, 50 + i)])
    for name in ("a.mid", "b.mid"):
        (folder / name).write_bytes(song)
    disk = SmallDisk(folder)
    yield disk
    disk.close()


def check_is_one_line(run: Run, name: str) -> None:
    assert run.status == 5
    (line,) = [line for line in run.stderr.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: cannot write ")
    assert line.endswith(f"{name}: No space left on device")
    assert "Traceback" not in run.stderr


def test_a_disk_that_fills_at_any_page(disk: SmallDisk) -> None:
    page = 4096
    whole = disk.run(2_000_000, "a.mid", "-o", "small/a.wav")
    assert whole.status == 0, whole.stderr
    n_bytes = whole.files["a.wav"]
    n_pages = -(-n_bytes // page)
    assert n_pages > 50
    for pages, options in [
        (1, []),
        (n_pages - 1, []),
        (9, ["--format", "flac", "--subtype", "pcm24"]),
    ]:
        failed = disk.run(pages * page, "a.mid", "-o", "small/a.wav", *options)
        check_is_one_line(failed, "small/a.wav")
        assert failed.files == {}
    assert disk.run(n_pages * page, "a.mid", "-o", "small/a.wav").files == {"a.wav": n_bytes}


def test_no_room_for_a_second_name(disk: SmallDisk) -> None:
    """A finished file needs no further room to get its name, not even an inode."""
    assert list(disk.run(2_000_000, "a.mid", "-o", "small/a.wav", n_files=1).files) == ["a.wav"]
    check_is_one_line(disk.run(2_000_000, "a.mid", "-o", "small/a.wav", n_files=0), "small/a.wav")


@pytest.mark.slow
def test_finished_windows_fill_the_disk_and_the_same_command_goes_on_when_there_is_room(disk: SmallDisk) -> None:
    sidecar = sidecar_path(Path("small/a.wav")).name
    options = ("a.mid", "-o", "small/a.wav", "--resume", "--sampler", "ddpm")
    whole = disk.run(2_000_000, *options)
    assert list(whole.files) == ["a.wav"]
    check_is_one_line(disk.run(4096, *options), f"small/{sidecar}")  # not even a window
    some = disk.run(400_000, *options)
    check_is_one_line(some, "small/a.wav")  # after two windows
    assert list(some.files) == [sidecar]
    rest = disk.run(2_000_000, *options, is_new=False)
    assert rest.status == 0
    assert "done earlier" in rest.stderr
    assert rest.files == whole.files


@pytest.mark.slow
def test_of_two_outputs_neither_appears_and_a_batch_keeps_what_fitted(disk: SmallDisk) -> None:
    sizes = disk.run(2_000_000, "a.mid", "-o", "small/a.wav", "--save-mel", "small/a.npy").files
    both = disk.run(sizes["a.wav"] + 8192, "a.mid", "-o", "small/a.wav", "--save-mel", "small/a.npy")
    assert both.status == 5
    assert both.files == {}
    batch = disk.run(sizes["a.wav"] + 16384, "a.mid", "b.mid", "-o", "small")
    assert batch.status == 1
    assert batch.files == {"a.wav": sizes["a.wav"]}
    assert "error: cannot write small/b.wav: No space left on device" in batch.stderr
    assert "2 inputs: 1 done, 1 failed" in batch.stderr


# Downloads 64 KiB into a file system of n pages or n files, then again with room enough. Per line of output: the limit,
# the first error, whether the file had its name after it, and what is there in the end.
DOWNLOADS = """
import functools, hashlib, http.server, json, os, subprocess, sys, threading
from pathlib import Path
from specdiff_cli.errors import WeightsError
from specdiff_cli.weights.download import download_model
from specdiff_cli.weights.lock import parse_lock
from specdiff_cli.weights.transfer import TransferOptions
content = bytes(range(256)) * 256
Path("site").mkdir()
Path("site/w.bin").write_bytes(content)
class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory="site"))
threading.Thread(target=server.serve_forever, daemon=True).start()
lock = parse_lock('''
lock_version = 1
[models.m]
description = "d"
license = "l"
revision = "r1"
[[models.m.files]]
path = "w.bin"
url = "{endpoint}/w.bin"
sha256 = "SHA"
'''.replace("SHA", hashlib.sha256(content).hexdigest()))
def mount(options):
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", "small"], check=True)
def download():
    try:
        return str(download_model("m", lock=lock, options=TransferOptions(timeout_s=5, max_attempts=1)))
    except WeightsError as error:
        return f"error: {error}"
os.environ.update(HF_ENDPOINT=f"http://127.0.0.1:{server.server_port}", SPECDIFF_CACHE="small")
os.environ.update(NO_PROXY="127.0.0.1", no_proxy="127.0.0.1")
for limit in [f"size={4096 * n}" for n in range(1, 24)] + [f"nr_inodes={n}" for n in range(1, 14)]:
    mount(limit)
    first = download()
    named = [path.read_bytes() == content for path in Path("small").rglob("w.bin")]
    mount("remount,size=1m,nr_inodes=100")
    again = download()
    left = sorted(path.name for path in Path("small").rglob("*") if path.is_file() and path.name != ".lock")
    print(json.dumps([limit, first, named, again, left]), flush=True)
    subprocess.run(["umount", "small"], check=True)
"""


def test_a_cache_that_fills_at_any_stage_of_a_download(tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    require_mounts(tmp_path / "small")
    command = [*UNSHARE, sys.executable, "-c", DOWNLOADS]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    outcomes = [json.loads(line) for line in done.stdout.splitlines()]
    failed = [first for _, first, *_ in outcomes if first.startswith("error: ")]
    assert len(outcomes) == 36
    assert 20 < len(failed) < 36
    for limit, first, named, again, left in outcomes:
        assert "\n" not in first
        assert all(named), limit  # verified, or not under its name
        assert not again.startswith("error: "), limit
        assert {"w.bin", "w.bin.json"} <= set(left) <= {"w.bin", "w.bin.json", "w.bin.part.json"}, limit
