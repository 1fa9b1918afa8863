"""An autoregressive network made ready for rendering: fused, scripted, frozen, with keys and values kept."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from specdiff_cli.constants import N_MELS, WINDOW_FRAMES
from specdiff_cli.errors import DeviceError
from specdiff_cli.model.autoregressive import AutoregressiveNetwork, padded
from specdiff_cli.model.compiled import MASKED_FLOAT16, compiled, sent
from specdiff_cli.model.layers import MASKED, mask_bias


@dataclass(slots=True)
class Decoding:
    """One window of each of B songs on its way, frame by frame.

    frames: (B, 256, 128) float32 log-mel in feature range, of which the first ``n_done`` are there.
    keys, values: of the notes, per layer (B, H, K, E). bias: (B, 1, 1, K) where some of them are padding, else None.
    past_keys, past_values: of the frames, per layer (B, H, 256, E); made once and written in place.
    """

    frames: Tensor
    keys: list[Tensor]
    values: list[Tensor]
    bias: Tensor | None
    past_keys: list[Tensor]
    past_values: list[Tensor]
    n_done: int = 0


class CompiledAutoregressive:
    """The parts of a network, compiled; the plain modules compute the same (see the tests).

    ``dtype`` is that of all but the decoder's ends. Raises DeviceError for int8, which pays for whole windows only.
    """

    def __init__(self, network: AutoregressiveNetwork, device: torch.device, dtype: torch.dtype) -> None:
        if dtype == torch.int8:
            raise DeviceError.of("dtype", "int8", "is not for autoregressive voices; use float32")
        network = network.to(device).eval().requires_grad_(False)
        decoder = network.decoder
        for part in (network.note_encoder, decoder.blocks):
            part.to(dtype)
        for end in (decoder.input_projection, decoder.norm, decoder.output_projection):
            end.float()
        self.device = device
        self.dtype = dtype
        self._past_shape = (network.config.n_heads, WINDOW_FRAMES, network.config.d_kv)
        self._note_encoder = compiled(network.note_encoder)
        self._decoder = compiled(decoder, "memory", "advance")

    def begin(self, tokens: Sequence[Tensor]) -> Decoding:
        """Encode the notes of one window per song, and project them to keys and values.

        Args:
            tokens: per song (n_tokens,) ids, without padding.
        """
        # One by one: they are 2048 tokens long each, and what a song's notes become must not depend on its neighbours.
        encodings = [self._note_encoder(sent(padded(song[None]), self.device))[0, : len(song)] for song in tokens]
        n_tokens = torch.tensor([len(song) for song in tokens])
        mask = torch.arange(int(n_tokens.max())) < n_tokens[:, None]
        bias = None
        if not mask.all():
            masked = MASKED_FLOAT16 if self.dtype == torch.float16 else MASKED
            bias = sent(mask_bias(mask, self.dtype, masked), self.device)
        keys, values = self._decoder.memory(nn.utils.rnn.pad_sequence(encodings, batch_first=True))
        return Decoding(
            frames=torch.empty(len(tokens), WINDOW_FRAMES, N_MELS, device=self.device),
            keys=keys,
            values=values,
            bias=bias,
            past_keys=[key.new_empty(len(tokens), *self._past_shape) for key in keys],
            past_values=[value.new_empty(len(tokens), *self._past_shape) for value in values],
        )

    def advance(self, window: Decoding, n_frames: int) -> None:
        """Predict the next ``n_frames`` frames of a window, at most to its end."""
        last = min(window.n_done + n_frames, WINDOW_FRAMES)
        self._decoder.advance(
            window.frames,
            window.n_done,
            last,
            window.past_keys,
            window.past_values,
            window.keys,
            window.values,
            window.bias,
        )
        window.n_done = last
