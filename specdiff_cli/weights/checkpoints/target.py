"""A network to a folder: our own voice format, or the Diffusers layout. The folder appears complete or not at all."""

import errno
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from specdiff_cli.constants import MAX_TOKENS, N_MELS, WINDOW_FRAMES
from specdiff_cli.errors import Option, OutputError, UsageError
from specdiff_cli.files import already_there, reason, shown_path
from specdiff_cli.model.config import ModelConfig
from specdiff_cli.weights.convert import diffusers_parts
from specdiff_cli.weights.load import Voice, load_diffusers_folder, load_voice_folder
from specdiff_cli.weights.lock import file_sha256
from specdiff_cli.weights.voice_file import (
    DIFFUSERS_STEM,
    FEATURES,
    ONNX_VOCODER,
    VOICE_FILE,
    WEIGHTS_FILE,
    VocoderSpec,
    VoiceFile,
    vocabulary_table,
    write_voice_file,
)

PIPELINE_FILE = "model_index.json"
_DIFFUSERS_VERSION = "0.31.0"  # the release against which this layout was compared
_DROPOUT = 0.1  # of every published model; it plays no part in rendering


@dataclass(frozen=True, slots=True)
class About:
    """What a voice file says about where a voice comes from, each in one line."""

    name: str
    description: str
    licence: str
    origin: str


def check_target(target: Path, overwrite: bool) -> None:
    """Refuse a folder that cannot become ours, before any work is done for it. Raises OutputError."""
    try:
        _check_target(target, overwrite)
    except OSError as error:
        raise OutputError(f"cannot write {shown_path(target)}: {reason(error)}") from None


def _check_target(target: Path, overwrite: bool) -> None:
    """Raises OSError, OutputError."""
    if not os.path.isdir(target.parent):
        raise OutputError(f"cannot write {target}: the folder {target.parent} does not exist, create it first")
    try:
        target.lstat()
    except FileNotFoundError:
        return
    if not os.path.isdir(target) or os.path.islink(target):
        raise OutputError(f"cannot write {target}: it is not a folder, give another name")
    if not any(target.iterdir()):
        return
    if not overwrite:
        raise already_there(target)
    if not os.path.isfile(target / VOICE_FILE) and not os.path.isfile(target / PIPELINE_FILE):
        what = f"{target} holds something other than a voice: "
        raise OutputError(what, Option("overwrite"), " does not replace it; remove it")


def write_voice(target: Path, voice: Voice, about: About, *, overwrite: bool) -> dict[str, str]:
    """Write a voice folder and see that it loads. Returns file -> sha256.

    Raises:
        OutputError: it exists and ``overwrite`` is false, or it cannot be written.
    """

    def write(folder: Path) -> dict[str, str]:
        _save(folder / WEIGHTS_FILE, voice.network.state_dict())
        hashed = [WEIGHTS_FILE]
        vocoder = replace(voice.vocoder, stages={})  # whose weights stay behind
        if os.path.isfile(voice.folder / ONNX_VOCODER):
            _copy(voice.folder / ONNX_VOCODER, folder / ONNX_VOCODER)
            hashed.append(ONNX_VOCODER)
        elif vocoder.name == "soundstream":
            vocoder = VocoderSpec("partials")
        config = voice.network.config
        described = VoiceFile(
            name=about.name,
            description=about.description,
            license=about.licence,
            model=config,
            sampling=voice.sampling,
            vocoder=vocoder,
            programs=voice.programs,
            plays_drums=voice.plays_drums,
            prefers_bfloat16=voice.prefers_bfloat16,
            allows_int8=voice.allows_int8,
            source=about.origin,
            features={key: value for key, value in FEATURES.items() if key not in _other_features(config)},
            vocabulary=vocabulary_table(config),
            hashes={file: file_sha256(folder / file) for file in hashed},
            presets=voice.presets,
        )
        write_voice_file(folder / VOICE_FILE, described)
        load_voice_folder(folder, torch.bfloat16)  # what we wrote must fit; at half the memory of a second copy
        return dict(described.hashes)

    return _write_folder(target, overwrite, write)


def _other_features(config: ModelConfig) -> tuple[str, ...]:
    """What the reference's features have otherwise: that dialect scales them by what training saw."""
    return ("log_mel_max",) if config.is_lightning else ()


def write_diffusers(target: Path, voice: Voice, *, overwrite: bool) -> dict[str, str]:
    """Write a folder that Diffusers' own classes read, and see that it loads. Returns file -> sha256.

    Raises:
        UsageError: the network has parts that this layout has no place for.
        OutputError: it exists and ``overwrite`` is false, or it cannot be written.
    """
    config = voice.network.config
    check_diffusers(voice.name, config)

    def write(folder: Path) -> dict[str, str]:
        """Raises OSError."""
        files = {}
        for part, (attribute, names) in diffusers_parts(config).items():
            ours = getattr(voice.network, attribute).state_dict()
            (folder / part).mkdir()
            files[part] = f"{part}/{DIFFUSERS_STEM}.safetensors"
            _save(folder / files[part], {theirs: ours[key] for theirs, key in names.items()})
            _write_json(folder / part / "config.json", _part_config(part, config))
        if os.path.isfile(voice.folder / ONNX_VOCODER):
            _copy(voice.folder / ONNX_VOCODER, folder / ONNX_VOCODER)
            files["melgan"] = ONNX_VOCODER
        (folder / "scheduler").mkdir()
        _write_json(folder / "scheduler" / "scheduler_config.json", _SCHEDULER)
        _write_json(folder / PIPELINE_FILE, _pipeline(list(files)))
        load_diffusers_folder(folder, dtype=torch.bfloat16)  # as above
        return {file: file_sha256(folder / file) for file in files.values()}

    return _write_folder(target, overwrite, write)


def check_diffusers(name: str, config: ModelConfig) -> None:
    """Raises UsageError when the Diffusers layout has no place for a network of these sizes."""
    lacking = {
        "an autoregressive decoder": config.is_autoregressive,
        "note templates": config.note_templates or config.is_templates,
        "a note layout": config.note_layout,
        f"the objective {config.objective}": config.objective != "eps",
        "velocities": config.n_velocity_bins != 1,
        "layer norms and biases": config.is_lightning,
    }
    found = ", ".join(what for what, is_there in lacking.items() if is_there)
    if found:
        raise UsageError.of("to", "diffusers", f"the voice {name} has {found}, for which that layout has no place")


def _part_config(part: str, config: ModelConfig) -> Mapping[str, Any]:
    sizes: dict[str, Any] = {
        "_diffusers_version": _DIFFUSERS_VERSION,
        "d_model": config.d_model,
        "num_heads": config.n_heads,
        "d_kv": config.d_kv,
        "d_ff": config.d_ff,
        "dropout_rate": _DROPOUT,
        "feed_forward_proj": "gated-gelu",
    }
    own: dict[str, dict[str, Any]] = {
        "notes_encoder": {
            "_class_name": "SpectrogramNotesEncoder",
            "is_decoder": False,
            "max_length": MAX_TOKENS,
            "num_layers": config.n_note_layers,
            "vocab_size": config.n_vocabulary_rows,
        },
        "continuous_encoder": {
            "_class_name": "SpectrogramContEncoder",
            "input_dims": N_MELS,
            "is_decoder": False,
            "num_layers": config.n_context_layers,
            "targets_context_length": WINDOW_FRAMES,
        },
        "decoder": {
            "_class_name": "T5FilmDecoder",
            "input_dims": N_MELS,
            "max_decoder_noise_time": 20000.0,
            "num_layers": config.n_decoder_layers,
            "targets_length": WINDOW_FRAMES,
        },
    }
    return sizes | own[part]


_SCHEDULER = {
    "_class_name": "DDPMScheduler",
    "_diffusers_version": _DIFFUSERS_VERSION,
    "beta_end": 0.02,
    "beta_schedule": "squaredcos_cap_v2",
    "beta_start": 0.0001,
    "clip_sample": True,
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "trained_betas": None,
    "variance_type": "fixed_large",
}


def _pipeline(parts: list[str]) -> Mapping[str, Any]:
    classes = {
        "notes_encoder": ["spectrogram_diffusion", "SpectrogramNotesEncoder"],
        "continuous_encoder": ["spectrogram_diffusion", "SpectrogramContEncoder"],
        "decoder": ["diffusers", "T5FilmDecoder"],
        "melgan": ["diffusers", "OnnxRuntimeModel"],
        "scheduler": ["diffusers", "DDPMScheduler"],
    }
    index = {"_class_name": "SpectrogramDiffusionPipeline", "_diffusers_version": _DIFFUSERS_VERSION}
    return index | {part: names if part in (*parts, "scheduler") else [None, None] for part, names in classes.items()}


def _write_folder(target: Path, overwrite: bool, write: Callable[[Path], dict[str, str]]) -> dict[str, str]:
    check_target(target, overwrite)
    try:
        with tempfile.TemporaryDirectory(prefix=".specdiff-", dir=target.parent) as name:
            made = Path(name, "made")
            made.mkdir()
            hashes = write(made)
            if os.path.exists(target):
                check_target(target, overwrite)  # once more: much time has passed
                _replace(target, made, Path(name, "replaced"))
            else:
                made.rename(target)
    except OSError as error:
        raise OutputError(f"cannot write {target}: {reason(error)}") from None
    return hashes


def _replace(target: Path, made: Path, replaced: Path) -> None:
    """Put a new folder in the place of an old one (Windows: also of an empty one), kept until then. Raises OSError."""
    target.rename(replaced)
    try:
        made.rename(target)
    except OSError:
        replaced.rename(target)
        raise


def _save(path: Path, tensors: Mapping[str, Tensor]) -> None:
    try:
        # Diffusers refuses files that do not say whose tensors they hold.
        save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path, {"format": "pt"})
    except SafetensorError as error:  # how it reports a full disk
        found = re.search(r"\(os error (\d+)\)", str(error))
        code = int(found[1]) if found else errno.EIO
        raise OSError(code, os.strerror(code)) from None
    _settle(path)


def _copy(source: Path, target: Path) -> None:
    """Raises OSError."""
    target.parent.mkdir(exist_ok=True)
    shutil.copyfile(source, target)
    _settle(target)


def _settle(path: Path) -> None:
    """Bring a file's content to the disk. Raises OSError."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Raises OSError."""
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    _settle(path)
