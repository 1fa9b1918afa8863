"""Small voices of each of the reference's architectures, with deterministic random weights."""

from pathlib import Path

import torch
from random_voices import random_tensor
from safetensors.torch import save_file

from specdiff_cli.diffusion.sampling import AUTOREGRESSIVE_SAMPLING, Sampling
from specdiff_cli.model.autoregressive import AutoregressiveNetwork
from specdiff_cli.model.config import ModelConfig
from specdiff_cli.model.network import build_network
from specdiff_cli.weights.voice_file import (
    VocoderSpec,
    VoiceFile,
    write_voice_file,
)

AUTOREGRESSIVE = ModelConfig(64, 3, 16, 96, 1, 0, 2, kind="autoregressive")
#: Sizes that keep what matters of the true ones: heads x d_kv is d_model in base alone.
ARCHITECTURES = {
    "small": ModelConfig(64, 3, 16, 96, 1, 1, 2),
    "small-no-context": ModelConfig(64, 3, 16, 96, 1, 0, 2),
    "base": ModelConfig(48, 3, 16, 96, 1, 1, 2),
    "small-autoregressive": AUTOREGRESSIVE,
}


def voice_tensors(config: ModelConfig) -> dict[str, torch.Tensor]:
    """The content of ``model.safetensors``."""
    with torch.device("meta"):
        network = build_network(config)
    return {key: random_tensor(key, value.shape) for key, value in network.state_dict().items()}


def autoregressive_network() -> AutoregressiveNetwork:
    """The network of such a voice in evaluation mode."""
    network = AutoregressiveNetwork(AUTOREGRESSIVE)
    network.load_state_dict(voice_tensors(AUTOREGRESSIVE))
    return network.eval().requires_grad_(False)


def write_architecture_folder(folder: Path, name: str = "small-autoregressive") -> Path:
    """A voice in our own layout."""
    config = ARCHITECTURES[name]
    diffusion = Sampling(steps=2, sampler="ddim", schedule="magenta")
    folder.mkdir(parents=True)
    save_file(voice_tensors(config), folder / "model.safetensors")
    described = VoiceFile(
        name=name,
        description="random weights for tests",
        license="Apache-2.0",
        model=config,
        sampling=AUTOREGRESSIVE_SAMPLING if config.is_autoregressive else diffusion,
        vocoder=VocoderSpec("griffin-lim"),
        programs=None,
        plays_drums=True,
        prefers_bfloat16=False,
    )
    write_voice_file(folder / "voice.toml", described)
    return folder
