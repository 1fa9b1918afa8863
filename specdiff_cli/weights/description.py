"""What is known of a model, for JSON and in words. No torch."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from specdiff_cli.diffusion.presets import PRESETS, Preset
from specdiff_cli.diffusion.sampling import EVERYWHERE, Sampling
from specdiff_cli.midi.programs import MODEL_CLASSES, N_PROGRAMS
from specdiff_cli.model.config import REFERENCE_CONFIGS, ModelConfig
from specdiff_cli.weights.inventory import Details, FileEntry, ModelEntry
from specdiff_cli.weights.progress import format_bytes
from specdiff_cli.weights.voice_file import FEATURES, VocoderSpec, vocabulary_table
from specdiff_cli.wording import count

SHORT_SHA256_DIGITS = 12


def shown_size(n_bytes: int | None, *, is_estimate: bool) -> str:
    """A size for tables: 60.5 MB, about 955 MB, or ? where nobody knows it."""
    if n_bytes is None:
        return "?"
    return f"about {format_bytes(n_bytes)}" if is_estimate else format_bytes(n_bytes)


def summary_of(entry: ModelEntry) -> dict[str, Any]:
    """A model at one place, in plain types."""
    values = asdict(entry)
    del values["files"]
    return {**values, "size_bytes": entry.size_bytes, "size_is_estimate": entry.is_estimate, "hashes": entry.hashes}


def described(details: Details) -> dict[str, Any]:
    """Everything about a model, in plain types."""
    return {
        **summary_of(details.entry),
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
    return {**described, **{name: dict(sizes) for name, sizes in vocoder.stages.items()}}


def _programs(details: Details) -> tuple[int, ...]:
    return tuple(MODEL_CLASSES) if details.card.programs is None else details.card.programs


def _presets(details: Details) -> Mapping[str, Preset]:
    """The presets that `--preset` takes for this model: the general ones, and its own before them."""
    if details.card.config is not None and not details.card.config.denoises:
        return details.card.presets
    return {**PRESETS, **details.card.presets}


def facts_of(details: Details) -> Iterator[tuple[str, str]]:
    """Everything about a model in words: names and what they stand for; without a name the one before goes on."""
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
    for stage, of_stage in details.card.vocoder.stages.items():
        yield "its stage", f"{stage} ({', '.join(f'{key} {value}' for key, value in of_stage.items())})"
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


def model_cells(entry: ModelEntry) -> tuple[str, ...]:
    """Name, state, source, size, hashes, licence and instruments, as text."""
    # As short as may be: the table is to fit into 80 columns.
    size = shown_size(entry.size_bytes, is_estimate=entry.is_estimate).replace("about ", "~")
    plays = entry.instruments.replace(" instrument classes", "").replace(" programs", "")
    return (entry.model, entry.state, entry.source, size, entry.hashes, entry.license, plays)


def file_cells(entry: ModelEntry, file: FileEntry) -> tuple[str, ...]:
    """Model, source, file, size, hash and state, as text."""
    size = shown_size(file.size_bytes or file.about_bytes, is_estimate=file.size_bytes is None)
    if file.sha256 is not None:
        sha256 = file.sha256[:SHORT_SHA256_DIGITS] + "…"
    else:
        recorded = file.recorded_sha256
        sha256 = "not pinned" if recorded is None else f"recorded {recorded[:SHORT_SHA256_DIGITS]}…"
    state = file.state if entry.kind == "download" else f"{file.state} (bundled)"
    return (entry.model, entry.source, file.path, size, sha256, state)
