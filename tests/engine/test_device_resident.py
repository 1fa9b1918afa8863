"""What is sampled stays on the device: tensors of ``meta`` have no content, so that any copy from there fails."""

from collections.abc import Callable

import pytest
import torch
from random_voices import OURS, REFERENCE_LIKE, random_network
from torch import nn

from specdiff_cli.audio.spectral import SpectralConfig, SpectralNetwork, SpectralVocoder
from specdiff_cli.audio.vocoder import StreamingVocoder, vocode
from specdiff_cli.diffusion.sampling import Sampling
from specdiff_cli.engine.denoising import DiffusionSampler
from specdiff_cli.engine.pieces import Song, SongSound
from specdiff_cli.engine.songs import ActiveSong, SampledWindow, sample_all
from specdiff_cli.midi.notes import Note
from specdiff_cli.midi.windows import tokenize
from specdiff_cli.model.compiled import CompiledNetwork
from specdiff_cli.model.config import ModelConfig
from specdiff_cli.model.fused import fused

META = torch.device("meta")


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
                assert active.finish(mels[row : row + 1]).mel.device == META


def test_windows_come_out_as_they_were_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("specdiff_cli.model.compiled.compiled", not_scripted)
    sampling = Sampling(2, "ddim", "magenta", overlap_frames=8)
    sampler = DiffusionSampler(CompiledNetwork(random_network(OURS), META, torch.float32), OURS, sampling)
    found = [window for windows in sample_all([song(0, OURS, sampling)], sampler) for window in windows]
    assert [(type(window), window.mel.device) for window in found if isinstance(window, SampledWindow)] == [
        (SampledWindow, META)
    ] * 2


def test_the_vocoder_fetches_nothing_from_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("specdiff_cli.audio.spectral.compiled", lambda network: network)
    config = SpectralConfig(dim=16, n_blocks=1, n_iterations=2)
    vocoder = SpectralVocoder(SpectralNetwork(config), config, META)
    sound = vocoder.invert_there(torch.empty(70, 128, device=META), 5)
    assert (sound.device, sound.shape) == (META, (70 * 320,))
    with pytest.raises(NotImplementedError):  # and once it is done
        vocoder.invert(torch.zeros(70, 128))

    streaming = StreamingVocoder(vocoder, block_frames=32, lead_frames=16)
    sounds = [streaming.push(torch.empty(50, 128, device=META)) for _ in range(3)]
    sounds.append(streaming.flush())
    assert {sound.device for sound in sounds} == {META}
    assert sum(map(len, sounds)) == 150 * 320
    with pytest.raises(NotImplementedError):
        vocode(vocoder, torch.empty(50, 128, device=META))


def test_only_sound_is_fetched_of_a_song() -> None:
    class Sound:
        """A stream that gives two channels and keeps where its frames were."""

        device: torch.device | None = None

        def push(self, mel: torch.Tensor) -> torch.Tensor:
            self.device = mel.device
            return torch.zeros(2, 320 * len(mel))

        def flush(self) -> torch.Tensor:
            return torch.zeros(2, 0)

    mel = torch.empty(256, 128, device=META)
    stream = Sound()
    piece = SongSound(stream, Song("a", [], 5.0), 80_000, 2).piece(SampledWindow("a", mel, 0, b"", True, 0))
    assert piece.error is None and piece.audio.shape == (80_000, 2)
    assert stream.device == META
    asked = Song("a", [], 5.0, on_mel=lambda _: None)  # whoever wants to see frames has them fetched
    assert SongSound(stream, asked, 80_000, 2).piece(SampledWindow("a", mel, 0, b"", True, 0)).error is not None


def test_a_copy_from_the_device_would_be_noticed() -> None:
    with pytest.raises(NotImplementedError):
        torch.empty(1, device=META).cpu()
