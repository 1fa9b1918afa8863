"""The training of the spectral vocoder: magnitudes and phase advances against known answers."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from specdiff_cli.audio.griffin_lim import GriffinLim, Peaks
from specdiff_cli.audio.mel import log_mel
from specdiff_cli.audio.spectral import SpectralConfig, SpectralNetwork, SpectralVocoder, load_weights, network_inputs
from specdiff_cli.audio.vocoder import Vocoder
from specdiff_cli.constants import N_MELS, SAMPLE_RATE_HZ
from specdiff_cli.engine.devices import resolve_dtype
from specdiff_cli.train.discriminators import SpectrumDiscriminator, discriminator_loss, generator_losses
from specdiff_cli.train.vocoder_data import AudioCorpus, Example, excerpt_samples, noised_mel
from specdiff_cli.train.vocoder_losses import Quality, guess_of, mean_quality, quality, supervised_losses, truth_of
from specdiff_cli.train.vocoder_routes import N_HEARD_PIECES, N_VALIDATION_PIECES, VALIDATION_S, Attempt
from specdiff_cli.train.vocoder_settings import TrainConfig


class SpectralRoute:
    """See ``vocoder_routes.Route``; the discriminator sees magnitudes and advances."""

    name = "spectral"
    plain = "griffin-lim"

    def __init__(self, corpus: Path, config: TrainConfig, sizes: SpectralConfig, device: torch.device) -> None:
        self._config, self._sizes, self._device = config, sizes, device
        n_samples = excerpt_samples(config.n_frames)
        self.corpus = AudioCorpus(corpus / "train", n_samples)
        self.validation = AudioCorpus(corpus / "validation", n_samples)
        self.fingerprint = self.corpus.fingerprint
        self.n_pieces = len(self.corpus.pieces)
        self.hours = sum(len(piece) for piece in self.corpus.pieces) / SAMPLE_RATE_HZ / 3600
        self.half = resolve_dtype(config.precision, device, prefers_bfloat16=config.precision != "float32")

    def network(self) -> SpectralNetwork:
        return SpectralNetwork(self._sizes)

    def discriminator(self) -> nn.Module:
        return SpectrumDiscriminator(self._config.discriminator_width)

    def next_example(self, draw: np.random.Generator, noise: torch.Generator) -> Example:
        """Excerpts at random levels and strengths of noise."""
        config, n_excerpts = self._config, self._config.batch_size
        audio = self.corpus.sample(n_excerpts, excerpt_samples(config.n_frames), draw)
        level_db = torch.from_numpy(draw.uniform(*config.level_range_db, (n_excerpts, 1))).float()
        strength = torch.from_numpy(draw.uniform(0, config.largest_noise, (n_excerpts, 1, 1))).float()
        added = strength * torch.randn(n_excerpts, config.n_frames, N_MELS, generator=noise)
        audio = (audio * 10 ** (level_db / 20)).to(self._device)
        return Example(audio, noised_mel(audio, added.to(self._device)))

    def attempt(self, network: nn.Module, example: Example) -> Attempt:
        return spectral_attempt(network, example, self.half)

    discriminator_loss = staticmethod(discriminator_loss)
    generator_losses = staticmethod(generator_losses)

    @torch.no_grad()
    def quality(self, network: nn.Module | None) -> Quality:
        """Excerpts are resynthesised from their own mel."""
        vocoder = self._vocoder(network)
        return mean_quality([quality(audio, vocoder.invert(log_mel(audio), 0)) for audio in self._middles])

    def heard(self, network: nn.Module | None) -> list[Tensor]:
        recorded = self._middles[:N_HEARD_PIECES]
        if network is None:
            return recorded
        vocoder = self._vocoder(network)
        return [vocoder.invert(log_mel(audio), 0) for audio in recorded]

    def shipped(self, network: Any) -> dict[str, Tensor]:
        state: dict[str, Tensor] = network.state_dict()
        return state

    def begin_with(self, network: Any, weights: dict[str, Tensor]) -> None:
        load_weights(network, weights)

    @property
    def _middles(self) -> list[Tensor]:
        return self.validation.middles(N_VALIDATION_PIECES, round(VALIDATION_S * SAMPLE_RATE_HZ))

    def _vocoder(self, network: nn.Module | None) -> Vocoder:
        if not isinstance(network, SpectralNetwork):
            return GriffinLim()
        return SpectralVocoder(copy.deepcopy(network).cpu(), self._sizes)


def spectral_attempt(network: nn.Module, example: Example, half: torch.dtype) -> Attempt:
    """Run a network in ``half`` precision (float32: as it is) and compare with the known answers."""
    spread, peaks = network_inputs(example.mel.reshape(-1, N_MELS))
    shape = (*example.mel.shape[:2], -1)
    with torch.autocast(example.mel.device.type, half, enabled=half != torch.float32):
        log_magnitude, cosine, sine = network(example.mel, spread.view(shape))
    turns = Peaks(peaks.nearest.view(shape), peaks.places.view(shape)).turns.float()
    guess = guess_of((log_magnitude, cosine, sine), turns)
    truth = truth_of(example.audio)
    magnitude, advance = supervised_losses(guess, truth)
    return Attempt({"magnitude": magnitude, "advance": advance}, (*guess,), (truth.log_magnitude, truth.turn))
