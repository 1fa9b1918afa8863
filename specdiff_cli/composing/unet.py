"""The U-Net composer: notes as triples of real numbers, and a causal one-dimensional U-Net that takes noise off them.

The layout is that of Diffusion-Music-Composer's README (kernel by level, only the width halved, squeeze-and-excitation
in every convolution, two attention heads as wide as the layer each), and so is the number of parameters. What its code
does otherwise is put right: nothing hears a later note (squeezing is a running mean, pooling looks back, going up
repeats), and the time reaches every position alike.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from specdiff_cli.checks import check_value

N_DIFFUSION_STEPS = 1000
BETA_RANGE = (1e-4, 0.02)
_TIME_SIZE = 256
_FREQUENCY_BASE = 10_000.0
#: Notes per cell at the lowest level: lengths are multiples of it.
STRIDE = 8
TRIPLE = 3  # pitch, duration, delta


@dataclass(frozen=True)
class UnetConfig:
    """Sizes. Raises ValueError for those that make no network.

    ``width``: channels of the first level, a multiple of 16; 64 makes 12.3 M parameters. ``pitch``: the scale on which
    pitch is brought to [0, 1], frequency as published or its logarithm. ``longest_beats``: longer notes and gaps count
    as this.
    """

    width: int = 64
    pitch: Literal["linear", "logarithmic"] = "linear"
    longest_beats: float = 4.0

    def __post_init__(self) -> None:
        check_value("width", self.width, self.width >= 16 and self.width % 16 == 0, "must be a multiple of 16")
        check_value("longest_beats", self.longest_beats, self.longest_beats > 0, "must be above 0")


class CausalConv(nn.Module):
    """A convolution over notes that hears a note and those before it; (batch, n, channels)."""

    def __init__(self, kernel: int, n_in: int, n_out: int) -> None:
        super().__init__()
        self.kernel = kernel
        self.conv = nn.Conv1d(n_in, n_out, kernel, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.conv(F.pad(x.transpose(1, 2), (self.kernel - 1, 0)))
        return made.transpose(1, 2)


class SqueezeExcite(nn.Module):
    """Weights for the channels by the mean of the notes so far (Hu et al. 2018, made causal)."""

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.narrow = nn.Linear(n_channels, n_channels // 16, bias=False)
        self.widen = nn.Linear(n_channels // 16, n_channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        counts = torch.arange(1, x.shape[1] + 1, device=x.device, dtype=torch.float32)[:, None]
        so_far = (x.float().cumsum(dim=1) / counts).to(x.dtype)
        weights: Tensor = torch.sigmoid(self.widen(F.relu(self.narrow(so_far))))
        return x * weights


class Block(nn.Module):
    """Two convolutions, each with norm and squeeze-and-excitation."""

    def __init__(self, kernel: int, n_in: int, n_out: int, n_middle: int = 0, *, is_residual: bool = False) -> None:
        super().__init__()
        n_middle = n_middle or n_out
        self.is_residual = is_residual
        self.first, self.second = CausalConv(kernel, n_in, n_middle), CausalConv(kernel, n_middle, n_out)
        self.first_norm, self.second_norm = nn.LayerNorm(n_middle, eps=1e-3), nn.LayerNorm(n_out, eps=1e-3)
        self.first_weights, self.second_weights = SqueezeExcite(n_middle), SqueezeExcite(n_out)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.first_weights(F.gelu(self.first_norm(self.first(x))))
        made = self.second_weights(self.second_norm(self.second(made)))
        return F.gelu(x + made) if self.is_residual else made


class Attention(nn.Module):
    """Causal attention of two heads, each as wide as the layer, and a feed-forward part of ratio 1."""

    N_HEADS = 2

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        inner = self.N_HEADS * n_channels
        self.norm, self.feed_norm = nn.LayerNorm(n_channels, eps=1e-3), nn.LayerNorm(n_channels, eps=1e-3)
        self.query, self.key = nn.Linear(n_channels, inner), nn.Linear(n_channels, inner)
        self.value, self.out = nn.Linear(n_channels, inner), nn.Linear(inner, n_channels)
        self.feed_first, self.feed_second = nn.Linear(n_channels, n_channels), nn.Linear(n_channels, n_channels)

    def forward(self, x: Tensor) -> Tensor:
        batch, n, _ = x.shape
        y = self.norm(x)
        query, key, value = (
            part(y).view(batch, n, self.N_HEADS, -1).transpose(1, 2) for part in (self.query, self.key, self.value)
        )
        heard = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.out(heard.transpose(1, 2).reshape(batch, n, -1))
        made: Tensor = x + self.feed_second(F.gelu(self.feed_first(self.feed_norm(x))))
        return made


class Level(nn.Module):
    """What one level does once the width is right: two blocks, the time, and perhaps attention."""

    def __init__(self, n_in: int, n_out: int, n_middle: int) -> None:
        super().__init__()
        self.residual = Block(5, n_in, n_in, is_residual=True)
        self.change = Block(5, n_in, n_out, n_middle)
        self.time = nn.Linear(_TIME_SIZE, n_out)
        self.attention = Attention(n_out)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        made: Tensor = self.attention(self.change(self.residual(x)) + self.time(F.silu(time))[:, None])
        return made


class UnetNetwork(nn.Module):
    """Predicts the noise in triples (batch, n, 3), n a multiple of 8. ``low`` and ``high`` bring triples to [0, 1]."""

    low: Tensor
    high: Tensor

    def __init__(self, config: UnetConfig) -> None:
        super().__init__()
        self.config = config
        c = config.width
        self.enter = Block(7, TRIPLE, c)
        self.position = nn.Linear(c, c)
        self.down = nn.ModuleList([Level(c, 2 * c, 2 * c), Level(2 * c, 4 * c, 4 * c), Level(4 * c, 4 * c, 4 * c)])
        self.middle = nn.Sequential(Block(3, 4 * c, 8 * c), Block(3, 8 * c, 8 * c), Block(3, 8 * c, 4 * c))
        self.up = nn.ModuleList([Level(8 * c, 2 * c, 4 * c), Level(4 * c, c, 2 * c), Level(2 * c, c, c)])
        self.leave = nn.Linear(c, TRIPLE)
        self.register_buffer("low", torch.zeros(TRIPLE))
        self.register_buffer("high", torch.ones(TRIPLE))

    def initialise(self, seed: int) -> None:
        """Draw the first weights."""
        generator = torch.Generator().manual_seed(seed)
        for parameter in self.parameters():
            if parameter.ndim > 1:
                fan_in = parameter.shape[1] * (parameter.shape[2] if parameter.ndim == 3 else 1)
                nn.init.normal_(parameter, std=fan_in**-0.5, generator=generator)

    def forward(self, x: Tensor, steps: Tensor) -> Tensor:
        """Noise in ``x`` at diffusion steps (batch,), 0 to 999."""
        time = time_embedding(steps)
        x = self.enter(x)
        x = x + self.position(position_code(x.shape[1], x.shape[2], x.device).to(x.dtype))
        kept = []
        for level in self.down:
            kept.append(x)
            x = level(pooled(x), time)
        x = self.middle(x)
        for level in self.up:
            x = level(torch.cat([kept.pop(), x.repeat_interleave(2, dim=1)], dim=2), time)
        noise: Tensor = self.leave(x)
        return noise


def pooled(x: Tensor) -> Tensor:
    """(batch, n, c) to (batch, n / 2, c): the larger of a note and the one before it.

    Going up, a cell becomes its own note and the next one; so a note never hears what follows.
    """
    return F.max_pool1d(F.pad(x.transpose(1, 2), (1, 0))[..., :-1], 2).transpose(1, 2)


def time_embedding(steps: Tensor) -> Tensor:
    """Sinusoids (batch, 256) of diffusion steps (batch,)."""
    half = _TIME_SIZE // 2
    rates = _FREQUENCY_BASE ** -(torch.arange(half, device=steps.device) / (half - 1))
    angles = steps.float()[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def position_code(n: int, size: int, device: torch.device) -> Tensor:
    """Sinusoids (n, size) of positions, sines at even places."""
    rates = _FREQUENCY_BASE ** -(torch.arange(0, size, 2, device=device) / size)
    angles = torch.arange(n, device=device)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)


def alpha_bars() -> Tensor:
    """Share of the signal's power at each of the 1000 steps; betas rise linearly (Ho et al. 2020)."""
    return (1 - torch.linspace(*BETA_RANGE, N_DIFFUSION_STEPS, dtype=torch.float64)).cumprod(0)


@torch.no_grad()
def sample(
    network: UnetNetwork, noise: Tensor, n_steps: int, fresh: "list[Tensor] | None" = None, on_step: object = None
) -> Tensor:
    """Triples in [0, 1] from ``noise`` (batch, n, 3).

    DDIM (Song et al. 2021) over evenly spaced steps. ``fresh``: noise for each step, which makes it DDPM.
    """
    bars = alpha_bars()
    times = torch.linspace(N_DIFFUSION_STEPS - 1, 0, n_steps).round().long().tolist()
    x = noise
    for index, time in enumerate(times):
        bar = float(bars[time])
        before = float(bars[times[index + 1]]) if index + 1 < len(times) else 1.0
        predicted = network(x, torch.full((len(x),), time)).float()
        clean = ((x - (1 - bar) ** 0.5 * predicted) / bar**0.5).clamp(0, 1)
        predicted = (x - bar**0.5 * clean) / (1 - bar) ** 0.5
        spread = 0.0
        if fresh is not None:
            spread = ((1 - before) / (1 - bar) * (1 - bar / before)) ** 0.5
        x = before**0.5 * clean + max(0.0, 1 - before - spread**2) ** 0.5 * predicted
        if fresh is not None and index + 1 < len(times):
            x = x + spread * fresh[index]
        if callable(on_step):
            on_step(1)
    return x.clamp(0, 1)
