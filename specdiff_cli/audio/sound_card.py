"""Audio to the ears while it is made: the sound card, or a program that plays a WAV."""

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from functools import partial
from tempfile import TemporaryFile
from typing import Any, BinaryIO, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from specdiff_cli.audio.wav import ReaderGone, StreamWriter
from specdiff_cli.constants import SAMPLE_RATE_HZ
from specdiff_cli.errors import DeviceError

#: Takes (n,) samples at 16 kHz and returns when they are on their way.
Sink: TypeAlias = Callable[[npt.NDArray[np.float32]], None]

#: Programs that play a WAV from standard input.
PLAYERS = (
    ("aplay", "-q", "-"),
    ("paplay",),
    ("pw-play", "-"),
    ("ffplay", "-nodisp", "-autoexit", "-loglevel", "error", "-i", "-"),
    ("play", "-q", "-t", "wav", "-"),
)
#: A player that ends earlier than this share of the sound after its first sample has not played it. Some, ffplay among
#: them, take everything and end with code 0 where there is no sound card; others leave out the last buffer.
HEARD_SHARE = 0.75
#: What ffplay says then; on a busy machine its start alone may take as long as a short sound.
_NOT_OPENED = "failed to open file"
_NO_SOUND = (
    "no way to play sound was found: run \"pip install 'specdiff[play]'\", or install aplay, ffplay or sox; "
    "or render to a file"
)


def find_player() -> tuple[Callable[[], AbstractContextManager[Sink]], str]:
    """How to open what plays (n,) samples at 16 kHz, and its name. Raises DeviceError where there is nothing."""
    try:
        import sounddevice

        sounddevice.check_output_settings(samplerate=SAMPLE_RATE_HZ, channels=1, dtype="float32")
    except Exception:  # not installed, no PortAudio, no sound card: each has exceptions of its own
        for command in PLAYERS:
            if shutil.which(command[0]):
                return partial(_piped, command), command[0]
        raise DeviceError(_NO_SOUND) from None
    return partial(_sound_card, sounddevice), "the sound card"


@contextmanager
def _sound_card(sounddevice: Any) -> Iterator[Sink]:
    stream = sounddevice.OutputStream(samplerate=SAMPLE_RATE_HZ, channels=1, dtype="float32")

    def sink(samples: npt.NDArray[np.float32]) -> None:
        if not stream.active:  # not earlier: it would run dry before there is anything to hear
            stream.start()
        stream.write(np.ascontiguousarray(np.clip(samples, -1, 1)[:, None]))

    with closing(stream):
        yield sink
        if stream.active:
            stream.stop()  # plays what is waiting to its end


class _Player:
    """A program that plays what is written to it: what it is given, since when, and how it ended."""

    def __init__(self, command: tuple[str, ...], errors: BinaryIO) -> None:
        self._name, self._errors = command[0], errors
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=errors)  # noqa: S603 - a name of ours
        self.stream = cast(BinaryIO, self.process.stdin)
        self._given_s = 0.0
        self._since_s: float | None = None

    def note(self, samples: npt.NDArray[np.float32]) -> None:
        """That samples are about to be written."""
        if self._since_s is None:
            self._since_s = time.monotonic()
        self._given_s += len(samples) / SAMPLE_RATE_HZ

    def settle(self) -> None:
        """Wait for its end. Raises DeviceError if it failed, or ended so early that the sound was not heard."""
        code = self._end()
        took_s = 0.0 if self._since_s is None else time.monotonic() - self._since_s
        if code or took_s < HEARD_SHARE * self._given_s or _NOT_OPENED in self._words().lower():
            raise self.failure()

    def failure(self) -> DeviceError:
        """Of a program that ended: its code and its last words."""
        code = self._end()
        lines = [line.strip() for line in self._words().splitlines() if line.strip()]
        last = f" ({lines[-1]})" if lines else ""
        what = f"{self._name} ended with code {code} before the sound was over{last}"
        return DeviceError(f"{what}: is there a sound card?")

    def _words(self) -> str:
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")

    def _end(self) -> int:
        with suppress(BrokenPipeError):  # what it did not take any more
            self.stream.close()
        return self.process.wait()


@contextmanager
def _piped(command: tuple[str, ...]) -> Iterator[Sink]:
    with TemporaryFile() as errors:
        player = _Player(command, cast(BinaryIO, errors))

        def sink(samples: npt.NDArray[np.float32]) -> None:
            player.note(samples)
            writer.write(samples)

        with player.process:
            try:
                with StreamWriter(player.stream) as writer:
                    yield sink
            except ReaderGone:
                raise player.failure() from None
            except BaseException:
                player.process.terminate()  # what is waiting would play on after Ctrl-C
                raise
            player.settle()
