"""``specdiff render``: MIDI files to audio."""

import os
import sys
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from specdiff_cli.cli.console import clock, fail, render_display, say, working
from specdiff_cli.cli.inputs import expand
from specdiff_cli.cli.mel_file import MelWriter
from specdiff_cli.errors import ExitCode, MidiError, OutputError, SpecdiffError, UsageError

if TYPE_CHECKING:
    from specdiff_cli.audio.wav import AtomicWriter, StreamWriter
    from specdiff_cli.midi.notes import MidiSong
    from specdiff_cli.synthesizer import Sampling, Synthesizer

STDOUT = "-"
MAX_STEPS = 10_000


@dataclass(frozen=True, slots=True)
class Job:
    """One input and where its audio goes; ``target`` None is standard output.

    ``makes_folder``: the target's folder was asked for as such and is made when the first file goes into it.
    """

    source: Path
    target: Path | None
    mel_target: Path | None
    makes_folder: bool = False


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """How audio is written."""

    file_format: str
    subtype: str
    overwrite: bool
    tail_s: float
    max_duration_s: float
    quiet: bool


def render(
    inputs: Annotated[
        list[Path], typer.Argument(metavar="INPUT...", help="MIDI files, or folders of them.", show_default=False)
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE|DIR|-",
            help="Output file; a folder for several inputs; - streams WAV to standard output. "
            "[default: INPUT's name in the current folder]",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        str, typer.Option("--model", "-m", help="A voice's name (see download-weights --list) or a folder of weights.")
    ] = "tiny",
    steps: Annotated[
        int | None, typer.Option("--steps", metavar="N", help="Denoising steps per window. [default: the voice's]")
    ] = None,
    sampler: Annotated[str | None, typer.Option(help="ddpm or ddim. [default: the voice's]")] = None,
    schedule: Annotated[
        str | None, typer.Option(help="magenta (the paper's) or discrete (Diffusers'). [default: the voice's]")
    ] = None,
    guidance: Annotated[
        float | None,
        typer.Option(metavar="WEIGHT", help="Classifier-free guidance; 1 is off. [default: the voice's]"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same device: same bytes.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    threads: Annotated[
        int | None, typer.Option(metavar="N", help="CPU threads. [default: one per physical core]")
    ] = None,
    vocoder: Annotated[
        str | None, typer.Option(help="melgan, soundstream or griffin-lim. [default: the voice's]")
    ] = None,
    tail: Annotated[float, typer.Option(metavar="SECONDS", help="Release time after the last note.")] = 1.0,
    file_format: Annotated[
        str | None, typer.Option("--format", help="wav or flac. [default: by the output's suffix, else wav]")
    ] = None,
    subtype: Annotated[str, typer.Option(help="pcm16, pcm24 or float.")] = "pcm16",
    save_mel: Annotated[
        Path | None,
        typer.Option(metavar="OUT.npy", help="Also save the spectrogram, (frames, 128) float32 log-mel."),
    ] = None,
    max_duration: Annotated[float, typer.Option(metavar="SECONDS", help="Refuse songs longer than this.")] = 3 * 3600.0,
    overwrite: Annotated[bool, typer.Option("--overwrite", "-f", help="Replace existing output files.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Render MIDI files to audio.

    The bundled voice is used unless --model says otherwise; it needs no
    network and no GPU. A file appears under its name only when complete.

    \b
    Examples:
      specdiff render song.mid
      specdiff render song.mid -o song.flac --steps 50
      specdiff render *.mid -o rendered/
      specdiff render song.mid -o - | aplay
      specdiff render song.mid --model base --steps 100

    \b
    Exit codes: 0 done, 1 some of several inputs failed, 2 usage, 3 bad MIDI,
    4 weights, 5 output, 6 device or memory, 130 interrupted.
    """
    _check_numbers(steps, guidance, tail, max_duration, threads, seed)
    chosen_format = file_format or _format_of(output)
    options = OutputOptions(chosen_format, subtype, overwrite, tail, max_duration, quiet)
    jobs = plan(inputs, output, chosen_format, save_mel)
    _check_outputs(jobs, options)
    songs = None
    if len(jobs) == 1:
        songs = [_read(jobs[0].source, options)]  # a bad file is reported before anything heavy is loaded
    from specdiff_cli.devices import check_device_name

    check_device_name(device)
    with working(f"loading {model}", quiet):
        synthesizer, sampling = _load(model, steps, sampler, schedule, guidance, seed, device, dtype, threads, vocoder)
    for note in synthesizer.voice.notes:
        _tell(options, note)
    if songs is not None:
        _render_one(jobs[0], songs[0], synthesizer, sampling, options)
    else:
        _render_all(jobs, synthesizer, sampling, options, debug)


def plan(inputs: Sequence[Path], output: str | None, file_format: str, save_mel: Path | None) -> list[Job]:
    """Pair every input with its output.

    Raises:
        MidiError: a folder holds no MIDI file.
        UsageError: two inputs would share an output, or several go to one file.
    """
    if output == "":
        raise UsageError("-o: the name is empty (an unset variable?)")
    sources = [file for item in inputs for file in expand(item)]
    is_single = len(sources) == 1 and not inputs[0].is_dir()
    if save_mel is not None and not is_single:
        raise UsageError("--save-mel takes a single input; render the files one by one")
    if output == STDOUT:
        if not is_single:
            raise UsageError("-o - takes a single input; give a folder for several")
        return [Job(sources[0], None, save_mel)]
    names = [f"{source.stem}.{file_format}" for source in sources]
    if is_single and output is not None and not Path(output).is_dir() and not output.endswith(("/", "\\")):
        return [Job(sources[0], Path(output), save_mel)]
    folder = Path(output) if output is not None else Path()
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"-o {folder}: is a file; several inputs need a folder")
    for name, count in Counter(name.casefold() for name in names).items():
        if count > 1:
            first, second = [s for s, n in zip(sources, names, strict=True) if n.casefold() == name][:2]
            raise UsageError(f"{first} and {second} would both be written to {folder / name}; rename one")
    return [
        Job(source, folder / name, save_mel, makes_folder=True) for source, name in zip(sources, names, strict=True)
    ]


def _format_of(output: str | None) -> str:
    return "flac" if output is not None and output.lower().endswith(".flac") else "wav"


def _check_numbers(
    steps: int | None, guidance: float | None, tail_s: float, max_duration_s: float, threads: int | None, seed: int
) -> None:
    if steps is not None and not 1 <= steps <= MAX_STEPS:
        raise UsageError(f"--steps {steps}: must be between 1 and {MAX_STEPS}")
    if guidance is not None and not 0 <= guidance <= 100:
        raise UsageError(f"--guidance {guidance:g}: must be between 0 and 100 (1 is off)")
    if not 0 <= tail_s <= 600:
        raise UsageError(f"--tail {tail_s:g}: must be between 0 and 600 seconds")
    if not max_duration_s > 0:
        raise UsageError(f"--max-duration {max_duration_s:g}: must be above 0 seconds")
    if threads is not None and not 1 <= threads <= 1024:
        raise UsageError(f"--threads {threads}: must be between 1 and 1024")
    if not 0 <= seed < 2**63:
        raise UsageError(f"--seed {seed}: must be between 0 and 2^63 - 1")


def _check_outputs(jobs: Sequence[Job], options: OutputOptions) -> None:
    """Refuse impossible outputs before any work; of a batch, one that exists fails alone, in its turn."""
    from specdiff_cli.audio.encoding import check_format
    from specdiff_cli.audio.wav import StreamWriter, check_target

    check_format(options.file_format, options.subtype)
    _check_distinct(jobs)
    for job in jobs:
        if job.target is None and sys.stdout is None:
            raise OutputError("-o -: standard output is closed; give a file name")
        if job.target is None:
            StreamWriter(sys.stdout.buffer, file_format=options.file_format, subtype=options.subtype)
        elif len(jobs) == 1 and not (job.makes_folder and not job.target.parent.exists()):
            check_target(job.target, options.overwrite)
        if job.mel_target is not None:
            check_target(job.mel_target, options.overwrite)


def _check_distinct(jobs: Sequence[Job]) -> None:
    """No output may be an input or another output, not even with --overwrite: one would destroy the other."""
    sources = {os.path.realpath(job.source): job.source for job in jobs}
    for job in jobs:
        for target in (job.target, job.mel_target):
            if target is not None and os.path.realpath(target) in sources:
                raise UsageError(f"{target}: is an input, too; choose another name for the output")
        if job.target and job.mel_target and os.path.realpath(job.target) == os.path.realpath(job.mel_target):
            raise UsageError(f"{job.target}: is asked for as audio and as --save-mel; choose two names")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be created ({error.strerror}); choose another folder") from None


def _read(source: Path, options: OutputOptions) -> "MidiSong":
    from specdiff_cli.midi.notes import read_midi

    return read_midi(source, max_duration_s=options.max_duration_s)


def _load(
    model: str,
    steps: int | None,
    sampler: str | None,
    schedule: str | None,
    guidance: float | None,
    seed: int,
    device_name: str,
    dtype_name: str,
    threads: int | None,
    vocoder_name: str | None,
) -> "tuple[Synthesizer, Sampling]":
    import torch

    from specdiff_cli.devices import resolve_device, resolve_dtype
    from specdiff_cli.diffusion.samplers import SAMPLERS
    from specdiff_cli.diffusion.schedules import N_TRAINING_STEPS, SCHEDULES
    from specdiff_cli.synthesizer import Sampling, Synthesizer
    from specdiff_cli.vocoders import load_vocoder
    from specdiff_cli.weights.load import load_voice

    for option, value, known in (("--sampler", sampler, SAMPLERS), ("--schedule", schedule, SCHEDULES)):
        if value is not None and value not in known:
            raise UsageError(f"{option} {value}: is not one of {', '.join(known)}")
    device = resolve_device(device_name)
    if threads is not None:
        torch.set_num_threads(threads)
    voice = load_voice(model)
    dtype = resolve_dtype(dtype_name, device, prefers_bfloat16=voice.prefers_bfloat16)
    defaults = voice.sampling
    sampling = Sampling(
        steps=steps or defaults.steps,
        sampler=sampler or defaults.sampler,
        schedule=schedule or defaults.schedule,
        guidance=defaults.guidance if guidance is None else guidance,
        seed=seed,
    )
    if sampling.schedule == "discrete" and sampling.steps > N_TRAINING_STEPS:
        raise UsageError(f"--steps {sampling.steps}: the discrete schedule has at most {N_TRAINING_STEPS}")
    vocoder = load_vocoder(voice, vocoder_name, n_threads=torch.get_num_threads())
    return Synthesizer(voice, vocoder, device, dtype), sampling


def _render_all(
    jobs: Sequence[Job], synthesizer: "Synthesizer", sampling: "Sampling", options: OutputOptions, debug: bool
) -> None:
    """Render every job; a failed one is reported and the rest go on."""
    failed: list[SpecdiffError] = []
    for job in jobs:
        try:
            _render_one(job, _read(job.source, options), synthesizer, sampling, options)
        except SpecdiffError as error:
            if debug:
                traceback.print_exc()
            fail(str(error))
            failed.append(error)
    if failed:
        say(f"{len(jobs) - len(failed)} of {len(jobs)} rendered, {len(failed)} failed")
        raise typer.Exit(failed[0].exit_code if len(jobs) == 1 else ExitCode.FAILURE)


def _render_one(
    job: Job, song: "MidiSong", synthesizer: "Synthesizer", sampling: "Sampling", options: OutputOptions
) -> None:
    from specdiff_cli.constants import WINDOW_S
    from specdiff_cli.midi.adapt import describe_oddities, fit_to_voice
    from specdiff_cli.synthesizer import Progress

    voice = synthesizer.voice
    notes, messages = fit_to_voice(song.notes, voice.programs, voice.plays_drums)
    if not notes:
        raise MidiError(f"{job.source}: holds only drums, which the voice {voice.name} does not play; use --model base")
    if job.target is not None and job.makes_folder:
        _make_folder(job.target.parent)
    duration_s = song.end_s + options.tail_s
    n_windows = synthesizer.count_windows(duration_s)
    start_s = time.perf_counter()
    with (
        _open_writer(job, options, synthesizer.count_samples(duration_s)) as writer,
        _open_mel(job, synthesizer.count_frames(duration_s)) as mel_writer,
        render_display(job.source.name, n_windows, sampling.steps, options.quiet) as display,
    ):

        def on_progress(at: Progress) -> None:
            done_s = (at.window + at.step / at.n_steps) * WINDOW_S
            display.step(at.window, at.n_windows, at.step, at.n_steps, min(done_s, duration_s))

        chunks = synthesizer.stream(
            notes, duration_s, sampling, on_progress=on_progress, on_mel=mel_writer.write if mel_writer else None
        )
        for chunk in chunks:
            writer.write(chunk)
    elapsed_s = time.perf_counter() - start_s
    if synthesizer.n_dropped_events:
        messages.append(f"{synthesizer.n_dropped_events} note events did not fit into their windows and were dropped")
    if writer.levels.n_clipped:
        messages.append(f"{writer.levels.n_clipped} samples were clipped; --subtype float keeps them")
    for message in [*describe_oddities(song), *messages]:
        _tell(options, f"{job.source.name}: {message}")
    _tell(options, _summary(job, duration_s, elapsed_s, synthesizer, sampling))


def _summary(job: Job, duration_s: float, elapsed_s: float, synthesizer: "Synthesizer", sampling: "Sampling") -> str:
    guidance = "" if sampling.guidance == 1 else f", guidance {sampling.guidance:g}"
    return (
        f"{job.target or 'stdout'}: {clock(duration_s)} of audio in {elapsed_s:.1f} s, "
        f"{duration_s / elapsed_s:.1f} × realtime · {synthesizer.describe()} · "
        f"{sampling.steps} {sampling.sampler} steps, {sampling.schedule}{guidance} · seed {sampling.seed}"
    )


def _open_writer(job: Job, options: OutputOptions, n_samples: int) -> "AtomicWriter | StreamWriter":
    from specdiff_cli.audio.wav import AtomicWriter, StreamWriter

    if job.target is None:
        return StreamWriter(sys.stdout.buffer, file_format=options.file_format, subtype=options.subtype)
    return AtomicWriter(
        job.target,
        file_format=options.file_format,
        subtype=options.subtype,
        overwrite=options.overwrite,
        expected_samples=n_samples,
    )


def _open_mel(job: Job, n_frames: int) -> "AbstractContextManager[MelWriter | None]":
    return nullcontext() if job.mel_target is None else MelWriter(job.mel_target, n_frames)


def _tell(options: OutputOptions, line: str) -> None:
    if not options.quiet:
        say(line)
