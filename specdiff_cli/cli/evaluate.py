"""``specdiff evaluate``: how good a voice is, measured on held-out music."""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from specdiff_cli.choices import check_guidance, check_range, check_seed, check_steps, check_threads
from specdiff_cli.cli import completion as complete
from specdiff_cli.cli import shared_options as shared
from specdiff_cli.cli.evaluate_sounds import print_sounds, sound_table
from specdiff_cli.cli.progress import say, working
from specdiff_cli.errors import Option, UsageError
from specdiff_cli.rendering.inputs import expand
from specdiff_cli.wording import count

if TYPE_CHECKING:
    from specdiff_cli.audio.vocoder import Vocoder
    from specdiff_cli.corpus.soundfont import FluidSynth
    from specdiff_cli.diffusion.sampling import Sampling
    from specdiff_cli.evaluation.evaluate import Evaluation, Event, Judges, Subject
    from specdiff_cli.evaluation.transcriber import OnnxTranscriber
    from specdiff_cli.weights.load import Voice
    from specdiff_cli.weights.voices import VoiceCard

WEIGHT_SUFFIXES = (".toml", ".json", ".safetensors", ".bin", ".onnx")


@dataclass(frozen=True, slots=True)
class VoiceOptions:
    """How the voices are loaded and sampled; None leaves it to the voice."""

    steps: tuple[int, ...]
    sampler: str | None
    schedule: str | None
    guidance: float | None
    seed: int
    device: str
    dtype: str
    vocoder: str | None


def evaluate(
    voice: Annotated[
        str,
        typer.Argument(
            metavar="VOICE",
            help="A voice's name or a folder of weights.",
            show_default=False,
            autocompletion=complete.models,
        ),
    ],
    midi: Annotated[
        list[Path] | None,
        typer.Option(
            "--midi",
            metavar="FILE|DIR",
            help="Held-out MIDI files, or folders of them; may be repeated. NAME.wav beside NAME.mid is its reference.",
            show_default=False,
        ),
    ] = None,
    soundfont: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Renders the references that are not there.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="DIR", help="Write a report to look at and to listen to.", show_default=False
        ),
    ] = None,
    compare: Annotated[
        list[str] | None,
        typer.Option(
            "--compare",
            metavar="VOICE",
            help="Another voice, on the same pieces; may be repeated.",
            autocompletion=complete.models,
        ),
    ] = None,
    steps: Annotated[
        str | None,
        typer.Option(metavar="N[,N...]", help="Denoising steps, one render each.", show_default="the voice's"),
    ] = None,
    sampler: shared.Sampler = None,
    schedule: shared.Schedule = None,
    guidance: shared.Guidance = None,
    vocoder: shared.Vocoder = None,
    seed: Annotated[int, typer.Option(help="Of the noise.")] = 0,
    device: shared.Device = "auto",
    dtype: shared.Dtype = "auto",
    threads: shared.Threads = None,
    max_seconds: Annotated[float, typer.Option(metavar="SECONDS", help="Of each piece, from its beginning.")] = 50.0,
    gain: Annotated[
        float | None, typer.Option(metavar="GAIN", help="FluidSynth's, as the corpus was rendered.", show_default="0.8")
    ] = None,
    transcriber: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="basic-pitch's ONNX file.", show_default="the installed package's"),
    ] = None,
    opinion: Annotated[
        bool, typer.Option("--opinion", help="Opinion scores: Zimtohrli and ViSQOL, of the extra 'opinion'.")
    ] = False,
    frechet: Annotated[
        bool, typer.Option("--frechet", help="Fréchet distance of musicnn's features over all pieces.")
    ] = False,
    embedding: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Fréchet distance of the features of this ONNX file instead of musicnn's."),
    ] = None,
    reference_audio: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Recordings by the pieces' names, as references instead of the soundfont."),
    ] = None,
    sounds: Annotated[
        bool, typer.Option("--sounds", help="Instead: every program and drum key alone, beside the soundfont's.")
    ] = False,
    no_transcriber: Annotated[bool, typer.Option("--no-transcriber", help="Leave out the onset scores.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of the table.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", "-f", help="Replace an existing report.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the result and errors only.")] = False,
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
    _check_numbers(guidance, threads, seed, max_seconds, gain)
    options = VoiceOptions(_parse_steps(steps), sampler, schedule, guidance, seed, device, dtype, vocoder)
    _check_installed()
    if sounds:
        if midi or output is not None:
            raise UsageError("--sounds plays its own notes and prints a table: leave out --midi and --output")
        if soundfont is None:
            raise UsageError("--sounds needs the sounds to compare with: give a --soundfont")
        teacher = _open_soundfont(soundfont, gain)
        with working("loading voices", quiet):
            subjects, _ = _load_subjects([voice, *(compare or [])], options, threads)
        with working("playing every sound", quiet):
            tables = {subject.label: sound_table(subject, teacher) for subject in subjects}
        print_sounds(tables, as_json)
        return
    if not midi:
        raise UsageError("--midi is missing: give held-out MIDI files, or --sounds for every sound alone")
    files = [source.path for item in midi for source in expand(item)]
    from specdiff_cli.engine.devices import check_device_name
    from specdiff_cli.evaluation.evaluate import Evaluation, read_pieces
    from specdiff_cli.evaluation.report import ReportFolder, describe
    from specdiff_cli.midi.notes import DEFAULT_MAX_DURATION_S

    check_device_name(device)
    folder = None if output is None else ReportFolder(output, overwrite)
    pieces = read_pieces(files, DEFAULT_MAX_DURATION_S, reference_audio)
    ear = None if no_transcriber else _load_transcriber(transcriber, threads, quiet)
    judges = _load_judges(ear, opinion, frechet, embedding)
    synth = None if soundfont is None else _open_soundfont(soundfont, gain)
    with working("loading voices", quiet):
        subjects, hashes = _load_subjects([voice, *(compare or [])], options, threads)
    evaluation = Evaluation(pieces, subjects, synth, judges, max_seconds)
    if not quiet:
        _say_first(evaluation, subjects)
    circumstances = _circumstances(soundfont, gain, ear, max_seconds, hashes) | _features_of(judges)
    with ExitStack() as stack:
        if folder is not None:
            stack.enter_context(folder)
        with working("evaluating", quiet):
            evaluation.run(None if quiet else _say_event, folder.keep if folder else None)
        report = describe(evaluation, circumstances)
        if folder is not None:
            folder.finish(report)
    if as_json:
        typer.echo(json.dumps(report, allow_nan=False))
    else:
        from specdiff_cli.cli.evaluate_table import print_report

        print_report(report)
    if output is not None and not quiet:
        say(f"report: {output / 'report.html'}")


def _check_numbers(
    guidance: float | None, threads: int | None, seed: int, max_seconds: float, gain: float | None
) -> None:
    check_guidance(guidance)
    check_threads(threads)
    check_seed(seed)
    check_range("max_seconds", max_seconds, 1, 3600)
    if gain is not None and not 0 < gain <= 10:
        raise UsageError.of("gain", gain, "must be above 0 and at most 10")


def _parse_steps(text: str | None) -> tuple[int, ...]:
    if text is None:
        return ()
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        raise UsageError.of("steps", text, "give whole numbers with commas between them, such as 1,2,4") from None
    for number in numbers:
        check_steps(number)
    return tuple(sorted(set(numbers)))


def _check_installed() -> None:
    import importlib.util

    if importlib.util.find_spec("scipy") is None:
        raise UsageError("evaluation needs scipy: run \"pip install '.[evaluate]'\" in a copy of specdiff")


def _load_transcriber(path: Path | None, threads: int | None, quiet: bool) -> "OnnxTranscriber":
    from specdiff_cli.evaluation.transcriber import OnnxTranscriber

    ear = OnnxTranscriber(path, threads or 0)
    if not ear.is_known and not quiet:
        say(f"transcriber {ear.sha256[:12]}… is not the file of basic-pitch 0.4.0: its scores compare with no others")
    return ear


def _load_judges(ear: "OnnxTranscriber | None", opinion: bool, frechet: bool, embedding: Path | None) -> "Judges":
    from specdiff_cli.evaluation.embedding import OnnxEmbedding
    from specdiff_cli.evaluation.evaluate import Judges
    from specdiff_cli.evaluation.musicnn import MusicNN
    from specdiff_cli.evaluation.opinion import Opinion

    if embedding is not None and frechet:
        raise UsageError("--frechet and --embedding compare different features: give one of them")
    features = OnnxEmbedding(embedding) if embedding is not None else MusicNN() if frechet else None
    return Judges(ear, Opinion() if opinion else None, features)


def _features_of(judges: "Judges") -> dict[str, Any]:
    """Which network's features the Fréchet distances are of."""
    from specdiff_cli.evaluation.embedding import OnnxEmbedding

    given = judges.features
    if isinstance(given, OnnxEmbedding):
        return {"features": given.path.name, "features_sha256": given.sha256}
    return {} if given is None else {"features": "musicnn 0.1.0"}


def _open_soundfont(path: Path, gain: float | None) -> "FluidSynth":
    from specdiff_cli.corpus.soundfont import GAIN, FluidSynth

    return FluidSynth(path, GAIN if gain is None else gain)


def _load_subjects(
    names: Sequence[str], options: VoiceOptions, threads: int | None
) -> "tuple[list[Subject], list[dict[str, Any]]]":
    """The voices ready to render, and what their files are."""
    from specdiff_cli.engine.loading import load_synthesizer
    from specdiff_cli.engine.vocoders import knows_notes, load_vocoder
    from specdiff_cli.evaluation.evaluate import Subject
    from specdiff_cli.weights.voices import find_voice

    cards = [find_voice(name) for name in dict.fromkeys(names)]
    labels = _labels([card.name for card in cards], list(dict.fromkeys(names)))
    samplings = [tuple(_samplings(card, options)) for card in cards]  # before anything takes long
    vocoders: dict[tuple[str | None, ...], Vocoder] = {}
    subjects, hashes = [], []
    for card, label, chosen in zip(cards, labels, samplings, strict=True):
        sha256 = _hashes(card.folder)

        def shared(voice: "Voice", sha256: dict[str, str] = sha256) -> "Vocoder | str | None":
            if knows_notes(voice, options.vocoder):  # it is the voice's own
                return options.vocoder
            # One object for equal vocoders: what it makes of a reference is then made once.
            key = (options.vocoder or voice.vocoder.name, sha256.get("vocoder.safetensors"), str(voice.vocoder.sizes))
            if key not in vocoders:
                vocoders[key] = load_vocoder(voice, options.vocoder)
            return vocoders[key]

        synthesizer = load_synthesizer(
            card.model, vocoder=shared, device=options.device, dtype=options.dtype, threads=threads
        )
        subjects.append(Subject(label, synthesizer, chosen))
        hashes.append({"voice": label, "sha256": sha256})
    return subjects, hashes


def _samplings(voice: "VoiceCard", options: VoiceOptions) -> "list[Sampling]":
    from specdiff_cli.diffusion.sampling import FIXED_SAMPLING

    if voice.kind in FIXED_SAMPLING:
        for option in ("steps", "sampler", "schedule", "guidance"):
            if getattr(options, option) not in (None, ()):
                why = f": the voice {voice.name} {FIXED_SAMPLING[voice.kind][1]}, without denoising; leave it out"
                raise UsageError(Option(option), why, option=option)
    first = voice.sampling.with_given(
        sampler=options.sampler, schedule=options.schedule, guidance=options.guidance, seed=options.seed
    )
    return [replace(first, steps=steps) for steps in options.steps or (first.steps,)]


def _labels(names: Sequence[str], arguments: Sequence[str]) -> list[str]:
    """The voices' names, or where two are alike the folders they came from."""
    for labels in (names, [Path(argument).name for argument in arguments]):
        if len(set(labels)) == len(labels):
            return list(labels)
    return list(arguments)


def _hashes(folder: Path) -> dict[str, str]:
    """Of the files that make the voice; a folder may hold others beside them."""
    from specdiff_cli.weights.lock import file_sha256

    files = sorted(path for path in folder.rglob("*") if path.suffix in WEIGHT_SUFFIXES and path.is_file())
    return {path.relative_to(folder).as_posix(): file_sha256(path) for path in files}


def _circumstances(
    soundfont: Path | None,
    gain: float | None,
    ear: "OnnxTranscriber | None",
    max_seconds: float,
    hashes: list[dict[str, Any]],
) -> dict[str, Any]:
    import platform

    import torch

    from specdiff_cli.corpus.soundfont import GAIN
    from specdiff_cli.weights.lock import file_sha256

    return {
        "max_seconds": max_seconds,
        "soundfont": None if soundfont is None else soundfont.name,
        "soundfont_sha256": None if soundfont is None else file_sha256(soundfont),
        "gain": GAIN if gain is None else gain,
        "transcriber": None if ear is None else ear.name,
        "transcriber_sha256": None if ear is None else ear.sha256,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "machine": platform.machine(),
        "voices": hashes,
    }


def _say_first(evaluation: "Evaluation", subjects: "Sequence[Subject]") -> None:
    n_renders = sum(len(subject.samplings) for subject in subjects)
    total_s = sum(piece.duration_s(evaluation.max_seconds) for piece in evaluation.pieces)
    say(f"{count(len(evaluation.pieces), 'piece')}, {total_s:.0f} s; {count(n_renders, 'render')} of each")


def _say_event(event: "Event") -> None:
    measured = event.measured
    parts = [f"log-mel L1 {measured.likeness.log_mel_l1:.3f}"]
    if measured.onsets is not None:
        parts.append(f"onset F1 {measured.onsets.f1:.3f}")
    if measured.elapsed_s:
        parts.append(f"{measured.duration_s / measured.elapsed_s:.1f} × realtime")
    say(f"[{event.index + 1}/{event.n_pieces}] {event.piece} · {event.label}: {', '.join(parts)}")
    for change in measured.changes:
        say(f"    {change}")
