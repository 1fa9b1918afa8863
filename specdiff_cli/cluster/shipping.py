"""For machines without a common file system: inputs and outputs as bytes; the driver reads and writes the files."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from specdiff_cli.cluster.folders import temporary_folder
from specdiff_cli.errors import Message, Option, SpecdiffError
from specdiff_cli.files import files_below
from specdiff_cli.rendering.events import Done, Event, Failed, Skipped, Told
from specdiff_cli.rendering.jobs import Job


@dataclass(frozen=True, slots=True)
class Parcel:
    """An input on its way to a worker; ``error`` says why there is none."""

    job: Job
    data: bytes = b""
    error: SpecdiffError | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a worker made of a parcel: its events, and files by their names beside the target."""

    events: list[Event]
    files: dict[str, bytes]


def pack(job: Job) -> Parcel:
    """Read an input."""
    from specdiff_cli.midi.notes import read_bytes

    try:
        return Parcel(job, read_bytes(job.source))
    except SpecdiffError as error:
        return Parcel(job, error=error)


PREFIX = "specdiff-parcels-"
#: Jobs -> the events of each.
Render = Callable[[Sequence[Job]], Mapping[Job, list[Event]]]


def render_parcels(parcels: Sequence[Parcel], render: Render) -> list[Delivery]:
    """Render inputs that came as bytes, in a folder of their own that is gone afterwards. Raises OSError."""
    with temporary_folder(PREFIX) as parent:
        local = {}
        for number, parcel in enumerate(parcels):
            if parcel.error is None and parcel.job.target is not None:
                folder = parent / str(number)
                (folder / "out").mkdir(parents=True)
                source = folder / parcel.job.source.name
                source.write_bytes(parcel.data)
                local[number] = Job(source, folder / "out" / parcel.job.target.name)
        events = render(list(local.values()))
        deliveries = []
        for number, parcel in enumerate(parcels):
            if parcel.error is not None:
                deliveries.append(Delivery([Failed(parcel.job, parcel.error)], {}))
            else:
                job = local[number]
                deliveries.append(_delivery(parcel.job, job, events.get(job, [])))
        return deliveries


def _delivery(asked: Job, local: Job, events: Sequence[Event]) -> Delivery:
    """The events as if it had been rendered in its place, with what lies in the folder. Raises OSError."""
    assert asked.target is not None and local.target is not None  # noqa: S101 - check_request refuses "-"
    away = local.target.parent

    def named(text: str) -> str:
        text = text.replace(str(away), str(asked.target.parent) if asked.target is not None else "")
        return text.replace(str(local.source), str(asked.source))

    def all_named(parts: Iterable[str | Option]) -> list[str | Option]:
        return [named(part) if isinstance(part, str) else part for part in parts]

    told: list[Event] = []
    for event in events:
        if isinstance(event, Told):
            told.append(Told(Message(*all_named(Message(event.line).parts)), asked))
        elif isinstance(event, Done):
            told.append(replace(event, job=asked, stems=tuple(map(named, event.stems))))
        elif isinstance(event, Failed):
            event.error.args = tuple(all_named(event.error.args))
            told.append(Failed(asked, event.error))
        elif isinstance(event, Skipped):
            told.append(replace(event, job=asked))
    is_done = any(isinstance(event, Done) for event in told)
    files = {} if not is_done else {str(path.relative_to(away)): path.read_bytes() for path in files_below(away)}
    return Delivery(told, files)


def unpack(delivery: Delivery, job: Job, *, overwrite: bool, why: str | None) -> list[Event]:
    """Write the files of a song, the audio last, and return its events; ``why`` it was rendered again.

    What cannot be written is a ``Failed``, and nothing of the song appears then.
    """
    if not any(isinstance(event, Done) for event in delivery.events):
        return delivery.events
    try:
        _write(delivery.files, job, overwrite)
    except SpecdiffError as error:
        return [Failed(job, error)]
    return [replace(event, reason=why) if isinstance(event, Done) else event for event in delivery.events]


def _write(files: Mapping[str, bytes], job: Job, overwrite: bool) -> None:
    from specdiff_cli.files import PendingFile, check_target, output_error, shown_path

    target = job.target
    assert target is not None  # noqa: S101 - check_request refuses "-"
    pending: list[tuple[PendingFile, Path]] = []
    new: list[Path] = []
    # the audio gets its name last, and then stands for the rest
    in_order = sorted(files, key=lambda name: name == target.name)
    path = target
    try:
        for name in in_order:
            path = target.parent / name
            path.parent.mkdir(parents=True, exist_ok=True)
            file = PendingFile(check_target(path, overwrite), overwrite)
            pending.append((file, path))
            file.open().write(files[name])
            file.settle()
        for file, path in pending:
            is_new = not os.path.exists(path)
            file.commit()
            if is_new:
                new.append(path)
    except BaseException as error:
        for path_ in new:
            with suppress(OSError):
                path_.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise output_error(shown_path(path), error) from None
        raise
    finally:
        for file, _ in pending:
            file.discard()
