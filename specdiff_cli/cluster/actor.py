"""What lives in a worker's process: it makes its tools once, and then does tasks with them. Imports no Ray."""

import functools
import hashlib
import os
import pickle
import platform
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import specdiff_cli
from specdiff_cli import __version__
from specdiff_cli.errors import DeviceError, SpecdiffError, explain
from specdiff_cli.files import files_below

#: What has to be the same everywhere, for the same files to come out.
COMPARED = ("specdiff", "torch", "specdiff code")


def versions() -> dict[str, str]:
    """Of what decides the sound, here."""
    found = {"specdiff": __version__}
    try:
        found["torch"] = version("torch")
    except PackageNotFoundError:
        found["torch"] = "none"
    return found | {"specdiff code": _code_hash()}


@functools.cache
def _code_hash() -> str:
    """Of this package's source files: two copies that are worked on may have one version, and sound different.

    Raises OSError.
    """
    digest = hashlib.sha256()
    folder = Path(specdiff_cli.__file__).parent
    for path in files_below(folder, (".py",)):
        if path.name != "_version.py":
            digest.update(path.relative_to(folder).as_posix().encode())
            digest.update(path.read_bytes().replace(b"\r\n", b"\n"))
    return digest.hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Facts:
    """Of a worker that is ready. ``description``: what it works with, in words."""

    name: str
    description: str
    messages: tuple[str, ...] = ()


class Work(Protocol):
    """Does tasks. ``stopped`` says whether nobody waits for them any more."""

    description: str
    messages: tuple[str, ...]

    def do(self, items: Sequence[tuple[Any, int]], stopped: Callable[[], bool]) -> list[Any]:
        """One result for each item; with each comes the number of workers that it has lost so far.

        What goes wrong with an item is part of its result. Once ``stopped``, results may be missing.
        """


@dataclass(frozen=True, slots=True)
class Making:
    """Makes the work of a worker, there: ``make(*arguments)``, all of which can be pickled.

    ``threads``: of the CPU, for libraries that ask the environment.
    """

    make: Callable[..., Work]
    arguments: tuple[Any, ...]
    threads: int = 1


class Actor:
    """A worker. Its methods return errors, since Ray would wrap what is raised."""

    def __init__(self) -> None:
        self._work: Work | None = None
        self._stopped = threading.Event()

    def start(self, wanted: Mapping[str, str], threads: int, making: bytes) -> Facts | SpecdiffError:
        """Make the tools; what is wrong with this machine shows here.

        ``making`` is a pickled :class:`Making`, to be opened only where the versions are those that are wanted.
        """
        # Before PyTorch is loaded: threads that spin while they wait take the cores from the worker beside them.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        os.environ["OMP_NUM_THREADS"] = str(threads)
        name = f"{platform.node()}:{os.getpid()}"
        here = versions()
        for package in COMPARED:
            if here[package] != wanted[package]:
                return DeviceError(
                    f"worker {name} has {package} {here[package]}, and here it is {wanted[package]}: "
                    "install the same on all machines"
                )
        try:
            made: Making = pickle.loads(making)  # noqa: S301 - from the driver, as this very call
            self._work = made.make(*made.arguments)
        except Exception as error:
            explained = explain(error)
            explained.args = (f"worker {name}: ", *explained.args)
            explained.option = None  # the line begins with the worker
            return explained
        return Facts(name, self._work.description, self._work.messages)

    def do(self, items: Sequence[tuple[Any, int]]) -> list[Any]:
        """One result for each item."""
        if self._work is None:
            raise RuntimeError("the worker has not started")
        return self._work.do(items, self._stopped.is_set)

    def stop(self) -> None:
        """Nobody waits any more: end the task, and leave nothing unfinished behind. Comes while ``do`` is busy."""
        self._stopped.set()


Answer: TypeAlias = Facts | SpecdiffError | list[Any]
