"""Where a file of audio comes from: the record that travels inside it, and whether it still is what would be rendered.

All of it is known without PyTorch, so that a batch in which nothing is left to do ends at once.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from specdiff_cli import __version__
from specdiff_cli.audio.pending import reason
from specdiff_cli.audio.record import PROGRAM
from specdiff_cli.errors import WeightsError
from specdiff_cli.weights import cache, lock
from specdiff_cli.weights.voice_file import (
    DIFFUSERS_PARTS,
    DIFFUSERS_SAMPLING,
    DIFFUSERS_STEM,
    ONNX_VOCODER,
    SamplingDefaults,
    read_voice_file,
)


@dataclass(frozen=True)
class VoiceIdentity:
    """What is known of a voice without loading it."""

    name: str
    folder: Path
    sampling: SamplingDefaults
    vocoder: str
    programs: tuple[int, ...] | None = None
    plays_drums: bool = True
    follows_velocity: bool = False
    known_sha256: Mapping[str, str] | None = None  # those that loading enforces; None: to be computed

    @cached_property
    def weights_sha256(self) -> dict[str, str]:
        """File -> sha256, of all files that decide how the voice sounds. Raises WeightsError."""
        if self.known_sha256 is not None:
            return dict(self.known_sha256)
        try:
            return {name: lock.file_sha256(self.folder / name) for name in _weight_files(self.folder)}
        except OSError as error:
            raise WeightsError(f"{error.filename or self.folder}: cannot be read ({reason(error)})") from None

    @property
    def n_bytes(self) -> int:
        """Size of the weights on disk, as a measure of the network's size."""
        paths = (self.folder / name for name in _weight_files(self.folder))
        return sum(path.stat().st_size for path in paths if path.is_file())


def identify_voice(model: str) -> VoiceIdentity:
    """The voice of that name or in that folder. Raises WeightsError as loading it would."""
    known = lock.load_lock()
    if model in known.bundled:
        hashes = {file.path: file.sha256 for file in known.bundled[model].files}
        return _voice_folder(lock.bundled_folder(model), hashes)
    if model in known.models:
        folder = cache.find_model(model, lock=known)
        files = {file.path: cache.expected_sha256(folder, file) or "" for file in known.models[model].files}
        return _diffusers_folder(folder, model, {path: files[path] for path in _weight_files(folder) if path in files})
    folder = Path(model)
    if (folder / "voice.toml").is_file():
        return _voice_folder(folder, None)
    if (folder / "decoder").is_dir():
        return _diffusers_folder(folder, folder.resolve().name, None)
    from specdiff_cli.weights.load import load_voice

    load_voice(model)  # says what is wrong with it
    raise WeightsError(f"{model}: is not a voice")


def _voice_folder(folder: Path, hashes: Mapping[str, str] | None) -> VoiceIdentity:
    voice = read_voice_file(folder / "voice.toml")
    return VoiceIdentity(
        name=voice.name,
        folder=folder,
        sampling=voice.sampling,
        vocoder=voice.vocoder.name,
        programs=voice.programs,
        plays_drums=voice.plays_drums,
        follows_velocity=voice.model.n_velocity_bins > 1,
        known_sha256=hashes,
    )


def _diffusers_folder(folder: Path, name: str, hashes: Mapping[str, str] | None) -> VoiceIdentity:
    vocoder = "soundstream" if (folder / ONNX_VOCODER).is_file() else "griffin-lim"
    return VoiceIdentity(name, folder, DIFFUSERS_SAMPLING, vocoder, known_sha256=hashes)


def _weight_files(folder: Path) -> list[str]:
    """The files of a voice that loading reads, in either layout, as far as they are there."""
    if (folder / "voice.toml").is_file():
        wanted = ["voice.toml", "model.safetensors", "vocoder.safetensors"]
    else:
        wanted = [ONNX_VOCODER]
        for part in DIFFUSERS_PARTS:
            stem = f"{part}/{DIFFUSERS_STEM}"
            # loading takes the first of the two
            wanted += [f"{part}/config.json", f"{stem}.safetensors"]
            if not (folder / f"{stem}.safetensors").is_file():
                wanted.append(f"{stem}.bin")
    return [name for name in wanted if (folder / name).is_file()]


@dataclass(frozen=True, slots=True)
class SoundOptions:
    """Every option that changes the sound, with the voice's defaults filled in."""

    steps: int
    sampler: str
    schedule: str
    guidance: float
    seed: int
    vocoder: str
    tail_s: float
    subtype: str
    device: str
    dtype: str


def source_facts(name: str, data: bytes, voice: VoiceIdentity, options: SoundOptions) -> dict[str, Any]:
    """What decides a render and is known before it: the part of a record that is compared."""
    return {
        "program": PROGRAM,
        "version": __version__,
        "input": {"name": name, "sha256": hashlib.sha256(data).hexdigest()},
        "model": {"name": voice.name, "weights": voice.weights_sha256},
        "options": asdict(options),
    }


def render_record(facts: Mapping[str, Any], device: str, dtype: str) -> dict[str, Any]:
    """The record of a render: the facts, and what computed it."""
    import torch

    return {**facts, "device": device, "dtype": dtype, "torch": str(torch.__version__)}


def differences(record: Mapping[str, Any], facts: Mapping[str, Any]) -> list[str]:
    """Why a file with this record is not what would be rendered now, as phrases; none where it is.

    The version of the program is not compared: an upgrade alone renders nothing again.
    """
    found = []
    if _table(record, "input").get("sha256") != facts["input"]["sha256"]:
        found.append("the input has changed")
    model = _table(record, "model")
    if model.get("name") != facts["model"]["name"]:
        found.append(f"the model was {model.get('name')}, now {facts['model']['name']}")
    elif model.get("weights") != facts["model"]["weights"]:
        found.append(f"the weights of {facts['model']['name']} have changed")
    options = _table(record, "options")
    for key, value in facts["options"].items():
        was = options.get(key)
        # auto stands for whatever it was resolved to, so asking for just that by name changes nothing
        if was != value and not (key in ("device", "dtype") and value == record.get(key)):
            found.append(f"{key.removesuffix('_s')} was {was}, now {value}")
    return found


def _table(record: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = record.get(key)
    return value if isinstance(value, dict) else {}
