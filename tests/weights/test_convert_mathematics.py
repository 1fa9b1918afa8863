"""A converted checkpoint computes what the reference's own mathematics does, in float64 numpy, on the same weights.

Our networks compute in float32, so they agree to about 1e-6 of a value's size; the time embedding alone is coarser,
since its angles go up to 20 000 radians, of which float32 keeps 1e-3.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from random_voices import REFERENCE_LIKE, WITHOUT_CONTEXT
from reference_numpy import Reference
from t5x_checkpoints import t5x_weights, write_t5x

from specdiff_cli.model.config import ModelConfig
from specdiff_cli.model.layers import mask_bias
from specdiff_cli.model.network import SpectrogramDiffusion
from specdiff_cli.weights.checkpoints.source import read_source
from specdiff_cli.weights.checkpoints.target import About, write_voice
from specdiff_cli.weights.load import load_voice_folder

pytest.importorskip("msgpack")
TOLERANCE = 2e-5  # of values of size 1; a wrong name, transpose or sign gives differences of 0.1 and more
CONFIGS = {"context": REFERENCE_LIKE, "no context": WITHOUT_CONTEXT}


@pytest.fixture(scope="module", params=list(CONFIGS.values()), ids=list(CONFIGS))
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Reference, SpectrogramDiffusion]:
    """The reference, and our network after a conversion to a voice folder and back from the disk."""
    config: ModelConfig = request.param
    folder: Path = tmp_path_factory.mktemp("mathematics")
    weights = t5x_weights(config)
    source = read_source(str(write_t5x(folder / "t5x", weights)))
    write_voice(folder / "voice", source.voice, About("v", "d", "l", "o"), overwrite=False)
    network = load_voice_folder(folder / "voice").network
    assert isinstance(network, SpectrogramDiffusion)
    return Reference(weights, config.d_kv), network.requires_grad_(False)


def tokens(n_tokens: int, n_padded: int = 0) -> npt.NDArray[np.int64]:
    drawn = np.random.default_rng(1).integers(1, 1391, n_tokens)
    return np.concatenate([drawn, np.zeros(n_padded, np.int64)])


def spectrogram(n_frames: int, seed: int) -> npt.NDArray[np.float64]:
    return np.random.default_rng(seed).uniform(-1, 1, (n_frames, 128))


def single(array: npt.NDArray[np.float64]) -> torch.Tensor:
    return torch.from_numpy(array).float()[None]


def assert_close(ours: torch.Tensor, theirs: npt.NDArray[np.float64], tolerance: float = TOLERANCE) -> None:
    assert ours.shape == (1, *theirs.shape)
    assert theirs.std() > 0.1  # else everything would be close to everything
    assert np.abs(ours[0].numpy() - theirs).max() <= tolerance * max(1, np.abs(theirs).max())


@pytest.mark.parametrize("n_padded", [0, 9])
def test_the_note_encoder(pair: tuple[Reference, SpectrogramDiffusion], n_padded: int) -> None:
    reference, network = pair
    ids = tokens(40, n_padded)
    x = torch.from_numpy(ids)[None]
    ours = network.note_encoder(x, x > 0)
    theirs = reference.encode_notes(ids)
    assert_close(ours[:, :40], theirs[:40])  # what comes out at padded places is masked later on


@pytest.mark.parametrize("n_frames", [256, 100])
def test_the_context_encoder(pair: tuple[Reference, SpectrogramDiffusion], n_frames: int) -> None:
    reference, network = pair
    if network.context_encoder is None:
        assert not reference.has_context
        return
    context = spectrogram(n_frames, 2)
    assert_close(network.context_encoder(single(context)), reference.encode_context(context))


@pytest.mark.parametrize("see", ["all", "notes", "nothing"])
@pytest.mark.parametrize(("time", "tolerance"), [(1 / 64, TOLERANCE), (1.0, 2e-3)])
def test_the_whole_model(pair: tuple[Reference, SpectrogramDiffusion], time: float, tolerance: float, see: str) -> None:
    reference, network = pair
    ids, context, noisy = tokens(40), spectrogram(256, 3), spectrogram(256, 4)
    encodings, mask = reference.encode_notes(ids), np.full(40, see != "nothing")
    if reference.has_context:
        encodings = np.concatenate([encodings, reference.encode_context(context)])
        mask = np.concatenate([mask, np.full(256, see == "all")])
    theirs = reference.decode(noisy, time, encodings, mask)

    keys, values = network.decoder.memory(single(encodings))
    x = torch.from_numpy(mask)[None]
    bias, gate = mask_bias(x, torch.float32), x.any(1)[:, None, None].float()
    ours = network.decoder(single(noisy), network.decoder.film(torch.tensor([time])), keys, values, bias, gate)
    assert_close(ours, theirs, tolerance)
    if see == "all":  # the path that training and rendering take, from tokens and context
        whole = network(
            single(noisy),
            torch.tensor([time]),
            torch.from_numpy(ids)[None],
            single(context),
            torch.tensor([True]),
            torch.tensor([True]),
            torch.zeros(1, 0, 3, dtype=torch.int64),
            torch.zeros(1, 0, 2),
        )
        assert_close(whole, theirs, tolerance)
