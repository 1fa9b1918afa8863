"""The files of a checkpoint, in a folder or in a zip, under one face. Nothing is ever extracted.

Names are relative and written with ``/``. A zip's names are only ever compared, never used as paths.
"""

import itertools
import os
import stat
import struct
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import IO

from specdiff_cli.errors import WeightsError

#: Nothing published comes near: the base model with its optimiser's state is about 3 GB.
MAX_ZIP_BYTES = 64 << 30
MAX_FILES = 100_000

#: What zipfile raises for damaged files, besides saying so.
_UNREADABLE = (
    *(OSError, EOFError, zipfile.BadZipFile, zlib.error, struct.error),
    *(NotImplementedError, RuntimeError, ValueError, OverflowError),
)


class Files(ABC):
    """Files below one place. ``shown`` names that place in messages."""

    def __init__(self, shown: str) -> None:
        self.shown = shown

    @cached_property
    def names(self) -> frozenset[str]:
        """Every file. Raises WeightsError for a place with far more of them than any checkpoint."""
        names = frozenset(itertools.islice(self._list(), MAX_FILES + 1))
        if len(names) > MAX_FILES:
            raise WeightsError(f"{self.shown}: holds more than {MAX_FILES} files; give the checkpoint's own folder")
        return names

    @abstractmethod
    def _list(self) -> Iterator[str]: ...

    @abstractmethod
    def _open(self, name: str) -> IO[bytes]: ...

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """Open a file for reading. Raises WeightsError, also for what fails while it is read."""
        if name not in self.names:
            raise WeightsError(f"{self.shown}: {name} is missing; copy the checkpoint again")
        try:
            with self._open(name) as file:
                yield file
        except _UNREADABLE as error:
            detail = (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0]
            raise WeightsError(f"{self.shown}: {name} cannot be read ({detail}); copy it again") from None

    def read(self, name: str, max_bytes: int) -> bytes:
        """A small file whole. Raises WeightsError when it is longer than ``max_bytes``."""
        with self.open(name) as file:
            content = file.read(max_bytes + 1)
        if len(content) > max_bytes:
            raise WeightsError(f"{self.shown}: {name} is longer than the {max_bytes} bytes it should have")
        return content


class Folder(Files):
    """The files below a folder; symbolic links that lead out of it are refused."""

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder))
        self._folder = folder

    def _list(self) -> Iterator[str]:
        for place, _, files in os.walk(self._folder):
            yield from (Path(place, name).relative_to(self._folder).as_posix() for name in files)

    def _open(self, name: str) -> IO[bytes]:
        """Raises OSError, WeightsError."""
        path = Path(os.path.realpath(self._folder / name))
        if not path.is_relative_to(os.path.realpath(self._folder)):
            raise WeightsError(f"{self.shown}: {name} leads out of the folder; copy the file into it")
        return path.open("rb")


class Zip(Files):
    """The files of a zip, read in place."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        try:
            self._zip = zipfile.ZipFile(path)
        except _UNREADABLE as error:
            raise WeightsError(f"{path}: is no complete zip file ({error}); download it again") from None
        self._members = {info.filename: info for info in self._zip.infolist() if info.filename[-1:] != "/"}
        for name, info in self._members.items():
            parts = name.replace("\\", "/").split("/")
            is_link = stat.S_ISLNK(info.external_attr >> 16)
            if parts[0] == "" or ".." in parts or ":" in parts[0] or is_link:
                raise WeightsError(f"{path}: holds {name[:80]!r}, which leads out of it; this is no checkpoint")
        if sum(info.file_size for info in self._members.values()) > MAX_ZIP_BYTES:
            raise WeightsError(f"{path}: claims more content than any checkpoint has; it is not unpacked")

    def close(self) -> None:
        """Close the zip."""
        self._zip.close()

    def _list(self) -> Iterator[str]:
        yield from self._members

    def _open(self, name: str) -> IO[bytes]:
        return self._zip.open(self._members[name])
