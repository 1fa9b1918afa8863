"""What a voice is, known before it is loaded, and the one way to find one. No torch."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from os.path import exists, isdir, isfile  # unlike Path's, they answer no where looking is not allowed
from pathlib import Path
from typing import Any

from specdiff_cli.diffusion.presets import Preset
from specdiff_cli.diffusion.sampling import Sampling
from specdiff_cli.errors import Option, WeightsError
from specdiff_cli.files import hidden_by, reason, shown_path, size_bytes
from specdiff_cli.model.config import Kind, ModelConfig
from specdiff_cli.weights import cache, lock
from specdiff_cli.weights.voice_file import (
    DIFFUSERS_PARTS,
    DIFFUSERS_SAMPLING,
    FOLDER_FILES,
    ONNX_VOCODER,
    PUBLISHED_PREFERS_BFLOAT16,
    VOICE_FILE,
    VocoderSpec,
    VoiceFile,
    check_diffusers_folder,
    diffusers_weights,
    read_voice_file,
)


@dataclass(frozen=True, kw_only=True)
class VoiceCard:
    """What a voice is: all that is known of it without loading its network.

    ``model`` is what it was found by, a name or a folder. ``config`` is None where nothing tells the network's sizes.
    ``origin`` says in one line where the weights came from. ``known_sha256``: file -> the sha256 that loading enforces;
    None where nothing outside the folder says any.
    """

    name: str
    folder: Path
    sampling: Sampling
    vocoder: VocoderSpec
    model: str = ""
    config: ModelConfig | None = None
    programs: tuple[int, ...] | None = None  # model classes it was trained on; None: all of them
    plays_drums: bool = True
    prefers_bfloat16: bool = False  # trained for it: `--dtype auto` may take it
    allows_int8: bool = False  # found to bear it: so may it take this, on CPUs
    presets: Mapping[str, Preset] = field(default_factory=dict)  # its own, beside the general ones
    origin: str = ""
    known_sha256: Mapping[str, str] | None = None

    @property
    def kind(self) -> Kind:
        """How it makes spectrograms."""
        return "diffusion" if self.config is None else self.config.kind

    @property
    def follows_velocity(self) -> bool:
        """Whether it was trained with dynamics; the published checkpoints were not."""
        return self.config is not None and self.config.n_velocity_bins > 1

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
        return sum(map(size_bytes, paths))


def find_voice(model: str) -> VoiceCard:
    """The voice of that name or in that folder: bundled, downloaded, converted, or of the Diffusers layout.

    Raises:
        WeightsError: there is none, as loading it would say.
    """
    known = lock.load_lock()
    if model in known.bundled:
        hashes = {file.path: file.sha256 for file in known.bundled[model].files}
        return _voice_folder(model, lock.bundled_folder(model), hashes)
    if model in known.models:
        try:
            folder, found = cache.find_weights(model, lock=known)
        except WeightsError as error:
            error.option, error.value = "model", model
            raise
        return _folder(model, folder, model, found)
    folder = Path(model)
    if isdir(folder):
        return _folder(model, folder, Path(os.path.realpath(folder)).name, None)
    if exists(folder):
        raise WeightsError(
            f"{model}: is a file; ",
            Option("model"),
            " takes a voice's name or a folder of weights",
            option="model",
            value=model,
        )
    if (problem := hidden_by(folder)) is not None:
        raise WeightsError(f"{shown_path(model)}: cannot be read ({problem})", option="model", value=model)
    names = ", ".join(sorted([*known.bundled, *known.models]))
    raise WeightsError(
        f"{model}: is neither a known voice ({names}) nor a folder; check the spelling", option="model", value=model
    )


def _folder(model: str, folder: Path, name: str, hashes: Mapping[str, str] | None) -> VoiceCard:
    if isfile(folder / VOICE_FILE):
        return _voice_folder(model, folder, hashes)
    if (problem := hidden_by(folder / VOICE_FILE)) is not None:
        raise WeightsError(f"{model}: cannot be looked into ({problem})", option="model", value=model)
    check_diffusers_folder(folder)
    return published_card(model, folder, name, has_vocoder=isfile(folder / ONNX_VOCODER), known_sha256=hashes)


def published_card(model: str, folder: Path, name: str, *, has_vocoder: bool, **more: Any) -> VoiceCard:
    """The card of a model in the Diffusers layout, which says nothing of itself; ``more``: further fields."""
    return VoiceCard(
        model=model,
        name=name,
        folder=folder,
        sampling=DIFFUSERS_SAMPLING,
        vocoder=VocoderSpec("soundstream" if has_vocoder else "partials"),
        prefers_bfloat16=PUBLISHED_PREFERS_BFLOAT16,
        **more,
    )


def _voice_folder(model: str, folder: Path, hashes: Mapping[str, str] | None) -> VoiceCard:
    return described_card(model, folder, read_voice_file(folder / VOICE_FILE), known_sha256=hashes)


def described_card(
    model: str, folder: Path, voice: VoiceFile, *, known_sha256: Mapping[str, str] | None = None
) -> VoiceCard:
    """The card of a folder with a ``voice.toml``."""
    return VoiceCard(
        model=model,
        name=voice.name,
        folder=folder,
        sampling=voice.sampling,
        vocoder=voice.vocoder,
        config=voice.model,
        programs=voice.programs,
        plays_drums=voice.plays_drums,
        prefers_bfloat16=voice.prefers_bfloat16,
        allows_int8=voice.allows_int8,
        presets=voice.presets,
        origin=voice.source,
        known_sha256=known_sha256,
    )


def _weight_files(folder: Path) -> list[str]:
    """The files of a voice that loading reads, in either layout, as far as they are there."""
    if isfile(folder / VOICE_FILE):
        wanted = list(FOLDER_FILES)
    else:
        wanted = [ONNX_VOCODER, *(f"{part}/config.json" for part in DIFFUSERS_PARTS)]
        wanted += diffusers_weights(folder).values()
    return [name for name in wanted if isfile(folder / name)]
