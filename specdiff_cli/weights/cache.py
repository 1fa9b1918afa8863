"""Where downloaded weights lie, and whether they may be used.

Layout: ``<cache>/models/<model>/<revision>/<path>``. Below ``.records`` in the same folder lies one small JSON file per
weight file, written after its bytes were hashed: the sha256 together with the size and modification time seen then.
While size and time still agree, that hash is believed, because hashing a gigabyte at every start is too slow; as soon
as either differs the file is hashed again. For a file that the lock does not pin, the record is also the memory of what
was trusted on first use.

An original checkpoint (layout ``t5x``) is converted after its download; the voice made of it lies in the same folder,
and the records of its files also say which checkpoint they were made of. The checkpoint itself may then be deleted.
"""

import errno
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import IO, NoReturn

import platformdirs

from specdiff_cli.errors import WeightsError
from specdiff_cli.files import reason
from specdiff_cli.weights.lock import Lock, LockedFile, LockedModel, file_sha256, load_lock
from specdiff_cli.weights.progress import SILENT, Action, Progress
from specdiff_cli.weights.voice_file import VOICE_FILE, WEIGHTS_FILE

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

RECORDS_FOLDER = ".records"
PART_SUFFIX = ".part"
LOCK_POLL_S = 0.1
MADE_FILES = (WEIGHTS_FILE, VOICE_FILE)  # what a checkpoint is converted to


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
    made_of: str = ""  # sha256 of the checkpoint that the file was converted from


def cache_root() -> Path:
    """``SPECDIFF_CACHE``, else the platform's cache folder for specdiff. Creates nothing."""
    override = os.environ.get("SPECDIFF_CACHE", "").strip()
    if override:
        return Path(os.path.abspath(os.path.expanduser(override)))
    return Path(platformdirs.user_cache_dir("specdiff", appauthor=False))


def model_folder(model: LockedModel) -> Path:
    """The folder that holds (or will hold) the files of a model. Creates nothing."""
    return cache_root() / "models" / model.name / model.revision


def find_model(name: str, *, lock: Lock | None = None) -> Path:
    """The folder of a downloaded model, as :func:`find_weights`."""
    return find_weights(name, lock=lock)[0]


def find_weights(name: str, *, lock: Lock | None = None) -> tuple[Path, dict[str, str]]:
    """The folder of a downloaded model, and file -> sha256 of what is loaded from it: every one was found to agree.

    Of several places that the model was downloaded from, the first one of the lock that is complete is taken.
    Raises WeightsError when the model is unknown, not downloaded, incomplete or damaged; the message names the
    command that repairs it.
    """
    model = at_hand((load_lock() if lock is None else lock).model(name))
    folder = model_folder(model)
    _require_anything(model, folder)
    for file in loaded_files(model):
        problem = _problem(model, folder, file)
        if problem is not None:
            raise WeightsError(f"{folder / file.path}: {problem}: run {download_command(model)}")
    return folder, {file.path: expected_sha256(folder, file) or "" for file in loaded_files(model)}


def at_hand(model: LockedModel) -> LockedModel:
    """The place of a model that a render takes: the first one all of whose files are there, else any with something."""

    def states(place: LockedModel, files: tuple[LockedFile, ...]) -> list[FileState]:
        return [file_state(model_folder(place), file) for file in files]

    absent = (FileState.MISSING, FileState.PARTIAL)
    complete = (place for place in model.places if not set(absent) & set(states(place, loaded_files(place))))
    begun = (place for place in model.places if set(states(place, place.files)) != {FileState.MISSING})
    return next(complete, None) or next(begun, model)


def loaded_files(model: LockedModel) -> tuple[LockedFile, ...]:
    """The files that a model is loaded from: those downloaded, with the voice in place of the checkpoint."""
    return (*made_files(model), *(file for file in model.files if file is not model.checkpoint))


def made_files(model: LockedModel) -> tuple[LockedFile, ...]:
    """The files that a model's checkpoint is converted to; only their records know their hashes."""
    return () if model.checkpoint is None else tuple(LockedFile(path, "", model.revision) for path in MADE_FILES)


def is_of(model: LockedModel, folder: Path, file: LockedFile) -> bool:
    """Whether a file was made of the right checkpoint; true of files that were downloaded as they are."""
    if model.checkpoint is None or file not in made_files(model):
        return True
    record = read_record(folder, file)
    return record is not None and record.made_of == expected_sha256(folder, model.checkpoint)


def is_ready(model: LockedModel, folder: Path) -> bool:
    """Whether every file that is loaded is known to be right, without hashing anything."""
    return all(
        file_state(folder, file) is FileState.VERIFIED and is_of(model, folder, file) for file in loaded_files(model)
    )


def _problem(
    model: LockedModel, folder: Path, file: LockedFile, *, full: bool = False, progress: Progress = SILENT
) -> str | None:
    problem = check_file(folder, file, full=full, progress=progress)
    if problem is None and not is_of(model, folder, file):
        return "made of another checkpoint than the one that is trusted now"
    return problem


def _require_anything(model: LockedModel, folder: Path) -> None:
    if all(file_state(folder, file) is FileState.MISSING for file in {*model.files, *loaded_files(model)}):
        command = download_command(model)
        raise WeightsError(f'model "{model.name}" is not downloaded (looked in {folder}): run {command}')


def download_command(model: LockedModel) -> str:
    """The command line that downloads or repairs a model."""
    unpinned = any(file.sha256 is None for file in model.files)
    source = "" if model.is_first_choice else f" --source {model.source}"
    return f"specdiff download-weights {model.name}{source}" + (" --allow-unpinned" if unpinned else "")


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
        return FileState.PARTIAL if os.path.exists(part) else FileState.MISSING
    record = read_record(folder, file)
    if record is None:
        return FileState.UNVERIFIED
    seen = replace(
        record, sha256=expected_sha256(folder, file) or "", size_bytes=status.st_size, mtime_ns=status.st_mtime_ns
    )
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
    old = read_record(folder, file)
    record = FileRecord(found, before.st_size, before.st_mtime_ns, "" if old is None else old.made_of)
    # In a shared read-only cache the record cannot be kept: the file is verified all the same, only slower next time.
    if record != old:
        _try_write_record(folder, file, record)
    return None


def verify_model(
    name: str, *, source: str | None = None, lock: Lock | None = None, progress: Progress = SILENT
) -> Path:
    """Hash every file of a model in full and return its folder; uses no network.

    Raises WeightsError naming the first problem and how many files have one; ``progress`` hears of each.
    """
    known = load_lock() if lock is None else lock
    model = at_hand(known.model(name)) if source is None else known.model(name, source)
    folder = model_folder(model)
    _require_anything(model, folder)
    files = loaded_files(model)
    if model.checkpoint is not None and os.path.exists(folder / model.checkpoint.path):
        files = (model.checkpoint, *files)
    problems: list[str] = []
    for file in files:
        problem = _problem(model, folder, file, full=True, progress=progress)
        if problem is not None:
            problems.append(f"{file.path}: {problem}")
        progress.finish(file.path, problem or "ok")
    if problems:
        count = f"{len(problems)} of {len(files)} files cannot be used"
        raise WeightsError(f"{name}: {count} ({problems[0]}): run {download_command(model)}")
    return folder


def record_path(folder: Path, file: LockedFile) -> Path:
    """Where the record of a file lies."""
    return folder / RECORDS_FOLDER / (file.path + ".json")


def read_record(folder: Path, file: LockedFile) -> FileRecord | None:
    """The record of a file, or None where there is none that makes sense."""
    try:
        values = json.loads(record_path(folder, file).read_text(encoding="utf-8"))
        made_of = str(values.get("made_of", ""))
        return FileRecord(str(values["sha256"]), int(values["size_bytes"]), int(values["mtime_ns"]), made_of)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def record_verified(folder: Path, file: LockedFile, sha256: str, made_of: str = "") -> None:
    """Remember that the file, as it is now, has this hash. Raises WeightsError when the cache cannot be written."""
    try:
        status = (folder / file.path).stat()
        _write_record(folder, file, FileRecord(sha256, status.st_size, status.st_mtime_ns, made_of))
    except OSError as error:
        raise_cannot_write(record_path(folder, file), error)


def _try_write_record(folder: Path, file: LockedFile, record: FileRecord) -> None:
    try:
        _write_record(folder, file, record)
    except OSError:
        return


def _write_record(folder: Path, file: LockedFile, record: FileRecord) -> None:
    """Raises OSError."""
    path = record_path(folder, file)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The name carries the process id: two processes that verify at once must not write into one another's file.
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(asdict(record)) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def wrong_content(found: str, expected: str) -> str:
    """The phrase for bytes that are complete but not the right ones."""
    return f"wrong content: sha256 is {found}, expected {expected}"


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
