"""``voice.toml``: what a voice is, how it was made to be sampled, and what it can play. No torch."""

import json
import math
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from os.path import isdir, isfile  # unlike Path's, they answer no where looking is not allowed or a name is too long
from pathlib import Path
from types import NoneType
from typing import Any, Literal, TypeVar, get_args, get_origin

from specdiff_cli import constants
from specdiff_cli.diffusion.presets import Preset
from specdiff_cli.diffusion.sampling import FIXED_SAMPLING, Sampling
from specdiff_cli.errors import UsageError, WeightsError
from specdiff_cli.files import PendingFile
from specdiff_cli.model.config import ModelConfig
from specdiff_cli.weights.lock import PATH_PATTERN, SHA256_PATTERN

T = TypeVar("T")

VOICE_FILE = "voice.toml"
WEIGHTS_FILE = "model.safetensors"
VOCODER_FILE = "vocoder.safetensors"
MELGAN_FILE = "melgan.safetensors"
GAINS_FILE = "gains.safetensors"
#: Stages of ``partials`` that a voice may have, by their tables in [vocoder], and the files of their weights.
STAGES = {"gains": GAINS_FILE, "melgan": MELGAN_FILE}
UNKNOWN_LICENCE = "unknown"
#: Files of a folder in the Diffusers layout: three parts, each in a folder of its own, and perhaps a vocoder.
DIFFUSERS_PARTS = ("notes_encoder", "continuous_encoder", "decoder")
DIFFUSERS_STEM = "diffusion_pytorch_model"
ONNX_VOCODER = "melgan/model.onnx"
#: What loading reads of a folder with a voice file, where it is there.
FOLDER_FILES = (VOICE_FILE, WEIGHTS_FILE, VOCODER_FILE, *STAGES.values(), ONNX_VOCODER)
#: What is said of voices that bring no vocoder.
BY_PARTIALS = "unless another is chosen, notes and the bundled voice's note templates make the sound (partials)"
#: Names of vocoders in files of earlier versions -> what they are called now.
OLD_VOCODER_NAMES = {"melgan": "spectral"}
#: What the Diffusers port does by default, which is how these folders are known to sound.
DIFFUSERS_SAMPLING = Sampling(steps=100, sampler="ddpm", schedule="discrete", guidance=1.0)
#: The published models computed in float32: every gin file of magenta/music-spectrogram-diffusion, under gin/models,
#: has `network.T5Config.dtype = 'float32'`. (On the TPUs of their training the factors of matrix products, and nothing
#: else, were rounded to bfloat16, JAX's default there.)
PUBLISHED_PREFERS_BFLOAT16 = False

#: [features]: what the models' spectrograms are. A voice of other features would sound wrong here.
FEATURES: Mapping[str, int | float] = {
    "sample_rate_hz": constants.SAMPLE_RATE_HZ,
    "hop_samples": constants.HOP_SAMPLES,
    "frame_samples": constants.FRAME_SAMPLES,
    "fft_samples": constants.FFT_SAMPLES,
    "n_mels": constants.N_MELS,
    "mel_max_hz": constants.MEL_MAX_HZ,
    "mel_floor": constants.MEL_FLOOR,
    "log_mel_max": constants.LOG_MEL_MAX,
    "window_frames": constants.WINDOW_FRAMES,
}


def current_vocoder_name(name: str) -> str:
    """The name of a vocoder, also where it is given by the one that it had earlier."""
    return OLD_VOCODER_NAMES.get(name, name)


def diffusers_weights(folder: Path) -> dict[str, str]:
    """Part -> its file of weights, for the parts of a Diffusers folder that have one."""
    found = {}
    for part in DIFFUSERS_PARTS:
        for suffix in (".bin", ".safetensors"):  # the last one where both are there
            name = f"{part}/{DIFFUSERS_STEM}{suffix}"
            if isfile(folder / name):
                found[part] = name
    return found


def check_diffusers_folder(folder: Path) -> dict[str, str]:
    """Part -> its file of weights, of a folder that can be a model's. Raises WeightsError for others."""
    weights = diffusers_weights(folder)
    for part in DIFFUSERS_PARTS:
        if part not in weights and (part != "continuous_encoder" or isdir(folder / part)):
            raise WeightsError(
                f"{folder}: is not a folder of weights that specdiff knows: no {VOICE_FILE}, and no "
                f"{part}/{DIFFUSERS_STEM}.bin or .safetensors"
            )
    return weights


def vocabulary_table(config: ModelConfig) -> Mapping[str, int | float]:
    """[vocabulary]: how a model's tokens are counted."""
    return {
        "steps_per_second": constants.STEPS_PER_SECOND,
        "max_shift_steps": config.vocabulary.max_shift_steps,
        "n_velocity_bins": config.n_velocity_bins,
        "n_ids": config.vocabulary.n_ids,
        "max_tokens": constants.MAX_TOKENS,
    }


@dataclass(frozen=True, slots=True)
class VocoderSpec:
    """Name of a vocoder, and the head and sizes of its network where it has one.

    ``stages``: sizes of those of ``STAGES`` that ``partials`` has; none in other voices.
    """

    name: str
    sizes: Mapping[str, Any] = field(default_factory=dict)
    stages: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @property
    def best(self) -> str:
        """What the voice sounds through, unless another one is asked for."""
        return "melgan" if self.name == "partials" and "melgan" in self.stages else self.name


@dataclass(frozen=True, slots=True)
class VoiceFile:
    """The content of a ``voice.toml``.

    ``source`` says in one line where the weights came from. ``features`` and ``vocabulary`` are for readers of the file
    (and other programs); when given, they must agree with what this specdiff computes. ``hashes``: name of a file
    beside it -> sha256, enforced when the voice is loaded. ``presets`` are the voice's own. ``allows_int8``: so that
    ``--dtype auto`` may take 8 bits, too.
    """

    name: str
    description: str
    license: str
    model: ModelConfig
    sampling: Sampling
    vocoder: VocoderSpec
    programs: tuple[int, ...] | None
    plays_drums: bool
    prefers_bfloat16: bool
    source: str = ""
    features: Mapping[str, int | float] = field(default_factory=dict)
    vocabulary: Mapping[str, int | float] = field(default_factory=dict)
    hashes: Mapping[str, str] = field(default_factory=dict)
    presets: Mapping[str, Preset] = field(default_factory=dict)
    allows_int8: bool = False


_KEYS = {
    *("name", "description", "license", "source", "prefers_bfloat16", "allows_int8", "model", "sampling"),
    *("vocoder", "plays"),
    *("features", "vocabulary", "hashes", "presets"),
}


_MODEL_KEYS = {item.name: item.type for item in fields(ModelConfig)}
_SAMPLING_KEYS = {
    "steps": int,
    "sampler": str,
    "schedule": str,
    "guidance": float,
    "guidance_interval": tuple[float, float],
    "reuse_every": int,
}


def read_voice_file(path: Path) -> VoiceFile:
    """Read ``voice.toml`` strictly.

    Raises WeightsError for unreadable files, unknown keys, wrong types, and features that are not this program's.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise WeightsError(f"{path}: is missing; this folder is not a voice") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise WeightsError(f"{path}: cannot be read ({error})") from None
    _only(path, "", data, _KEYS)
    plays = _table(path, data, "plays")
    _only(path, "plays.", plays, {"programs", "drums"})
    programs = plays.get("programs")
    if programs is not None and not (
        isinstance(programs, list) and all(type(item) is int and 0 <= item < 128 for item in programs)
    ):
        raise WeightsError(f"{path}: plays.programs must be a list of program numbers")
    model = _build(path, "model", _table(path, data, "model"), _MODEL_KEYS, ModelConfig)
    return VoiceFile(
        name=_text(path, data, "name"),
        description=_text(path, data, "description"),
        license=_text(path, data, "license"),
        model=model,
        sampling=_sampling(path, data, model),
        vocoder=_vocoder(path, _table(path, data, "vocoder")),
        programs=None if programs is None else tuple(programs),
        plays_drums=_switch(path, plays, "plays.drums", True),
        prefers_bfloat16=_switch(path, data, "prefers_bfloat16", False),
        source=_text(path, data, "source") if "source" in data else "",
        features=_agreeing(path, data, "features", FEATURES),
        vocabulary=_agreeing(path, data, "vocabulary", vocabulary_table(model)),
        hashes=_hashes(path, data),
        presets=_presets(path, data),
        allows_int8=_int8(path, data),
    )


def write_voice_file(path: Path, voice: VoiceFile, *, overwrite: bool = False) -> None:
    """Write a ``voice.toml`` that reads back as an equal :class:`VoiceFile`; it has its name only when it is complete.

    Raises OSError: FileExistsError when it is there and ``overwrite`` is false, others where it cannot be written.
    """
    plays = {} if voice.programs is None else {"programs": list(voice.programs)}
    tables: dict[str, Mapping[str, Any]] = {
        "model": asdict(voice.model),
        "sampling": voice.sampling.as_table(),
        "vocoder": {"name": voice.vocoder.name, **voice.vocoder.sizes},
        **{f"vocoder.{name}": sizes for name, sizes in voice.vocoder.stages.items()},
        "plays": {**plays, "drums": voice.plays_drums},
        "features": voice.features,
        "vocabulary": voice.vocabulary,
        "hashes": voice.hashes,
        **{f"presets.{_key(name)}": preset.as_table() for name, preset in voice.presets.items()},
    }
    head = {"name": voice.name, "description": voice.description, "license": voice.license, "source": voice.source}
    if not voice.source:
        del head["source"]
    allowed = {"allows_int8": True} if voice.allows_int8 else {}  # older programs know no such key
    parts = [_lines({**head, "prefers_bfloat16": voice.prefers_bfloat16, **allowed})]
    parts += [f"[{name}]\n{_lines(table)}" for name, table in tables.items() if table]
    file = PendingFile(path, overwrite)
    try:
        file.open().write("\n".join(parts).encode())
        file.commit()
    finally:
        file.discard()


def _int8(path: Path, data: Mapping[str, Any]) -> bool:
    allowed = _switch(path, data, "allows_int8", False)
    if allowed and not _switch(path, data, "prefers_bfloat16", False):
        raise WeightsError(f"{path}: allows_int8 needs prefers_bfloat16: what is not in 8 bits is in bfloat16 then")
    return allowed


def _lines(values: Mapping[str, Any]) -> str:
    return "".join(f"{_key(key)} = {_toml(value)}\n" for key, value in values.items() if value is not None)


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _toml(key)


def _toml(value: object) -> str:
    # JSON's booleans, numbers, texts and lists are TOML's, too, save for one control character.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _sampling(path: Path, data: Mapping[str, Any], model: ModelConfig) -> Sampling:
    own, what = FIXED_SAMPLING.get(model.kind, (None, ""))
    if own is not None and "sampling" not in data:
        return own
    sampling = _build(path, "sampling", _table(path, data, "sampling"), _SAMPLING_KEYS, Sampling)
    if own not in (None, sampling):
        raise WeightsError(f"{path}: [sampling] is not that of a model that {what}; leave the table out")
    return sampling


def _vocoder(path: Path, table: Mapping[str, Any]) -> VocoderSpec:
    sizes = dict(table)
    name = sizes.pop("name", None)
    stages = {stage: _table(path, sizes, stage) for stage in STAGES if stage in sizes}
    sizes = {key: value for key, value in sizes.items() if key not in stages}
    if not isinstance(name, str) or not all(type(sizes[key]) is int for key in sizes if key != "head"):
        raise WeightsError(f"{path}: [vocoder] needs a name and whole numbers for its sizes")
    for stage, own in stages.items():
        if not all(type(value) is int for value in own.values()):
            raise WeightsError(f"{path}: [vocoder.{stage}] needs whole numbers for its sizes")
    return VocoderSpec(current_vocoder_name(name), sizes, stages)


def _agreeing(
    path: Path, data: Mapping[str, Any], key: str, ours: Mapping[str, int | float]
) -> Mapping[str, int | float]:
    """A table whose entries are all among ``ours``, with equal values; empty where there is none."""
    table = _table(path, data, key) if key in data else {}
    _only(path, f"{key}.", table, set(ours))
    for name, value in table.items():
        if isinstance(value, bool) or value != ours[name]:
            raise WeightsError(f"{path}: {key}.{name} is {value!r}, but specdiff computes with {ours[name]!r}")
    return dict(table)


def _hashes(path: Path, data: Mapping[str, Any]) -> Mapping[str, str]:
    table = _table(path, data, "hashes") if "hashes" in data else {}
    for name, value in table.items():
        if not PATH_PATTERN.fullmatch(name):
            raise WeightsError(f"{path}: hashes.{name!r} is not the name of a file beside it")
        if not isinstance(value, str) or not SHA256_PATTERN.fullmatch(value):
            raise WeightsError(f"{path}: hashes.{name} is {value!r}: expected 64 lower-case hexadecimal digits")
    return dict(table)


def _presets(path: Path, data: Mapping[str, Any]) -> Mapping[str, Preset]:
    table = _table(path, data, "presets") if "presets" in data else {}
    presets = {}
    for name in table:
        if not name.isprintable() or not name:
            raise WeightsError(f"{path}: presets: {name!r} is no plain name")
        known = {**_SAMPLING_KEYS, "meaning": str}
        presets[name] = _build(path, f"presets.{name}", _table(path, table, name), known, _preset)
    return presets


def _preset(meaning: str = "the voice's own", **values: Any) -> Preset:
    return Preset(Sampling(**values), meaning)


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
    # Newlines are refused because these texts end up in one-line messages.
    if not isinstance(value, str) or not value or not value.isprintable():
        raise WeightsError(f"{path}: {key} must be a text of one line")
    return value


def _switch(path: Path, data: Mapping[str, Any], name: str, default: bool) -> bool:
    value = data.get(name.rpartition(".")[2], default)
    if not isinstance(value, bool):
        raise WeightsError(f"{path}: {name} is {value!r}: expected true or false")
    return value


def _build(path: Path, name: str, table: Mapping[str, Any], known: Mapping[str, Any], make: Callable[..., T]) -> T:
    """What ``make`` makes of a table, whose keys and types are ``known``."""
    _only(path, f"{name}.", table, set(known))
    values: dict[str, Any] = {key: as_tuples(value) for key, value in table.items()}
    for key, value in values.items():
        if not _fits(value, known[key]):
            raise WeightsError(f"{path}: {name}.{key} is {table[key]!r}: expected {_described(known[key])}")
        if isinstance(value, (int, float)) and (value < 0 or not math.isfinite(value)):
            raise WeightsError(f"{path}: {name}.{key} is {'negative' if value < 0 else 'not a number to count with'}")
    try:
        return make(**values)
    except TypeError as error:
        raise WeightsError(f"{path}: [{name}] is incomplete ({error})") from None
    except (ValueError, UsageError) as error:
        raise WeightsError(f"{path}: [{name}]: {error}") from None


def as_tuples(value: Any) -> Any:
    """Lists of TOML and JSON as the tuples that records have, at every depth."""
    return tuple(map(as_tuples, value)) if isinstance(value, list) else value


def _fits(value: object, kind: Any) -> bool:
    """Whether a value of TOML (lists as tuples) is of the type that a field is declared with."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return value in arguments
    if origin is tuple and arguments[1:] == (Ellipsis,):
        return isinstance(value, tuple) and all(_fits(item, arguments[0]) for item in value)
    if origin is tuple:
        return isinstance(value, tuple) and len(value) == len(arguments) and all(map(_fits, value, arguments))
    if arguments:  # a union
        return any(_fits(value, argument) for argument in arguments)
    if kind is float:
        return type(value) in (int, float)
    return type(value) is kind and kind is not NoneType


def _described(kind: Any) -> str:
    """A type in the words of an error message."""
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, get_args(kind)))}"
    if get_args(kind)[1:] == (Ellipsis,):
        return "a list of whole numbers"
    if get_origin(kind) is tuple:
        return f"a list of {len(get_args(kind))} numbers"
    return {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}.get(kind, "another value")
