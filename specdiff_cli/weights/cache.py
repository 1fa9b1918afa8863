"""Where downloaded weights lie, and whether they may be used.

Layout: ``<cache>/models/<model>/<revision>/<path>``. Below ``.records`` in the same folder lies one small JSON file per
weight file, written after its bytes were hashed: the sha256 together with the size and modification time seen then.
While size and time still agree, that hash is believed, because hashing a gigabyte at every start is too slow; as soon
as either differs the file is hashed again. For a file that the lock does not pin, the record is also the memory of what
was trusted on first use.
"""

import errno
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import IO, NoReturn

import platformdirs

from specdiff_cli.errors import WeightsError
from specdiff_cli.weights.lock import Lock, LockedFile, LockedModel, file_sha256, load_lock
from specdiff_cli.weights.progress import SILENT, Action, Progress

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

RECORDS_FOLDER = ".records"
PART_SUFFIX = ".part"
LOCK_POLL_S = 0.1


class FileState(StrEnum):
    """What a look at a cached file tells without hashing it."""

    MISSING = "missing"
    PARTIAL = "partial"  # a download was interrupted and can be resumed
    UNVERIFIED = "unverified"  # present, but not hashed since it last changed
    VERIFIED = "verified"


@dataclass(frozen=True, slots=True)
class FileRecord:
    """What was seen when a file was last hashed in full."""

    sha256: str
    size_bytes: int
    mtime_ns: int


def cache_root() -> Path:
    """``SPECDIFF_CACHE``, else the platform's cache folder for specdiff. Creates nothing."""
    override = os.environ.get("SPECDIFF_CACHE", "").strip()
    if override:
        return Path(override).expanduser().absolute()
    return Path(platformdirs.user_cache_dir("specdiff", appauthor=False))


def model_folder(model: LockedModel) -> Path:
    """The folder that holds (or will hold) the files of a model. Creates nothing."""
    return cache_root() / "models" / model.name / model.revision


def find_model(name: str, *, lock: Lock | None = None) -> Path:
    """The folder of a downloaded model, every file of which agrees with its expected sha256.

    Raises WeightsError when the model is unknown, not downloaded, incomplete or damaged; the message names the
    command that repairs it.
    """
    model = (load_lock() if lock is None else lock).model(name)
    folder = model_folder(model)
    _require_anything(model, folder)
    for file in model.files:
        problem = check_file(folder, file)
        if problem is not None:
            raise WeightsError(f"{folder / file.path}: {problem}: run {download_command(model)}")
    return folder


def _require_anything(model: LockedModel, folder: Path) -> None:
    if all(file_state(folder, file) is FileState.MISSING for file in model.files):
        command = download_command(model)
        raise WeightsError(f'model "{model.name}" is not downloaded (looked in {folder}): run {command}')


def download_command(model: LockedModel) -> str:
    """The command line that downloads or repairs a model."""
    unpinned = any(file.sha256 is None for file in model.files)
    return f"specdiff download-weights {model.name}" + (" --allow-unpinned" if unpinned else "")


def expected_sha256(folder: Path, file: LockedFile) -> str | None:
    """The only content that may be used: the lock's hash, else the one recorded on first use, else None."""
    if file.sha256 is not None:
        return file.sha256
    record = read_record(folder, file)
    return None if record is None else record.sha256


def file_state(folder: Path, file: LockedFile) -> FileState:
    """What is known about a cached file without reading its content."""
    try:
        status = (folder / file.path).stat()
    except OSError:
        part = folder / (file.path + PART_SUFFIX)
        return FileState.PARTIAL if part.exists() else FileState.MISSING
    record = read_record(folder, file)
    seen = FileRecord(expected_sha256(folder, file) or "", status.st_size, status.st_mtime_ns)
    return FileState.VERIFIED if record == seen else FileState.UNVERIFIED


def check_file(folder: Path, file: LockedFile, *, full: bool = False, progress: Progress = SILENT) -> str | None:
    """What is wrong with a cached file, as a phrase for a message; None when it is verified.

    ``full`` hashes even a file that has not changed since it was last verified.
    """
    path = folder / file.path
    if not full and file_state(folder, file) is FileState.VERIFIED:
        return None
    expected = expected_sha256(folder, file)
    try:
        before = path.stat()
        if file.size_bytes is not None and before.st_size < file.size_bytes:
            return f"incomplete: got {before.st_size} of {file.size_bytes} bytes"
        if expected is None:
            return "not pinned in weights.lock, and its sha256 was never recorded here"
        progress.start(file.path, Action.VERIFYING, 0, before.st_size)
        found = file_sha256(path, progress.advance)
    except FileNotFoundError:
        partial = file_state(folder, file) is FileState.PARTIAL
        return "incomplete: its download was interrupted" if partial else "missing"
    except OSError as error:
        return f"cannot be read ({reason(error)})"
    if found != expected:
        return wrong_content(found, expected)
    record = FileRecord(found, before.st_size, before.st_mtime_ns)
    # In a shared read-only cache the record cannot be kept: the file is verified all the same, only slower next time.
    if record != read_record(folder, file):
        _try_write_record(folder, file, record)
    return None


def verify_model(name: str, *, lock: Lock | None = None, progress: Progress = SILENT) -> Path:
    """Hash every file of a model in full and return its folder; uses no network.

    Raises WeightsError naming the first problem and how many files have one; ``progress`` hears of each.
    """
    model = (load_lock() if lock is None else lock).model(name)
    folder = model_folder(model)
    _require_anything(model, folder)
    problems: list[str] = []
    for file in model.files:
        problem = check_file(folder, file, full=True, progress=progress)
        if problem is not None:
            problems.append(f"{file.path}: {problem}")
        progress.finish(file.path, problem or "ok")
    if problems:
        count = f"{len(problems)} of {len(model.files)} files cannot be used"
        raise WeightsError(f"{name}: {count} ({problems[0]}): run {download_command(model)}")
    return folder


def record_path(folder: Path, file: LockedFile) -> Path:
    """Where the record of a file lies."""
    return folder / RECORDS_FOLDER / (file.path + ".json")


def read_record(folder: Path, file: LockedFile) -> FileRecord | None:
    """The record of a file, or None where there is none that makes sense."""
    try:
        values = json.loads(record_path(folder, file).read_text(encoding="utf-8"))
        return FileRecord(str(values["sha256"]), int(values["size_bytes"]), int(values["mtime_ns"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def record_verified(folder: Path, file: LockedFile, sha256: str) -> None:
    """Remember that the file, as it is now, has this hash. Raises WeightsError when the cache cannot be written."""
    try:
        status = (folder / file.path).stat()
        _write_record(folder, file, FileRecord(sha256, status.st_size, status.st_mtime_ns))
    except OSError as error:
        raise_cannot_write(record_path(folder, file), error)


def _try_write_record(folder: Path, file: LockedFile, record: FileRecord) -> None:
    try:
        _write_record(folder, file, record)
    except OSError:
        return


def _write_record(folder: Path, file: LockedFile, record: FileRecord) -> None:
    path = record_path(folder, file)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The name carries the process id: two processes that verify at once must not write into one another's file.
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(asdict(record)) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def wrong_content(found: str, expected: str) -> str:
    """The phrase for bytes that are complete but not the right ones."""
    return f"wrong content: sha256 is {found}, expected {expected}"


def reason(error: OSError) -> str:
    """The operating system's words for an error, on one line."""
    return " ".join(str(error.strerror or error).split())


def raise_cannot_write(path: Path, error: OSError) -> NoReturn:
    """Turn a failed write into the one line that names the remedy."""
    is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    place = "set SPECDIFF_CACHE to a folder that you can write"
    remedy = f"free some space, or {place}" if is_full else place
    raise WeightsError(f"{path}: cannot write to the cache ({reason(error)}): {remedy}") from error


@contextmanager
def exclusive(folder: Path, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold the right to change a model's folder; wait while another process holds it.

    The operating system drops the lock when its holder ends, however it ends, so no stale lock can remain; the empty
    lock file itself stays, because removing it would let two processes each lock a different file of that name.
    Raises WeightsError when the folder cannot be written or its filesystem knows no locks.
    """
    path = folder / ".lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stream = path.open("a+b")
    except OSError as error:
        raise_cannot_write(folder, error)
    with stream:
        waited = False
        while not _try_lock(stream, path):
            if not waited and on_wait is not None:
                on_wait()
            waited = True
            time.sleep(LOCK_POLL_S)
        try:
            yield
        finally:
            _unlock(stream)


def _try_lock(stream: IO[bytes], path: Path) -> bool:
    try:
        if sys.platform == "win32":
            stream.seek(0)
            msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(stream.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:
        remedy = "set SPECDIFF_CACHE to a folder on a local disk"
        raise WeightsError(f"{path}: this filesystem cannot lock files ({reason(error)}): {remedy}") from error
    return True


def _unlock(stream: IO[bytes]) -> None:
    if sys.platform == "win32":
        stream.seek(0)
        msvcrt.locking(stream.fileno(), msvcrt.LK_UNLCK, 1)
    else:
        fcntl.flock(stream.fileno(), fcntl.LOCK_UN)
