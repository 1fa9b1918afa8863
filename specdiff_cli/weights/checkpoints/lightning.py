"""Checkpoints of music-spectrogram-diffusion-pytorch: PyTorch Lightning's ``.ckpt``, a pickle with a state dict in it.

Besides tensors Lightning keeps counters, schedules and the optimiser's state; only plain values are allowed there, and
nothing is executed.
"""

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from specdiff_cli.diffusion.sampling import Sampling
from specdiff_cli.errors import WeightsError
from specdiff_cli.model.network import Network
from specdiff_cli.weights import convert
from specdiff_cli.weights.convert_lightning import (
    HIGH,
    LIGHTNING_D_KV,
    LOW,
    Change,
    lightning_config,
    lightning_origins,
    lightning_shapes,
)
from specdiff_cli.weights.load import empty_network, read_content

CONTENT_FILE = "data.pkl"  # of the zip that PyTorch writes
LEGACY_START = b"\x80\x02"  # of the pickle that it wrote before version 1.6
#: As the repository samples, with its schedule and guidance, save that it takes 1000 steps.
LIGHTNING_SAMPLING = Sampling(steps=100, sampler="ddpm", schedule="magenta", guidance=2.0)


def read_network(path: Path) -> Network:
    """The network of a checkpoint, in our layout. Raises WeightsError."""
    state = _read_state(path)
    shapes = {key: tuple(tensor.shape) for key, tensor in state.items()}
    try:
        config = lightning_config(shapes, _feature_range(state))
    except ValueError as error:
        raise WeightsError(f"{path}: is no checkpoint of music-spectrogram-diffusion-pytorch: {error}") from None
    network = empty_network(config)
    ours = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    problem = convert.misfits(shapes, lightning_shapes(config, shapes, ours))
    if problem is not None:
        raise WeightsError(f"{path}: the arrays do not fit this model: {problem}")
    filled = {}
    for our_key, (theirs, change) in lightning_origins(config).items():
        filled[our_key] = _changed(state[theirs].float(), change, ours[our_key]).contiguous().clone()
    network.load_state_dict(filled, assign=True)
    return network.eval().requires_grad_(False)


def _changed(tensor: Tensor, change: Change, shape: tuple[int, ...]) -> Tensor:
    if change is Change.QUERY:
        return tensor / math.sqrt(LIGHTNING_D_KV)
    if change is Change.GATE:
        return tensor[shape[0] :]
    if change in (Change.UP, Change.POSITIONS):
        return tensor[: shape[0]]
    if change is Change.TIME:  # they keep (cos, sin) of each rate side by side
        return torch.cat([tensor[:, 1::2], tensor[:, ::2]], dim=1)
    return tensor


def _feature_range(state: Mapping[str, Tensor]) -> tuple[float, float]:
    if LOW not in state or HIGH not in state:
        raise ValueError(f"it has no {LOW} and {HIGH}, the range of its features")
    if state[LOW].numel() != 1 or state[HIGH].numel() != 1:
        raise ValueError(f"{LOW} and {HIGH} are not single numbers")
    low, high = float(state[LOW]), float(state[HIGH])
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"its features range from {low:g} to {high:g}; it was never trained")
    return low, high


def _read_state(path: Path) -> dict[str, Tensor]:
    content = read_content(path)
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state, Mapping) or not state or not all(isinstance(v, Tensor) for v in state.values()):
        raise WeightsError(f"{path}: has no state_dict of tensors; is it a Lightning checkpoint?")
    wrong = sorted(str(key) for key, tensor in state.items() if not tensor.is_floating_point())
    if wrong:
        raise WeightsError(f"{path}: {len(wrong)} not floating point: {convert.some(wrong)}")
    return {str(key): tensor for key, tensor in state.items()}
