"""The options of ``render``, in the groups in which ``--help`` shows them, and what their numbers may be.

Where an option has an environment variable, the order is: command line, environment, user file, the voice's default.
"""

from pathlib import Path
from typing import Annotated

import typer

from specdiff_cli.choices import DEVICES_IN_WORDS, SAMPLERS, VOCODERS
from specdiff_cli.choices import Subtype as SUBTYPES
from specdiff_cli.cli import completion as complete
from specdiff_cli.cli.short_help import show_all
from specdiff_cli.wording import either

_INPUT, _SCORE, _OUTPUT, _SOUND = "Input", "Score", "Output", "Sound"
_BATCH, _MACHINE, _MESSAGES = "Batches and long songs", "Machine", "Messages"
_CREW = "Many processes and machines"

Inputs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="INPUT...",
        help="MIDI files, folders of them, or patterns.",
        show_default=False,
        autocompletion=complete.midi_files,
    ),
]
FilesFrom = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|-",
        help="Also read names from a file, or from standard input; one per line.",
        rich_help_panel=_INPUT,
    ),
]
Null = Annotated[
    bool,
    typer.Option("--null", "-0", help="Names of --files-from end with NUL (find -print0).", rich_help_panel=_INPUT),
]
Recursive = Annotated[
    bool,
    typer.Option("--recursive", "-r", help="Folders within folders, too; -o DIR mirrors them.", rich_help_panel=_INPUT),
]
MaxDuration = Annotated[
    float,
    typer.Option(
        metavar="SECONDS",
        help="Refuse songs longer than this.",
        envvar="SPECDIFF_MAX_DURATION",
        rich_help_panel=_INPUT,
    ),
]
Track = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Only this track, from 1; of a type 2 file, this sequence.",
        rich_help_panel=_INPUT,
    ),
]

Reader = Annotated[
    str,
    typer.Option(
        autocompletion=complete.readers,
        help="music, as players hear the file, or reference, as the published models were trained.",
        envvar="SPECDIFF_READER",
        rich_help_panel=_INPUT,
    ),
]

Swap = Annotated[
    list[str] | None,
    typer.Option(metavar="A=B", help="What plays A plays B, and the reverse: piano=cello.", rich_help_panel=_SCORE),
]
Program = Annotated[
    list[str] | None,
    typer.Option(
        metavar="WHAT:PROGRAM",
        rich_help_panel=_SCORE,
        help="Another instrument for a program, instrument or channel: 0:56, piano:trumpet, ch1:oboe.",
    ),
]
Only = Annotated[
    list[str] | None,
    typer.Option(
        metavar="WHAT",
        help="Only these: violin, drums, ch2; may be repeated. specdiff models instruments lists names.",
        rich_help_panel=_SCORE,
    ),
]
Mute = Annotated[
    list[str] | None,
    typer.Option(metavar="WHAT", help="All but these; may be repeated.", rich_help_panel=_SCORE),
]
Transpose = Annotated[
    int, typer.Option(metavar="SEMITONES", help="Higher or lower; drums stay.", rich_help_panel=_SCORE)
]
TempoScale = Annotated[
    float, typer.Option(metavar="FACTOR", help="Faster or slower: 2 is twice as fast.", rich_help_panel=_SCORE)
]
Start = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="Begin here: seconds, 1:30 or bar:17.", rich_help_panel=_SCORE),
]
End = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="End here; with a bar, before it begins.", rich_help_panel=_SCORE),
]

Output = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE|DIR|-",
        show_default="INPUT's name in the current folder",
        rich_help_panel=_OUTPUT,
        help="Output file; a folder for several inputs; - streams to standard output.",
    ),
]
OutputTemplate = Annotated[
    str | None,
    typer.Option(
        metavar="TEMPLATE",
        envvar="SPECDIFF_OUTPUT_TEMPLATE",
        rich_help_panel=_OUTPUT,
        help="Names of outputs, as '{stem}.{model}.wav'; also {name} {parent} {seed} {steps} {index}.",
    ),
]
FileFormat = Annotated[
    str | None,
    typer.Option(
        "--format",
        autocompletion=complete.formats,
        envvar="SPECDIFF_FORMAT",
        rich_help_panel=_OUTPUT,
        help="wav, flac, ogg, opus or mp3.",
        show_default="by the output's suffix, else wav",
    ),
]
HelpAll = Annotated[
    bool,
    typer.Option(
        "--help-all",
        is_eager=True,
        callback=show_all,
        help="Show every option, and the variables that set its default.",
    ),
]
Quality = Annotated[
    float | None,
    typer.Option(
        metavar="Q",
        envvar="SPECDIFF_QUALITY",
        rich_help_panel=_OUTPUT,
        help="Of ogg, opus and mp3: 0 (smallest) to 10 (best).",
        show_default="6",
    ),
]
BitRate = Annotated[
    float | None,
    typer.Option(
        metavar="KBPS",
        envvar="SPECDIFF_BIT_RATE",
        rich_help_panel=_OUTPUT,
        help="Of opus and mp3, in kbit/s, instead of --quality.",
    ),
]
Loop = Annotated[
    bool,
    typer.Option(
        "--loop",
        rich_help_panel=_OUTPUT,
        help="The end leads into the start, for players that repeat; the file's loop points, else all of it.",
    ),
]
Subtype = Annotated[
    str,
    typer.Option(
        autocompletion=complete.subtypes,
        help=f"{either(SUBTYPES)}.",
        envvar="SPECDIFF_SUBTYPE",
        rich_help_panel=_OUTPUT,
    ),
]
SampleRate = Annotated[
    int | None,
    typer.Option(
        autocompletion=complete.sample_rates,
        metavar="HZ",
        help="16000, 44100 or 48000.",
        show_default="44100 from note templates, else 16000",
        envvar="SPECDIFF_SAMPLE_RATE",
        rich_help_panel=_OUTPUT,
    ),
]
Normalize = Annotated[
    str | None,
    typer.Option(
        metavar="LEVEL",
        help="Loudness of the result: -16LUFS (for folders: all equally loud), or a peak, -1dBFS.",
        envvar="SPECDIFF_NORMALIZE",
        rich_help_panel=_OUTPUT,
    ),
]
Stems = Annotated[
    bool,
    typer.Option(
        "--stems",
        rich_help_panel=_OUTPUT,
        help="Render each instrument on its own, into OUTPUT.stems/; the output is their sum.",
    ),
]
StemsBy = Annotated[
    str,
    typer.Option(
        autocompletion=complete.stems_by,
        help="What a stem is: instruments or tracks; --stems tracks is the same.",
        rich_help_panel=_OUTPUT,
    ),
]
Stereo = Annotated[
    bool | None,
    typer.Option(
        "--stereo/--mono",
        help="Two channels, with each instrument at its MIDI pan, or one.",
        show_default="stereo from note templates, else mono",
        rich_help_panel=_OUTPUT,
    ),
]
Plot = Annotated[
    Path | None,
    typer.Option(
        metavar="OUT.png|DIR",
        help="Also draw piano roll, spectrogram and waveform; of several songs into a folder.",
        rich_help_panel=_OUTPUT,
    ),
]
Snapshots = Annotated[
    str | None,
    typer.Option(
        metavar="N,N,…",
        rich_help_panel=_OUTPUT,
        help="Also spectrogram and sound of one window with so many steps still to go: 1000,500,0.",
    ),
]
SnapshotWindow = Annotated[
    int, typer.Option(metavar="N", help="The window of --snapshots, from 1.", rich_help_panel=_OUTPUT)
]
SaveMel = Annotated[
    Path | None,
    typer.Option(
        metavar="OUT.npy", help="Also save the spectrogram, (frames, 128) float32 log-mel.", rich_help_panel=_OUTPUT
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", "-f", help="Replace existing output files.", rich_help_panel=_OUTPUT)
]

Model = Annotated[
    str,
    typer.Option(
        "--model",
        "--voice",
        "-m",
        autocompletion=complete.models,
        envvar="SPECDIFF_MODEL",
        rich_help_panel=_SOUND,
        help="A voice's name (see specdiff models) or a folder of weights.",
    ),
]
Steps = Annotated[
    int | None,
    typer.Option(
        "--steps",
        metavar="N",
        help="Denoising steps per window.",
        show_default="the voice's",
        envvar="SPECDIFF_STEPS",
        rich_help_panel=_SOUND,
    ),
]
Sampler = Annotated[
    str | None,
    typer.Option(
        autocompletion=complete.samplers,
        help=f"{either(SAMPLERS)}.",
        show_default="the voice's",
        envvar="SPECDIFF_SAMPLER",
        rich_help_panel=_SOUND,
    ),
]
Preset = Annotated[
    str | None,
    typer.Option(
        "--preset",
        autocompletion=complete.presets,
        metavar="NAME",
        envvar="SPECDIFF_PRESET",
        rich_help_panel=_SOUND,
        show_default="the voice's own",
        help="Steps, sampler, schedule and guidance at once: draft, balanced, best, paper or port.",
    ),
]
Schedule = Annotated[
    str | None,
    typer.Option(
        autocompletion=complete.schedules,
        help="magenta (the paper's) or discrete (Diffusers').",
        show_default="the voice's",
        envvar="SPECDIFF_SCHEDULE",
        rich_help_panel=_SOUND,
    ),
]
Guidance = Annotated[
    float | None,
    typer.Option(
        metavar="WEIGHT",
        help="Classifier-free guidance; 1 is off.",
        show_default="the voice's",
        envvar="SPECDIFF_GUIDANCE",
        rich_help_panel=_SOUND,
    ),
]
GuidanceInterval = Annotated[
    str | None,
    typer.Option(
        metavar="LOW-HIGH",
        help="Guide only at these times, 1 (noise) to 0.",
        show_default="the preset's",
        envvar="SPECDIFF_GUIDANCE_INTERVAL",
        rich_help_panel=_SOUND,
    ),
]
ReuseEvery = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Evaluate the whole network in one of N steps, its ends in the others; 1 is off.",
        show_default="the preset's",
        envvar="SPECDIFF_REUSE_EVERY",
        rich_help_panel=_SOUND,
    ),
]
OverlapFrames = Annotated[
    int,
    typer.Option(
        metavar="N",
        help="Frames (of 20 ms) that each window shares with the one before.",
        envvar="SPECDIFF_OVERLAP_FRAMES",
        rich_help_panel=_SOUND,
    ),
]
Seed = Annotated[
    int, typer.Option(help="Same seed, same device: same bytes.", envvar="SPECDIFF_SEED", rich_help_panel=_SOUND)
]
Vocoder = Annotated[
    str | None,
    typer.Option(
        autocompletion=complete.vocoders,
        help=f"{either(VOCODERS)}.",
        show_default="the voice's",
        envvar="SPECDIFF_VOCODER",
        rich_help_panel=_SOUND,
    ),
]
Tail = Annotated[
    float,
    typer.Option(
        metavar="SECONDS", help="Release time after the last note.", envvar="SPECDIFF_TAIL", rich_help_panel=_SOUND
    ),
]

FadeOut = Annotated[
    float,
    typer.Option(
        metavar="SECONDS", help="Fade the end of the audio to silence.", show_default="none", rich_help_panel=_SOUND
    ),
]

Length = Annotated[
    str,
    typer.Option(
        autocompletion=complete.lengths,
        help="notes, and the tail after the last; or file: silence is kept to the file's own end.",
        envvar="SPECDIFF_LENGTH",
        rich_help_panel=_SOUND,
    ),
]

Device = Annotated[
    str,
    typer.Option(
        autocompletion=complete.devices,
        help=f"{either(DEVICES_IN_WORDS)}.",
        envvar="SPECDIFF_DEVICE",
        rich_help_panel=_MACHINE,
    ),
]
Dtype = Annotated[
    str,
    typer.Option(
        autocompletion=complete.dtypes,
        help="auto, float32, bfloat16, float16 (GPU) or int8 (CPU).",
        envvar="SPECDIFF_DTYPE",
        rich_help_panel=_MACHINE,
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="CPU threads.",
        show_default="one per physical core",
        envvar="SPECDIFF_THREADS",
        rich_help_panel=_MACHINE,
    ),
]
Batch = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Songs rendered side by side.",
        show_default="1; 16 on CUDA",
        envvar="SPECDIFF_BATCH",
        rich_help_panel=_MACHINE,
    ),
]

SkipExisting = Annotated[
    bool,
    typer.Option(
        "--skip-existing",
        rich_help_panel=_BATCH,
        help="Leave out what is complete and made from the same input, voice and options; render the rest.",
    ),
]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume", help="Keep finished windows, and go on after those of an earlier run.", rich_help_panel=_BATCH
    ),
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", "-n", help="Only list what would be done, and about how long.", rich_help_panel=_BATCH),
]
FailFast = Annotated[bool, typer.Option("--fail-fast", help="Stop at the first failure.", rich_help_panel=_BATCH)]

Workers = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Render with so many processes.",
        show_default="with --ray as many as there is room for",
        rich_help_panel=_CREW,
    ),
]
RayAddress = Annotated[
    str | None,
    typer.Option("--ray", metavar="HOST:PORT|auto", help="On the machines of a running Ray.", rich_help_panel=_CREW),
]
FileTimeout = Annotated[
    float | None,
    typer.Option(metavar="SECONDS", help="Give up a file that takes longer, thrice.", rich_help_panel=_CREW),
]
Ship = Annotated[
    bool,
    typer.Option("--ship", help="No shared folders: files travel through Ray.", rich_help_panel=_CREW),
]

AsJson = Annotated[
    bool,
    typer.Option("--json", help="One JSON object per file on standard output.", rich_help_panel=_MESSAGES),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.", rich_help_panel=_MESSAGES)]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Say where settings come from.", rich_help_panel=_MESSAGES)
]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.", rich_help_panel=_MESSAGES)]
