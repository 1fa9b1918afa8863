"""Weights on disk to a voice in memory, strictly: every tensor has a place, every place a tensor of its shape.

Two layouts are read. A *voice folder* holds ``voice.toml``, ``model.safetensors`` and perhaps ``vocoder.safetensors``
(what ships in the package, and what ``convert`` and ``train export`` make); a *Diffusers folder* holds
``notes_encoder/``, ``continuous_encoder/`` and ``decoder/`` with ``diffusion_pytorch_model.bin`` or ``.safetensors``
and perhaps ``melgan/model.onnx`` (what is published).

Files are mapped into memory and copied piece by piece in the precision asked for, so that loading never needs much more
memory than the network that it makes.
"""

import json
import os
import pickle
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from os.path import isfile  # unlike Path's, it answers no where looking is not allowed
from pathlib import Path
from typing import TypeAlias

import torch
from safetensors.torch import load_file
from torch import Tensor

from specdiff_cli.errors import WeightsError
from specdiff_cli.model.config import ModelConfig
from specdiff_cli.model.network import Network, build_network
from specdiff_cli.model.precision import floating
from specdiff_cli.model.storage import without_storage
from specdiff_cli.weights import convert, lock
from specdiff_cli.weights.voice_file import (
    BY_PARTIALS,
    ONNX_VOCODER,
    PUBLISHED_PREFERS_BFLOAT16,
    VOICE_FILE,
    WEIGHTS_FILE,
    VoiceFile,
    check_diffusers_folder,
    read_voice_file,
)
from specdiff_cli.weights.voices import VoiceCard, described_card, find_voice, published_card

DIFFUSERS_D_KV = 64  # of every published model; needed only where config.json is absent
MAX_LAYERS = 1000  # in a stack; a file that claims more would keep us busy for hours
#: Pages of a mapped file count as memory of the process while it is mapped: it is mapped anew after so many bytes.
PIECE_BYTES = 1 << 27

#: What is computed in float32 in every precision, by kind of network: powers that differ by orders of magnitude are
#: added up; log-mel values go in and out.
KEPT_FLOAT32: dict[str, tuple[str, ...]] = {
    "diffusion": ("note_templates.",),
    "templates": ("",),
    "autoregressive": ("decoder.input_projection.", "decoder.norm.", "decoder.output_projection."),
}

#: A precision, or a function that chooses it, given whether the voice prefers bfloat16.
Precision: TypeAlias = torch.dtype | Callable[[bool], torch.dtype]


@dataclass(frozen=True, kw_only=True)
class Voice(VoiceCard):
    """A loaded voice: what it is, and the network with its weights.

    ``messages`` are for the user: what was done differently than they may expect.
    """

    network: Network
    messages: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "config", self.network.config)


def _loaded(card: VoiceCard, network: Network, messages: tuple[str, ...] = ()) -> Voice:
    known = {item.name: getattr(card, item.name) for item in fields(VoiceCard)}
    return Voice(**known, network=network.eval(), messages=messages)


def load_voice(name: str, dtype: Precision = torch.float32) -> Voice:
    """Load a voice by name (``tiny``, ``base``) or from a folder.

    Args:
        dtype: precision of the network's weights in memory, whatever that on disk; what is computed in float32 always
            stays so. Loading in the precision that the network is compiled for takes half the memory of converting it
            afterwards, and gives the same values.

    Raises:
        WeightsError: unknown, not downloaded, damaged, of another layout, or with tensors that do not fit.
    """
    card = find_voice(name)
    if not isfile(card.folder / VOICE_FILE):
        return load_diffusers_folder(card.folder, card.name, dtype)
    if name in lock.load_lock().bundled:
        lock.verify_bundled(name)
    return load_voice_folder(card.folder, dtype, verified=card.known_sha256 is not None)


def load_voice_folder(folder: Path, dtype: Precision = torch.float32, *, verified: bool = False) -> Voice:
    """Load a folder in our own layout; ``verified``: its files have just been compared with hashes from elsewhere."""
    described: VoiceFile = read_voice_file(folder / VOICE_FILE)
    if not verified:
        verify_hashes(folder, described.hashes)
    chosen = chosen_dtype(dtype, described.prefers_bfloat16)
    network = empty_network(described.model)
    path = folder / WEIGHTS_FILE
    _fill_from(network, path, _described(path), chosen, kept=KEPT_FLOAT32[described.model.kind])
    return _loaded(described_card(str(folder), folder, described), network)


def load_diffusers_folder(folder: Path, name: str | None = None, dtype: Precision = torch.float32) -> Voice:
    """Load a folder in the Diffusers layout; sizes come from its config.json files or from the tensors' shapes."""
    weights = check_diffusers_folder(folder)
    paths = {part: folder / name for part, name in weights.items()}
    described = {part: _described(path) for part, path in paths.items()}
    config = _diffusers_config(folder, described)
    chosen = chosen_dtype(dtype, PUBLISHED_PREFERS_BFLOAT16)
    network = empty_network(config)
    for part, (attribute, names) in convert.diffusers_parts(config).items():
        _fill_from(getattr(network, attribute), paths[part], described[part], chosen, names)
    has_vocoder = isfile(folder / ONNX_VOCODER)
    without = f"{folder} has no {ONNX_VOCODER}: {BY_PARTIALS}"
    card = published_card(str(folder), folder, name or Path(os.path.realpath(folder)).name, has_vocoder=has_vocoder)
    return _loaded(card, network, () if has_vocoder else (without,))


def verify_hashes(folder: Path, hashes: Mapping[str, str]) -> None:
    """Compare files of a folder with their sha256; raises WeightsError for the first that is missing or another."""
    for name, expected in hashes.items():
        problem = lock.check_bundled_file(folder, lock.BundledFile(name, expected))
        if problem is not None:
            raise WeightsError(f"{folder / name}: {problem} (by {VOICE_FILE}): copy or make this voice again")


def empty_network(config: ModelConfig) -> Network:
    """A network without storage, whose weights are put in afterwards.

    Raises WeightsError for sizes that no network has.
    """
    deepest = max(config.n_note_layers, config.n_context_layers, config.n_decoder_layers)
    if deepest > MAX_LAYERS:
        raise WeightsError(f"a model of {deepest} layers: is not loaded, {MAX_LAYERS} is the most")
    try:
        with without_storage():
            return build_network(config)
    except (RuntimeError, ValueError, ZeroDivisionError) as error:
        raise WeightsError(f"no network has these sizes ({str(error).splitlines()[0]}): {config}") from None


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, as :func:`read_content`. Raises WeightsError, also where it holds anything else."""
    content = read_content(path)
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise WeightsError(f"{path}: is not a plain table of tensors; expected a state dict")
    return {str(key): value for key, value in content.items()}


def read_content(path: Path, *, mapped: bool = True) -> object:
    """Read a ``.safetensors`` file, or a pickle under ``weights_only``; nothing in either is executed.

    The tensors are views of the file, mapped into memory, where its format allows that (safetensors and PyTorch's own
    since 1.6) and ``mapped`` is true: what is not read costs no memory. Raises WeightsError.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():
            # Hints about how a pickle was made are for whoever made it; what matters here is said below.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped and _can_be_mapped(path))
    except FileNotFoundError:
        raise WeightsError(f"{path}: is missing; check the name, or copy it again") from None
    except pickle.UnpicklingError as error:
        # An unsupported class or function was refused; an unsupported operand is a byte that says nothing here.
        if "Unsupported" not in str(error) or "Unsupported operand" in str(error):
            raise WeightsError(f"{path}: is damaged or not a weights file; copy or download it again") from None
        refused = "it holds more than tensors and plain values; save its state_dict alone"
        raise WeightsError(f"{path}: is not loaded, {refused}") from None
    except Exception as error:  # damaged pickles lead to errors of almost any kind
        detail = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise WeightsError(f"{path}: is damaged or not a weights file ({detail}); copy or download it again") from None


def _can_be_mapped(path: Path) -> bool:
    return path.suffix == ".safetensors" or zipfile.is_zipfile(path)


def _described(path: Path) -> dict[str, Tensor]:
    """The tensors of a file without their content, on the meta device."""
    return {key: tensor.to("meta") for key, tensor in read_tensors(path).items()}


def chosen_dtype(dtype: Precision, prefers_bfloat16: bool) -> torch.dtype:
    """The type of a voice's weights in memory."""
    return floating(dtype if isinstance(dtype, torch.dtype) else dtype(prefers_bfloat16))


def _diffusers_config(folder: Path, tensors: Mapping[str, Mapping[str, Tensor]]) -> ModelConfig:
    decoder, notes = tensors["decoder"], tensors["notes_encoder"]
    first_query = decoder.get("decoders.0.layer.0.attention.to_q.weight")
    first_gate = decoder.get("decoders.0.layer.2.DenseReluDense.wi_0.weight")
    embedding = notes.get("token_embedder.weight")
    if first_query is None or first_gate is None or embedding is None or {first_query.ndim, embedding.ndim} != {2}:
        raise WeightsError(f"{folder}: its tensors are not those of a spectrogram diffusion model")
    d_kv = _d_kv(folder / "decoder" / "config.json")
    try:
        return ModelConfig(
            d_model=first_query.shape[1],
            n_heads=convert.count_heads(first_query.shape[0], d_kv),
            d_kv=d_kv,
            d_ff=first_gate.shape[0],
            n_note_layers=convert.count_blocks(notes, "encoders."),
            n_context_layers=convert.count_blocks(tensors.get("continuous_encoder", {}), "encoders."),
            n_decoder_layers=convert.count_blocks(decoder, "decoders."),
            n_vocabulary_rows=embedding.shape[0],
        )
    except ValueError as error:
        raise WeightsError(f"{folder}: its tensors make no spectrogram diffusion model: {error}") from None


def _d_kv(path: Path) -> int:
    if not isfile(path):
        return DIFFUSERS_D_KV
    try:
        value = json.loads(path.read_text(encoding="utf-8"))["d_kv"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise WeightsError(f"{path}: is damaged (no d_kv in it); download it again") from None
    if type(value) is not int or value < 1:
        raise WeightsError(f"{path}: d_kv is {value!r}; download it again")
    return value


def _fill_from(
    module: torch.nn.Module,
    path: Path,
    described: Mapping[str, Tensor],
    dtype: torch.dtype,
    names: Mapping[str, str] | None = None,
    kept: tuple[str, ...] = (),
) -> None:
    """Copy the tensors of a file into a module, piece by piece; names that begin as ``kept`` become float32.

    ``names``: their key -> ours. Raises WeightsError: one sorted report of everything that does not fit.
    """
    names = _matched(module, described, path, names)
    state = {}
    for piece in _pieces(path, {theirs: described[theirs] for theirs in names}):
        tensors = read_tensors(path)
        for theirs in piece:
            if theirs not in tensors or tensors[theirs].shape != described[theirs].shape:
                raise WeightsError(f"{path}: has changed while it was read; run the same command again")
            ours = names[theirs]
            own = torch.empty(tensors[theirs].shape, dtype=torch.float32 if ours.startswith(kept) else dtype)
            state[ours] = own.copy_(tensors[theirs])
        del tensors
    module.load_state_dict(state, assign=True)


def _pieces(path: Path, described: Mapping[str, Tensor]) -> Iterator[list[str]]:
    """Names of tensors to be read at once: all of them where the file cannot be mapped."""
    piece: list[str] = []
    n_bytes = 0
    for name, tensor in described.items():
        n_bytes += tensor.nbytes
        if piece and n_bytes > PIECE_BYTES and _can_be_mapped(path):
            yield piece
            piece, n_bytes = [], tensor.nbytes
        piece.append(name)
    yield piece


def _matched(
    module: torch.nn.Module, tensors: Mapping[str, Tensor], source: Path, names: Mapping[str, str] | None
) -> Mapping[str, str]:
    """Their key -> ours, once every tensor has a place and every place a tensor of its shape. Raises WeightsError."""
    targets = module.state_dict()
    lacking = getattr(module, "lacking", ())  # the module says what stands for these
    names = names or {key: key for key in targets if key in tensors or key not in lacking}
    problem = convert.misfits(
        {theirs: tuple(tensor.shape) for theirs, tensor in tensors.items()},
        {theirs: tuple(targets[ours].shape) for theirs, ours in names.items()},
    )
    wrong_kind = sorted(key for key in names if key in tensors and not tensors[key].is_floating_point())
    problems = [problem] if problem is not None else []
    if wrong_kind:
        problems.append(f"{len(wrong_kind)} not floating point: {convert.some(wrong_kind)}")
    if problems:
        raise WeightsError(f"{source}: the tensors do not fit this model: {'; '.join(problems)}")
    return names
