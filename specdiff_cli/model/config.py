"""Sizes of a network; everything else about it follows from these."""

from dataclasses import dataclass
from typing import Literal, get_args

from specdiff_cli.midi.programs import N_PROGRAMS
from specdiff_cli.midi.vocabulary import Dialect, Vocabulary

Objective = Literal["eps", "v", "x0"]
Kind = Literal["diffusion", "autoregressive", "templates"]
MAX_PLAIN_CHANNELS = 8192


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Architecture of one voice.

    ``n_heads * d_kv`` need not equal ``d_model`` (it is 384 against 512 in the small reference models).
    ``note_layout`` adds our own path that lays the notes on their frames, ``note_templates`` one that adds up a plain
    rendition of them, so that the decoder samples what differs from it; the published checkpoints have neither.
    ``objective`` says what the decoder predicts: the noise (reference), v or x0; see
    :func:`specdiff_cli.diffusion.samplers.implied_x0`. ``kind``: a decoder that denoises a whole window, or one that
    predicts it frame by frame (:mod:`specdiff_cli.model.autoregressive`), which has neither context nor our own paths;
    or "templates": the notes' own spectra added up (:mod:`specdiff_cli.model.note_function`), with nothing to be
    sampled, whose sizes are the note function's and which has ``kits``, the drum programs that it plays, and
    ``chokes``: (kit, key, the key that silences it).
    ``dialect``: "lightning" for models of music-spectrogram-diffusion-pytorch, which have layer norms and biases, other
    tokens, and silence as the context of the first window. ``feature_range``: the log-mel values that -1 and +1 stand
    for, where they are not the reference's.

    Raises ValueError: an unknown kind or dialect, a model with a part that its kind or dialect does not have, or with
    fewer rows in its vocabulary than there are tokens.
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
    kind: Kind = "diffusion"
    dialect: Dialect = "magenta"
    feature_range: tuple[float, float] | None = None
    kits: tuple[int, ...] = ()
    chokes: tuple[tuple[int, int, int], ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"kind = {self.kind!r}: must be one of {', '.join(get_args(Kind))}")
        if self.is_autoregressive and (self.has_context or self.note_layout or self.note_templates):
            raise ValueError("kind = 'autoregressive': has no context encoder, note layout or note templates")
        # Its positions are computed, for as many channels as a file may claim.
        if self.is_autoregressive and (self.d_model % 2 or not 4 <= self.d_model <= MAX_PLAIN_CHANNELS):
            raise ValueError(f"d_model = {self.d_model}: must be even, and from 4 to {MAX_PLAIN_CHANNELS}")
        if self.is_templates and (self.note_layout or self.note_templates or self.is_lightning):
            raise ValueError("kind = 'templates': has no note layout, no other note templates and no dialect")
        if self.is_templates != bool(self.kits) or not all(0 <= kit < N_PROGRAMS for kit in self.kits):
            raise ValueError(f"kits = {list(self.kits)}: must be drum programs, of kind = 'templates' alone")
        if any(len(it) != 3 or it[0] not in self.kits or not all(0 <= key < 128 for key in it) for it in self.chokes):
            raise ValueError("chokes: must be triples of a kit that is among kits, a key, and the key that silences it")
        if self.dialect not in get_args(Dialect):
            raise ValueError(f"dialect = {self.dialect!r}: must be one of {', '.join(get_args(Dialect))}")
        if self.is_lightning and (self.is_autoregressive or self.note_layout or self.note_templates):
            raise ValueError("dialect = 'lightning': is of diffusion models without note layout and note templates")
        if self.n_velocity_bins < 1:
            raise ValueError(f"n_velocity_bins = {self.n_velocity_bins}: must be at least 1")
        if self.n_vocabulary_rows < self.vocabulary.n_ids:
            raise ValueError(
                f"n_vocabulary_rows = {self.n_vocabulary_rows}: must be at least {self.vocabulary.n_ids}, "
                f"the tokens with {self.n_velocity_bins} velocity bins"
            )
        if self.feature_range is not None and not self.feature_range[0] < self.feature_range[1]:
            raise ValueError(f"feature_range = {self.feature_range}: the lower value comes first")

    @property
    def is_autoregressive(self) -> bool:
        return self.kind == "autoregressive"

    @property
    def is_templates(self) -> bool:
        return self.kind == "templates"

    @property
    def denoises(self) -> bool:
        """Whether there are steps, samplers and guidance to be chosen."""
        return self.kind == "diffusion"

    @property
    def is_lightning(self) -> bool:
        return self.dialect == "lightning"

    @property
    def has_context(self) -> bool:
        return self.n_context_layers > 0

    @property
    def vocabulary(self) -> Vocabulary:
        if not self.is_lightning:
            return Vocabulary(self.n_velocity_bins)
        others = Vocabulary(self.n_velocity_bins, 0, self.dialect)  # each row of the embedding is in use
        return Vocabulary(self.n_velocity_bins, self.n_vocabulary_rows - others.n_ids, self.dialect)


#: The reference architectures (Hawthorne et al. 2022, table 1; sizes from the published configurations).
REFERENCE_CONFIGS: dict[str, ModelConfig] = {
    "small-no-context": ModelConfig(512, 6, 64, 1024, 8, 0, 8),
    "small": ModelConfig(512, 6, 64, 1024, 8, 8, 8),
    "base": ModelConfig(768, 12, 64, 2048, 12, 12, 12),
    "small-autoregressive": ModelConfig(512, 6, 64, 1024, 8, 0, 8, kind="autoregressive"),
}
