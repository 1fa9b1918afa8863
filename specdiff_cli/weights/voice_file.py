"""``voice.toml``: what a voice is, how it was made to be sampled, and what it can play. No torch."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from specdiff_cli.errors import WeightsError
from specdiff_cli.model.config import ModelConfig

T = TypeVar("T", ModelConfig, "SamplingDefaults")


@dataclass(frozen=True, slots=True)
class SamplingDefaults:
    """How a voice is sampled unless the user says otherwise."""

    steps: int
    sampler: str
    schedule: str
    guidance: float = 1.0


#: Files of a folder in the Diffusers layout: three parts, each in a folder of its own, and perhaps a vocoder.
DIFFUSERS_PARTS = ("notes_encoder", "continuous_encoder", "decoder")
DIFFUSERS_STEM = "diffusion_pytorch_model"
ONNX_VOCODER = "melgan/model.onnx"
#: What the Diffusers port does by default, which is how these folders are known to sound.
DIFFUSERS_SAMPLING = SamplingDefaults(steps=100, sampler="ddpm", schedule="discrete", guidance=1.0)


@dataclass(frozen=True, slots=True)
class VocoderSpec:
    """Name of a vocoder, and the head and sizes of its network where it has one."""

    name: str
    sizes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class VoiceFile:
    """The content of a ``voice.toml``."""

    name: str
    description: str
    license: str
    model: ModelConfig
    sampling: SamplingDefaults
    vocoder: VocoderSpec
    programs: tuple[int, ...] | None
    plays_drums: bool
    prefers_bfloat16: bool


def read_voice_file(path: Path) -> VoiceFile:
    """Read ``voice.toml`` strictly. Raises WeightsError for unreadable files, unknown keys and wrong types."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise WeightsError(f"{path}: is missing; this folder is not a voice") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise WeightsError(f"{path}: cannot be read ({error})") from None
    _only(
        path, "", data, {"name", "description", "license", "model", "sampling", "vocoder", "plays", "prefers_bfloat16"}
    )
    plays = _table(path, data, "plays")
    _only(path, "plays.", plays, {"programs", "drums"})
    vocoder = dict(_table(path, data, "vocoder"))
    vocoder_name = vocoder.pop("name", None)
    if not isinstance(vocoder_name, str) or not all(type(vocoder[key]) is int for key in vocoder if key != "head"):
        raise WeightsError(f"{path}: [vocoder] needs a name and whole numbers for its sizes")
    programs = plays.get("programs")
    if programs is not None and not (isinstance(programs, list) and all(type(item) is int for item in programs)):
        raise WeightsError(f"{path}: plays.programs must be a list of program numbers")
    return VoiceFile(
        name=_text(path, data, "name"),
        description=_text(path, data, "description"),
        license=_text(path, data, "license"),
        model=_build(path, "model", _table(path, data, "model"), ModelConfig),
        sampling=_build(path, "sampling", _table(path, data, "sampling"), SamplingDefaults),
        vocoder=VocoderSpec(vocoder_name, vocoder),
        programs=None if programs is None else tuple(programs),
        plays_drums=bool(plays.get("drums", True)),
        prefers_bfloat16=bool(data.get("prefers_bfloat16", False)),
    )


def _only(path: Path, prefix: str, table: Mapping[str, Any], known: set[str]) -> None:
    unknown = sorted(set(table) - known)
    if unknown:
        raise WeightsError(f"{path}: unknown key {prefix}{unknown[0]} (written for a newer specdiff?)")


def _table(path: Path, data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = data.get(key)
    if not isinstance(value, dict):
        raise WeightsError(f"{path}: has no [{key}] table")
    return value


def _text(path: Path, data: Mapping[str, Any], key: str) -> str:
    value = data.get(key)
    if not isinstance(value, str) or not value:
        raise WeightsError(f"{path}: {key} must be a text")
    return value


def _build(path: Path, name: str, table: Mapping[str, Any], kind: type[T]) -> T:
    known = {item.name: item for item in fields(kind)}
    _only(path, f"{name}.", table, set(known))
    try:
        built = kind(**table)
    except TypeError as error:
        raise WeightsError(f"{path}: [{name}] is incomplete ({error})") from None
    for key in known:
        value = getattr(built, key)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and value < 0:
            raise WeightsError(f"{path}: {name}.{key} is negative")
    return built
