"""The training of the generator that begins with the sound of ``partials``.

Its phases are its own, so it is compared with the recording by magnitudes: a multi-resolution STFT distance, log-mel,
and discriminators of the waveform at three scales with hinge losses and feature matching (Kumar et al., "MelGAN",
2019).
"""

from abc import ABC, abstractmethod
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from specdiff_cli.audio.gains import QUIETEST_LOG_MEL
from specdiff_cli.audio.mel import log_mel
from specdiff_cli.audio.melgan import Generator, GeneratorConfig, NormedConv1d, folded, load_generator
from specdiff_cli.constants import FRAMES_PER_SECOND
from specdiff_cli.train.discriminators import Activations, activations, feature_matching
from specdiff_cli.train.vocoder_losses import Quality, mean_quality, quality, stft_distance
from specdiff_cli.train.vocoder_pairs import OnReady, PairBatch, PairCorpus
from specdiff_cli.train.vocoder_routes import N_HEARD_PIECES, N_VALIDATION_PIECES, VALIDATION_S, Attempt
from specdiff_cli.train.vocoder_settings import MelGanTrainConfig

Sizes = TypeVar("Sizes")

N_SCALES = 3
LEVEL_BANDS = 8  # mel bands whose powers are one level


def _heard_mel(audio: Tensor) -> Tensor:
    """Log-mel but for the last frame, which is half padding; what is quieter than 16 bits resolve is all alike."""
    return log_mel(audio)[..., :-1, :].clamp(min=QUIETEST_LOG_MEL)


def level_error(made: Tensor, real: Tensor) -> Tensor:
    """Mean difference, in nepers, of the levels of groups of ``LEVEL_BANDS`` bands over whole excerpts.

    Two log-mels (B, n_frames, 128) as they are heard.
    """
    levels = [mel.mul(2).exp().unfold(-1, LEVEL_BANDS, LEVEL_BANDS).mean((1, 3)).log() / 2 for mel in (made, real)]
    return (levels[0] - levels[1]).abs().mean()


class MultiScaleDiscriminator(nn.Module):
    """Judges waveforms, as they are and at a half and a quarter of their rate, piece by piece."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.stacks = nn.ModuleList(_wave_stack(width) for _ in range(N_SCALES))

    def forward(self, audio: Tensor) -> Activations:
        """(B, n_samples) float32."""
        results = []
        x = audio[:, None]
        for stack in self.stacks:
            results.append(activations(stack, x))
            x = functional.avg_pool1d(x, 4, 2, 1, count_include_pad=False)
        return results


def _wave_stack(width: int) -> nn.Sequential:
    groups = width // 4 if width % 4 == 0 else 1
    return nn.Sequential(
        NormedConv1d(1, width, 15, padding=7),
        NormedConv1d(width, 2 * width, 41, stride=4, padding=20, groups=groups),
        NormedConv1d(2 * width, 4 * width, 41, stride=4, padding=20, groups=groups),
        NormedConv1d(4 * width, 4 * width, 41, stride=4, padding=20, groups=groups),
        NormedConv1d(4 * width, 4 * width, 5, padding=2),
        NormedConv1d(4 * width, 1, 3, padding=1),
    )


class StageRoute(ABC, Generic[Sizes]):
    """What the stages of ``partials`` have in common. See ``vocoder_routes.Route``."""

    name: str
    plain = "partials"
    half = torch.float32
    in_parts: ClassVar[bool]
    """Whether it begins with partials and noise before the filter."""

    def __init__(
        self, corpus: Path, config: MelGanTrainConfig, sizes: Sizes, device: torch.device, on_ready: OnReady
    ) -> None:
        self._config, self._sizes, self._device = config, sizes, device
        opened = partial(PairCorpus, corpus, in_parts=self.in_parts)
        self.validation = opened("validation", config.voice, config.n_frames, on_ready)
        self.corpus = opened("train", config.voice, config.n_frames, on_ready)
        self.fingerprint, self.hours = self.corpus.fingerprint, self.corpus.hours
        self.n_pieces = len(self.corpus.pairs)

    @abstractmethod
    def sound(self, network: nn.Module, batch: PairBatch) -> Tensor:
        """What a network makes of a batch, (B, n_samples)."""

    def plain_sound(self, batch: PairBatch) -> Tensor:
        """The same without a network."""
        return batch.made

    def discriminator(self) -> nn.Module:
        return MultiScaleDiscriminator(self._config.discriminator_width)

    def next_example(self, draw: np.random.Generator, noise: torch.Generator) -> PairBatch:
        """Excerpts at random levels."""
        config = self._config
        batch = self.corpus.sample(config.batch_size, config.n_frames, draw)
        level_db = torch.from_numpy(draw.uniform(*config.level_range_db, (config.batch_size, 1))).float()
        return batch.louder(level_db).to(self._device)

    def attempt(self, network: nn.Module, example: PairBatch) -> Attempt:
        made, real = self.sound(network, example), example.real
        distance = stft_distance(made, real)
        made_mel, real_mel = _heard_mel(made), _heard_mel(real)
        losses = {
            "stft": distance.convergence + distance.log_magnitude,
            "mel": (made_mel - real_mel).abs().mean(),
            "level": level_error(made_mel, real_mel),
        }
        # to a discriminator all music is equally loud
        level = real.square().mean(1, keepdim=True).sqrt().clamp(min=1e-4) / 0.1
        return Attempt(losses, (made / level,), (real / level,))

    @staticmethod
    def discriminator_loss(real: Activations, made: Activations) -> Tensor:
        """Hinge: recordings should score above 1, what was made below -1."""
        losses = [(1 - r[-1]).relu().mean() + (1 + m[-1]).relu().mean() for r, m in zip(real, made, strict=True)]
        return torch.stack(losses).sum()

    @staticmethod
    def generator_losses(real: Activations, made: Activations) -> tuple[Tensor, Tensor]:
        """What was made should score high, and look like the recording to the inner layers."""
        return torch.stack([-m[-1].mean() for m in made]).sum(), feature_matching(real, made)

    @torch.no_grad()
    def quality(self, network: nn.Module | None) -> Quality:
        pieces = zip(self._middles, self._sounds(network, N_VALIDATION_PIECES), strict=True)
        return mean_quality([quality(batch.real[0], sound) for batch, sound in pieces])

    @torch.no_grad()
    def heard(self, network: nn.Module | None) -> list[Tensor]:
        if network is None:
            return [batch.real[0] for batch in self._middles[:N_HEARD_PIECES]]
        return self._sounds(network, N_HEARD_PIECES)

    @property
    def _middles(self) -> list[PairBatch]:
        return self.validation.middles(N_VALIDATION_PIECES, round(VALIDATION_S * FRAMES_PER_SECOND))

    def _sounds(self, network: nn.Module | None, n_pieces: int) -> list[Tensor]:
        sounds = []
        for batch in self._middles[:n_pieces]:
            own = batch.to(self._device)
            sound = self.plain_sound(own) if network is None else self.sound(network, own)
            sounds.append(sound[0].cpu())
        return sounds


class MelGanRoute(StageRoute[GeneratorConfig]):
    """Of the generator that adds to the finished sound."""

    name = "melgan"
    in_parts = False

    def network(self) -> Generator:
        return Generator(self._sizes)

    def sound(self, network: nn.Module, batch: PairBatch) -> Tensor:
        added: Tensor = network(batch.made, batch.mel)
        return batch.made + added

    def shipped(self, network: Any) -> dict[str, Tensor]:
        """Weights and their norms are one."""
        return folded(network)

    def begin_with(self, network: Any, weights: dict[str, Tensor]) -> None:
        load_generator(network, weights, self._sizes)
