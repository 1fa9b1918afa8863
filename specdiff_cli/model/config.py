"""Sizes of a network; everything else about it follows from these."""

from dataclasses import dataclass
from typing import Literal

from specdiff_cli.midi.vocabulary import Vocabulary

Objective = Literal["eps", "v", "x0"]


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Architecture of one voice.

    ``n_heads * d_kv`` need not equal ``d_model`` (it is 384 against 512 in the small reference models).
    ``note_layout`` adds our own path that lays the notes on their frames, ``note_templates`` one that adds up a plain
    rendition of them, so that the decoder samples what differs from it; the published checkpoints have neither.
    ``objective`` says what the decoder predicts: the noise (reference), v or x0; see
    :func:`specdiff_cli.diffusion.samplers.implied_x0`.
    """

    d_model: int
    n_heads: int
    d_kv: int
    d_ff: int
    n_note_layers: int
    n_context_layers: int  # 0: the model takes no context
    n_decoder_layers: int
    n_vocabulary_rows: int = 1536
    n_velocity_bins: int = 1
    note_layout: bool = False
    note_templates: bool = False
    objective: Objective = "eps"

    @property
    def has_context(self) -> bool:
        return self.n_context_layers > 0

    @property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary(self.n_velocity_bins)


#: The reference architectures (Hawthorne et al. 2022, table 1; sizes from the published configurations).
REFERENCE_CONFIGS: dict[str, ModelConfig] = {
    "small-no-context": ModelConfig(512, 6, 64, 1024, 8, 0, 8),
    "small": ModelConfig(512, 6, 64, 1024, 8, 8, 8),
    "base": ModelConfig(768, 12, 64, 2048, 12, 12, 12),
}
