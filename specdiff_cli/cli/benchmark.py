"""``specdiff benchmark``: how fast a voice renders on this machine, and where the time goes."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from specdiff_cli.choices import (
    MAX_BATCH,
    SAMPLERS,
    check_choice,
    check_guidance,
    check_range,
    check_reuse,
    check_steps,
    check_threads,
)
from specdiff_cli.cli import completion as complete
from specdiff_cli.cli import shared_options as shared
from specdiff_cli.cli.progress import say, working
from specdiff_cli.errors import UsageError

if TYPE_CHECKING:
    from specdiff_cli.audio.vocoder import Vocoder
    from specdiff_cli.diffusion.sampling import Sampling
    from specdiff_cli.engine.synthesizer import Synthesizer
    from specdiff_cli.evaluation.speed import Report
    from specdiff_cli.midi.notes import Note

MAX_SECONDS = 3600.0


def benchmark(
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            help="A voice's name or folder; with --random-weights tiny, small or base.",
            autocompletion=complete.models,
        ),
    ] = "tiny",
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="Random weights of the true size: no download.")
    ] = False,
    song: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A MIDI file to render.", show_default="a dense made-up piece")
    ] = None,
    seconds: Annotated[float, typer.Option(metavar="SECONDS", help="Length of the piece.")] = 20.48,
    preset: Annotated[
        str | None, typer.Option(help="draft, balanced, best, paper or port.", autocompletion=complete.presets)
    ] = None,
    steps: Annotated[int | None, typer.Option(metavar="N", help="Denoising steps per window.")] = None,
    sampler: shared.Sampler = None,
    guidance: shared.Guidance = None,
    reuse_every: shared.ReuseEvery = None,
    batch: Annotated[int, typer.Option(metavar="N", help="Songs rendered side by side.")] = 1,
    device: shared.Device = "auto",
    dtype: shared.Dtype = "auto",
    threads: shared.Threads = None,
    vocoder: shared.Vocoder = None,
    cold: Annotated[
        bool, typer.Option("--cold", help="Instead: where a start from nothing goes; needs --song.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on one line.")] = False,
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
      specdiff benchmark --model base --random-weights --dtype bfloat16
      specdiff benchmark --batch 8 --json | jq .times_realtime
      specdiff benchmark --cold --song demo.mid

    \b
    Exit codes: 0 done, 2 usage, 3 bad MIDI, 4 weights, 6 device or memory.
    """
    _check_numbers(seconds, steps, guidance, batch, threads)
    check_reuse(reuse_every)
    if sampler is not None:
        check_choice("sampler", sampler, SAMPLERS)
    from specdiff_cli.engine.devices import check_device_name

    check_device_name(device)
    if cold:
        _measure_cold(model, song, as_json)
        return
    read, duration_s = _piece(song, seconds)
    given = {"steps": steps, "sampler": sampler, "guidance": guidance, "reuse_every": reuse_every}

    def load() -> "tuple[Synthesizer, Sampling]":
        return _load(model, random_weights, preset, given, device, dtype, threads, vocoder)

    from specdiff_cli.evaluation.speed import measure

    with working(f"measuring {model}", quiet=as_json):
        report = measure(load, read, duration_s, batch, on_message=say)
    if as_json:
        import json

        typer.echo(json.dumps(report.as_json()))
    else:
        _print(report)


def _measure_cold(model: str, song: Path | None, as_json: bool) -> None:
    from specdiff_cli.evaluation.cold import measure_cold_start
    from specdiff_cli.evaluation.processor import describe_processor
    from specdiff_cli.midi.notes import read_midi

    if song is None:
        raise UsageError("--cold renders a whole file: give one with --song")
    read_midi(song)  # a wrong name is told at once
    with working(f"starting {model} anew", quiet=as_json):
        parts = measure_cold_start(model, song)
    if as_json:
        import json

        typer.echo(json.dumps({"processor": describe_processor(), "seconds": parts}))
        return
    typer.echo(describe_processor())
    for name, seconds in [*parts.items(), ("all", sum(parts.values()))]:
        typer.echo(f"{name:20s} {seconds:6.2f} s")


def _check_numbers(seconds: float, steps: int | None, guidance: float | None, batch: int, threads: int | None) -> None:
    if not 0 < seconds <= MAX_SECONDS:
        raise UsageError.of("seconds", seconds, f"must be above 0 and at most {MAX_SECONDS:g}")
    check_steps(steps)
    check_guidance(guidance)
    check_range("batch", batch, 1, MAX_BATCH)
    check_threads(threads)


def _piece(song: Path | None, seconds: float) -> "tuple[Callable[[], list[Note]], float]":
    """What to render, and for how long: a file's first ``seconds``, or a piece of that length."""
    from specdiff_cli.midi.notes import read_midi

    if song is None:
        from specdiff_cli.evaluation.speed import dense_notes

        return (lambda: dense_notes(seconds)), seconds
    return (lambda: list(read_midi(song).notes)), min(seconds, read_midi(song).end_s)


def _load(
    model: str,
    random_weights: bool,
    preset: str | None,
    given: Mapping[str, object],
    device_name: str,
    dtype_name: str,
    threads: int | None,
    vocoder_name: str | None,
) -> "tuple[Synthesizer, Sampling]":
    from specdiff_cli.diffusion.presets import find_preset
    from specdiff_cli.engine.loading import load_synthesizer
    from specdiff_cli.engine.vocoders import load_vocoder
    from specdiff_cli.evaluation.speed import random_voice
    from specdiff_cli.weights.load import Voice, load_voice

    def heard(voice: Voice) -> "Vocoder | str | None":
        # Random weights come without a vocoder: the bundled voice's stands in.
        is_lent = random_weights and vocoder_name != "partials"
        return load_vocoder(load_voice("tiny"), vocoder_name) if is_lent else vocoder_name

    synthesizer = load_synthesizer(
        model,
        vocoder=heard,
        device=device_name,
        dtype=dtype_name,
        threads=threads,
        load=random_voice if random_weights else load_voice,
    )
    voice = synthesizer.voice
    chosen = voice.sampling if preset is None else find_preset(preset, voice.presets).sampling
    return synthesizer, chosen.with_given(**given)


def _print(report: "Report") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column()
    for name, value in rows(report):
        table.add_row(name, value)
    Console(highlight=False, markup=False).print(table)


def rows(report: "Report") -> list[tuple[str, str]]:
    """What the table shows, line by line."""
    threads = f", {report.n_threads} thread{'s' if report.n_threads > 1 else ''}"
    guidance = "" if report.guidance == 1 else f", guidance {report.guidance:g}"
    reuse = "" if report.reuse_every == 1 else f", one whole in {report.reuse_every}"
    songs = "1 song" if report.batch == 1 else f"{report.batch} songs side by side"
    if report.schedule == "none":  # an autoregressive voice's
        sampling, step = "frame by frame", "a frame"
    else:
        sampling, step = f"{report.steps} {report.sampler} steps{reuse}, {report.schedule}{guidance}", "a step"
    lines = [
        ("voice", f"{report.voice} + {report.vocoder}"),
        ("processor", report.processor),
        ("machine", f"{report.device} {report.dtype}{threads}"),
        ("sampling", f"{sampling} · {songs}"),
        ("audio", f"{report.audio_s:.1f} s in {report.render_s:.2f} s, {report.times_realtime:.2f} × realtime"),
        (step, f"{1000 * report.step_s:.1f} ms"),
        ("a window of 5.12 s", f"{report.window_s:.2f} s"),
        ("first sound", f"{report.first_sound_s:.2f} s, of which {report.load_s:.2f} s loading"),
        *((f"  {name}", f"{100 * share:.1f} %") for name, share in report.share.items()),
        (
            "decoder speed",
            f"{report.step_flops / 1e9:.1f} GFLOP {step} at {report.flops_per_s / 1e9:.0f} GFLOP/s, "
            f"{100 * report.flops_per_s / report.matmul_flops_per_s:.0f} % of a matrix product's "
            f"{report.matmul_flops_per_s / 1e9:.0f}",
        ),
    ]
    for name, size in (("peak memory", report.peak_memory_bytes), ("of the device", report.peak_device_bytes)):
        if size is not None:
            lines.append((name, f"{size / 1e6:.0f} MB"))
    return lines
