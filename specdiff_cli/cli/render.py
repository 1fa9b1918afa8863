"""``specdiff render``: MIDI files to audio."""

import os
from collections.abc import Mapping
from typing import Any

import typer

from specdiff_cli.cli import options as opt
from specdiff_cli.cli.console import say
from specdiff_cli.cli.guard import DEBUG_VARIABLE, settings_from_elsewhere
from specdiff_cli.cli.inputs import gather
from specdiff_cli.cli.plan import STDOUT, Naming, check_template, format_of, plan
from specdiff_cli.constants import SAMPLE_RATE_HZ
from specdiff_cli.errors import UsageError
from specdiff_cli.wording import count


def render(
    context: typer.Context,
    inputs: opt.Inputs = None,
    files_from: opt.FilesFrom = None,
    null: opt.Null = False,
    recursive: opt.Recursive = False,
    max_duration: opt.MaxDuration = 3 * 3600.0,
    track: opt.Track = None,
    swap: opt.Swap = None,
    program: opt.Program = None,
    only: opt.Only = None,
    mute: opt.Mute = None,
    transpose: opt.Transpose = 0,
    tempo_scale: opt.TempoScale = 1.0,
    start: opt.Start = None,
    end: opt.End = None,
    output: opt.Output = None,
    output_template: opt.OutputTemplate = None,
    file_format: opt.FileFormat = None,
    subtype: opt.Subtype = "pcm16",
    sample_rate: opt.SampleRate = SAMPLE_RATE_HZ,
    normalize: opt.Normalize = None,
    stereo: opt.Stereo = False,
    stems: opt.Stems = False,
    plot: opt.Plot = None,
    save_mel: opt.SaveMel = None,
    snapshots: opt.Snapshots = None,
    snapshot_window: opt.SnapshotWindow = 1,
    overwrite: opt.Overwrite = False,
    model: opt.Model = "tiny",
    preset: opt.Preset = None,
    steps: opt.Steps = None,
    sampler: opt.Sampler = None,
    schedule: opt.Schedule = None,
    guidance: opt.Guidance = None,
    guidance_interval: opt.GuidanceInterval = None,
    overlap_frames: opt.OverlapFrames = 0,
    seed: opt.Seed = 0,
    vocoder: opt.Vocoder = None,
    tail: opt.Tail = 1.0,
    device: opt.Device = "auto",
    dtype: opt.Dtype = "auto",
    threads: opt.Threads = None,
    batch: opt.Batch = None,
    skip_existing: opt.SkipExisting = False,
    resume: opt.Resume = False,
    dry_run: opt.DryRun = False,
    fail_fast: opt.FailFast = False,
    as_json: opt.AsJson = False,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
    debug: opt.Debug = False,
) -> None:
    """Render MIDI files to audio.

    The bundled voice is used unless --model says otherwise; it needs no
    network and no GPU. A file appears under its name only when complete.

    \b
    Examples:
      specdiff render song.mid
      specdiff render song.mid -o song.flac --steps 50
      specdiff render song.mid -o - | aplay
      specdiff render album/ -r -o rendered/ --skip-existing
      specdiff render '*.mid' --output-template '{stem}.{model}.flac'
      find . -name '*.mid' -print0 | specdiff render --files-from - -0 -o out/
      specdiff render concert.mid --resume
      specdiff render duo.mid --swap piano=cello --start bar:9
      specdiff render band.mid --stems --stereo --sample-rate 44100
      specdiff render song.mid --model base --preset paper --dry-run

    Defaults of your own: SPECDIFF_MODEL, SPECDIFF_DEVICE and so on, or the
    file config.toml; the command line comes first (docs/cli.md).

    \b
    Exit codes: 0 done, 1 some of several inputs failed, 2 usage, 3 bad MIDI,
    4 weights, 5 output, 6 device or memory, 130 interrupted, 143 terminated.
    """
    if isinstance(context.obj, UsageError):  # of the user file: kept until here, so that --help works all the same
        raise context.obj
    opt.check_numbers(
        steps=steps,
        guidance=guidance,
        tail_s=tail,
        max_duration_s=max_duration,
        threads=threads,
        batch=batch,
        seed=seed,
        snapshot_window=snapshot_window,
    )
    _check_combinations(context.params)
    from specdiff_cli.audio.encoding import check_format
    from specdiff_cli.audio.normalise import parse_normalise
    from specdiff_cli.audio.resample import check_rate
    from specdiff_cli.diffusion.sampling import check_overlap_frames, parse_guidance_interval
    from specdiff_cli.engine.devices import check_device_name
    from specdiff_cli.midi.edits import Edits, check_edits

    chosen_format = file_format or format_of(output, output_template)
    check_format(chosen_format, subtype)
    check_device_name(device)
    check_rate(sample_rate)
    check_overlap_frames(overlap_frames)
    edits = Edits(
        swaps=tuple(swap or ()),
        programs=tuple(program or ()),
        only=tuple(only or ()),
        mute=tuple(mute or ()),
        transpose=transpose,
        tempo_scale=tempo_scale,
        start=start,
        end=end,
    )
    check_edits(edits)
    sources, n_repeated = gather(inputs or [], files_from, null=null, recursive=recursive)

    from specdiff_cli.cli.engine import Engine
    from specdiff_cli.cli.prepare import RenderOptions
    from specdiff_cli.cli.provenance import SoundOptions
    from specdiff_cli.diffusion.presets import find_preset
    from specdiff_cli.diffusion.sampling import FIXED_SAMPLING
    from specdiff_cli.weights.voice_file import current_vocoder_name
    from specdiff_cli.weights.voices import find_voice

    voice = find_voice(model)
    if voice.kind in FIXED_SAMPLING:
        _check_no_denoising(voice.name, FIXED_SAMPLING[voice.kind][1], context.params)
    chosen = voice.sampling if preset is None else find_preset(preset, voice.presets).sampling
    interval = chosen.guidance_interval if guidance_interval is None else parse_guidance_interval(guidance_interval)
    sound = SoundOptions(
        steps=steps or chosen.steps,
        sampler=sampler or str(chosen.sampler),
        schedule=schedule or str(chosen.schedule),
        guidance=chosen.guidance if guidance is None else guidance,
        seed=seed,
        vocoder=voice.vocoder if vocoder is None else current_vocoder_name(vocoder),
        tail_s=tail,
        subtype=subtype,
        device=device,
        dtype=dtype,
        guidance_interval=interval,
        overlap_frames=overlap_frames,
        sample_rate_hz=sample_rate,
        normalize=None if normalize is None else str(parse_normalise(normalize)),
        stems=stems,
        stereo=stereo,
        track=track,
        edits=edits,
    )
    options = RenderOptions(
        sound=sound,
        file_format=chosen_format,
        overwrite=overwrite,
        skip_existing=skip_existing,
        resume=resume,
        max_duration_s=max_duration,
        threads=threads,
        batch=batch,
        snapshots=_parse_snapshots(snapshots, sound.steps),
        snapshot_window=snapshot_window,
        quiet=quiet,
        verbose=verbose,
    )
    naming = Naming(output, output_template, chosen_format, voice.name, seed, sound.steps)
    jobs = plan(sources, naming, save_mel, plot)
    if snapshots is not None and len(jobs) > 1:
        raise UsageError("--snapshots takes a single input; render the files one by one")
    if plot is not None:
        from specdiff_cli.rendering.plots import check_plot

        check_plot(plot, overwrite or skip_existing)
    if n_repeated:
        options.tell(f"{count(n_repeated, 'input')} named more than once: rendered once")
    if verbose:
        for setting, origin in settings_from_elsewhere(context).items():
            say(f"{setting}: from {origin}")
    from specdiff_cli.cli.batch import run_batch
    from specdiff_cli.cli.outcomes import Reporting

    reporting = Reporting(as_json, fail_fast, debug or bool(os.environ.get(DEBUG_VARIABLE)))
    if dry_run:
        from specdiff_cli.cli.dry_run import dry_run as look

        look(jobs, voice, options, reporting)
    else:
        run_batch(jobs, Engine(model, voice, options), options, reporting)


def _check_combinations(given: Mapping[str, Any]) -> None:
    """Raises UsageError for options that contradict each other; ``given``: parameter of ``render`` -> value."""
    if given["output"] == STDOUT:
        for name in ("as_json", "resume", "skip_existing", "stems", "snapshots"):
            if given[name]:
                raise UsageError(f"{_option(name)}: does not go with -o -, which sends the audio to standard output")
    if given["stems"] or given["stereo"]:
        by_stems = "--stems" if given["stems"] else "--stereo"
        for name in ("resume", "snapshots"):
            if given[name]:
                raise UsageError(
                    f"{_option(name)}: does not go with {by_stems}, which renders instrument by instrument"
                )
        if given["batch"]:
            raise UsageError(f"--batch: does not go with {by_stems}: the instruments of a song are its batch")
    if given["resume"] and given["snapshots"]:
        raise UsageError("--snapshots: does not go with --resume, which does not sample finished windows again")
    if given["snapshot_window"] != 1 and given["snapshots"] is None:
        raise UsageError("--snapshot-window: says which window --snapshots are of; give them, too")
    if given["quiet"] and given["verbose"]:
        raise UsageError("--quiet and --verbose contradict each other; leave one out")
    if given["output_template"] is not None:
        check_template(given["output_template"])


def _check_no_denoising(voice: str, what: str, given: Mapping[str, Any]) -> None:
    """Raises UsageError for options of diffusion; ``what`` the voice does instead."""
    for name in ("preset", "steps", "sampler", "schedule", "guidance", "guidance_interval", "snapshots"):
        if given[name] is not None:
            raise UsageError(f"{_option(name)}: the voice {voice} {what}, without denoising; leave it out")
    if given["overlap_frames"]:
        raise UsageError(f"--overlap-frames: the voice {voice} {what}; its windows cannot overlap")


def _option(parameter: str) -> str:
    return "--json" if parameter == "as_json" else f"--{parameter.replace('_', '-')}"


def _parse_snapshots(text: str | None, n_steps: int) -> tuple[int, ...]:
    if text is None:
        return ()
    from specdiff_cli.cli.snapshots import check_snapshots, parse_snapshots

    steps_left = parse_snapshots(text)
    check_snapshots(steps_left, n_steps)
    return steps_left
