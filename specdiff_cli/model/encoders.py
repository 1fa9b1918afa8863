"""Encoders of the note tokens and of the previous window's spectrogram, and the positions that all parts add."""

import math

import torch
from torch import Tensor, nn

from specdiff_cli.constants import MAX_TOKENS, N_MELS, WINDOW_FRAMES
from specdiff_cli.model.config import ModelConfig
from specdiff_cli.model.layers import EncoderBlock, mask_bias, norm_of


def _blocks(config: ModelConfig, n_layers: int) -> nn.ModuleList:
    return nn.ModuleList(EncoderBlock(config) for _ in range(n_layers))


class NoteEncoder(nn.Module):
    """Token ids (B, K) -> encodings (B, K, d_model). Positions come from a table of 2048 rows.

    The table is stored with the weights, save in autoregressive models, whose positions are :class:`PlainPositions`.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.n_vocabulary_rows, config.d_model)
        table = PlainPositions if config.is_autoregressive else nn.Embedding
        self.positions = table(MAX_TOKENS, config.d_model)
        self.blocks = _blocks(config, config.n_note_layers)
        self.norm = norm_of(config)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """``mask`` (B, K) is true at real tokens; leave it out where nothing is padded."""
        x = self.embedding(tokens) + self.positions.weight[: tokens.shape[1]]
        bias: Tensor | None = None
        if mask is not None:
            bias = mask_bias(mask, x.dtype)
        for block in self.blocks:
            x = block(x, bias)
        return self.norm(x)  # type: ignore[no-any-return]


class ContextEncoder(nn.Module):
    """Previous spectrogram (B, frames, 128) in model range -> encodings (B, frames, d_model).

    A context shorter than 256 frames takes the last rows of the position table: its last frame is always row 255.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.input_projection = nn.Linear(N_MELS, config.d_model, bias=config.is_lightning)
        self.positions = nn.Embedding(WINDOW_FRAMES, config.d_model)
        self.blocks = _blocks(config, config.n_context_layers)
        self.norm = norm_of(config)

    def forward(self, context: Tensor) -> Tensor:
        n_frames = context.shape[1]
        x = self.input_projection(context.to(self.input_projection.weight.dtype))
        x = x + self.positions.weight[self.positions.weight.shape[0] - n_frames :]
        bias: Tensor | None = None
        for block in self.blocks:
            x = block(x, bias)
        return self.norm(x)  # type: ignore[no-any-return]


class PlainPositions(nn.Module):
    """The sinusoids of the original transformer, [sin | cos], in ``weight`` (n_rows, d_model).

    Computed and not stored: no checkpoint holds them. Made on the CPU even where the network around them is made
    without storage. Source: ``FixedEmbed`` in the reference's ``layers.py``.
    """

    weight: Tensor

    def __init__(self, n_rows: int, d_model: int) -> None:
        super().__init__()
        half = d_model // 2
        rates = torch.exp(torch.arange(half, dtype=torch.float64, device="cpu") * (-math.log(10_000.0) / (half - 1)))
        angles = torch.arange(n_rows, dtype=torch.float64, device="cpu")[:, None] * rates
        self.register_buffer("weight", torch.cat([angles.sin(), angles.cos()], dim=1).float(), persistent=False)


def sinusoid_table(n_rows: int, d_model: int, generator: torch.Generator) -> Tensor:
    """Sinusoids (n_rows, d_model) with permuted channels and random phases, as new voices start from."""
    half = (d_model + 1) // 2
    rates = torch.exp(-torch.linspace(0, 1, half) * torch.log(torch.tensor(10_000.0)))
    angles = torch.arange(n_rows)[:, None] * rates.repeat(2)[:d_model]
    phases = torch.rand(d_model, generator=generator) * 2 * torch.pi
    order = torch.randperm(d_model, generator=generator)
    return torch.sin(angles + phases)[:, order]
