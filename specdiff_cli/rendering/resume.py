"""``--resume``: the finished windows of a render beside its output, so that a killed one goes on where it stopped.

The file holds a line of JSON (the key: everything that decides the bytes of the audio) and then one record per window,
appended as it is finished. A record has a checksum; what a kill or a power failure cut short does not agree with it
and is rendered again, with all that follows it.
"""

import contextlib
import hashlib
import json
import os
import struct
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self

from specdiff_cli.constants import N_MELS, WINDOW_FRAMES
from specdiff_cli.errors import OutputError
from specdiff_cli.files import output_error, shown_path
from specdiff_cli.rendering.record import shown_option

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from specdiff_cli.engine.synthesizer import FinishedWindow

SUFFIX = ".specdiff-resume"
MAX_NAME_BYTES = 255
_HEAD = struct.Struct("<4sIII")  # magic, number of the window, bytes of spectrogram, bytes of noise state
_MAGIC = b"WIN1"
_DIGEST_BYTES = 16
_MEL_BYTES = WINDOW_FRAMES * N_MELS * 4
_MAX_STATE_BYTES = 1 << 16
_MAX_KEY_BYTES = 1 << 20


def sidecar_path(target: Path) -> Path:
    """Where the finished windows of ``target`` are kept: a hidden file beside it."""
    name = f".{target.name}{SUFFIX}"
    if len(os.fsencode(name)) > MAX_NAME_BYTES:
        name = f".{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:32]}{SUFFIX}"
    return target.with_name(name)


class Sidecar:
    """The windows of one render that are finished; a context manager that keeps them until ``remove``.

    ``n_finished``: how many were there at the start. ``why_from_start``: why what was there cannot be used, or None.

    Raises OutputError: the file cannot be read or written, or another process renders to the same target.
    """

    def __init__(self, target: Path, key: Mapping[str, Any], n_windows: int) -> None:
        real = Path(os.path.realpath(target))
        self._path = sidecar_path(real)
        self._shown = shown_path(self._path)
        self._key = json.dumps({**key, "windows": n_windows}, sort_keys=True).encode("ascii") + b"\n"
        self._n_windows = n_windows
        self._file: IO[bytes] | None = None
        self._next = 0
        self.n_finished = 0
        self.why_from_start: str | None = None

    def __enter__(self) -> Self:
        try:
            self._file = self._path.open("a+b")
            self._lock(self._file)
            self._file.seek(0)
            self._take_over(self._file)
        except OSError as error:
            self._close()
            raise output_error(self._shown, error) from None
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None and self._file.seek(0, os.SEEK_END) <= len(self._key):
            self.remove()  # nothing in it is worth keeping
        self._close()

    def _lock(self, file: IO[bytes]) -> None:
        """Two processes must not append to one file. The system drops the lock with the process."""
        if sys.platform != "win32":
            try:
                fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise OutputError(f"{self._shown}: another process is rendering to this output") from None

    def _take_over(self, file: IO[bytes]) -> None:
        found = file.readline(_MAX_KEY_BYTES)
        if found != self._key:
            if found:
                self.why_from_start = _key_difference(found, self._key)
            file.truncate(0)
            file.write(self._key)
            file.flush()
            return
        end = file.tell()
        while self.n_finished < self._n_windows and _read_window(file, self.n_finished) is not None:
            self.n_finished += 1
            end = file.tell()
        self._next = self.n_finished
        file.truncate(end)

    def finished(self) -> "Iterator[FinishedWindow]":
        """The windows that were there at the start, in order. Raises OSError, OutputError."""
        import numpy as np

        from specdiff_cli.engine.synthesizer import FinishedWindow

        with self._path.open("rb") as file:
            file.seek(len(self._key))
            for index in range(self.n_finished):
                window = _read_window(file, index)
                if window is None:
                    raise OutputError(f"{self._shown}: was changed by another program; delete it and start again")
                mel = np.frombuffer(window[0], dtype="<f4").reshape(WINDOW_FRAMES, N_MELS)
                yield FinishedWindow(mel=mel.astype(np.float32), noise_state=window[1])

    def add(self, window: "FinishedWindow") -> None:
        """Keep a window that was sampled just now."""
        if self._file is None:
            raise ValueError("add() outside the with block")
        mel = window.mel.astype("<f4").tobytes()
        head = _HEAD.pack(_MAGIC, self._next, len(mel), len(window.noise_state))
        content = head + mel + window.noise_state
        try:
            # One write, so that a kill seldom cuts it; the checksum is for when it does.
            self._file.write(content + _digest(content))
            self._file.flush()
        except OSError as error:
            raise output_error(self._shown, error) from None
        self._next += 1

    def remove(self) -> None:
        """Delete the file: the audio is complete."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None


def _read_window(file: IO[bytes], index: int) -> tuple[bytes, bytes] | None:
    """Spectrogram and noise state of the record that begins here; None where it is not whole and right."""
    head = file.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    magic, number, n_mel_bytes, n_state_bytes = _HEAD.unpack(head)
    if magic != _MAGIC or number != index or n_mel_bytes != _MEL_BYTES or n_state_bytes > _MAX_STATE_BYTES:
        return None
    mel, state, digest = file.read(n_mel_bytes), file.read(n_state_bytes), file.read(_DIGEST_BYTES)
    return (mel, state) if digest == _digest(head + mel + state) else None


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_DIGEST_BYTES).digest()


def _key_difference(found: bytes, wanted: bytes) -> str:
    """Which part of the key differs, in words."""
    try:
        old, new = json.loads(found), json.loads(wanted)
        changed = [name for name in new if old.get(name) != new[name]]
        was, now = old["options"], new["options"]  # without those at their defaults
        options = [shown_option(name) for name in dict.fromkeys([*now, *was]) if was.get(name) != now.get(name)]
    except (ValueError, AttributeError, KeyError, TypeError):
        return "the file with the finished windows is damaged"
    names = [*(name for name in changed if name != "options"), *options]
    return f"the finished windows are of another render ({', '.join(names) or 'its options'} changed)"
