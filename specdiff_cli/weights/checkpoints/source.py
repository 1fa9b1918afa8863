"""Any checkpoint that specdiff knows, whatever its layout, to a network with its weights in float32."""

import os
import zipfile
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from os.path import exists, isdir, isfile  # unlike Path's, they answer no where looking is not allowed
from pathlib import Path

import numpy as np
import torch

from specdiff_cli.diffusion.sampling import AUTOREGRESSIVE_SAMPLING
from specdiff_cli.errors import WeightsError
from specdiff_cli.files import hidden_by, reason, shown_path
from specdiff_cli.model.config import REFERENCE_CONFIGS, ModelConfig
from specdiff_cli.model.network import Network
from specdiff_cli.weights import cache, convert, convert_t5x, lock
from specdiff_cli.weights.checkpoints import lightning, t5x
from specdiff_cli.weights.checkpoints.arrays import Array
from specdiff_cli.weights.checkpoints.files import Files, Folder, Zip
from specdiff_cli.weights.load import Voice, empty_network, load_diffusers_folder, load_voice_folder
from specdiff_cli.weights.voice_file import (
    BY_PARTIALS,
    DIFFUSERS_PARTS,
    DIFFUSERS_SAMPLING,
    PUBLISHED_PREFERS_BFLOAT16,
    UNKNOWN_LICENCE,
    VOICE_FILE,
    WEIGHTS_FILE,
    VocoderSpec,
    diffusers_weights,
    read_voice_file,
)

VOICE, DIFFUSERS, LIGHTNING = "specdiff voice", "Diffusers", "PyTorch Lightning"
NO_VOCODER = f"such checkpoints hold no vocoder: {BY_PARTIALS}"

#: What REFERENCE_CONFIGS' names are called among people.
_ARCHITECTURES = {
    "small-no-context": "small without context",
    "small": "small with context",
    "base": "base with context",
    "small-autoregressive": "small autoregressive",
}


@dataclass(frozen=True)
class Source:
    """A checkpoint that was read, and what is known about it.

    ``hashes``: file -> sha256 of what the weights were read from; empty for a T5X folder, which has hundreds of files.
    """

    voice: Voice
    layout: str
    licence: str
    origin: str
    hashes: Mapping[str, str]

    @property
    def architecture(self) -> str:
        """As the paper calls it, or the sizes of any other."""
        return describe_architecture(self.voice.network.config)

    @property
    def n_parameters(self) -> int:
        """Numbers in all tensors, tables of positions included."""
        return sum(tensor.numel() for tensor in self.voice.network.state_dict().values())


def describe_architecture(config: ModelConfig) -> str:
    """``base with context``, or the sizes of what the paper does not have."""
    for name, known in REFERENCE_CONFIGS.items():
        if config == known:
            return _ARCHITECTURES.get(name, name)
    if config.is_templates:
        return "note templates"
    context = "autoregressive" if config.is_autoregressive else "with context" if config.has_context else "no context"
    return f"d_model {config.d_model}, {config.n_heads} x {config.d_kv}, {config.n_decoder_layers} layers, {context}"


def read_source(name: str) -> Source:
    """Read a checkpoint of any layout: a path, or the name of a model that was downloaded.

    Raises:
        WeightsError: nothing there, of unknown layout, damaged, or with arrays that make no model of ours.
    """
    path = Path(name)
    if not exists(path):
        known = lock.load_lock()
        if name not in known.models:
            if (problem := hidden_by(path)) is not None:
                raise WeightsError(f"{shown_path(path)}: cannot be read ({problem})")
            raise WeightsError(f"{name}: does not exist; give a checkpoint's file, zip or folder")
        path = cache.find_model(name, lock=known)
    if isfile(path):
        return _read_file(path)
    if isfile(path / VOICE_FILE):
        return _read_voice(path)
    if (problem := hidden_by(path / VOICE_FILE)) is not None:
        raise WeightsError(f"{path}: cannot be looked into ({problem})")
    if any(isdir(path / part) for part in DIFFUSERS_PARTS):
        return _read_diffusers(path)
    return _read_t5x(Folder(path), path)


def _read_file(path: Path) -> Source:
    if path.name == t5x.FILE:
        return _read_t5x(Folder(path.parent), path.parent)
    if zipfile.is_zipfile(path):
        with closing(Zip(path)) as files:
            if not any(name.rpartition("/")[2] == lightning.CONTENT_FILE for name in files.names):
                return _read_t5x(files, path)
        return _read_lightning(path)
    try:
        with path.open("rb") as file:
            is_pickle = file.read(len(lightning.LEGACY_START)) == lightning.LEGACY_START
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({reason(error)}); copy it again") from None
    if is_pickle:
        return _read_lightning(path)
    raise _unknown(str(path))


def _unknown(shown: str) -> WeightsError:
    return WeightsError(
        f"{shown}: is of no layout that specdiff knows (T5X folder or zip, Diffusers folder, Lightning .ckpt, "
        "voice folder)"
    )


def _read_voice(folder: Path) -> Source:
    described = read_voice_file(folder / VOICE_FILE)
    hashes = _hashes(folder, [WEIGHTS_FILE])
    return Source(load_voice_folder(folder), VOICE, described.license, described.source or str(folder), hashes)


def _read_diffusers(folder: Path) -> Source:
    voice = load_diffusers_folder(folder)
    hashes = _hashes(folder, list(diffusers_weights(folder).values()))
    published = _published(set(hashes.values()))
    licence, origin = published or (UNKNOWN_LICENCE, f"Diffusers folder {voice.name}")
    return Source(voice, DIFFUSERS, licence, origin, hashes)


def _published(hashes: set[str]) -> tuple[str, str] | None:
    """Licence and origin of weights whose every file is one that ``weights.lock`` pins."""
    for model in lock.load_lock().models.values():
        if hashes and hashes <= {file.sha256 for file in model.files}:
            return model.license, f"specdiff's model {model.name}, revision {model.revision}"
    return None


def _origin(text: str, hashes: Mapping[str, str]) -> str:
    """Where weights come from, with the hash of the file where it was a single one."""
    return f"{text}, sha256 {next(iter(hashes.values()))}" if len(hashes) == 1 else text


def _hashes(folder: Path, names: list[str]) -> dict[str, str]:
    try:
        return {name: lock.file_sha256(folder / name) for name in names}
    except OSError as error:
        raise WeightsError(f"{folder}: cannot be read ({reason(error)}); copy it again") from None


def _read_lightning(path: Path) -> Source:
    voice = Voice(
        name=path.stem,
        folder=path,
        network=lightning.read_network(path),
        sampling=lightning.LIGHTNING_SAMPLING,
        vocoder=VocoderSpec("partials"),
        prefers_bfloat16=PUBLISHED_PREFERS_BFLOAT16,
        messages=(NO_VOCODER,),
    )
    hashes = _hashes(path.parent, [path.name])
    origin = _origin(f"Lightning checkpoint {path.name}", hashes)
    return Source(voice, LIGHTNING, UNKNOWN_LICENCE, origin, hashes)


def _read_t5x(files: Files, path: Path) -> Source:
    folder = t5x.find_checkpoint(files)
    if folder is None:
        raise _unknown(files.shown)
    arrays = t5x.read_arrays(files, folder)
    shapes = {key: array.shape for key, array in arrays.items()}
    try:
        config = convert_t5x.t5x_config(shapes, t5x.read_settings(files, folder))
    except ValueError as error:
        raise WeightsError(f"{files.shown}: is no checkpoint of a spectrogram diffusion model: {error}") from None
    hashes = _hashes(path.parent, [path.name]) if os.path.isfile(path) else {}
    place = f"{Path(os.path.realpath(path)).name}/{folder}".rstrip("/")
    voice = Voice(
        name=Path(os.path.realpath(path)).stem if os.path.isfile(path) else Path(os.path.realpath(path)).name,
        folder=path,
        network=_filled(files.shown, config, arrays),
        sampling=AUTOREGRESSIVE_SAMPLING if config.is_autoregressive else DIFFUSERS_SAMPLING,
        vocoder=VocoderSpec("partials"),
        prefers_bfloat16=PUBLISHED_PREFERS_BFLOAT16,
        messages=(NO_VOCODER,),
    )
    form = "Zarr" if t5x.is_zarr(files, folder) else "MessagePack"
    return Source(voice, f"T5X ({form})", UNKNOWN_LICENCE, _origin(f"T5X checkpoint {place}", hashes), hashes)


def _filled(shown: str, config: ModelConfig, arrays: dict[str, Array]) -> Network:
    """The network of a T5X checkpoint; one array after the other is read and turned."""
    network = empty_network(config)
    names = convert_t5x.t5x_names(config)
    ours = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    expected = {
        theirs: ours[our][::-1] if convert_t5x.is_transposed(theirs) else ours[our] for theirs, our in names.items()
    }
    problem = convert.misfits({key: array.shape for key, array in arrays.items()}, expected)
    if problem is not None:
        raise WeightsError(f"{shown}: the arrays do not fit this model: {problem}")
    state = {}
    for theirs, our in names.items():
        array = arrays.pop(theirs).read()  # so that what was read is not held twice
        turned = array.T if convert_t5x.is_transposed(theirs) else array
        state[our] = torch.from_numpy(np.array(turned, dtype=np.float32, order="C"))
    network.load_state_dict(state, assign=True)
    return network.eval().requires_grad_(False)
