"""The options of ``render``, in the groups in which ``--help`` shows them, and what their numbers may be.

Where an option has an environment variable, the order is: command line, environment, user file, the voice's default.
"""

from functools import partial
from pathlib import Path
from typing import Annotated

from specdiff_cli.choices import DEVICES_IN_WORDS, SAMPLERS, VOCODERS
from specdiff_cli.choices import Subtype as SUBTYPES
from specdiff_cli.cli import completion as complete
from specdiff_cli.cli.help import show_all
from specdiff_cli.cli.shared_options import THE_VOICES, argument, option
from specdiff_cli.wording import either

_input, _score, _output, _sound = (partial(option, panel=name) for name in ("Input", "Score", "Output", "Sound"))
_batch, _crew = partial(option, panel="Batches and long songs"), partial(option, panel="Many processes and machines")
_machine, _messages = partial(option, panel="Machine"), partial(option, panel="Messages")

Inputs = Annotated[
    list[str] | None,
    argument("MIDI files, folders of them, or patterns.", metavar="INPUT...", offer=complete.midi_files),
]
FilesFrom = Annotated[
    str | None, _input("Also read names from a file, or from standard input; one per line.", metavar="FILE|-")
]
Null = Annotated[bool, _input("Names of --files-from end with NUL (find -print0).", "--null", "-0")]
Recursive = Annotated[bool, _input("Folders within folders, too; -o DIR mirrors them.", "--recursive", "-r")]
MaxDuration = Annotated[float, _input("Refuse songs longer than this.", metavar="SECONDS", env="MAX_DURATION")]
Track = Annotated[int | None, _input("Only this track, from 1; of a type 2 file, this sequence.", metavar="N")]

Reader = Annotated[
    str,
    _input(
        "music, as players hear the file, or reference, as the published models were trained.",
        offer=complete.readers,
        env="READER",
    ),
]

Swap = Annotated[list[str] | None, _score("What plays A plays B, and the reverse: piano=cello.", metavar="A=B")]
Program = Annotated[
    list[str] | None,
    _score(
        "Another instrument for a program, instrument or channel: 0:56, piano:trumpet, ch1:oboe.",
        metavar="WHAT:PROGRAM",
    ),
]
Only = Annotated[
    list[str] | None,
    _score("Only these: violin, drums, ch2; may be repeated. specdiff models instruments lists names.", metavar="WHAT"),
]
Mute = Annotated[list[str] | None, _score("All but these; may be repeated.", metavar="WHAT")]
Transpose = Annotated[int, _score("Higher or lower; drums stay.", metavar="SEMITONES")]
TempoScale = Annotated[float, _score("Faster or slower: 2 is twice as fast.", metavar="FACTOR")]
Start = Annotated[str | None, _score("Begin here: seconds, 1:30 or bar:17.", metavar="TIME")]
End = Annotated[str | None, _score("End here; with a bar, before it begins.", metavar="TIME")]

Output = Annotated[
    str | None,
    _output(
        "Output file; a folder for several inputs; - streams to standard output.",
        "--output",
        "-o",
        metavar="FILE|DIR|-",
        default="INPUT's name in the current folder",
    ),
]
OutputTemplate = Annotated[
    str | None,
    _output(
        "Names of outputs, as '{stem}.{model}.wav'; also {name} {parent} {seed} {steps} {index}.",
        metavar="TEMPLATE",
        env="OUTPUT_TEMPLATE",
    ),
]
FileFormat = Annotated[
    str | None,
    _output(
        "wav, flac, ogg, opus or mp3.",
        "--format",
        default="by the output's suffix, else wav",
        offer=complete.formats,
        env="FORMAT",
    ),
]
HelpAll = Annotated[
    bool,
    option(
        "Show every option, and the variables that set its default.", "--help-all", is_eager=True, callback=show_all
    ),
]
Quality = Annotated[
    float | None, _output("Of ogg, opus and mp3: 0 (smallest) to 10 (best).", metavar="Q", default="6", env="QUALITY")
]
BitRate = Annotated[
    float | None, _output("Of opus and mp3, in kbit/s, instead of --quality.", metavar="KBPS", env="BIT_RATE")
]
Loop = Annotated[
    bool,
    _output("The end leads into the start, for players that repeat; the file's loop points, else all of it.", "--loop"),
]
Subtype = Annotated[str, _output(f"{either(SUBTYPES)}.", offer=complete.subtypes, env="SUBTYPE")]
SampleRate = Annotated[
    int | None,
    _output(
        "16000, 44100 or 48000.",
        metavar="HZ",
        default="44100 from note templates, else 16000",
        offer=complete.sample_rates,
        env="SAMPLE_RATE",
    ),
]
Normalize = Annotated[
    str | None,
    _output(
        "Loudness of the result: -16LUFS (for folders: all equally loud), or a peak, -1dBFS.",
        metavar="LEVEL",
        env="NORMALIZE",
    ),
]
Stems = Annotated[
    bool, _output("Render each instrument on its own, into OUTPUT.stems/; the output is their sum.", "--stems")
]
StemsBy = Annotated[
    str, _output("What a stem is: instruments or tracks; --stems tracks is the same.", offer=complete.stems_by)
]
Stereo = Annotated[
    bool | None,
    _output(
        "Two channels, with each instrument at its MIDI pan, or one.",
        "--stereo/--mono",
        default="stereo from note templates, else mono",
    ),
]
Plot = Annotated[
    Path | None,
    _output("Also draw piano roll, spectrogram and waveform; of several songs into a folder.", metavar="OUT.png|DIR"),
]
Snapshots = Annotated[
    str | None,
    _output("Also spectrogram and sound of one window with so many steps still to go: 1000,500,0.", metavar="N,N,…"),
]
SnapshotWindow = Annotated[int, _output("The window of --snapshots, from 1.", metavar="N")]
SaveMel = Annotated[
    Path | None, _output("Also save the spectrogram, (frames, 128) float32 log-mel.", metavar="OUT.npy")
]
Overwrite = Annotated[bool, _output("Replace existing output files.", "--overwrite", "-f")]

Model = Annotated[
    str,
    _sound(
        "A voice's name (see specdiff models) or a folder of weights.",
        "--model",
        "--voice",
        "-m",
        offer=complete.models,
        env="MODEL",
    ),
]
Steps = Annotated[
    int | None, _sound("Denoising steps per window.", "--steps", metavar="N", default=THE_VOICES, env="STEPS")
]
Sampler = Annotated[
    str | None, _sound(f"{either(SAMPLERS)}.", default=THE_VOICES, offer=complete.samplers, env="SAMPLER")
]
Preset = Annotated[
    str | None,
    _sound(
        "Steps, sampler, schedule and guidance at once: draft, balanced, best, paper or port.",
        "--preset",
        metavar="NAME",
        default="the voice's own",
        offer=complete.presets,
        env="PRESET",
    ),
]
Schedule = Annotated[
    str | None,
    _sound(
        "magenta (the paper's) or discrete (Diffusers').",
        default=THE_VOICES,
        offer=complete.schedules,
        env="SCHEDULE",
    ),
]
Guidance = Annotated[
    float | None, _sound("Classifier-free guidance; 1 is off.", metavar="WEIGHT", default=THE_VOICES, env="GUIDANCE")
]
GuidanceInterval = Annotated[
    str | None,
    _sound(
        "Guide only at these times, 1 (noise) to 0.",
        metavar="LOW-HIGH",
        default="the preset's",
        env="GUIDANCE_INTERVAL",
    ),
]
ReuseEvery = Annotated[
    int | None,
    _sound(
        "Evaluate the whole network in one of N steps, its ends in the others; 1 is off.",
        metavar="N",
        default="the preset's",
        env="REUSE_EVERY",
    ),
]
OverlapFrames = Annotated[
    int, _sound("Frames (of 20 ms) that each window shares with the one before.", metavar="N", env="OVERLAP_FRAMES")
]
Seed = Annotated[int, _sound("Same seed, same device: same bytes.", env="SEED")]
Vocoder = Annotated[
    str | None, _sound(f"{either(VOCODERS)}.", default=THE_VOICES, offer=complete.vocoders, env="VOCODER")
]
Tail = Annotated[float, _sound("Release time after the last note; its end fades.", metavar="SECONDS", env="TAIL")]

FadeOut = Annotated[float, _sound("Fade the end of the audio to silence.", metavar="SECONDS", default="none")]

Length = Annotated[
    str,
    _sound(
        "notes, and the tail after the last; or file: silence is kept to the file's own end.",
        offer=complete.lengths,
        env="LENGTH",
    ),
]

Device = Annotated[str, _machine(f"{either(DEVICES_IN_WORDS)}.", offer=complete.devices, env="DEVICE")]
Dtype = Annotated[
    str, _machine("auto, float32, bfloat16, float16 (GPU) or int8 (CPU).", offer=complete.dtypes, env="DTYPE")
]
Threads = Annotated[int | None, _machine("CPU threads.", metavar="N", default="one per physical core", env="THREADS")]
Batch = Annotated[
    int | None, _machine("Songs rendered side by side.", metavar="N", default="1; 16 on CUDA", env="BATCH")
]

SkipExisting = Annotated[
    bool,
    _batch(
        "Leave out what is complete and made from the same input, voice and options; render the rest.",
        "--skip-existing",
    ),
]
Resume = Annotated[bool, _batch("Keep finished windows, and go on after those of an earlier run.", "--resume")]
DryRun = Annotated[bool, _batch("Only list what would be done, and about how long.", "--dry-run", "-n")]
FailFast = Annotated[bool, _batch("Stop at the first failure.", "--fail-fast")]

Workers = Annotated[
    int | None, _crew("Render with so many processes.", metavar="N", default="with --ray as many as there is room for")
]
RayAddress = Annotated[str | None, _crew("On the machines of a running Ray.", "--ray", metavar="HOST:PORT|auto")]
FileTimeout = Annotated[float | None, _crew("Give up a file that takes longer, thrice.", metavar="SECONDS")]
Ship = Annotated[bool, _crew("No shared folders: files travel through Ray.", "--ship")]

AsJson = Annotated[bool, _messages("One JSON object per file on standard output.", "--json")]
Quiet = Annotated[bool, _messages("Print errors only.", "--quiet", "-q")]
Verbose = Annotated[bool, _messages("Say where settings come from.", "--verbose", "-v")]
Debug = Annotated[bool, _messages("Show tracebacks.", "--debug")]
