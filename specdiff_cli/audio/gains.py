"""The network for the gains of partials and noise, per mel band and half frame.

The filter of ``partials`` brings both together to the mel that is wanted of their sum. What is left is how they share
it, how it moves within a frame, and what many notes do together: this network has learned that from music, on
multi-resolution STFT distances to recordings. An untrained one says 0 throughout: nothing changes.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from specdiff_cli.audio.spectral import load_weights
from specdiff_cli.constants import N_MELS
from specdiff_cli.errors import WeightsError

QUIETEST_LOG_MEL = -6.0  # the noise of rounding to 16 bits lies below it in every band
FARTHEST = 6.0  # nepers; a part that is weaker than the whole by more is as good as absent
MOST_MISSING, MOST_AT_ONCE = 4.0, 1.5
# Nepers, to either side, while it learns and after: with 0.25 a tuba by itself is 0.3 dB further off.
LARGEST_LEARNED_GAIN, LARGEST_GAIN = 0.25, 0.15
_SLOPE = 0.2  # of the rectifiers
_KERNEL = 3
_WINDOW_FRAMES = 2


@dataclass(frozen=True)
class GainsConfig:
    """Sizes of the network (they stand in ``voice.toml``). Raises WeightsError for sizes that cannot be."""

    head: Literal["gains"] = "gains"
    width: int = 128
    """Channels between the layers."""
    n_blocks: int = 3
    """Residual blocks; their dilations are 1, 2, 4 half frames and so on."""

    def __post_init__(self) -> None:
        for name, limit in {"width": 1024, "n_blocks": 6}.items():
            if not 1 <= getattr(self, name) <= limit:
                raise WeightsError(f"the gain network's {name} {getattr(self, name)}: must be between 1 and {limit}")

    @property
    def reach_frames(self) -> int:
        """Frames to each side that the sound of a frame depends on: the network's, and those of its windows."""
        half_frames = _KERNEL // 2 + sum(1 << i for i in range(self.n_blocks))
        return math.ceil(half_frames / 2) + 2 * _WINDOW_FRAMES


class GainNetwork(nn.Module):
    """Log-mels of the parts, of their sum, and the wanted one -> gains; level by level the same where all are louder
    but for what is near the noise of 16 bits."""

    def __init__(self, config: GainsConfig) -> None:
        super().__init__()
        width = config.width
        self.reach_frames = config.reach_frames
        self.bend = nn.LeakyReLU(_SLOPE)
        self.enter = nn.Conv1d(4 * N_MELS, width, _KERNEL, padding=_KERNEL // 2)
        dilations = [1 << i for i in range(config.n_blocks)]
        self.blocks = nn.ModuleList(nn.Conv1d(width, width, _KERNEL, dilation=d, padding=d) for d in dilations)
        self.mixed = nn.ModuleList(nn.Conv1d(width, width, 1) for _ in dilations)
        self.leave = nn.Conv1d(width, 2 * N_MELS, 1)
        self.missing = nn.Parameter(torch.zeros(2, N_MELS))  # how much of what is missing at once
        nn.init.zeros_(self.leave.weight)
        if self.leave.bias is not None:
            nn.init.zeros_(self.leave.bias)

    def forward(self, partials: Tensor, noise: Tensor, both: Tensor, wanted: Tensor) -> Tensor:
        """All (B, n_half_frames, 128) log-mel -> gains in nepers (B, 2, n_half_frames, 128): of partials, of noise."""
        missing = (wanted - both).clamp(-MOST_MISSING, MOST_MISSING)
        shares = [(part - both).clamp(-FARTHEST, 0.0) for part in (partials, noise)]
        level = both.clamp(min=QUIETEST_LOG_MEL)
        x = torch.cat([0.5 * missing, 0.5 * shares[0] + 0.5, 0.5 * shares[1] + 0.5, 0.25 * level + 0.5], dim=-1)
        x = self.enter(x.transpose(1, 2))
        for block, mixed in zip(self.blocks, self.mixed, strict=True):
            x = x + mixed(self.bend(block(self.bend(x))))
        gains = self.leave(self.bend(x)).view(x.shape[0], 2, -1, x.shape[2]).transpose(2, 3)
        at_once = missing.clamp(-MOST_AT_ONCE, MOST_AT_ONCE)[:, None] * self.missing[:, None]
        largest = LARGEST_LEARNED_GAIN if self.training else LARGEST_GAIN
        limited: Tensor = largest * torch.tanh((gains + at_once) / largest)
        return limited


def ready_gains(weights: Mapping[str, Tensor], config: GainsConfig) -> GainNetwork:
    """A network for inference. Raises WeightsError for weights that do not fit."""
    network = GainNetwork(config)
    load_weights(network, weights)
    return network.eval().requires_grad_(False)
