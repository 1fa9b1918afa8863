"""Small voices with deterministic random weights, written to disk in both layouts. Used by many tests."""

import json
import zlib
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save_file

from specdiff_cli.model.config import ModelConfig
from specdiff_cli.model.network import SpectrogramDiffusion
from specdiff_cli.model.note_function import N_BANDS, NoteFunction, note_function_config
from specdiff_cli.weights.convert import diffusers_parts

# Heads x d_kv (48) differs from d_model (64) on purpose: nothing may assume that they are equal.
REFERENCE_LIKE = ModelConfig(64, 3, 16, 96, 2, 2, 2)
WITHOUT_CONTEXT = ModelConfig(64, 3, 16, 96, 2, 0, 2)
OURS = ModelConfig(32, 2, 16, 48, 1, 1, 2, n_velocity_bins=32, note_layout=True, objective="v")

VOICE_TOML = """\
name = "{name}"
description = "random weights for tests"
license = "Apache-2.0"

[model]
d_model = 32
n_heads = 2
d_kv = 16
d_ff = 48
n_note_layers = 1
n_context_layers = 1
n_decoder_layers = 2
n_velocity_bins = 32
note_layout = true
objective = "v"

[sampling]
steps = 2
sampler = "ddim"
schedule = "magenta"

[vocoder]
name = "griffin-lim"

[plays]
programs = [0]
drums = false
"""


def random_tensor(key: str, shape: torch.Size) -> torch.Tensor:
    """A tensor that depends on its name and shape alone, the same in every process and layout."""
    generator = torch.Generator().manual_seed(zlib.crc32(key.encode()))
    if len(shape) == 1:
        return 0.8 + 0.4 * torch.rand(shape, generator=generator)
    scale = 1.0 if "position" in key or "embed" in key else shape[-1] ** -0.5
    return scale * torch.randn(shape, generator=generator)


def random_network(config: ModelConfig) -> SpectrogramDiffusion:
    """A network in evaluation mode with such weights."""
    network = SpectrogramDiffusion(config)
    network.load_state_dict({key: random_tensor(key, value.shape) for key, value in network.state_dict().items()})
    return network.eval().requires_grad_(False)


def diffusers_tensors(config: ModelConfig) -> dict[str, dict[str, torch.Tensor]]:
    """Folder -> tensors under their Diffusers names."""
    with torch.device("meta"):
        network = SpectrogramDiffusion(config)
    parts = {}
    for folder, (attribute, names) in diffusers_parts(config).items():
        shapes = {key: value.shape for key, value in getattr(network, attribute).state_dict().items()}
        parts[folder] = {theirs: random_tensor(f"{folder}.{theirs}", shapes[ours]) for theirs, ours in names.items()}
    return parts


def write_diffusers_folder(
    folder: Path, config: ModelConfig = REFERENCE_LIKE, suffix: str = ".bin", *, gain: float = 1.0
) -> Path:
    """The three folders of the Diffusers layout.

    These networks find eps, and the first of few steps divides what they find by a signal of 5e-5: at full strength,
    the last bit of a sum decides what is sampled. ``gain`` multiplies what they find; a tenth leaves errors of 1e-4
    where notes make 0.2.
    """
    parts = diffusers_tensors(config)
    parts["decoder"]["spec_out.weight"] *= gain
    for part, tensors in parts.items():
        (folder / part).mkdir(parents=True)
        path = folder / part / f"diffusion_pytorch_model{suffix}"
        if suffix == ".bin":
            torch.save(tensors, path)
        else:
            save_file(tensors, path)
        common = {"d_model": config.d_model, "num_heads": config.n_heads, "d_kv": config.d_kv, "d_ff": config.d_ff}
        (folder / part / "config.json").write_text(json.dumps(common))
    return folder


def write_voice_folder(folder: Path, name: str = "random") -> Path:
    """A voice in our own layout."""
    folder.mkdir(parents=True, exist_ok=True)
    network = SpectrogramDiffusion(OURS)
    save_file(
        {key: random_tensor(key, value.shape).half() for key, value in network.state_dict().items()},
        folder / "model.safetensors",
    )
    (folder / "voice.toml").write_text(VOICE_TOML.format(name=name))
    return folder


def write_notes_run(folder: Path, log_power: float | None = None) -> Path:
    """A run of note templates, with short releases; notes are about as loud as ``log_power`` says."""
    folder.mkdir()
    network = NoteFunction(note_function_config((0,)))
    network.initialise(torch.Generator().manual_seed(0))
    torch.nn.init.constant_(network.fade.bias, 40.0)
    if log_power is not None:
        torch.nn.init.constant_(network.held.out.bias[:N_BANDS], log_power)
    save_file(dict(network.state_dict()), folder / "model.safetensors")
    about = {"model": asdict(network.config), "train": {}, "plays": {"programs": list(range(128)), "drums": True}}
    (folder / "config.json").write_text(json.dumps(about))
    return folder
