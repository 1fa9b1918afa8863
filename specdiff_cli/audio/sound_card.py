"""Audio to the ears while it is made: the sound card, or a program that plays a WAV."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
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
    ("pw-play", "-"),
    ("ffplay", "-nodisp", "-autoexit", "-loglevel", "error", "-i", "-"),
    ("play", "-q", "-t", "wav", "-"),
)
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
    with sounddevice.OutputStream(samplerate=SAMPLE_RATE_HZ, channels=1, dtype="float32") as stream:
        yield lambda samples: stream.write(np.ascontiguousarray(np.clip(samples, -1, 1)[:, None]))
        stream.stop()  # plays what is waiting to its end


@contextmanager
def _piped(command: tuple[str, ...]) -> Iterator[Sink]:
    with ExitStack() as stack:
        process = stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE))  # noqa: S603 - a name of ours
        if process.stdin is None:
            raise RuntimeError("the player has no standard input")
        try:
            yield stack.enter_context(StreamWriter(cast(BinaryIO, process.stdin))).write
        except ReaderGone:
            process.wait()
            raise DeviceError(f"{command[0]} ended with code {process.returncode}: is there a sound card?") from None
        except BaseException:
            process.terminate()  # what is waiting would play on after Ctrl-C
            raise
        process.stdin.close()
        if process.wait():
            raise DeviceError(f"{command[0]} ended with code {process.returncode}: is there a sound card?")
