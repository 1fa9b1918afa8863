"""Bring a model of ``weights.lock`` into the cache: fetched, verified, then renamed into place.

Order of events for each file: all bytes under ``<path>.part``; sha256 compared with the lock (or with the hash recorded
on first use); fsync; atomic rename; record. A file with its final name is therefore complete and was verified.

An original checkpoint is then converted to a voice in the same folder, and the hashes of its files are recorded
together with the checkpoint's own.
"""

import json
import os
import sys
import zipfile
from pathlib import Path

from specdiff_cli.errors import Option, WeightsError
from specdiff_cli.files import reason
from specdiff_cli.files import size_bytes as size_bytes_of
from specdiff_cli.weights import cache
from specdiff_cli.weights.lock import (
    CHECKPOINT_SUFFIX,
    Lock,
    LockedFile,
    LockedModel,
    endpoint,
    file_sha256,
    load_lock,
)
from specdiff_cli.weights.progress import SILENT, Action, Progress
from specdiff_cli.weights.transfer import DEFAULT_OPTIONS, PartFile, Source, TransferOptions, fetch

TRUE_WORDS = ("1", "true", "yes", "on")


def is_offline() -> bool:
    """Whether ``HF_HUB_OFFLINE`` forbids the network."""
    return os.environ.get("HF_HUB_OFFLINE", "").strip().lower() in TRUE_WORDS


def download_model(
    name: str,
    *,
    source: str | None = None,
    lock: Lock | None = None,
    allow_unpinned: bool = False,
    force: bool = False,
    options: TransferOptions = DEFAULT_OPTIONS,
    progress: Progress = SILENT,
) -> Path:
    """Make every file of a model present and verified, and return its folder.

    ``source`` is one of the places that have it, by default the lock's first choice. Files that are verified already
    are left alone unless ``force``. ``allow_unpinned`` accepts files whose hash the lock does not know and records the
    hash seen; from then on only that content is accepted. An original checkpoint becomes a voice, which loads PyTorch.

    Raises WeightsError (unknown model or place, offline, incomplete, wrong content, unwritable cache, a checkpoint that
    is none) and UsageError (``HF_ENDPOINT``). KeyboardInterrupt passes through; what has arrived is kept for the next
    run either way.
    """
    model = (load_lock() if lock is None else lock).model(name, source)
    folder = cache.model_folder(model)
    if not force and cache.is_ready(model, folder):
        for file in cache.loaded_files(model):
            progress.finish(file.path, "ok")
        return folder
    _require_permission(model, folder, allow_unpinned)
    _require_network(model, folder, force)
    endpoint_url = endpoint()

    def report_wait() -> None:
        progress.note(f"{name}: another process is downloading it; waiting")

    with cache.exclusive(folder, report_wait):
        is_made = model.checkpoint is None or (not force and _is_made(model, folder))
        for file in model.files:
            if is_made and file is model.checkpoint:
                continue
            outcome = None if force else _settle_present(folder, file, progress)
            if outcome is None:
                outcome = _download_file(folder, file, endpoint_url, force, options, progress)
            progress.finish(file.path, outcome)
        if not is_made:
            from specdiff_cli.weights.made_voice import make_voice  # loads PyTorch

            make_voice(model, folder, progress)
    return folder


def _is_made(model: LockedModel, folder: Path) -> bool:
    """Whether nothing has to be converted: the voice is there and right, or the model needs none."""
    made = cache.made_files(model)
    return all(cache.check_file(folder, file) is None and cache.is_of(model, folder, file) for file in made)


def _require_permission(model: LockedModel, folder: Path, allow_unpinned: bool) -> None:
    """Refuse before the first byte: nobody wants to learn after a gigabyte that an option was missing."""
    unknown = [file.path for file in model.files if cache.expected_sha256(folder, file) is None]
    if unknown and not allow_unpinned:
        names = ", ".join(unknown[:3]) + (", …" if len(unknown) > 3 else "")
        raise WeightsError(
            f"{model.name}: weights.lock knows no sha256 for {len(unknown)} of its files ({names}): add ",
            Option("allow_unpinned"),
            " to trust what the server sends now and record its hash",
        )


def _require_network(model: LockedModel, folder: Path, force: bool) -> None:
    if not is_offline():
        return
    done = model.checkpoint if not force and _is_made(model, folder) else None
    needed = [file.path for file in model.files if force or not (file is done or os.path.isfile(folder / file.path))]
    if needed:
        raise WeightsError(
            f"{model.name}: HF_HUB_OFFLINE is set, but {needed[0]} is not in the cache ({folder}): unset it to download"
        )


def _settle_present(folder: Path, file: LockedFile, progress: Progress) -> str | None:
    """The outcome for a file that is there and right; None when it has to be fetched."""
    path = folder / file.path
    if cache.expected_sha256(folder, file) is None and os.path.isfile(path):
        # Put there by hand, or its record was lost. The user allowed trust on first use, and this is the first use.
        sha256 = _hash(path, file.path, progress)
        problem = _implausible(path, file)
        if problem is not None:
            raise WeightsError(f"{path}: wrong content: {problem}: delete it, then run the same command again")
        cache.record_verified(folder, file, sha256)
        return f"ok, recorded sha256 {sha256}"
    problem = cache.check_file(folder, file, progress=progress)
    if problem is None:
        return "ok"
    if os.path.exists(path):
        progress.note(f"{file.path}: {problem}; downloading it again")
        if is_offline():
            raise WeightsError(f"{path}: {problem}: HF_HUB_OFFLINE is set, unset it to download the file again")
    return None


def _download_file(
    folder: Path, file: LockedFile, endpoint_url: str, force: bool, options: TransferOptions, progress: Progress
) -> str:
    target = folder / file.path
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        cache.raise_cannot_write(target.parent, error)
    expected = cache.expected_sha256(folder, file)
    source = Source(file.path, file.resolved_url(endpoint_url), file.revision, file.size_bytes, expected)
    part = PartFile(target, source)
    if force:
        part.discard()
    fetch(source, part, options, progress)
    sha256 = _accept(part, file, expected, folder, progress)
    _publish(part, target)
    part.forget_note()
    cache.record_verified(folder, file, sha256)
    return "ok" if file.sha256 is not None else f"ok, recorded sha256 {sha256}"


def _accept(part: PartFile, file: LockedFile, expected: str | None, folder: Path, progress: Progress) -> str:
    """The sha256 of a complete part file that may be used; otherwise the part is deleted and WeightsError raised.

    The part is hashed from the disk, not while it arrives: a resumed file was partly written by an earlier run.
    """
    sha256 = _hash(part.path, file.path, progress)
    remedy = "the bad copy was deleted, run the same command again to start afresh"
    if expected is None:
        problem = _implausible(part.path, file)
        if problem is not None:
            part.discard()
            raise WeightsError(f"{file.path}: wrong content: {problem}: {remedy}")
    elif sha256 != expected:
        part.discard()
        if file.sha256 is None:
            known = cache.record_path(folder, file)
            remedy = f"it differs from what was trusted on first use; to trust the new content delete {known}"
        raise WeightsError(f"{file.path}: {cache.wrong_content(sha256, expected)}: {remedy}")
    return sha256


def _hash(path: Path, label: str, progress: Progress) -> str:
    try:
        progress.start(label, Action.VERIFYING, 0, path.stat().st_size)
        return file_sha256(path, progress.advance)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({reason(error)})") from error


def _implausible(path: Path, file: LockedFile) -> str | None:
    """What speaks against a file without a known hash: a stub or an error page must never be recorded as the truth."""
    size_bytes = size_bytes_of(path)
    if file.size_bytes is not None and size_bytes != file.size_bytes:
        return f"{size_bytes} bytes, expected {file.size_bytes}"
    if file.path.endswith(CHECKPOINT_SUFFIX):
        return None if zipfile.is_zipfile(path) else "it is not a zip file"
    if not file.path.endswith(".json"):
        return None
    try:
        json.loads(path.read_bytes())
    except OSError as error:
        return f"it cannot be read ({reason(error)})"
    except (ValueError, RecursionError):
        return "it is not valid JSON"
    return None


def _publish(part: PartFile, target: Path) -> None:
    """Make the part durable, then give it its final name in one step."""
    try:
        with part.path.open("r+b") as stream:
            os.fsync(stream.fileno())
        os.replace(part.path, target)
        if sys.platform != "win32":  # there a folder cannot be opened, and needs no fsync
            descriptor = os.open(target.parent, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
    except OSError as error:
        cache.raise_cannot_write(target, error)
