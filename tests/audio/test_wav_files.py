"""What becomes of an audio file that fails: it is there whole, or as it was before, whatever the disk does."""

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from audio_files import listing, quiet_tone, write
from file_limits import largest_file

from specdiff_cli.audio.wav import AtomicWriter
from specdiff_cli.errors import OutputError


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, SystemExit, OutputError])
@pytest.mark.parametrize("file_format", ["wav", "flac"])
def test_any_exception_leaves_nothing(tmp_path: Path, error: type[BaseException], file_format: str) -> None:
    with pytest.raises(error), AtomicWriter(tmp_path / "a", file_format=file_format) as writer:
        writer.write(quiet_tone(100_000))
        assert len(listing(tmp_path)) == 1
        assert "a" not in listing(tmp_path)
        raise error
    assert listing(tmp_path) == []


@pytest.mark.parametrize("file_format", ["wav", "flac"])
def test_an_abandoned_file_says_nothing_on_stderr(tmp_path: Path, file_format: str) -> None:
    code = f"""
import numpy
from specdiff_cli.audio.wav import AtomicWriter
try:
    with AtomicWriter({str(tmp_path / "a")!r}, file_format={file_format!r}) as writer:
        writer.write(numpy.zeros(50000))
        raise KeyboardInterrupt
except KeyboardInterrupt:
    pass
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert listing(tmp_path) == []


def test_failure_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError), AtomicWriter(path, overwrite=True) as writer:
        writer.write(quiet_tone())
        assert path.read_bytes() == b"old"
        raise RuntimeError
    assert path.read_bytes() == b"old"
    write(path, quiet_tone(), overwrite=True)
    assert path.read_bytes()[:4] == b"RIFF"
    assert listing(tmp_path) == ["a.wav"]


def test_existing_file_is_refused_before_any_work(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"old")
    with pytest.raises(OutputError, match="use overwrite"):
        AtomicWriter(path)
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("links_work", [True, False])
def test_file_that_appears_meanwhile_is_not_clobbered(
    tmp_path: Path, links_work: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not links_work:

        def no_links(*_: object) -> None:
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", no_links)
    path = tmp_path / "a.wav"
    with pytest.raises(OutputError, match="appeared"), AtomicWriter(path) as writer:
        writer.write(quiet_tone())
        path.write_bytes(b"somebody else's")
    assert path.read_bytes() == b"somebody else's"
    assert listing(tmp_path) == ["a.wav"]
    write(tmp_path / "b.wav", quiet_tone())
    assert listing(tmp_path) == ["a.wav", "b.wav"]


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_permissions_follow_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write(tmp_path / "a.wav", quiet_tone())
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.wav").stat().st_mode) == 0o666 & ~umask


def test_symbolic_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    target = tmp_path / "real" / "b.wav"
    link = tmp_path / "a.wav"
    link.symlink_to(target)
    write(link, quiet_tone())
    assert link.is_symlink()
    assert target.read_bytes()[:4] == b"RIFF"
    with pytest.raises(OutputError, match="exists"):
        AtomicWriter(link)


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    cases = {
        tmp_path: "it is a folder",
        tmp_path / "missing" / "a.wav": "does not exist, create it first",
        tmp_path / "file" / "a.wav": "is not a folder",
        tmp_path / ("n" * 300 + ".wav"): "name too long",
        tmp_path / "nul\0.wav": "null",
        tmp_path / "loop": "symbolic links",
        Path(os.devnull): "not a regular file",
    }
    for path, words in cases.items():
        with pytest.raises(OutputError) as caught:
            write(path, quiet_tone(), overwrite=True)
        assert words.lower() in str(caught.value).lower()
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 400
    assert listing(tmp_path) == ["file", "loop"]
    if os.name == "posix":
        assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


def test_a_name_at_the_length_limit_works(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 251 + ".wav")
    write(path, quiet_tone())
    assert listing(tmp_path) == [path.name]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_unwritable_folder_and_file(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"old")
    path.chmod(0o444)
    with pytest.raises(OutputError, match="write-protected"):
        AtomicWriter(path, overwrite=True)
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(OutputError, match="Permission denied"):
            write(tmp_path / "b.wav", quiet_tone())
    finally:
        tmp_path.chmod(0o755)


def test_a_folder_that_refuses_new_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(OutputError, match="a.wav: Permission denied"):
        write(tmp_path / "a.wav", quiet_tone())


@pytest.mark.parametrize("file_format", ["wav", "flac"])
@pytest.mark.parametrize("limit", [0, 10, 3000, 100_000])
def test_no_space_left(tmp_path: Path, file_format: str, limit: int, capfd: pytest.CaptureFixture[str]) -> None:
    noise = np.random.default_rng(0).uniform(-1, 1, 200_000)
    with largest_file(limit), pytest.raises(OutputError, match="File too large"):
        write(tmp_path / "a", *np.array_split(noise, 10), file_format=file_format)
    assert listing(tmp_path) == []
    assert capfd.readouterr().err == ""


def test_no_space_left_at_the_very_end(tmp_path: Path) -> None:
    with largest_file(1000), pytest.raises(OutputError, match="cannot write .*a.wav: File too large"):
        write(tmp_path / "a.wav", np.zeros(1000))  # 2000 bytes stay in the buffer until the block ends
    assert listing(tmp_path) == []


def test_fsync_failure_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OutputError, match="Input/output error"):
        write(tmp_path / "a.wav", quiet_tone())
    assert listing(tmp_path) == []


def test_order_is_write_sync_rename_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    real_sync, real_link = os.fsync, os.link

    def sync(descriptor: int) -> None:
        steps.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        real_sync(descriptor)

    def link(source: Path, target: Path) -> None:
        steps.append("name")
        assert soundfile.info(source).frames == 1001
        real_link(source, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "link", link)
    write(tmp_path / "a.wav", quiet_tone())
    assert steps == ["file", "name", "folder"]
