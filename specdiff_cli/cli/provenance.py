"""Where a file of audio comes from: the record that travels inside it, and whether it still is what would be rendered.

All of it is known without PyTorch, so that a batch in which nothing is left to do ends at once.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from functools import cached_property
from os.path import isdir, isfile  # unlike Path's, they answer no where looking is not allowed
from pathlib import Path
from typing import Any

from specdiff_cli import __version__
from specdiff_cli.audio.record import PROGRAM
from specdiff_cli.constants import SAMPLE_RATE_HZ
from specdiff_cli.diffusion.presets import Preset
from specdiff_cli.errors import WeightsError
from specdiff_cli.files import reason
from specdiff_cli.midi.edits import Edits
from specdiff_cli.model.config import Kind
from specdiff_cli.weights import cache, lock
from specdiff_cli.weights.voice_file import (
    DIFFUSERS_PARTS,
    DIFFUSERS_SAMPLING,
    ONNX_VOCODER,
    SamplingDefaults,
    current_vocoder_name,
    diffusers_weights,
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
    presets: Mapping[str, Preset] = field(default_factory=dict)  # its own
    kind: Kind = "diffusion"
    known_sha256: Mapping[str, str] | None = None  # those that loading enforces; None: to be computed

    @property
    def follows_gain(self) -> bool:
        """Whether it plays what channels are asked for over time (``MidiSong.expression``)."""
        return self.kind == "templates"

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
        folder, hashes = cache.find_weights(model, lock=known)
        if isfile(folder / "voice.toml"):
            return _voice_folder(folder, hashes)
        return _diffusers_folder(folder, model, hashes)
    folder = Path(model)
    if isfile(folder / "voice.toml"):
        return _voice_folder(folder, None)
    if isdir(folder / "decoder"):
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
        presets=voice.presets,
        kind=voice.model.kind,
        known_sha256=hashes,
    )


def _diffusers_folder(folder: Path, name: str, hashes: Mapping[str, str] | None) -> VoiceIdentity:
    vocoder = "soundstream" if isfile(folder / ONNX_VOCODER) else "griffin-lim"
    return VoiceIdentity(name, folder, DIFFUSERS_SAMPLING, vocoder, known_sha256=hashes)


def _weight_files(folder: Path) -> list[str]:
    """The files of a voice that loading reads, in either layout, as far as they are there."""
    if isfile(folder / "voice.toml"):
        wanted = ["voice.toml", "model.safetensors", "vocoder.safetensors", ONNX_VOCODER]
    else:
        wanted = [ONNX_VOCODER, *(f"{part}/config.json" for part in DIFFUSERS_PARTS)]
        wanted += diffusers_weights(folder).values()
    return [name for name in wanted if isfile(folder / name)]


@dataclass(frozen=True, slots=True)
class SoundOptions:
    """Every option that changes the sound, with the voice's defaults filled in.

    Those with a default here came later: a record names them only where they differ from it, so that files of older
    versions are still known for what they are.
    """

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
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    overlap_frames: int = 0
    sample_rate_hz: int = SAMPLE_RATE_HZ
    normalize: str | None = None
    stems: bool = False
    stereo: bool = False
    track: int | None = None
    edits: Edits = field(default_factory=Edits)

    @property
    def by_stems(self) -> bool:
        """Whether each instrument is rendered on its own."""
        return self.stems or self.stereo

    def recorded(self) -> dict[str, Any]:
        """Option -> value as JSON has it, without those that stand at a default of this class."""
        options = asdict(self)
        options |= options.pop("edits")
        return {key: value for key, value in _plain(options).items() if key not in _DEFAULTS or value != _DEFAULTS[key]}


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """As it reads back from a record: tuples are lists there."""
    plain: dict[str, Any] = json.loads(json.dumps(options))
    return plain


_DEFAULTS = _plain(
    {item.name: item.default for item in fields(SoundOptions) if item.default is not MISSING} | asdict(Edits())
)


def source_facts(name: str, data: bytes, voice: VoiceIdentity, options: SoundOptions) -> dict[str, Any]:
    """What decides a render and is known before it: the part of a record that is compared."""
    return {
        "program": PROGRAM,
        "version": __version__,
        "input": {"name": name, "sha256": hashlib.sha256(data).hexdigest()},
        "model": {"name": voice.name, "weights": voice.weights_sha256},
        "options": options.recorded(),
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
    was, now = dict(_table(record, "options")), facts["options"]
    if "vocoder" in was:  # of an earlier version, perhaps
        was["vocoder"] = current_vocoder_name(str(was["vocoder"]))
    for key in dict.fromkeys([*now, *was]):
        before, after = (options.get(key, _DEFAULTS.get(key)) for options in (was, now))
        # auto stands for whatever it was resolved to, so asking for just that by name changes nothing
        if before != after and not (key in ("device", "dtype") and after == record.get(key)):
            found.append(f"{shown_option(key)} was {_shown(before)}, now {_shown(after)}")
    return found


def shown_option(key: str) -> str:
    """A key of a record's options as the command line has it: ``sample_rate_hz`` -> ``sample-rate``."""
    plain = key.removesuffix("_s").removesuffix("_hz").replace("_", "-")
    return {"swaps": "swap", "programs": "program"}.get(plain, plain)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def _table(record: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = record.get(key)
    return value if isinstance(value, dict) else {}
