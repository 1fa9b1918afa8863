"""The autoregressive network: a causal decoder that predicts each frame of a window from the frames before it.

What the reference does (arXiv 2206.05408; magenta/music-spectrogram-diffusion: ``models/autoregressive/``, its gin
files, and T5X's cached decoding), where it differs from the diffusion models:

- Frames are log-mel values in feature range; nothing is scaled to [-1, 1], clipped or rounded.
- The input is the window shifted by one frame, and the first input is a frame of zeros. A window has 256 frames, and
  decoding ends there: there is no end sign. Nothing is handed on to the next window, which begins from zeros again.
- The output is the mean that was trained with a squared error: it is taken as it is, and no noise is drawn. (The code
  allows for a mixture of Gaussians and for dither; the published configuration uses neither.)
- Positions are plain sinusoids, not stored tables.
- The note encoder always sees 2048 tokens and does not mask its padding. The decoder masks it.

Unknown: whether weights of this model were ever published.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from specdiff_cli.constants import MAX_TOKENS, N_MELS, WINDOW_FRAMES
from specdiff_cli.model.config import ModelConfig
from specdiff_cli.model.decoder import Decoder
from specdiff_cli.model.encoders import NoteEncoder, PlainPositions
from specdiff_cli.model.layers import MASKED, Attention, GatedGelu, RMSNorm, mask_bias


class CausalBlock(nn.Module):
    """Causal self-attention, cross-attention and gated MLP, each behind a norm, each added to its input."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.d_model)
        self.attention = Attention(config.d_model, config.n_heads, config.d_kv)
        self.cross_norm = RMSNorm(config.d_model)
        self.cross_attention = Attention(config.d_model, config.n_heads, config.d_kv)
        self.mlp_norm = RMSNorm(config.d_model)
        self.mlp = GatedGelu(config.d_model, config.d_ff)

    def forward(self, x: Tensor, causal: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
        """All frames at once: x (B, L, D), causal (L, L); keys, values (B, H, K, E) and bias (B, 1, 1, K) of notes."""
        x = x + self.attention(self.attention_norm(x), causal)
        return self._after(x, keys, values, bias)

    def step(
        self,
        x: Tensor,
        i: int,
        past_keys: Tensor,
        past_values: Tensor,
        keys: Tensor,
        values: Tensor,
        bias: Tensor | None,
    ) -> Tensor:
        """Frame ``i`` alone: x (B, 1, D). Writes its key and value into row ``i`` of (B, H, 256, E)."""
        h = self.attention_norm(x)
        key, value = self.attention.keys_values(h)
        past_keys[:, :, i : i + 1] = key
        past_values[:, :, i : i + 1] = value
        x = x + self.attention.attend(h, past_keys[:, :, : i + 1], past_values[:, :, : i + 1], None)
        return self._after(x, keys, values, bias)

    def _after(self, x: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
        x = x + self.cross_attention.attend(self.cross_norm(x), keys, values, bias)
        return x + self.mlp(self.mlp_norm(x))  # type: ignore[no-any-return]


class AutoregressiveDecoder(Decoder):
    """Predicts frames (B, L, 128) in feature range. Its ends compute in float32 whatever the blocks between them do:
    half precision resolves log-mel values to 0.06 only, and every frame is made from the last."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.input_projection = nn.Linear(N_MELS, config.d_model, bias=False)
        self.positions = PlainPositions(WINDOW_FRAMES, config.d_model)
        self.blocks = nn.ModuleList(CausalBlock(config) for _ in range(config.n_decoder_layers))
        self.norm = RMSNorm(config.d_model)
        self.output_projection = nn.Linear(config.d_model, N_MELS, bias=False)

    def forward(self, frames: Tensor, keys: list[Tensor], values: list[Tensor], bias: Tensor | None = None) -> Tensor:
        """Every frame (B, L, 128) predicted from the true ones before it, as in training.

        Args:
            frames: (B, L, 128) in feature range; the last one is not looked at.
            keys, values: per layer (B, H, K, E) from :meth:`memory`. bias: (B, 1, 1, K) where some keys are padding.
        """
        h = self._embed(F.pad(frames[:, :-1], (0, 0, 1, 0)), 0, keys[0].dtype)
        causal = causal_bias(h)
        for i, block in enumerate(self.blocks):
            h = block(h, causal, keys[i], values[i], bias)
        return self._read_out(h)

    def advance(
        self,
        frames: Tensor,
        first: int,
        last: int,
        past_keys: list[Tensor],
        past_values: list[Tensor],
        keys: list[Tensor],
        values: list[Tensor],
        bias: Tensor | None,
    ) -> None:
        """Predict the frames from ``first`` to before ``last`` one by one, each from the predictions before it.

        Args:
            frames: (B, 256, 128) float32; written in place. Frames before ``first`` are there already.
            past_keys, past_values: per layer (B, H, 256, E), of the frames before; written in place.
            keys, values, bias: as in :meth:`forward`.
        """
        for i in range(first, last):
            previous = frames[:, i - 1 : i] if i > 0 else torch.zeros_like(frames[:, :1])
            h = self._embed(previous, i, keys[0].dtype)
            for layer, block in enumerate(self.blocks):
                h = block.step(h, i, past_keys[layer], past_values[layer], keys[layer], values[layer], bias)
            frames[:, i : i + 1] = self._read_out(h)

    def _embed(self, previous: Tensor, first: int, dtype: torch.dtype) -> Tensor:
        positions = self.positions.weight[first : first + previous.shape[1]]
        return (self.input_projection(previous) + positions).to(dtype)  # type: ignore[no-any-return]

    def _read_out(self, h: Tensor) -> Tensor:
        return self.output_projection(self.norm(h.float()))  # type: ignore[no-any-return]


class AutoregressiveNetwork(nn.Module):
    """Note encoder and decoder. Rendering compiles the parts one by one; :meth:`forward` is the plain path."""

    def __init__(self, config: ModelConfig) -> None:
        if not config.is_autoregressive:
            raise ValueError("a diffusion model is not autoregressive; see build_network")
        super().__init__()
        self.config = config
        self.note_encoder = NoteEncoder(config)
        self.decoder = AutoregressiveDecoder(config)

    def forward(self, frames: Tensor, tokens: Tensor) -> Tensor:
        """Every frame (B, L, 128) in feature range predicted from those before it and tokens (B, K), 0 where padded."""
        keys, values = self.decoder.memory(self.note_encoder(padded(tokens))[:, : tokens.shape[1]])
        return self.decoder(frames, keys, values, mask_bias(tokens > 0, keys[0].dtype))  # type: ignore[no-any-return]


def causal_bias(x: Tensor, masked: float = MASKED) -> Tensor:
    """Bias (L, L) of x (B, L, D) under which a frame sees itself and those before it."""
    return torch.full((x.shape[1], x.shape[1]), masked, dtype=x.dtype, device=x.device).triu(1)


def padded(tokens: Tensor) -> Tensor:
    """Tokens (B, K) filled up with padding to (B, 2048), which the note encoder attends to as to any other."""
    return F.pad(tokens, (0, MAX_TOKENS - tokens.shape[1]))
