"""What is sampled stays on the device: tensors of ``meta`` have no content, so that any copy from there fails."""

from collections.abc import Callable

import pytest
import torch
from random_voices import OURS, REFERENCE_LIKE, random_network
from torch import nn

from specdiff_cli.audio.spectral import SpectralConfig, SpectralNetwork, SpectralVocoder
from specdiff_cli.diffusion.sampling import Sampling
from specdiff_cli.engine.denoising import DiffusionSampler
from specdiff_cli.engine.songs import ActiveSong
from specdiff_cli.midi.notes import Note
from specdiff_cli.midi.windows import tokenize
from specdiff_cli.model.compiled import CompiledNetwork
from specdiff_cli.model.config import ModelConfig
from specdiff_cli.model.fused import fused

META = torch.device("meta")
WINDOW = torch.zeros(1, 256, 128)


def not_scripted(
    module: nn.Module, *_: str, twin_of: Callable[[nn.Module], nn.Module] = fused
) -> nn.Module:  # freezing compares constants, which have no content here
    return twin_of(module)


def song(key: int, config: ModelConfig, sampling: Sampling) -> ActiveSong[int]:
    notes = [Note(i / 2, i / 2 + 0.4, 60 + key, 80, 0, False) for i in range(20)]
    hop = sampling.hop_frames
    windows = tokenize(notes, config.vocabulary, total_s=10.0, hop_frames=hop, joins_keys=True)
    return ActiveSong(key, windows, 2, key, overlap_frames=sampling.overlap_frames)


@pytest.mark.parametrize("config", [REFERENCE_LIKE, OURS], ids=["reference", "ours"])
@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(3, "unipc", "magenta", 2.0, reuse_every=2),
        Sampling(3, "dpm++2m", "magenta", 2.0, guidance_interval=(0.3, 0.7)),
        Sampling(3, "ddpm", "discrete", overlap_frames=8),
    ],
    ids=lambda sampling: sampling.sampler,
)
def test_sampling_fetches_nothing_from_the_device(
    monkeypatch: pytest.MonkeyPatch, config: ModelConfig, sampling: Sampling
) -> None:
    monkeypatch.setattr("specdiff_cli.model.compiled.compiled", not_scripted)
    sampler = DiffusionSampler(CompiledNetwork(random_network(config), META, torch.float32), config, sampling)
    songs = [song(key, config, sampling) for key in range(2)]
    with torch.inference_mode():
        for _ in range(2):  # the second window has a context, and frames that are kept
            assert all(song.has_window() for song in songs)
            mels = sampler.sample(songs)
            assert (mels.device, mels.shape) == (META, (2, 256, 128))
            for row, active in enumerate(songs):
                active.finish(mels[row : row + 1], WINDOW)


def test_the_vocoder_fetches_nothing_from_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("specdiff_cli.audio.spectral.compiled", lambda network: network)
    config = SpectralConfig(dim=16, n_blocks=1, n_iterations=2)
    vocoder = SpectralVocoder(SpectralNetwork(config), config, META)
    sound = vocoder.invert_there(torch.empty(70, 128, device=META), 5)
    assert (sound.device, sound.shape) == (META, (70 * 320,))
    with pytest.raises(NotImplementedError):  # and once it is done
        vocoder.invert(torch.zeros(70, 128))


def test_a_copy_from_the_device_would_be_noticed() -> None:
    with pytest.raises(NotImplementedError):
        torch.empty(1, device=META).cpu()
