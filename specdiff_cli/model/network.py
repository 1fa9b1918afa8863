"""The whole network of a voice: two encoders, the decoder and, in our own voices, note layout and note templates.

The other kind of network, which predicts frame by frame, is in :mod:`specdiff_cli.model.autoregressive`.
"""

import torch
from torch import Tensor, nn

from specdiff_cli.constants import N_MELS
from specdiff_cli.model.autoregressive import AutoregressiveNetwork
from specdiff_cli.model.config import ModelConfig
from specdiff_cli.model.decoder import SpectrogramDecoder
from specdiff_cli.model.encoders import ContextEncoder, NoteEncoder, sinusoid_table
from specdiff_cli.model.layers import mask_bias
from specdiff_cli.model.layout import NoteLayout
from specdiff_cli.model.note_function import NoteFunction
from specdiff_cli.model.templates import NoteTemplates


class SpectrogramDiffusion(nn.Module):
    """All parts of one voice. Rendering compiles the parts one by one; training runs :meth:`forward`."""

    def __init__(self, config: ModelConfig) -> None:
        if config.is_autoregressive:
            raise ValueError("an autoregressive model is no diffusion model; see build_network")
        super().__init__()
        self.config = config
        self.note_encoder = NoteEncoder(config)
        self.context_encoder = ContextEncoder(config) if config.has_context else None
        self.decoder = SpectrogramDecoder(config)
        self.note_layout = NoteLayout(config) if config.note_layout else None
        self.note_templates = NoteTemplates(config) if config.note_templates else None
        self.template_projection = nn.Linear(N_MELS, config.d_model, bias=False) if config.note_templates else None

    def forward(
        self,
        noisy: Tensor,
        times: Tensor,
        tokens: Tensor,
        context: Tensor,
        has_context: Tensor,
        is_conditioned: Tensor,
        layout_tokens: Tensor,
        layout_times: Tensor,
        base: Tensor | None = None,
    ) -> Tensor:
        """Predict from a padded batch, as training does.

        Args:
            noisy: (B, 256, 128) in model range. times: (B,) in [0, 1].
            tokens: (B, K) ids, 0 where padded. context: (B, 256, 128) in model range.
            has_context, is_conditioned: (B,) bool; an unconditioned entry sees neither notes nor context.
            layout_tokens, layout_times: (B, N, 3) ids and (B, N, 2) seconds; 0 where padded.
            base: (B, 256, 128) from :meth:`base`, of voices with note templates. ``noisy`` and the output are then
                residuals, see :data:`specdiff_cli.model.templates.RESIDUAL_SCALE`.
        """
        token_mask = tokens > 0
        encodings = self.note_encoder(tokens, token_mask)
        mask = token_mask & is_conditioned[:, None]
        if self.context_encoder is not None:
            encoded_context = self.context_encoder(context)
            context_mask = (has_context & is_conditioned)[:, None].expand(-1, context.shape[1])
            encodings = torch.cat([encodings, encoded_context], dim=1)
            mask = torch.cat([mask, context_mask], dim=1)
        keys, values = self.decoder.memory(encodings)
        laid = None
        if self.note_layout is not None:
            laid = self.note_layout(layout_tokens * is_conditioned[:, None, None], layout_times)
        if self.template_projection is not None and base is not None:
            projected = self.template_projection(base * is_conditioned[:, None, None])
            laid = projected if laid is None else laid + projected
        gate = mask.any(1)[:, None, None].to(encodings.dtype)
        bias = mask_bias(mask, keys[0].dtype)
        return self.decoder(noisy, self.decoder.film(times), keys, values, bias, gate, laid)  # type: ignore[no-any-return]

    def base(self, layout_tokens: Tensor, layout_times: Tensor) -> Tensor | None:
        """The notes' own spectrogram (B, 256, 128) in model range; None for a voice without note templates."""
        if self.note_templates is None:
            return None
        with torch.autocast(layout_times.device.type, enabled=False):
            base: Tensor = self.note_templates(layout_tokens, layout_times)
        return base

    def initialise(self, seed: int) -> None:
        """Draw the weights a new voice starts from."""
        generator = torch.Generator().manual_seed(seed)
        if self.note_templates is not None:
            self.note_templates.initialise(generator)
        for name, parameter in self.named_parameters():
            if name.startswith("note_templates."):
                continue
            if parameter.ndim == 1:
                nn.init.constant_(parameter, 0.0 if name.endswith("bias") else 1.0)
            elif "positions" in name:
                parameter.data.copy_(sinusoid_table(parameter.shape[0], parameter.shape[1], generator))
            elif "embedding" in name:
                nn.init.normal_(parameter, std=1.0, generator=generator)
            elif name.endswith(("_film.weight", "output_projection.weight")):
                nn.init.zeros_(parameter)
            elif name.endswith("attention.q.weight"):
                # No attention scaling: the 1/sqrt(d_kv) of other transformers sits in the initial queries.
                std = (parameter.shape[1] * self.config.d_kv) ** -0.5
                nn.init.normal_(parameter, std=std, generator=generator)
            else:
                nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5, generator=generator)


Network = SpectrogramDiffusion | AutoregressiveNetwork | NoteFunction


def build_network(config: ModelConfig) -> Network:
    """The network of a configuration, with arbitrary weights."""
    if config.is_templates:
        return NoteFunction(config)
    return AutoregressiveNetwork(config) if config.is_autoregressive else SpectrogramDiffusion(config)
