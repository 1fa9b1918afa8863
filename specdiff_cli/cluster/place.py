"""Whether the workers see the files that are here: a token in the output folder, which each looks for at its start."""

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from specdiff_cli.errors import Option, OutputError
from specdiff_cli.files import PendingFile


@dataclass(frozen=True, slots=True)
class Place:
    """Where relative names begin, and how a worker knows that it sees the same files: ``token`` lies in ``output``.

    None of it is needed where bytes are shipped.
    """

    folder: str | None
    output: str | None
    token: str | None


@contextmanager
def shared_place(folder: Path) -> Iterator[Place]:
    """The output folder with a token in it, so that a worker can tell whether it sees this very folder.

    A folder that was made for it goes again, if nothing came of it. Raises OutputError.
    """
    is_new = not os.path.exists(folder)
    token = PendingFile(folder / "token", overwrite=False)  # goes even if this process is killed, with the next run
    try:
        folder.mkdir(parents=True, exist_ok=True)
        token.open()
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror}); choose another folder") from None
    try:
        yield Place(os.getcwd(), str(folder), token.temporary.name)
    finally:
        token.discard()
        if is_new:
            with contextlib.suppress(OSError):
                folder.rmdir()  # if nothing came of it


def go_to(place: Place) -> None:
    """Be where the driver is. Raises OutputError: this machine has no such folder, or another one of that name."""
    if place.folder is None:
        return
    hint = "; use a folder that all machines share, or ", Option("ship")
    try:
        os.chdir(place.folder)
    except OSError:
        if place.output is None or not os.path.isabs(place.output):
            raise OutputError(f"there is no folder {place.folder}", *hint) from None
    if place.output is not None and place.token is not None and not os.path.exists(Path(place.output) / place.token):
        raise OutputError(f"the output folder {place.output} is not the one here", *hint)
