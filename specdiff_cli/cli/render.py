"""``specdiff render``: MIDI files to audio."""

import os

import typer

from specdiff_cli.cli import options as opt
from specdiff_cli.cli.console import count, say
from specdiff_cli.cli.guard import DEBUG_VARIABLE
from specdiff_cli.cli.inputs import gather
from specdiff_cli.cli.plan import STDOUT, Naming, check_template, format_of, plan
from specdiff_cli.errors import UsageError


def render(
    context: typer.Context,
    inputs: opt.Inputs = None,
    files_from: opt.FilesFrom = None,
    null: opt.Null = False,
    recursive: opt.Recursive = False,
    max_duration: opt.MaxDuration = 3 * 3600.0,
    output: opt.Output = None,
    output_template: opt.OutputTemplate = None,
    file_format: opt.FileFormat = None,
    subtype: opt.Subtype = "pcm16",
    save_mel: opt.SaveMel = None,
    overwrite: opt.Overwrite = False,
    model: opt.Model = "tiny",
    preset: opt.Preset = None,
    steps: opt.Steps = None,
    sampler: opt.Sampler = None,
    schedule: opt.Schedule = None,
    guidance: opt.Guidance = None,
    seed: opt.Seed = 0,
    vocoder: opt.Vocoder = None,
    tail: opt.Tail = 1.0,
    device: opt.Device = "auto",
    dtype: opt.Dtype = "auto",
    threads: opt.Threads = None,
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
        steps=steps, guidance=guidance, tail_s=tail, max_duration_s=max_duration, threads=threads, seed=seed
    )
    _check_combinations(output, output_template, as_json, resume, skip_existing, quiet, verbose)
    from specdiff_cli.audio.encoding import check_format
    from specdiff_cli.devices import check_device_name

    chosen_format = file_format or format_of(output, output_template)
    check_format(chosen_format, subtype)
    check_device_name(device)
    sources, n_repeated = gather(inputs or [], files_from, null=null, recursive=recursive)

    from specdiff_cli.cli.provenance import SoundOptions, identify_voice
    from specdiff_cli.cli.render_job import Engine, RenderOptions
    from specdiff_cli.diffusion.presets import find_preset

    voice = identify_voice(model)
    chosen = voice.sampling if preset is None else find_preset(preset)
    sound = SoundOptions(
        steps=steps or chosen.steps,
        sampler=sampler or chosen.sampler,
        schedule=schedule or chosen.schedule,
        guidance=chosen.guidance if guidance is None else guidance,
        seed=seed,
        vocoder=vocoder or voice.vocoder,
        tail_s=tail,
        subtype=subtype,
        device=device,
        dtype=dtype,
    )
    options = RenderOptions(
        sound=sound,
        file_format=chosen_format,
        overwrite=overwrite,
        skip_existing=skip_existing,
        resume=resume,
        max_duration_s=max_duration,
        threads=threads,
        quiet=quiet,
        verbose=verbose,
    )
    naming = Naming(output, output_template, chosen_format, voice.name, seed, sound.steps)
    jobs = plan(sources, naming, save_mel)
    if n_repeated:
        options.tell(f"{count(n_repeated, 'input')} named more than once: rendered once")
    if verbose:
        _tell_settings(context)
    from specdiff_cli.cli.batch import Reporting, run_batch

    reporting = Reporting(as_json, fail_fast, debug or bool(os.environ.get(DEBUG_VARIABLE)))
    if dry_run:
        from specdiff_cli.cli.dry_run import dry_run as look

        look(jobs, voice, options, reporting)
    else:
        run_batch(jobs, Engine(model, voice, options), options, reporting)


def _check_combinations(
    output: str | None,
    template: str | None,
    as_json: bool,
    resume: bool,
    skip_existing: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    for option, is_set in (("--json", as_json), ("--resume", resume), ("--skip-existing", skip_existing)):
        if is_set and output == STDOUT:
            raise UsageError(f"{option}: does not go with -o -, which sends the audio to standard output")
    if quiet and verbose:
        raise UsageError("--quiet and --verbose contradict each other; leave one out")
    if template is not None:
        check_template(template)


def _tell_settings(context: typer.Context) -> None:
    """Say which settings come from somewhere else than the command line."""
    from specdiff_cli.cli.user_defaults import config_path

    origins = {"ENVIRONMENT": "from the environment", "DEFAULT_MAP": f"from {config_path()}"}
    for parameter in context.command.params:
        source = context.get_parameter_source(str(parameter.name))
        if source is not None and source.name in origins:
            value = context.params[str(parameter.name)]
            say(f"{parameter.opts[0]} {value}: {origins[source.name]}")
