"""What renders and compositions leave for their visitor, and for how long."""

import secrets
import shutil
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from threading import Lock

from specdiff_cli.files import make_folder
from specdiff_cli.midi.notes import MidiSong

MAX_RENDERS_KEPT = 24  # of all visitors together; each is at most Limits.max_duration_s long
AUDIO_NAME, PICTURE_NAME, MIDI_NAME, STEMS_NAME = "render.wav", "render.png", "render.mid", "stems.zip"
COPIES = {"FLAC": "render.flac", "OGG": "render.ogg"}


@dataclass(frozen=True, slots=True)
class Moment:
    """How far something is, 0 to 1; a ``share`` of None: it has not begun.

    ``live_url``: where it can be heard, told once.
    """

    text: str
    share: float | None
    live_url: str | None = None


@dataclass(frozen=True, slots=True)
class Rendered:
    """A finished render; all files lie in one folder, which is deleted when newer ones need its place."""

    text: str
    label: str
    path: Path
    midi: Path
    picture: Path | None
    files: tuple[Path, ...]
    """WAV, FLAC, OGG."""
    remarks: tuple[str, ...] = ()
    """What of the song is not heard as the file or the visitor asks."""


@dataclass(frozen=True, slots=True)
class Composed:
    """A piece that was composed."""

    path: Path
    label: str
    song: MidiSong


class ResultFolders:
    """A folder for each result, the newest ``MAX_RENDERS_KEPT`` of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kept: deque[Path] = deque()
        self._lock = Lock()

    @contextmanager
    def new(self) -> Iterator[Path]:
        """A folder for what is made in the block; gone unless it is completed, also when its visitor leaves."""
        folder = self._folder / secrets.token_hex(8)
        make_folder(folder)
        try:
            yield folder
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        with self._lock:
            self._kept.append(folder)
            old = [self._kept.popleft() for _ in range(len(self._kept) - MAX_RENDERS_KEPT)]
        for path in old:
            shutil.rmtree(path, ignore_errors=True)


def picture_path(folder: Path) -> Path | None:
    """Where the picture goes; None where matplotlib is not installed."""
    return folder / PICTURE_NAME if find_spec("matplotlib") else None


def copy_as(source: Path, target: Path) -> Path:
    """The same sound in the format of the target's suffix; blocks of it, so that memory stays flat."""
    import soundfile

    with soundfile.SoundFile(source) as reader:
        subtype = "VORBIS" if target.suffix == ".ogg" else None
        with soundfile.SoundFile(target, "w", reader.samplerate, reader.channels, subtype=subtype) as writer:
            for block in reader.blocks(65_536, dtype="float32"):
                writer.write(block)
    return target
