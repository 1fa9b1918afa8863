"""``specdiff evaluate``, ``evaluate-music`` and ``benchmark``: how good a voice is, how good music, and how fast."""

import json
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from specdiff_cli.choices import DEFAULT_VOICE, check_range
from specdiff_cli.cli import completion as complete
from specdiff_cli.cli import shared_options as shared
from specdiff_cli.cli.progress import say, teller, working
from specdiff_cli.cli.shared_options import argument, option, record_of
from specdiff_cli.cli.tables import print_facts, print_report, print_sounds, print_tables, screen_width, table
from specdiff_cli.errors import Option, UsageError

if TYPE_CHECKING:
    from specdiff_cli.evaluation.request import EvaluationRequest

MAX_SECONDS = 3600.0


def evaluate(
    voice: Annotated[str, argument("A voice's name or a folder of weights.", metavar="VOICE", offer=complete.models)],
    midi: Annotated[
        list[Path] | None,
        option(
            "Held-out MIDI files, or folders of them; may be repeated. NAME.wav beside NAME.mid is its reference.",
            "--midi",
            metavar="FILE|DIR",
            default=False,
        ),
    ] = None,
    soundfont: Annotated[
        Path | None, option("Renders the references that are not there.", metavar="FILE", default=False)
    ] = None,
    output: Annotated[
        Path | None,
        option("Write a report to look at and to listen to.", "--output", "-o", metavar="DIR", default=False),
    ] = None,
    compare: Annotated[
        list[str] | None,
        option(
            "Another voice, on the same pieces; may be repeated.", "--compare", metavar="VOICE", offer=complete.models
        ),
    ] = None,
    steps: Annotated[
        str | None, option("Denoising steps, one render each.", metavar="N[,N...]", default="the voice's")
    ] = None,
    sampler: shared.Sampler = None,
    schedule: shared.Schedule = None,
    guidance: shared.Guidance = None,
    vocoder: shared.Vocoder = None,
    seed: Annotated[int, option("Of the noise.")] = 0,
    device: shared.Device = "auto",
    dtype: shared.Dtype = "auto",
    threads: shared.Threads = None,
    workers: Annotated[int | None, option("Pieces at once, by so many processes.", metavar="N")] = None,
    ray: shared.Ray = None,
    max_seconds: Annotated[float, option("Of each piece, from its beginning.", metavar="SECONDS")] = 50.0,
    gain: Annotated[
        float | None, option("FluidSynth's, as the corpus was rendered.", metavar="GAIN", default="0.8")
    ] = None,
    transcriber: Annotated[
        Path | None, option("basic-pitch's ONNX file.", metavar="FILE", default="the installed package's")
    ] = None,
    opinion: Annotated[
        bool, option("Opinion scores: Zimtohrli and ViSQOL, of the extra 'opinion'.", "--opinion")
    ] = False,
    frechet: Annotated[bool, option("Fréchet distance of musicnn's features over all pieces.", "--frechet")] = False,
    embedding: Annotated[
        Path | None, option("Fréchet distance of the features of this ONNX file instead of musicnn's.", metavar="FILE")
    ] = None,
    reference_audio: Annotated[
        Path | None, option("Recordings by the pieces' names, as references instead of the soundfont.", metavar="DIR")
    ] = None,
    sounds: Annotated[
        bool, option("Instead: every program and drum key alone, beside the soundfont's.", "--sounds")
    ] = False,
    no_transcriber: Annotated[bool, option("Leave out the onset scores.", "--no-transcriber")] = False,
    as_json: Annotated[bool, option("Print JSON instead of the table.", "--json")] = False,
    overwrite: Annotated[bool, option("Replace an existing report.", "--overwrite", "-f")] = False,
    quiet: Annotated[bool, option("Print the result and errors only.", "--quiet", "-q")] = False,
    debug: shared.Debug = False,
) -> None:
    """Measure a voice on held-out music.

    Each piece is rendered as `specdiff render` does and compared with
    FluidSynth's rendering, and with that passed through the voice's vocoder
    alone. Onsets are judged by an independent transcriber: get its file with
    `pip install --no-deps basic-pitch`. docs/evaluation.md explains it all.

    \b
    Examples:
      specdiff evaluate tiny --midi held-out/ --soundfont font.sf3
      specdiff evaluate tiny --midi held-out/ -o report --steps 1,2,3,4,8
      specdiff evaluate runs/new --compare tiny --midi held-out/ -o report
      specdiff evaluate tiny --midi held-out/ -o report --opinion --frechet
      specdiff evaluate tiny --sounds --soundfont font.sf3

    \b
    Exit codes: 0 done, 2 usage, 3 bad MIDI, 4 weights, 5 output,
    6 device or memory, 130 interrupted, 143 terminated.
    """
    given = locals()
    import importlib.util

    if importlib.util.find_spec("scipy") is None:
        raise UsageError("evaluation needs scipy: run \"pip install '.[evaluate]'\" in a copy of specdiff")
    from specdiff_cli.evaluation.request import EvaluationRequest, parse_steps

    request = record_of(EvaluationRequest, given, voices=(voice, *(compare or ())), steps=parse_steps(steps))
    if sounds:
        if midi or output is not None or workers is not None or ray is not None:
            raise UsageError.of("sounds", None, "plays its own notes and prints a table: no songs, output or workers")
        if soundfont is None:
            raise UsageError.of("sounds", None, "needs the sounds to compare with: give a ", Option("soundfont"))
        _evaluate_sounds(request, soundfont, as_json, quiet)
        return
    if not midi:
        what = "is missing: give held-out MIDI files, or "
        raise UsageError.of("midi", None, what, Option("sounds"), " for every sound alone")
    from specdiff_cli.cluster.spreading import evaluator
    from specdiff_cli.evaluation.report import ReportFolder, describe
    from specdiff_cli.evaluation.setup import make_ready

    folder = None if output is None else ReportFolder(output, overwrite)
    tell = teller(quiet)
    run, request = evaluator(request, workers, ray, tell)
    with working("loading voices", quiet):
        evaluation, circumstances = make_ready(request, tell)
    tell(evaluation.outlook)
    with ExitStack() as stack:
        if folder is not None:
            stack.enter_context(folder)
        with working("evaluating", quiet):
            run(evaluation, request, lambda event: [tell(line) for line in event.lines()], folder)
        report = describe(evaluation, circumstances)
        if folder is not None:
            folder.finish(report)
    if as_json:
        typer.echo(json.dumps(report, allow_nan=False))
    else:
        print_report(report)
    if output is not None:
        tell(f"report: {output / 'report.html'}")


def _evaluate_sounds(request: "EvaluationRequest", soundfont: Path, as_json: bool, quiet: bool) -> None:
    from specdiff_cli.evaluation.setup import compare_with_soundfont
    from specdiff_cli.evaluation.sounds import described

    with working("playing every sound", quiet):
        tables = compare_with_soundfont(request, soundfont)
    if as_json:
        typer.echo(json.dumps({label: described(rows) for label, rows in tables.items()}, allow_nan=False))
    else:
        print_sounds(tables)


def evaluate_music(
    generated: Annotated[Path, argument("Folder of composed pieces.", metavar="GENERATED")],
    against: Annotated[Path, option("Folder of real music.", "--against", metavar="REAL")],
    training: Annotated[
        Path | None,
        option("What the composer learnt from, to look for copies in.", metavar="DIR", default="not looked for"),
    ] = None,
    notes: Annotated[int, option("Compare excerpts of so many notes.", metavar="N")] = 128,
    as_json: Annotated[bool, option("Print JSON instead of the tables.", "--json")] = False,
    quiet: Annotated[bool, option("Print the result and errors only.", "--quiet", "-q")] = False,
    debug: shared.Debug = False,
) -> None:
    """Measure composed pieces against real music.

    All files are cut into excerpts of as many notes; drums are left out. Means
    per excerpt, how the nine features of MGEval overlap, a Fréchet distance of
    these features, and the longest passages that also stand in the training
    songs. docs/composing.md says what each number means.

    \b
    Examples:
      specdiff evaluate-music pieces --against songs
      specdiff evaluate-music pieces --against songs --training songs --json

    \b
    Exit codes: 0 done, 2 usage, 3 bad MIDI, 130 interrupted, 143 terminated.
    """
    check_range("notes", notes, 4, 100_000)
    from specdiff_cli.composing.judgement import judge
    from specdiff_cli.composing.pieces import read_collection, read_whole

    with working("reading music", quiet):
        ours, theirs = read_collection(generated, notes), read_collection(against, notes)
        learnt = None if training is None else read_whole(training)
    for folder, found in ((generated, ours), (against, theirs)):
        if found.left_out is not None:
            teller(quiet)(f"{folder}: {found.left_out}")
    if len(theirs.pieces) < 2:
        raise UsageError.of("against", against, f"has one excerpt of {notes} notes; at least 2 are needed")
    with working("comparing", quiet):
        found_out = judge(ours.pieces, theirs.pieces, learnt)
    if as_json:
        typer.echo(json.dumps({"notes_per_excerpt": notes, **found_out.to_json()}, allow_nan=False))
    else:
        width = screen_width()
        print_tables(*(table(width, (f"<{first}", *rest), rows) for (first, *rest), rows in found_out.tables()))


def benchmark(
    model: Annotated[
        str,
        option(
            "A voice's name or folder; with --random-weights tiny, small or base.",
            "--model",
            "-m",
            offer=complete.models,
        ),
    ] = DEFAULT_VOICE,
    random_weights: Annotated[
        bool, option("Random weights of the true size: no download.", "--random-weights")
    ] = False,
    song: Annotated[
        Path | None, option("A MIDI file to render.", metavar="FILE", default="a dense made-up piece")
    ] = None,
    seconds: Annotated[float, option("Length of the piece.", metavar="SECONDS")] = 20.48,
    preset: Annotated[str | None, option("draft, balanced, best, paper or port.", offer=complete.presets)] = None,
    steps: Annotated[int | None, option("Denoising steps per window.", metavar="N")] = None,
    sampler: shared.Sampler = None,
    guidance: shared.Guidance = None,
    reuse_every: shared.ReuseEvery = None,
    batch: Annotated[int, option("Songs rendered side by side.", metavar="N")] = 1,
    device: shared.Device = "auto",
    dtype: shared.Dtype = "auto",
    threads: shared.Threads = None,
    vocoder: shared.Vocoder = None,
    sample_rate: Annotated[
        int | None, option("16000, 44100 or 48000.", metavar="HZ", default="as render", offer=complete.sample_rates)
    ] = None,
    stereo: Annotated[bool | None, option("Two channels, or one.", "--stereo/--mono", default="as render")] = None,
    cold: Annotated[bool, option("Instead: where a start from nothing goes; needs --song.", "--cold")] = False,
    as_json: Annotated[bool, option("One JSON object on one line.", "--json")] = False,
    debug: shared.Debug = False,
) -> None:
    """Measure how fast a voice renders here, and where the time goes.

    Seconds per step and window, the share of each part, speed against real
    time, memory, the time to the first sound, and how the network's speed
    compares with plain matrix products. With --random-weights the sound of
    the bundled vocoder is used.

    \b
    Examples:
      specdiff benchmark
      specdiff benchmark --model base --random-weights --preset balanced
      specdiff benchmark --batch 8 --json | jq .times_realtime
      specdiff benchmark --cold --song demo.mid

    \b
    Exit codes: 0 done, 2 usage, 3 bad MIDI, 4 weights, 6 device or memory.
    """
    given = locals()
    if not 0 < seconds <= MAX_SECONDS:
        raise UsageError.of("seconds", seconds, f"must be above 0 and at most {MAX_SECONDS:g}")
    from specdiff_cli.evaluation.request import SpeedOptions

    options = record_of(SpeedOptions, given)
    if cold:
        _measure_cold(model, song, as_json)
        return
    from specdiff_cli.evaluation.speed import measure
    from specdiff_cli.evaluation.speed_work import load_for_speed, piece_of

    read, duration_s = piece_of(song, seconds)
    with working(f"measuring {model}", quiet=as_json):
        report = measure(partial(load_for_speed, options), read, duration_s, batch, on_message=say)
    if as_json:
        typer.echo(json.dumps(report.as_json()))
        return
    print_facts(report.rows())


def _measure_cold(model: str, song: Path | None, as_json: bool) -> None:
    from specdiff_cli.evaluation.cold import measure_cold_start
    from specdiff_cli.evaluation.processor import describe_processor
    from specdiff_cli.midi.notes import read_midi

    if song is None:
        raise UsageError.of("cold", None, "renders a whole file: give one with ", Option("song"))
    read_midi(song)  # a wrong name is told at once
    with working(f"starting {model} anew", quiet=as_json):
        parts = measure_cold_start(model, song)
    if as_json:
        typer.echo(json.dumps({"processor": describe_processor(), "seconds": parts}))
        return
    typer.echo(describe_processor())
    for name, seconds in [*parts.items(), ("all", sum(parts.values()))]:
        typer.echo(f"{name:20s} {seconds:6.2f} s")
