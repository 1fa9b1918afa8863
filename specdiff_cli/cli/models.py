"""``specdiff models``: what there is to render with, and everything about one of it. Never imports torch."""

import json
import shutil
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Annotated, Any

import typer

from specdiff_cli.cli import completion as complete
from specdiff_cli.cli import shared_options as shared
from specdiff_cli.cli.guard import guarded
from specdiff_cli.cli.progress import one_line
from specdiff_cli.diffusion.presets import PRESETS, Preset
from specdiff_cli.diffusion.sampling import EVERYWHERE, Sampling
from specdiff_cli.midi.programs import MODEL_CLASSES, N_PROGRAMS
from specdiff_cli.model.config import REFERENCE_CONFIGS, ModelConfig
from specdiff_cli.weights.inventory import Details, ModelEntry, find_details, list_entries
from specdiff_cli.weights.lock import load_lock
from specdiff_cli.weights.progress import format_bytes
from specdiff_cli.weights.voice_file import FEATURES, VocoderSpec, vocabulary_table
from specdiff_cli.wording import count

HEADER = ("NAME", "STATE", "SOURCE", "SIZE", "HASHES", "LICENCE", "INSTRUMENTS")
LABEL_WIDTH = 17

AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable, on standard output.")]
Debug = shared.Debug

models_app = typer.Typer(name="models")


def list_models(context: typer.Context, as_json: AsJson = False, debug: Debug = False) -> None:
    """List models: bundled, downloaded, or available for download.

    NAME is what `render --model` takes. A model that is to be had at several
    places has a line for each.

    \b
    Examples:
      specdiff models
      specdiff models --json
      specdiff models show tiny
      specdiff models show voices/mine --json

    Exit codes: 0 done, 2 usage, 4 weights.lock cannot be read.
    """
    if context.invoked_subcommand is not None:
        return
    entries = list_entries(load_lock())
    if as_json:
        typer.echo(json.dumps([_summary(entry) for entry in entries], indent=2))
        return
    print_columns(HEADER, [_row(entry) for entry in entries])


def show_model(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME|DIR", help="A model's name, or a folder of weights.", autocompletion=complete.models
        ),
    ],
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show one model: architecture, sampling, presets, vocoder, instruments, files.

    The files of the package and of folders that you name are hashed now; of
    downloads, `download-weights NAME --verify` hashes every byte.

    \b
    Examples:
      specdiff models show base
      specdiff models show voices/mine --json

    Exit codes: 0 done, 2 usage, 4 neither a known model nor a folder of weights.
    """
    details = find_details(name, load_lock())
    if as_json:
        typer.echo(json.dumps(_full(details), indent=2))
        return
    width = shutil.get_terminal_size().columns
    for label, text in _facts(details):
        typer.echo(_folded(label, text, width))


def list_instruments(as_json: AsJson = False, debug: Debug = False) -> None:
    """List the instruments: what --only, --mute, --program and --swap call them.

    Numbers, as MIDI files have them, and beginnings of names do as well;
    `drums` are channel 10.

    \b
    Examples:
      specdiff models instruments | grep -i guitar
      specdiff render duo.mid --swap piano=cello

    Exit codes: 0 done, 2 usage.
    """
    from specdiff_cli.midi.instruments import FAMILIES
    from specdiff_cli.midi.programs import GM_NAMES, model_class

    if as_json:
        rows = [
            {"program": program, "name": name, "model_class": MODEL_CLASSES[model_class(program)]}
            for program, name in enumerate(GM_NAMES)
        ]
        typer.echo(json.dumps(rows, indent=2))
        return
    named = [(str(program), name, MODEL_CLASSES[model_class(program)]) for program, name in enumerate(GM_NAMES)]
    print_columns(("PROGRAM", "NAME", "PLAYED BY 34-CLASS VOICES AS"), named)
    typer.echo(f"\nfamilies: {', '.join(FAMILIES)}; drums")


models_app.callback(invoke_without_command=True)(guarded(list_models))
models_app.command("show")(guarded(show_model))
models_app.command("instruments")(guarded(list_instruments))


def print_columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on standard output, its columns as wide as what is in them; on a screen too narrow a list of facts."""
    table = [header, *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(header))]
    n_columns = shutil.get_terminal_size().columns
    if sys.stdout.isatty() and sum(widths) + 2 * (len(widths) - 1) > n_columns:
        for row in rows:
            for label, cell in zip(header, row, strict=True):
                typer.echo(_folded(label, cell, n_columns))
            typer.echo()
        return
    for row in table:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def shown_size(n_bytes: int | None, *, is_estimate: bool) -> str:
    """A size for tables: 60.5 MB, about 955 MB, or ? where nobody knows it."""
    if n_bytes is None:
        return "?"
    return f"about {format_bytes(n_bytes)}" if is_estimate else format_bytes(n_bytes)


def _row(entry: ModelEntry) -> tuple[str, ...]:
    # As short as may be: the table is to fit into 80 columns.
    size = shown_size(entry.size_bytes, is_estimate=entry.is_estimate).replace("about ", "~")
    plays = entry.instruments.replace(" instrument classes", "").replace(" programs", "")
    return (entry.model, entry.state, entry.source, size, entry.hashes, entry.license, plays)


# --- JSON ------------------------------------------------------------------------------------------------------------


def _summary(entry: ModelEntry) -> dict[str, Any]:
    values = asdict(entry)
    del values["files"]
    return {**values, "size_bytes": entry.size_bytes, "size_is_estimate": entry.is_estimate, "hashes": entry.hashes}


def _full(details: Details) -> dict[str, Any]:
    return {
        **_summary(details.entry),
        "origin": details.card.origin,
        "download_commands": list(details.commands),
        "architecture": None if details.card.config is None else _architecture(details.card.config),
        "model": None if details.card.config is None else asdict(details.card.config),
        "n_parameters": details.n_parameters,
        "features": dict(FEATURES),
        "vocabulary": dict(_vocabulary_of(details)),
        "sampling": details.card.sampling.as_table(),
        "presets": {name: preset.as_table() for name, preset in _presets(details).items()},
        "vocoder": _vocoder(details.card.vocoder),
        "plays": {"programs": list(_programs(details)), "drums": details.card.plays_drums},
        "prefers_bfloat16": details.card.prefers_bfloat16,
        "allows_int8": details.card.allows_int8,
        "files": [asdict(file) for file in details.entry.files],
    }


def _vocabulary_of(details: Details) -> Mapping[str, int | float]:
    return {} if details.card.config is None else vocabulary_table(details.card.config)


def _vocoder(vocoder: VocoderSpec) -> dict[str, Any]:
    """As JSON has it."""
    described = {"name": vocoder.name, **vocoder.sizes}
    return {**described, "melgan": dict(vocoder.melgan)} if vocoder.melgan else described


def _programs(details: Details) -> tuple[int, ...]:
    return tuple(MODEL_CLASSES) if details.card.programs is None else details.card.programs


def _presets(details: Details) -> Mapping[str, Preset]:
    """The presets that `--preset` takes for this model: the general ones, and its own before them."""
    if details.card.config is not None and not details.card.config.denoises:
        return details.card.presets
    return {**PRESETS, **details.card.presets}


# --- text ------------------------------------------------------------------------------------------------------------


def _facts(details: Details) -> Iterator[tuple[str, str]]:
    entry = details.entry
    yield "name", entry.model
    yield "", entry.description
    yield "state", entry.state if entry.source in ("package", "folder") else f"{entry.state}, {entry.source}"
    yield "folder", entry.folder
    for command in details.commands:
        yield "download", command
    yield "licence", entry.license
    if details.card.origin:
        yield "origin", details.card.origin
    yield "architecture", "unknown" if details.card.config is None else _architecture(details.card.config)
    yield "parameters", "unknown" if details.n_parameters is None else f"{details.n_parameters / 1e6:.1f} million"
    yield "features", _features(FEATURES)
    yield "vocabulary", _vocabulary(_vocabulary_of(details))
    yield "sampling", _sampling(details.card.sampling)
    for name, preset in _presets(details).items():
        own = " (its own)" if name in details.card.presets else ""
        yield f"preset {name}", f"{_sampling(preset.sampling)}: {preset.meaning}{own}"
    sizes = ", ".join(f"{key} {value}" for key, value in details.card.vocoder.sizes.items())
    yield "vocoder", f"{details.card.vocoder.name} ({sizes})" if sizes else details.card.vocoder.name
    if details.card.vocoder.melgan:
        sizes = ", ".join(f"{key} {value}" for key, value in details.card.vocoder.melgan.items())
        yield "last stage", f"melgan ({sizes})"
    half = "bfloat16 or 8 bits where they are" if details.card.allows_int8 else "bfloat16 where it is"
    yield "precision", f"{half} faster here" if details.card.prefers_bfloat16 else "float32"
    programs = _programs(details)
    names = ", ".join(MODEL_CLASSES.get(program, str(program)) for program in programs)
    yield "plays", "all programs of General MIDI" if len(programs) == N_PROGRAMS else names
    yield "", "drums" if details.card.plays_drums else "no drums"
    for file in entry.files:
        size = shown_size(file.size_bytes or file.about_bytes, is_estimate=file.size_bytes is None)
        sha256 = file.sha256 or file.recorded_sha256
        yield "file", f"{file.path}, {size}, {file.state}"
        yield "", f"sha256 {sha256}" if sha256 else "no sha256 is known yet (--allow-unpinned)"


def _folded(label: str, text: str, width: int) -> str:
    """One fact, folded behind its label."""
    lines = textwrap.wrap(
        one_line(text), max(20, width - LABEL_WIDTH - 1), break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(f"{label if i == 0 else '':{LABEL_WIDTH}}{line}" for i, line in enumerate(lines or [""]))


def _architecture(config: ModelConfig) -> str:
    name = next((name for name, known in REFERENCE_CONFIGS.items() if known == config), None)
    parts = [count(config.n_note_layers, "note layer")]
    if config.has_context:
        parts.append(count(config.n_context_layers, "context layer"))
    parts.append(count(config.n_decoder_layers, "decoder layer"))
    parts += [
        what
        for what, is_there in (("note layout", config.note_layout), ("note templates", config.note_templates))
        if is_there
    ]
    if config.is_templates:
        return f"note templates as a function of time; {count(len(config.kits), 'drum kit')}"
    kind = "autoregressive" if config.is_autoregressive else f"diffusion, predicts {config.objective}"
    sizes = f"d_model {config.d_model}, {config.n_heads} heads of {config.d_kv}, d_ff {config.d_ff}"
    return f"{f'{name}: ' if name else ''}{kind}; {sizes}; {', '.join(parts)}"


def _features(features: Mapping[str, int | float]) -> str:
    return (
        f"{features['n_mels']} mel bands to {features['mel_max_hz']:g} Hz, {features['sample_rate_hz']} Hz, "
        f"hop {features['hop_samples']} samples, windows of {features['window_frames']} frames"
    )


def _vocabulary(vocabulary: Mapping[str, int | float]) -> str:
    if not vocabulary:
        return "unknown"
    bins = vocabulary["n_velocity_bins"]
    velocities = "no velocities" if bins == 1 else f"{bins} velocities"
    return f"{vocabulary['n_ids']} tokens, {velocities}, steps of {1000 // vocabulary['steps_per_second']:g} ms"


def _sampling(sampling: Sampling) -> str:
    if sampling.sampler == "autoregressive":
        return "one step per frame"
    if sampling.sampler == "templates":
        return "nothing is sampled"
    steps = count(sampling.steps, "step")
    first, last = sampling.guidance_interval
    within = "" if (first, last) == EVERYWHERE else f" at times {first:g}-{last:g}"
    if sampling.reuse_every > 1:
        within += f", one whole step in {sampling.reuse_every}"
    return f"{steps} of {sampling.sampler}, {sampling.schedule} schedule, guidance {sampling.guidance:g}{within}"
