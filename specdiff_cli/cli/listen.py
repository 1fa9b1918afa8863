"""``specdiff play``, ``vocode`` and ``web``: to hear a song at once, what a vocoder alone does, and a page for both."""

import os
import threading
from typing import Annotated

from specdiff_cli.choices import DEFAULT_MAX_DURATION_S, DEFAULT_VOICE
from specdiff_cli.cli import completion as complete
from specdiff_cli.cli import shared_options as shared
from specdiff_cli.cli.progress import counted_display, say, teller, working
from specdiff_cli.cli.shared_options import argument, option, record_of
from specdiff_cli.constants import SAMPLE_RATE_HZ
from specdiff_cli.engine.starting import load_torch
from specdiff_cli.errors import Message, Option
from specdiff_cli.streams import input_path
from specdiff_cli.wording import clock, count


def play(
    song: Annotated[str, argument("A MIDI file; - is standard input.", offer=complete.midi_files)],
    model: Annotated[str, option("A voice.", "--model", "-m", metavar="VOICE", offer=complete.models)] = DEFAULT_VOICE,
    steps: Annotated[int | None, option("Denoising steps.", metavar="N", default="the voice's", min=1)] = None,
    seed: Annotated[int, option("Of the noise.", metavar="SEED", min=0)] = 0,
    device: shared.Device = "auto",
    quiet: shared.Quiet = False,
    debug: shared.Debug = False,
) -> None:
    """Play a MIDI file while it renders.

    Through the sound card (`pip install 'specdiff[play]'`), else through a
    player that is found: aplay, paplay, pw-play, ffplay or sox's play.

    \b
    Example:
      specdiff play song.mid

    \b
    Exit codes: 0 done, 2 usage, 3 bad MIDI, 4 weights, 6 no sound, device or memory,
    130 interrupted, 143 terminated.
    """
    from contextlib import closing
    from dataclasses import replace

    from specdiff_cli.audio.sound_card import find_player
    from specdiff_cli.midi.notes import read_midi

    path = input_path(song)
    read = read_midi(path)
    open_sink, player = find_player()
    load_torch()
    from specdiff_cli.engine.ahead import running_ahead
    from specdiff_cli.engine.loading import load_synthesizer

    synthesizer = load_synthesizer(model, device=device)
    sampling = replace(synthesizer.sampling, seed=seed)
    if steps is not None:
        sampling = replace(sampling, steps=steps)
    teller(quiet)(f"playing {path.name} through {player}; Ctrl-C stops")
    pieces = running_ahead(lambda _: synthesizer.stream(read, sampling=sampling))  # a card has no patience
    with open_sink() as sink, closing(pieces):
        for piece in pieces:
            sink(piece)


def vocode(
    source: Annotated[
        str,
        argument(
            "An audio file, or a spectrogram of render --save-mel (.npy); - reads standard input.", metavar="INPUT"
        ),
    ],
    output: Annotated[
        str, option("Output file; - streams WAV to standard output.", "--output", "-o", metavar="FILE|-", default=False)
    ],
    model: Annotated[
        str, option("The voice whose vocoder to use.", "--model", "--voice", "-m", offer=complete.models)
    ] = DEFAULT_VOICE,
    vocoder: shared.Vocoder = None,
    threads: shared.Threads = None,
    file_format: Annotated[
        str | None,
        option("wav, flac, ogg, opus or mp3.", "--format", default="by the suffix, else wav", offer=complete.formats),
    ] = None,
    subtype: shared.SampleFormat = "pcm16",
    sample_rate: Annotated[
        int, option("16000, 44100 or 48000.", metavar="HZ", offer=complete.sample_rates)
    ] = SAMPLE_RATE_HZ,
    max_duration: Annotated[
        float, option("Refuse audio longer than this.", metavar="SECONDS")
    ] = DEFAULT_MAX_DURATION_S,
    overwrite: Annotated[bool, option("Replace an existing output file.", "--overwrite", "-f")] = False,
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
    given = locals()
    from specdiff_cli.audio.mel_stream import DECIBELS_PER_NEPER
    from specdiff_cli.rendering.vocode import VocodeRequest, vocode_file

    path = input_path(source)
    request = record_of(VocodeRequest, given, source=path, sample_rate_hz=sample_rate, max_duration_s=max_duration)
    with counted_display(path.name, quiet) as show:
        done = vocode_file(request, loading=working(f"loading {model}", quiet), on_progress=show)
    if quiet:
        return
    if done.n_clipped:
        clipped = f"{path.name}: {count(done.n_clipped, 'sample')} clipped: "
        say(Message(clipped, Option("subtype", "float"), " keeps them"))
    say(
        f"{output if request.target else 'stdout'}: {clock(done.duration_s)} of audio in {done.elapsed_s:.1f} s, "
        f"{done.duration_s / done.elapsed_s:.1f} × realtime · {done.voice} + {done.vocoder} · "
        f"log-mel L1 to the input {done.nepers:.3f} nepers ({done.nepers * DECIBELS_PER_NEPER:.2f} dB)"
    )


def web(
    host: Annotated[str, option("Where to listen; others reach 0.0.0.0.", metavar="ADDRESS")] = "127.0.0.1",
    port: Annotated[int, option("The port to listen on.", metavar="N")] = 7860,
    model: Annotated[
        list[str] | None,
        option("A voice to offer; repeat it, the first is the default.", "--model", "-m", metavar="VOICE"),
    ] = None,
    max_duration: Annotated[float, option("Refuse songs longer than this.", metavar="SECONDS")] = 600.0,
    max_size: Annotated[float, option("Refuse larger files.", metavar="MB")] = 2.0,
    browser: Annotated[bool, option("Open the page in a browser.", "--browser/--no-browser")] = True,
    debug: shared.Debug = False,
) -> None:
    """Serve a page where MIDI files can be dropped, seen and heard.

    It works offline and only on this machine, unless --host says otherwise.
    Whoever lets others in sets SPECDIFF_WEB_AUTH=USER:PASS, which visitors
    must then give. Ctrl-C stops it.

    \b
    Examples:
      specdiff web
      specdiff web --port 8000 --no-browser
      SPECDIFF_WEB_AUTH=anna:secret specdiff web --host 0.0.0.0

    \b
    Exit codes: 0 stopped, 2 usage, 4 weights, 6 device or memory.
    """
    from specdiff_cli.serving.limits import BYTES_PER_MIB, Limits
    from specdiff_cli.serving.server import (
        AUTH_VARIABLE,
        Address,
        be_quiet,
        check_installed,
        read_auth,
        serving,
        temporary_folder,
    )

    address = Address(host, port)
    auth = read_auth(address, os.environ.get(AUTH_VARIABLE))
    limits = Limits(max_duration_s=max_duration, max_bytes=int(max_size * BYTES_PER_MIB))
    check_installed()
    address.check_free()
    be_quiet()
    with temporary_folder() as folder:
        from specdiff_cli.serving.studio import Studio

        studio = Studio(model or [DEFAULT_VOICE], limits, folder)
        studio.check_voices()
        try:
            with serving(studio, address, auth, opens_browser=browser) as url:
                say(f"specdiff is at {url} (Ctrl-C stops it)")
                threading.Event().wait()
        except KeyboardInterrupt:
            say("stopped")
