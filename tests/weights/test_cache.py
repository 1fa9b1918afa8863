"""The cache: where it lies, what counts as verified, and that only one process changes it at a time."""

import hashlib
import os
import threading
from pathlib import Path

import pytest

from specdiff_cli.errors import WeightsError
from specdiff_cli.weights import cache
from specdiff_cli.weights.lock import Lock, LockedFile, file_sha256, parse_lock

PINNED = b"pinned weights"
UNPINNED = b'{"a": 1}'


@pytest.fixture
def lock() -> Lock:
    return parse_lock(
        f"""
lock_version = 1
[models.m]
description = "d"
license = "l"
revision = "r1"
[[models.m.files]]
path = "sub/w.bin"
url = "{{endpoint}}/w"
size_bytes = {len(PINNED)}
sha256 = "{hashlib.sha256(PINNED).hexdigest()}"
[[models.m.files]]
path = "c.json"
url = "{{endpoint}}/c"
"""
    )


@pytest.fixture
def folder(lock: Lock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A complete, recorded model."""
    monkeypatch.setenv("SPECDIFF_CACHE", str(tmp_path / "cache"))
    folder = cache.model_folder(lock.model("m"))
    pinned, unpinned = lock.model("m").files
    for file, content in ((pinned, PINNED), (unpinned, UNPINNED)):
        (folder / file.path).parent.mkdir(parents=True, exist_ok=True)
        (folder / file.path).write_bytes(content)
        cache.record_verified(folder, file, hashlib.sha256(content).hexdigest())
    return folder


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files hashed so far."""
    names: list[str] = []

    def spy(path: Path, *args: object) -> str:
        names.append(path.name)
        return file_sha256(path)

    monkeypatch.setattr(cache, "file_sha256", spy)
    return names


def rewrite(path: Path, content: bytes) -> None:
    """Change a file and make sure that its time differs, however coarse the filesystem's clock."""
    path.write_bytes(content)
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 10**9))


def test_cache_root_follows_variable_then_platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPECDIFF_CACHE", str(tmp_path))
    assert cache.cache_root() == tmp_path
    monkeypatch.setenv("SPECDIFF_CACHE", "~/weights")
    assert cache.cache_root() == Path.home() / "weights"
    monkeypatch.setenv("SPECDIFF_CACHE", "")
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name, appauthor: f"/caches/{name}")
    assert cache.cache_root() == Path("/caches/specdiff")


def test_layout(lock: Lock, folder: Path, tmp_path: Path) -> None:
    assert folder == tmp_path / "cache" / "models" / "m" / "r1"


def test_find_model_does_not_hash_what_has_not_changed(lock: Lock, folder: Path, hashed: list[str]) -> None:
    assert cache.find_model("m", lock=lock) == folder
    assert hashed == []


def test_find_model_hashes_again_after_a_change_of_time_only_once(lock: Lock, folder: Path, hashed: list[str]) -> None:
    rewrite(folder / "sub/w.bin", PINNED)
    rewrite(folder / "c.json", UNPINNED)
    assert cache.find_model("m", lock=lock) == folder
    assert hashed == ["w.bin", "c.json"]
    cache.find_model("m", lock=lock)
    assert hashed == ["w.bin", "c.json"]


@pytest.mark.parametrize(
    ("path", "content", "words"),
    [
        ("sub/w.bin", b"pinned weightZ", "wrong content: sha256 is .* expected"),
        ("sub/w.bin", PINNED[:5], "incomplete: got 5 of 14 bytes"),
        ("c.json", b'{"a": 2}', "wrong content: sha256 is .* expected"),
    ],
)
def test_find_model_refuses_changed_files(lock: Lock, folder: Path, path: str, content: bytes, words: str) -> None:
    rewrite(folder / path, content)
    with pytest.raises(WeightsError, match=rf"{path}: {words}.*: run specdiff download-weights m"):
        cache.find_model("m", lock=lock)


def test_find_model_names_the_command_when_nothing_or_something_is_missing(lock: Lock, folder: Path) -> None:
    (folder / "c.json").unlink()
    with pytest.raises(WeightsError, match=r"c\.json: missing: run specdiff download-weights m"):
        cache.find_model("m", lock=lock)
    (folder / "sub/w.bin").rename(folder / "sub/w.bin.part")
    with pytest.raises(WeightsError, match=r"w\.bin: incomplete: its download was interrupted"):
        cache.find_model("m", lock=lock)
    (folder / "sub/w.bin.part").unlink()
    with pytest.raises(WeightsError, match=r'"m" is not downloaded .*: run specdiff download-weights m'):
        cache.find_model("m", lock=lock)
    with pytest.raises(WeightsError, match='unknown model "n"'):
        cache.find_model("n", lock=lock)


def test_file_without_lock_hash_or_record_is_never_used(lock: Lock, folder: Path) -> None:
    cache.record_path(folder, lock.model("m").files[1]).unlink()
    with pytest.raises(WeightsError, match=r"c\.json: not pinned.*--allow-unpinned"):
        cache.find_model("m", lock=lock)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"sha256": 1, "size_bytes": [], "mtime_ns": 0}', "\xff"])
def test_damaged_record_only_costs_a_new_hash(lock: Lock, folder: Path, hashed: list[str], text: str) -> None:
    cache.record_path(folder, lock.model("m").files[0]).write_text(text, encoding="latin-1")
    assert cache.find_model("m", lock=lock) == folder
    assert hashed == ["w.bin"]


def test_record_of_another_hash_does_not_override_the_lock(lock: Lock, folder: Path) -> None:
    rewrite(folder / "sub/w.bin", b"evil__ weights")
    cache.record_verified(folder, lock.model("m").files[0], hashlib.sha256(b"evil__ weights").hexdigest())
    with pytest.raises(WeightsError, match="wrong content"):
        cache.find_model("m", lock=lock)


def test_read_only_cache_is_verified_without_a_record(
    lock: Lock, folder: Path, hashed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    cache.record_path(folder, lock.model("m").files[0]).unlink()
    monkeypatch.setattr(os, "replace", refuse)
    assert cache.find_model("m", lock=lock) == folder
    assert cache.find_model("m", lock=lock) == folder
    assert hashed == ["w.bin", "w.bin"]


def test_verify_model_hashes_everything_and_counts_problems(lock: Lock, folder: Path, hashed: list[str]) -> None:
    assert cache.verify_model("m", lock=lock) == folder
    assert hashed == ["w.bin", "c.json"]
    path = folder / "sub/w.bin"
    before = path.stat()
    path.write_bytes(b"pinned weightZ")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # a change that size and time do not show
    assert cache.find_model("m", lock=lock) == folder
    with pytest.raises(WeightsError, match=r"m: 1 of 2 files cannot be used \(sub/w\.bin: wrong content"):
        cache.verify_model("m", lock=lock)


def test_verify_of_nothing_says_not_downloaded(lock: Lock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPECDIFF_CACHE", str(tmp_path / "empty"))
    with pytest.raises(WeightsError, match="not downloaded"):
        cache.verify_model("m", lock=lock)
    assert not (tmp_path / "empty").exists()


def test_file_states(lock: Lock, folder: Path) -> None:
    pinned: LockedFile = lock.model("m").files[0]
    path = folder / pinned.path
    assert cache.file_state(folder, pinned) is cache.FileState.VERIFIED
    rewrite(path, PINNED)
    assert cache.file_state(folder, pinned) is cache.FileState.UNVERIFIED
    path.rename(path.with_name("w.bin.part"))
    assert cache.file_state(folder, pinned) is cache.FileState.PARTIAL
    path.with_name("w.bin.part").unlink()
    assert cache.file_state(folder, pinned) is cache.FileState.MISSING


def test_exclusive_lets_one_in_at_a_time(tmp_path: Path) -> None:
    inside: list[int] = []
    overlaps: list[int] = []
    waits: list[int] = []

    def work(worker: int) -> None:
        with cache.exclusive(tmp_path, lambda: waits.append(worker)):
            inside.append(worker)
            threading.Event().wait(0.05)
            overlaps.append(len(inside))
            inside.remove(worker)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert overlaps == [1, 1, 1]
    assert len(waits) == 2  # the two that came later were told once each


def test_exclusive_is_released_by_an_error_and_ignores_a_stale_file(tmp_path: Path) -> None:
    (tmp_path / ".lock").touch()
    with pytest.raises(RuntimeError), cache.exclusive(tmp_path):
        raise RuntimeError
    with cache.exclusive(tmp_path, lambda: pytest.fail("had to wait")):
        pass


def test_exclusive_where_no_folder_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(WeightsError, match="cannot write to the cache.*SPECDIFF_CACHE"),
        cache.exclusive(tmp_path / "file" / "x"),
    ):
        pass
