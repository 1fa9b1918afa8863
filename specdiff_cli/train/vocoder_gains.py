"""The training of the network for the gains of partials and noise, by the same distances as ``melgan``'s."""

from typing import Any

import torch
from torch import Tensor, nn

from specdiff_cli.audio.gains import GainNetwork, GainsConfig
from specdiff_cli.audio.partials.correction import MelCorrection, mel_correction
from specdiff_cli.audio.spectral import load_weights
from specdiff_cli.constants import SAMPLE_RATE_HZ
from specdiff_cli.train.vocoder_melgan import StageRoute
from specdiff_cli.train.vocoder_pairs import PairBatch


class GainsRoute(StageRoute[GainsConfig]):
    """Of the gains that come on top of the filter. See ``vocoder_routes.Route``."""

    name = "gains"
    in_parts = True

    def network(self) -> GainNetwork:
        return GainNetwork(self._sizes)

    @property
    def _filter(self) -> MelCorrection:
        return mel_correction(SAMPLE_RATE_HZ, self._device)

    def sound(self, network: nn.Module, batch: PairBatch) -> Tensor:
        n_samples = batch.made.shape[2]
        with torch.no_grad():
            filtered = [self._filter.parts(made[:, None], mel) for made, mel in zip(batch.made, batch.mel, strict=True)]
            told = [torch.stack(mels) for mels in zip(*(parts.log_mels for parts in filtered), strict=True)]
        pairs = zip(filtered, network(*told), strict=True)
        return torch.cat([self._filter.joined(parts, gains, n_samples) for parts, gains in pairs])

    def plain_sound(self, batch: PairBatch) -> Tensor:
        pairs = zip(batch.made, batch.mel, strict=True)
        return torch.cat([self._filter.apply(made[:, None], mel) for made, mel in pairs])

    def shipped(self, network: Any) -> dict[str, Tensor]:
        return dict(network.state_dict())

    def begin_with(self, network: Any, weights: dict[str, Tensor]) -> None:
        load_weights(network, weights)
