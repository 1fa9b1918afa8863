"""The options of ``render``, in the groups in which ``--help`` shows them, and what their numbers may be.

Where an option has an environment variable, the order is: command line, environment, user file, the voice's default.
"""

from pathlib import Path
from typing import Annotated

import typer

from specdiff_cli.errors import UsageError

MAX_STEPS = 10_000

_INPUT, _OUTPUT, _SOUND = "Input", "Output", "Sound"
_BATCH, _MACHINE, _MESSAGES = "Batches and long songs", "Machine", "Messages"

Inputs = Annotated[
    list[str] | None,
    typer.Argument(metavar="INPUT...", help="MIDI files, folders of them, or patterns.", show_default=False),
]
FilesFrom = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|-", help="Also read names from a file, or from standard input; one per line.",
        rich_help_panel=_INPUT,
    ),
]  # fmt: skip
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
        metavar="SECONDS", help="Refuse songs longer than this.", envvar="SPECDIFF_MAX_DURATION",
        rich_help_panel=_INPUT,
    ),
]  # fmt: skip

Output = Annotated[
    str | None,
    typer.Option(
        "--output", "-o", metavar="FILE|DIR|-", show_default="INPUT's name in the current folder",
        rich_help_panel=_OUTPUT,
        help="Output file; a folder for several inputs; - streams WAV to standard output.",
    ),
]  # fmt: skip
OutputTemplate = Annotated[
    str | None,
    typer.Option(
        metavar="TEMPLATE", envvar="SPECDIFF_OUTPUT_TEMPLATE", rich_help_panel=_OUTPUT,
        help="Names of outputs, as '{stem}.{model}.wav'; also {name} {parent} {seed} {steps} {index}.",
    ),
]  # fmt: skip
FileFormat = Annotated[
    str | None,
    typer.Option(
        "--format", envvar="SPECDIFF_FORMAT", rich_help_panel=_OUTPUT,
        help="wav or flac.", show_default="by the output's suffix, else wav",
    ),
]  # fmt: skip
Subtype = Annotated[
    str, typer.Option(help="pcm16, pcm24 or float.", envvar="SPECDIFF_SUBTYPE", rich_help_panel=_OUTPUT)
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
        "--model", "-m", envvar="SPECDIFF_MODEL", rich_help_panel=_SOUND,
        help="A voice's name (see download-weights --list) or a folder of weights.",
    ),
]  # fmt: skip
Steps = Annotated[
    int | None,
    typer.Option(
        "--steps", metavar="N", help="Denoising steps per window.", show_default="the voice's", envvar="SPECDIFF_STEPS",
        rich_help_panel=_SOUND,
    ),
]  # fmt: skip
Sampler = Annotated[
    str | None,
    typer.Option(
        help="ddim, ddpm or dpm++2m.", show_default="the voice's", envvar="SPECDIFF_SAMPLER", rich_help_panel=_SOUND
    ),
]  # fmt: skip
Preset = Annotated[
    str | None,
    typer.Option(
        "--preset",
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
        help="magenta (the paper's) or discrete (Diffusers').", show_default="the voice's", envvar="SPECDIFF_SCHEDULE",
        rich_help_panel=_SOUND,
    ),
]  # fmt: skip
Guidance = Annotated[
    float | None,
    typer.Option(
        metavar="WEIGHT", help="Classifier-free guidance; 1 is off.", show_default="the voice's",
        envvar="SPECDIFF_GUIDANCE", rich_help_panel=_SOUND,
    ),
]  # fmt: skip
Seed = Annotated[
    int, typer.Option(help="Same seed, same device: same bytes.", envvar="SPECDIFF_SEED", rich_help_panel=_SOUND)
]
Vocoder = Annotated[
    str | None,
    typer.Option(
        help="melgan, soundstream or griffin-lim.", show_default="the voice's", envvar="SPECDIFF_VOCODER",
        rich_help_panel=_SOUND,
    ),
]  # fmt: skip
Tail = Annotated[
    float,
    typer.Option(
        metavar="SECONDS", help="Release time after the last note.", envvar="SPECDIFF_TAIL", rich_help_panel=_SOUND
    ),
]

Device = Annotated[
    str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.", envvar="SPECDIFF_DEVICE", rich_help_panel=_MACHINE)
]
Dtype = Annotated[
    str,
    typer.Option(help="auto, float32, bfloat16 or float16.", envvar="SPECDIFF_DTYPE", rich_help_panel=_MACHINE),
]
Threads = Annotated[
    int | None,
    typer.Option(
        metavar="N", help="CPU threads.", show_default="one per physical core", envvar="SPECDIFF_THREADS",
        rich_help_panel=_MACHINE,
    ),
]  # fmt: skip

SkipExisting = Annotated[
    bool,
    typer.Option(
        "--skip-existing", rich_help_panel=_BATCH,
        help="Leave out what is complete and made from the same input, voice and options; render the rest.",
    ),
]  # fmt: skip
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

AsJson = Annotated[
    bool,
    typer.Option("--json", help="One JSON object per file on standard output.", rich_help_panel=_MESSAGES),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.", rich_help_panel=_MESSAGES)]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Say where settings come from.", rich_help_panel=_MESSAGES)
]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.", rich_help_panel=_MESSAGES)]


def check_numbers(
    *, steps: int | None, guidance: float | None, tail_s: float, max_duration_s: float, threads: int | None, seed: int
) -> None:
    """Raises UsageError for numbers that no render can use."""
    if steps is not None and not 1 <= steps <= MAX_STEPS:
        raise UsageError(f"--steps {steps}: must be between 1 and {MAX_STEPS}")
    if guidance is not None and not 0 <= guidance <= 100:
        raise UsageError(f"--guidance {guidance:g}: must be between 0 and 100 (1 is off)")
    if not 0 <= tail_s <= 600:
        raise UsageError(f"--tail {tail_s:g}: must be between 0 and 600 seconds")
    if not max_duration_s > 0:
        raise UsageError(f"--max-duration {max_duration_s:g}: must be above 0 seconds")
    check_threads(threads)
    if not 0 <= seed < 2**63:
        raise UsageError(f"--seed {seed}: must be between 0 and 2^63 - 1")


def check_threads(threads: int | None) -> None:
    """Raises UsageError for a number of threads that no machine has."""
    if threads is not None and not 1 <= threads <= 1024:
        raise UsageError(f"--threads {threads}: must be between 1 and 1024")
