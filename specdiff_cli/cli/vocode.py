"""``specdiff vocode``: audio to log-mel and back, to hear what a vocoder alone does to it."""

from contextlib import ExitStack
from typing import Annotated

import typer

from specdiff_cli.choices import DEFAULT_MAX_DURATION_S
from specdiff_cli.cli import completion as complete
from specdiff_cli.cli import shared_options as shared
from specdiff_cli.cli.progress import clock, counted_display, say, working
from specdiff_cli.constants import SAMPLE_RATE_HZ
from specdiff_cli.streams import input_path
from specdiff_cli.wording import count


def vocode(
    source: Annotated[
        str,
        typer.Argument(
            metavar="INPUT",
            help="An audio file, or a spectrogram of render --save-mel (.npy); - reads standard input.",
            show_default=False,
        ),
    ],
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE|-",
            help="Output file; - streams WAV to standard output.",
            show_default=False,
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            "--model", "--voice", "-m", help="The voice whose vocoder to use.", autocompletion=complete.models
        ),
    ] = "tiny",
    vocoder: shared.Vocoder = None,
    threads: shared.Threads = None,
    file_format: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="wav, flac, ogg, opus or mp3.",
            show_default="by the output's suffix, else wav",
            autocompletion=complete.formats,
        ),
    ] = None,
    subtype: shared.SampleFormat = "pcm16",
    sample_rate: Annotated[
        int, typer.Option(metavar="HZ", help="16000, 44100 or 48000.", autocompletion=complete.sample_rates)
    ] = SAMPLE_RATE_HZ,
    max_duration: Annotated[
        float, typer.Option(metavar="SECONDS", help="Refuse audio longer than this.")
    ] = DEFAULT_MAX_DURATION_S,
    overwrite: Annotated[bool, typer.Option("--overwrite", "-f", help="Replace an existing output file.")] = False,
    quiet: shared.Quiet = False,
    debug: shared.Debug = False,
) -> None:
    """Pass audio through a vocoder alone: to log-mel and back.

    What comes out is the best that a voice with this vocoder can sound.
    Audio of any rate is read as 16 kHz mono, stereo as the mean of both
    sides. The summary says how far the output's log-mel is from the
    input's: 0 is alike, 1 dB is a mean difference of 1 dB in each of the
    128 bands.

    \b
    Examples:
      specdiff vocode in.wav -o out.wav
      specdiff vocode in.mp3 -o out.flac --vocoder griffin-lim
      specdiff vocode mel.npy -o out.wav
      specdiff vocode in.wav -o - | aplay
      specdiff render song.mid -o - | specdiff vocode - -o out.wav

    \b
    Exit codes: 0 done, 2 usage, 3 input that cannot be read, 4 weights,
    5 output, 6 device or memory, 130 interrupted.
    """
    from specdiff_cli.audio.mel_stream import DECIBELS_PER_NEPER
    from specdiff_cli.rendering.vocode import VocodeRequest, vocode_file

    path = input_path(source)
    request = VocodeRequest(
        source=path,
        output=output,
        model=model,
        vocoder=vocoder,
        threads=threads,
        file_format=file_format,
        subtype=subtype,
        sample_rate_hz=sample_rate,
        max_duration_s=max_duration,
        overwrite=overwrite,
    )
    with ExitStack() as stack:
        show = stack.enter_context(counted_display(path.name, quiet))
        done = vocode_file(request, loading=working(f"loading {model}", quiet), on_progress=show)
    if quiet:
        return
    if done.n_clipped:
        say(f"{path.name}: {count(done.n_clipped, 'sample')} clipped: --subtype float keeps them")
    say(
        f"{output if request.target else 'stdout'}: {clock(done.duration_s)} of audio in {done.elapsed_s:.1f} s, "
        f"{done.duration_s / done.elapsed_s:.1f} × realtime · {done.voice} + {done.vocoder} · "
        f"log-mel L1 to the input {done.nepers:.3f} nepers ({done.nepers * DECIBELS_PER_NEPER:.2f} dB)"
    )
