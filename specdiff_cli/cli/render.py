"""``specdiff render``: MIDI files to audio."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

import typer

from specdiff_cli.choices import DEFAULT_MAX_DURATION_S, DEFAULT_VOICE
from specdiff_cli.cli import options as opt
from specdiff_cli.cli.guard import settings_from_elsewhere, wants_tracebacks
from specdiff_cli.cli.progress import say, working
from specdiff_cli.cli.screen import RenderScreen, Showing
from specdiff_cli.cli.screen import dry_run as dry_run_jobs
from specdiff_cli.engine.starting import load_torch
from specdiff_cli.errors import Message, Option, UsageError
from specdiff_cli.signals import Terminated
from specdiff_cli.streams import closed, is_closed

if TYPE_CHECKING:
    from specdiff_cli.cluster.connect import ClusterOptions
    from specdiff_cli.rendering.jobs import Job
    from specdiff_cli.rendering.record import Settled


def render(
    context: typer.Context,
    inputs: opt.Inputs = None,
    files_from: opt.FilesFrom = None,
    null: opt.Null = False,
    recursive: opt.Recursive = False,
    max_duration: opt.MaxDuration = DEFAULT_MAX_DURATION_S,
    track: opt.Track = None,
    reader: opt.Reader = "music",
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
    quality: opt.Quality = None,
    bit_rate: opt.BitRate = None,
    loop: opt.Loop = False,
    sample_rate: opt.SampleRate = None,
    normalize: opt.Normalize = None,
    stereo: opt.Stereo = None,
    stems: opt.Stems = False,
    stems_by: opt.StemsBy = "instruments",
    plot: opt.Plot = None,
    save_mel: opt.SaveMel = None,
    snapshots: opt.Snapshots = None,
    snapshot_window: opt.SnapshotWindow = 1,
    overwrite: opt.Overwrite = False,
    model: opt.Model = DEFAULT_VOICE,
    preset: opt.Preset = None,
    steps: opt.Steps = None,
    sampler: opt.Sampler = None,
    schedule: opt.Schedule = None,
    guidance: opt.Guidance = None,
    guidance_interval: opt.GuidanceInterval = None,
    reuse_every: opt.ReuseEvery = None,
    overlap_frames: opt.OverlapFrames = 0,
    seed: opt.Seed = 0,
    vocoder: opt.Vocoder = None,
    tail: opt.Tail = 1.0,
    fade_out: opt.FadeOut = 0.0,
    length: opt.Length = "notes",
    device: opt.Device = "auto",
    dtype: opt.Dtype = "auto",
    threads: opt.Threads = None,
    batch: opt.Batch = None,
    skip_existing: opt.SkipExisting = False,
    resume: opt.Resume = False,
    dry_run: opt.DryRun = False,
    fail_fast: opt.FailFast = False,
    workers: opt.Workers = None,
    ray: opt.RayAddress = None,
    file_timeout: opt.FileTimeout = None,
    ship: opt.Ship = False,
    as_json: opt.AsJson = False,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
    debug: opt.Debug = False,
    help_all: opt.HelpAll = False,
) -> None:
    """Render MIDI files to audio.

    The bundled voice is used unless --model says otherwise; it needs no
    network and no GPU. A file appears under its name only when complete.

    \b
    Examples:
      specdiff render song.mid
      specdiff render song.mid -o song.ogg --quality 8
      specdiff render theme.mid -o theme.ogg --loop
      specdiff render song.mid -o - | aplay
      specdiff render album/ -r -o rendered/ --skip-existing
      specdiff render '*.mid' --output-template '{stem}.{model}.flac'
      find . -name '*.mid' -print0 | specdiff render --files-from - -0 -o out/
      specdiff render concert.mid --resume
      specdiff render duo.mid --swap piano=cello --start bar:9
      specdiff render band.mid --stems --stereo --sample-rate 44100
      specdiff render song.mid --model base --preset paper --dry-run
      specdiff render corpus/ -r -o out/ --workers 4 --skip-existing

    Defaults of your own: SPECDIFF_MODEL, SPECDIFF_DEVICE and so on, or the
    file config.toml; the command line comes first (docs/cli.md).

    \b
    Exit codes: 0 done, 1 some of several inputs failed, 2 usage, 3 bad MIDI,
    4 weights, 5 output, 6 device or memory, 130 interrupted, 143 terminated.
    """
    from specdiff_cli.rendering.inputs import gather
    from specdiff_cli.rendering.jobs import STDOUT, plan
    from specdiff_cli.rendering.record import settle
    from specdiff_cli.rendering.request import Request
    from specdiff_cli.weights.voices import find_voice

    if isinstance(context.obj, UsageError):  # of the user file: kept until here, so that --help works all the same
        raise context.obj
    if quiet and verbose:
        raise UsageError(Option("quiet"), " and ", Option("verbose"), " contradict each other; leave one out")
    if as_json and output == STDOUT:
        why = ", which sends the audio to standard output"
        raise UsageError.of("json", None, "does not go with ", Option("output", STDOUT), why)
    if as_json and is_closed():
        raise closed()
    request = Request.of(_options(context.params))
    showing = Showing(as_json, quiet, wants_tracebacks(debug))
    if workers is not None or ray is not None or file_timeout is not None or ship:
        from specdiff_cli.cluster.connect import ClusterOptions

        crew = ClusterOptions(workers, ray, file_timeout, ship)
        if not dry_run:
            if code := _render_by_workers(settle(request, find_voice(request.model)), crew, showing):
                raise typer.Exit(code)
            return
    sources, left_out = gather(request.inputs)
    settled = settle(request, find_voice(request.model))
    jobs = plan(sources, settled)
    with RenderScreen(jobs, settled, showing) as screen:
        for line in left_out.remarks():
            screen.tell(line)
        if verbose:
            for setting, origin in settings_from_elsewhere(context).items():
                say(f"{setting}: from {origin}")
        code = dry_run_jobs(jobs, settled, showing) if dry_run else _render(jobs, settled, screen)
    if code:
        raise typer.Exit(code)


def _render(jobs: "Sequence[Job]", settled: "Settled", screen: RenderScreen) -> int:
    """Render all, and show it; the exit code."""
    from specdiff_cli.rendering.batch import render_files
    from specdiff_cli.rendering.events import Loading

    with closing(render_files(jobs, settled.voice, settled.request)) as events:
        try:
            for event in events:
                screen.show(event)
                if isinstance(event, Loading):  # of the first song that is to be rendered: wrong ones are told sooner
                    load_torch()
        except (KeyboardInterrupt, Terminated):
            screen.sum_up()
            if settled.request.batching.resume:
                screen.tell("finished windows are kept; the same command goes on after them")
            raise
    return screen.sum_up()


def _render_by_workers(settled: "Settled", options: "ClusterOptions", showing: Showing) -> int:
    """The same by several processes, here or elsewhere."""
    from specdiff_cli.cluster.jobs import planned
    from specdiff_cli.cluster.rendering import Crew, check_request, render_on_cluster

    check_request(settled.request, options)
    with ExitStack() as stack:
        with working("looking at the inputs", showing.quiet):
            plan = stack.enter_context(planned(settled))
        jobs = plan.jobs if isinstance(plan.jobs, list) else ()
        with RenderScreen(jobs, settled, showing, plan.n_jobs) as screen:
            for line in plan.left_out.remarks():
                screen.tell(line)
            with closing(render_on_cluster(plan.jobs, settled, options)) as events:
                try:
                    for event in events:
                        screen.meet(event) if isinstance(event, Crew) else screen.show(event)
                except (KeyboardInterrupt, Terminated):
                    screen.sum_up()
                    screen.tell(Message("the same command with ", Option("skip_existing"), " goes on"))
                    raise
        return screen.sum_up()


def _options(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a request among the command's parameters; the others are about messages."""
    from specdiff_cli.rendering.request import OPTIONS

    names = {parameter: "format" if parameter == "file_format" else parameter for parameter in given}
    return {name: given[parameter] for parameter, name in names.items() if name in OPTIONS}
