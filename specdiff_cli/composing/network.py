"""The network of the token model: a small transformer over notes.

It is read in two ways with the same weights. ``rhythm``: with causal attention, what is known of the notes before one
tells when that one begins and which part has it. ``masked``: with attention in both directions and all onsets and
parts known, it fills in what is masked of pitch, duration and velocity.

Attention knows distances in notes and in time: half of each head turns with the index of a note, the other half with
its onset (RoPE, Su et al. 2021).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from specdiff_cli.checks import check_value
from specdiff_cli.composing.vocabulary import (
    CONDITION_SIZES,
    DURATION,
    MOST_BARS_AHEAD,
    N_LEFT_CLASSES,
    N_POSITIONS,
    ONSET,
    PART,
    PITCH,
    SIZES,
    VELOCITY,
)

MASKABLE = (PITCH, DURATION, VELOCITY)


@dataclass(frozen=True)
class TokensConfig:
    """Sizes of the network. Raises ValueError for sizes that make none.

    ``dropout`` acts in training alone.
    """

    d_model: int = 192
    n_heads: int = 4
    n_layers: int = 6
    d_ff: int = 768
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for key in ("d_model", "n_heads", "n_layers", "d_ff"):
            check_value(key, getattr(self, key), getattr(self, key) >= 1, "must be at least 1")
        divides = self.d_model % (4 * self.n_heads) == 0
        check_value("d_model", self.d_model, divides, f"must be a multiple of 4 * n_heads ({4 * self.n_heads})")
        check_value("dropout", self.dropout, 0 <= self.dropout < 1, "must be at least 0 and below 1")


@dataclass(frozen=True)
class Notes:
    """A batch of notes as the network reads them, all int64.

    ``fields`` (batch, n, 5): ids, a field's size where it is masked; ``times`` (batch, n): onsets in steps;
    ``left`` (batch, n): class of how many notes follow in the song; ``begins`` (batch, n): 1 for a song's first note;
    ``conditions`` (batch, 4).
    """

    fields: Tensor
    times: Tensor
    left: Tensor
    begins: Tensor
    conditions: Tensor

    def __getitem__(self, rows: slice) -> "Notes":
        return Notes(self.fields[rows], self.times[rows], self.left[rows], self.begins[rows], self.conditions[rows])


class Block(nn.Module):
    """Attention and feed-forward, each behind its own norm."""

    def __init__(self, config: TokensConfig) -> None:
        super().__init__()
        d = config.d_model
        self.n_heads, self.d_head, self.dropout = config.n_heads, d // config.n_heads, config.dropout
        self.attention_norm, self.feed_norm = nn.LayerNorm(d, bias=False), nn.LayerNorm(d, bias=False)
        self.qkv = nn.Linear(d, 3 * d, bias=False)
        self.out = nn.Linear(d, d, bias=False)
        self.widen = nn.Linear(d, config.d_ff, bias=False)
        self.narrow = nn.Linear(config.d_ff, d, bias=False)

    def forward(self, x: Tensor, turns: tuple[Tensor, Tensor], is_causal: bool, past: "Past | None" = None) -> Tensor:
        """(batch, n, d) to the same; ``turns``: cosines and sines (batch, 1, n, d_head / 2)."""
        batch, n, d = x.shape
        parts = self.qkv(self.attention_norm(x)).view(batch, n, 3, self.n_heads, self.d_head)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        query, key = turned(query, turns), turned(key, turns)
        if past is not None:
            key, value = past.extended(key, value)
        heard = attend(query, key, value, is_causal=is_causal)
        x = x + self._dropped(self.out(heard.transpose(1, 2).reshape(batch, n, d)))
        return x + self._dropped(self.narrow(F.gelu(self.widen(self.feed_norm(x)))))

    def _dropped(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training) if self.dropout else x


class Past:
    """Keys and values of the notes so far, of one layer."""

    def __init__(self) -> None:
        self._kept: tuple[Tensor, Tensor] | None = None

    def extended(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Those so far and the new ones behind them, which are kept."""
        if self._kept is not None:
            key, value = torch.cat([self._kept[0], key], dim=2), torch.cat([self._kept[1], value], dim=2)
        self._kept = key, value
        return key, value


class TokensNetwork(nn.Module):
    """Embeddings, blocks and one output per field."""

    by_index: Tensor
    by_time: Tensor

    def __init__(self, config: TokensConfig) -> None:
        super().__init__()
        self.config = config
        d = config.d_model
        self.ahead = nn.Embedding(MOST_BARS_AHEAD + 1, d)
        self.position = nn.Embedding(N_POSITIONS, d)
        self.part = nn.Embedding(SIZES[PART], d)
        self.pitch_class = nn.Embedding(13, d)
        self.masked_fields = nn.ModuleList(nn.Embedding(SIZES[field] + 1, d) for field in MASKABLE)
        self.conditions = nn.ModuleList(nn.Embedding(size + 1, d) for size in CONDITION_SIZES)
        self.left = nn.Embedding(N_LEFT_CLASSES + 1, d)
        self.begins = nn.Embedding(2, d)
        self.nothing_before = nn.Parameter(torch.zeros(d))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.norm = nn.LayerNorm(d, bias=False)
        self.onset_out = nn.Linear(d, SIZES[ONSET])
        self.part_out = nn.Linear(d, SIZES[PART])
        self.outs = nn.ModuleList(nn.Linear(d, SIZES[field]) for field in MASKABLE)
        n_turns = d // config.n_heads // 4
        by_index = 0.6 * 300.0 ** -torch.linspace(0, 1, n_turns)
        by_time = 2 * torch.pi / (4.0 * 600.0 ** torch.linspace(0, 1, n_turns))
        self.register_buffer("by_index", by_index, persistent=False)
        self.register_buffer("by_time", by_time, persistent=False)

    def initialise(self, seed: int) -> None:
        """Draw the first weights."""
        generator = torch.Generator().manual_seed(seed)
        depth = (2 * self.config.n_layers) ** -0.5
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                scale = depth if name.endswith(("out.weight", "narrow.weight")) and "blocks" in name else 1.0
                nn.init.normal_(parameter, std=0.03 * scale, generator=generator)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def embed_notes(self, fields: Tensor) -> Tensor:
        """Sum of a note's field embeddings, (batch, n, d)."""
        ahead, position = fields[..., ONSET] // N_POSITIONS, fields[..., ONSET] % N_POSITIONS
        pitch = fields[..., PITCH]
        pitch_class = torch.where(pitch == SIZES[PITCH], 12, (pitch + 9) % 12)
        x: Tensor = (
            self.ahead(ahead) + self.position(position) + self.part(fields[..., PART]) + self.pitch_class(pitch_class)
        )
        for table, field in zip(self.masked_fields, MASKABLE, strict=True):
            x = x + table(fields[..., field])
        return x

    def embed_surroundings(self, notes: Notes) -> Tensor:
        """What holds whatever the note is: conditions, and where in the song it stands."""
        x: Tensor = self.left(notes.left) + self.begins(notes.begins)
        for index, table in enumerate(self.conditions):
            x = x + table(notes.conditions[:, index, None])
        return x

    def turns(self, indices: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines for indices and onsets (batch, n)."""
        angles = torch.cat([indices[..., None] * self.by_index, times[..., None] * self.by_time], dim=-1)
        return angles.cos()[:, None], angles.sin()[:, None]

    def masked(self, notes: Notes) -> tuple[Tensor, ...]:
        """Logits (batch, n, size) of pitch, duration and velocity."""
        x = self.embed_notes(notes.fields) + self.embed_surroundings(notes)
        indices = torch.arange(x.shape[1], device=x.device).expand(x.shape[:2])
        turns = self.turns(indices, notes.times)
        for block in self.blocks:
            x = block(x, turns, False)
        x = self.norm(x)
        return tuple(out(x) for out in self.outs)

    def rhythm(self, notes: Notes, past: list[Past] | None = None, first: int = 0) -> Tensor:
        """Hidden values (batch, n, d) from which :meth:`onset_logits` and :meth:`part_logits` of each note come.

        A note hears those before it alone. With ``past``, the notes given are those from index ``first`` on, with the
        one before them in front: ``fields`` and ``times`` then begin one earlier than ``left`` and ``begins``.
        """
        before = self.embed_notes(notes.fields)
        if first == 0:
            nothing = self.nothing_before.expand(before.shape[0], 1, -1)
            before = torch.cat([nothing, before[:, : notes.left.shape[1] - 1]], dim=1)
            times = F.pad(notes.times[:, : notes.left.shape[1] - 1], (1, 0))
        else:
            before, times = before[:, : notes.left.shape[1]], notes.times[:, : notes.left.shape[1]]
        x = before + self.embed_surroundings(notes)
        indices = torch.arange(first, first + x.shape[1], device=x.device).expand(x.shape[:2])
        turns = self.turns(indices, times)
        for index, block in enumerate(self.blocks):
            x = block(x, turns, True, None if past is None else past[index])
        hidden: Tensor = self.norm(x)
        return hidden

    def onset_logits(self, hidden: Tensor) -> Tensor:
        """(batch, n, 288)."""
        logits: Tensor = self.onset_out(hidden)
        return logits

    def part_logits(self, hidden: Tensor, onset: Tensor) -> Tensor:
        """(batch, n, 3), once it is known when the notes begin: ``onset`` (batch, n)."""
        logits: Tensor = self.part_out(hidden + self.ahead(onset // N_POSITIONS) + self.position(onset % N_POSITIONS))
        return logits


def attend(query: Tensor, key: Tensor, value: Tensor, *, is_causal: bool) -> Tensor:
    """Attention over (batch, heads, n, d_head); with ``is_causal``, the queries are the last of the keys' notes.

    Written out: with so few notes it is faster than the fused kernel on a CPU, forwards and backwards.
    """
    scores = (query * query.shape[-1] ** -0.5) @ key.mT
    n, n_keys = scores.shape[-2:]
    if is_causal and n > 1:
        later = torch.full((n, n_keys), -1e4, dtype=scores.dtype, device=scores.device).triu(1 + n_keys - n)
        scores = scores + later
    heard: Tensor = scores.softmax(-1).to(value.dtype) @ value
    return heard


def turned(x: Tensor, turns: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate pairs of the last dimension."""
    cosines, sines = turns[0].to(x.dtype), turns[1].to(x.dtype)
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cosines - b * sines, a * sines + b * cosines], dim=-1)
