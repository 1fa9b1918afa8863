"""Weights on disk to a voice in memory, strictly: every tensor has a place, every place a tensor of its shape.

Two layouts are read. A *voice folder* holds ``voice.toml``, ``model.safetensors`` and perhaps ``vocoder.safetensors``
(what ships in the package); a *Diffusers folder* holds ``notes_encoder/``, ``continuous_encoder/`` and ``decoder/``
with ``diffusion_pytorch_model.bin`` or ``.safetensors`` and perhaps ``melgan/model.onnx`` (what is published).
"""

import json
import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from specdiff_cli.errors import WeightsError
from specdiff_cli.model.config import ModelConfig
from specdiff_cli.model.network import SpectrogramDiffusion
from specdiff_cli.weights import cache, convert, lock
from specdiff_cli.weights.voice_file import (
    DIFFUSERS_SAMPLING,
    DIFFUSERS_STEM,
    ONNX_VOCODER,
    SamplingDefaults,
    VocoderSpec,
    VoiceFile,
    read_voice_file,
)

DIFFUSERS_D_KV = 64  # of every published model; needed only where config.json is absent


@dataclass(frozen=True)
class Voice:
    """A loaded voice: the network with its weights in float32 and all that rendering must know about it."""

    name: str
    folder: Path
    network: SpectrogramDiffusion
    sampling: SamplingDefaults
    vocoder: VocoderSpec
    programs: tuple[int, ...] | None = None  # model classes it was trained on; None: all of them
    plays_drums: bool = True
    prefers_bfloat16: bool = False  # trained for it: `--dtype auto` may take it
    notes: tuple[str, ...] = field(default=())  # for the user: what was done differently than they may expect

    @property
    def follows_velocity(self) -> bool:
        """Whether it was trained with dynamics; the published checkpoints were not."""
        return self.network.config.n_velocity_bins > 1


def load_voice(name: str) -> Voice:
    """Load a voice by name (``tiny``, ``base``) or from a folder.

    Raises:
        WeightsError: unknown, not downloaded, damaged, of another layout, or with tensors that do not fit.
    """
    known = lock.load_lock()
    if name in known.bundled:
        return load_voice_folder(lock.verify_bundled(name, lock=known))
    if name in known.models:
        return load_diffusers_folder(cache.find_model(name, lock=known), name)
    folder = Path(name)
    if folder.is_dir():
        return load_voice_folder(folder) if (folder / "voice.toml").is_file() else load_diffusers_folder(folder)
    if folder.exists():
        raise WeightsError(f"{name}: is a file; --model takes a voice's name or a folder of weights")
    names = ", ".join(sorted([*known.bundled, *known.models]))
    raise WeightsError(f"{name}: is neither a known voice ({names}) nor a folder; check the spelling")


def load_voice_folder(folder: Path) -> Voice:
    """Load a folder in our own layout."""
    described: VoiceFile = read_voice_file(folder / "voice.toml")
    network = _empty_network(described.model)
    path = folder / "model.safetensors"
    _fill(network, read_tensors(path), path)
    return Voice(
        name=described.name,
        folder=folder,
        network=network.eval(),
        sampling=described.sampling,
        vocoder=described.vocoder,
        programs=described.programs,
        plays_drums=described.plays_drums,
        prefers_bfloat16=described.prefers_bfloat16,
    )


def load_diffusers_folder(folder: Path, name: str | None = None) -> Voice:
    """Load a folder in the Diffusers layout; sizes come from its config.json files or from the tensors' shapes."""
    tensors = {part: _read_part(folder, part) for part in ("notes_encoder", "decoder")}
    if (folder / "continuous_encoder").is_dir():
        tensors["continuous_encoder"] = _read_part(folder, "continuous_encoder")
    config = _diffusers_config(folder, tensors)
    network = _empty_network(config)
    for part, (attribute, names) in convert.diffusers_parts(config).items():
        _fill(getattr(network, attribute), tensors[part], folder / part, names)
    notes: tuple[str, ...] = ()
    if (folder / ONNX_VOCODER).is_file():
        vocoder = VocoderSpec("soundstream")
    else:
        vocoder = VocoderSpec("griffin-lim")
        notes = (f"{folder} has no {ONNX_VOCODER}: the sound comes from Griffin-Lim, which is rougher",)
    return Voice(name or folder.resolve().name, folder, network.eval(), DIFFUSERS_SAMPLING, vocoder, notes=notes)


def _empty_network(config: ModelConfig) -> SpectrogramDiffusion:
    """A network without storage: drawing random weights only to replace them takes seconds at full size."""
    with torch.device("meta"):
        return SpectrogramDiffusion(config)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a ``.safetensors`` file, or a pickle under ``weights_only``; nothing in either is executed."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():
            # Hints about how a pickle was made are for whoever made it; what matters here is said below.
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise WeightsError(f"{path}: is missing; download or copy the weights again") from None
    except pickle.UnpicklingError as error:
        detail = "it holds more than tensors" if "Unsupported" in str(error) else "it is damaged"
        raise WeightsError(f"{path}: is not loaded, {detail}; only plain tensor files are accepted") from None
    except (OSError, SafetensorError, RuntimeError, ValueError, EOFError, KeyError) as error:
        detail = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise WeightsError(f"{path}: is damaged or not a weights file ({detail}); download it again") from None
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise WeightsError(f"{path}: is not a plain table of tensors; expected a state dict")
    return {str(key): value for key, value in content.items()}


def _read_part(folder: Path, part: str) -> dict[str, Tensor]:
    for suffix in (".safetensors", ".bin"):
        path = folder / part / f"{DIFFUSERS_STEM}{suffix}"
        if path.is_file():
            return read_tensors(path)
    raise WeightsError(
        f"{folder}: is not a folder of weights that specdiff knows: no voice.toml, and no {part}/{DIFFUSERS_STEM}.bin "
        "or .safetensors"
    )


def _diffusers_config(folder: Path, tensors: Mapping[str, Mapping[str, Tensor]]) -> ModelConfig:
    decoder, notes = tensors["decoder"], tensors["notes_encoder"]
    first_query = decoder.get("decoders.0.layer.0.attention.to_q.weight")
    first_gate = decoder.get("decoders.0.layer.2.DenseReluDense.wi_0.weight")
    embedding = notes.get("token_embedder.weight")
    if first_query is None or first_gate is None or embedding is None or {first_query.ndim, embedding.ndim} != {2}:
        raise WeightsError(f"{folder}: its tensors are not those of a spectrogram diffusion model")
    d_kv = _d_kv(folder / "decoder" / "config.json")
    n_heads, rest = divmod(first_query.shape[0], d_kv)
    if rest:
        raise WeightsError(f"{folder}: attention width {first_query.shape[0]} is no multiple of d_kv {d_kv}")
    return ModelConfig(
        d_model=first_query.shape[1],
        n_heads=n_heads,
        d_kv=d_kv,
        d_ff=first_gate.shape[0],
        n_note_layers=_count_layers(notes, "encoders"),
        n_context_layers=_count_layers(tensors.get("continuous_encoder", {}), "encoders"),
        n_decoder_layers=_count_layers(decoder, "decoders"),
        n_vocabulary_rows=embedding.shape[0],
    )


def _d_kv(path: Path) -> int:
    if not path.is_file():
        return DIFFUSERS_D_KV
    try:
        value = json.loads(path.read_text(encoding="utf-8"))["d_kv"]
    except (OSError, ValueError, KeyError, TypeError):
        raise WeightsError(f"{path}: is damaged (no d_kv in it); download it again") from None
    if not isinstance(value, int) or value < 1:
        raise WeightsError(f"{path}: d_kv is {value!r}; download it again")
    return value


def _count_layers(tensors: Mapping[str, Tensor], prefix: str) -> int:
    pattern = re.compile(rf"{prefix}\.(\d+)\.")
    found = [int(match[1]) for key in tensors if (match := pattern.match(key))]
    return max(found, default=-1) + 1


def _fill(
    module: torch.nn.Module, tensors: Mapping[str, Tensor], source: Path, names: Mapping[str, str] | None = None
) -> None:
    """Copy tensors into a module; one sorted report of everything that does not fit. ``names``: their key -> ours."""
    targets = module.state_dict()
    names = names or {key: key for key in targets}
    missing = sorted(theirs for theirs in names if theirs not in tensors)
    unexpected = sorted(theirs for theirs in tensors if theirs not in names)
    misfits = sorted(
        f"{theirs} is {_shape(tensors[theirs])}, expected {_shape(targets[ours])}"
        for theirs, ours in names.items()
        if theirs in tensors and tensors[theirs].shape != targets[ours].shape
    )
    wrong_type = sorted(key for key in names if key in tensors and not tensors[key].is_floating_point())
    problems = [
        f"{len(items)} {label}: {_some(items)}"
        for label, items in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("of wrong shape", misfits),
            ("not floating point", wrong_type),
        )
        if items
    ]
    if problems:
        raise WeightsError(f"{source}: the tensors do not fit this model: {'; '.join(problems)}")
    module.load_state_dict({ours: tensors[theirs].float() for theirs, ours in names.items()}, assign=True)


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a scalar"


def _some(items: list[str], limit: int = 12) -> str:
    more = f" and {len(items) - limit} more" if len(items) > limit else ""
    return ", ".join(items[:limit]) + more
