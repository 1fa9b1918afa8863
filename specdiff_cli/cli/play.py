"""``specdiff play``: a MIDI file to the sound card, while it renders."""

import shutil
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, cast

import typer

from specdiff_cli.cli import completion as complete
from specdiff_cli.cli.progress import say
from specdiff_cli.constants import SAMPLE_RATE_HZ
from specdiff_cli.errors import DeviceError
from specdiff_cli.streams import input_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import numpy.typing as npt

    Sink = Callable[[npt.NDArray[np.float32]], None]

#: Programs that play a WAV from standard input.
PLAYERS = (
    ("aplay", "-q", "-"),
    ("pw-play", "-"),
    ("ffplay", "-nodisp", "-autoexit", "-loglevel", "error", "-i", "-"),
    ("play", "-q", "-t", "wav", "-"),
)
NO_SOUND = (
    "no way to play sound was found: run \"pip install 'specdiff[play]'\", or install aplay, ffplay or sox; "
    "or render to a file"
)


def play(
    song: Annotated[str, typer.Argument(help="A MIDI file; - is standard input.", autocompletion=complete.midi_files)],
    model: Annotated[
        str, typer.Option("--model", "-m", metavar="VOICE", help="A voice.", autocompletion=complete.models)
    ] = "tiny",
    steps: Annotated[
        int | None, typer.Option(metavar="N", help="Denoising steps.", show_default="the voice's", min=1)
    ] = None,
    seed: Annotated[int, typer.Option(metavar="SEED", help="Of the noise.", min=0)] = 0,
    device: Annotated[
        str, typer.Option(metavar="DEVICE", help="auto, cpu, cuda, cuda:N or mps.", autocompletion=complete.devices)
    ] = "auto",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Play a MIDI file while it renders.

    Through the sound card (`pip install 'specdiff[play]'`), else through a
    player that is found: aplay, pw-play, ffplay or sox's play.

    \b
    Example:
      specdiff play song.mid

    \b
    Exit codes: 0 done, 2 usage, 3 bad MIDI, 4 weights, 6 no sound, device or memory,
    130 interrupted, 143 terminated.
    """
    from dataclasses import replace

    from specdiff_cli.midi.notes import read_midi

    path = input_path(song)
    read = read_midi(path)
    open_sink, player = find_player()
    from specdiff_cli.engine.loading import load_synthesizer

    synthesizer = load_synthesizer(model, device=device)
    sampling = replace(synthesizer.sampling, seed=seed)
    if steps is not None:
        sampling = replace(sampling, steps=steps)
    if not quiet:
        say(f"playing {path.name} through {player}; Ctrl-C stops")
    with open_sink() as sink:
        for chunk in synthesizer.stream(read, sampling=sampling):
            sink(chunk)


def find_player() -> "tuple[Callable[[], AbstractContextManager[Sink]], str]":
    """How to open what plays (n,) samples at 16 kHz, and its name. Raises DeviceError where there is nothing."""
    try:
        import sounddevice

        sounddevice.check_output_settings(samplerate=SAMPLE_RATE_HZ, channels=1, dtype="float32")
    except Exception:  # not installed, no PortAudio, no sound card: each has exceptions of its own
        for command in PLAYERS:
            if shutil.which(command[0]):
                return partial(_piped, command), command[0]
        raise DeviceError(NO_SOUND) from None
    return partial(_sound_card, sounddevice), "the sound card"


@contextmanager
def _sound_card(sounddevice: Any) -> "Iterator[Sink]":
    import numpy as np

    with sounddevice.OutputStream(samplerate=SAMPLE_RATE_HZ, channels=1, dtype="float32") as stream:
        yield lambda samples: stream.write(np.ascontiguousarray(np.clip(samples, -1, 1)[:, None]))
        stream.stop()  # plays what is waiting to its end


@contextmanager
def _piped(command: tuple[str, ...]) -> "Iterator[Sink]":
    from specdiff_cli.audio.wav import ReaderGone, StreamWriter

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
