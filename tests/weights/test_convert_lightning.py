"""Checkpoints of music-spectrogram-diffusion-pytorch: every array has a place, and the voice computes what they do."""

import pickle
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from lightning_checkpoints import HIGH, LOW, LightningReference, lightning_weights

from specdiff_cli.errors import UsageError, WeightsError
from specdiff_cli.model.layers import mask_bias
from specdiff_cli.model.network import SpectrogramDiffusion
from specdiff_cli.weights.checkpoints.source import Source, read_source
from specdiff_cli.weights.checkpoints.target import About, write_diffusers, write_voice
from specdiff_cli.weights.load import load_voice_folder

TOLERANCE = 2e-5  # of values of size 1, as in test_convert_mathematics
Weights = dict[str, npt.NDArray[np.float32]]


def write(path: Path, weights: Weights, **more: object) -> Path:
    """As Lightning saves it: the state dict among counters and the state of training."""
    state = {key: torch.from_numpy(value) for key, value in weights.items()}
    training = {"epoch": 3, "global_step": 500_000, "pytorch-lightning_version": "1.8.1", "lr_schedulers": []}
    torch.save({**training, "state_dict": state, "optimizer_states": [{"state": {0: {"step": 7}}}], **more}, path)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(WeightsError) as caught:
        read_source(str(path))
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


@pytest.fixture(scope="module", params=[True, False], ids=["context", "no context"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Weights, Source, Path]:
    folder: Path = tmp_path_factory.mktemp("lightning")
    weights = lightning_weights(context=request.param)
    source = read_source(str(write(folder / "last.ckpt", weights)))
    write_voice(folder / "voice", source.voice, About("v", "d", "l", "o"), overwrite=False)
    return weights, source, folder / "voice"


def test_the_architecture_is_read_from_the_arrays(pair: tuple[Weights, Source, Path]) -> None:
    weights, source, _ = pair
    config = source.voice.network.config
    has_context = "model.transformer.context_encoder.norm.bias" in weights
    assert (config.d_model, config.n_heads, config.d_kv, config.d_ff) == (32, 1, 64, 24)
    assert (config.n_note_layers, config.n_context_layers, config.n_decoder_layers) == (2, 2 * has_context, 2)
    assert config.feature_range == (LOW, HIGH)
    assert config.dialect == "lightning"
    assert (config.vocabulary.max_shift_steps, config.vocabulary.n_ids) == (513, 901)
    assert source.layout == "PyTorch Lightning"
    assert list(source.hashes) == ["last.ckpt"]


def test_the_voice_folder_keeps_everything(pair: tuple[Weights, Source, Path]) -> None:
    _, source, folder = pair
    voice = load_voice_folder(folder)
    assert voice.network.config == source.voice.network.config
    state = voice.network.state_dict()
    assert all(torch.equal(tensor, state[key]) for key, tensor in source.voice.network.state_dict().items())
    assert voice.sampling.guidance == 2.0


def test_the_whole_model_computes_what_theirs_does(pair: tuple[Weights, Source, Path]) -> None:
    weights, _, folder = pair
    network = load_voice_folder(folder).network.requires_grad_(False)
    assert isinstance(network, SpectrogramDiffusion)
    reference, rng = LightningReference(weights), np.random.default_rng(5)
    tokens = rng.integers(1, 901, 40)
    noisy, context = rng.uniform(-1, 1, (2, 256, 128))
    encodings = reference.encode_notes(tokens)
    ours = network.note_encoder(torch.from_numpy(tokens)[None])
    assert_close(ours, encodings)
    if network.context_encoder is not None:
        encoded = reference.encode_context(context)
        assert_close(network.context_encoder(torch.from_numpy(context).float()[None]), encoded)
        encodings = np.concatenate([encodings, encoded])
    for memory in (encodings, np.zeros_like(encodings)):  # they zero what an unconditional evaluation must not see
        sees = bool(memory.any())
        theirs = reference.decode(noisy, 1 / 64, memory)
        keys, values = network.decoder.memory(torch.from_numpy(encodings).float()[None])
        mask = torch.full((1, len(encodings)), sees)
        gate = mask.any(1)[:, None, None].float()
        film = network.decoder.film(torch.tensor([1 / 64]))
        x = torch.from_numpy(noisy).float()[None]
        assert_close(network.decoder(x, film, keys, values, mask_bias(mask, torch.float32), gate), theirs)


def assert_close(ours: torch.Tensor, theirs: npt.NDArray[np.float64]) -> None:
    assert theirs.std() > 0.1
    assert np.abs(ours[0].numpy() - theirs).max() <= TOLERANCE * max(1, np.abs(theirs).max())


def test_a_bare_state_dict_and_an_old_pickle_will_do(tmp_path: Path) -> None:
    weights = lightning_weights(context=False)
    state = {key: torch.from_numpy(value) for key, value in weights.items()}
    torch.save(state, tmp_path / "a.ckpt")
    torch.save({"state_dict": state}, tmp_path / "b.ckpt", _use_new_zipfile_serialization=False)
    first, second = (read_source(str(tmp_path / name)).voice.network.state_dict() for name in ("a.ckpt", "b.ckpt"))
    assert all(torch.equal(tensor, second[key]) for key, tensor in first.items())


def test_missing_unexpected_and_misshapen_arrays_make_one_line(tmp_path: Path) -> None:
    weights = lightning_weights()
    del weights["model.linear_in.bias"], weights["model.transformer.encoder.layers.0.self_attn.emb_proj.weight"]
    weights["model.extra"] = np.zeros(3, np.float32)
    weights["model.in_pos_emb"] = np.zeros((2000, 32), np.float32)  # fewer rows than a window can have tokens
    message = refusal(write(tmp_path / "a.ckpt", weights))
    missing = "2 missing: model.linear_in.bias, model.transformer.encoder.layers.0.self_attn.emb_proj.weight;"
    assert missing in message
    assert "1 unexpected: model.extra;" in message
    assert "1 of wrong shape: model.in_pos_emb is 2000x32, expected 2048x32" in message


def test_what_is_no_diffusion_model_of_that_repository(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    weights = lightning_weights(context=False)
    autoregressive = {key: value for key, value in weights.items() if "film" not in key and "diffusion_emb" not in key}
    assert "is the repository's autoregressive model" in refusal(write(path, autoregressive))
    assert "no matrix model.transformer.decoder" in refusal(
        write(path, {k: weights[k] for k in ("mel.1.min", "mel.1.max")})
    )
    assert "has no mel.1.min and mel.1.max" in refusal(write(path, {"weight": np.zeros(3, np.float32)}))
    untrained = weights | {"mel.1.min": np.array(np.inf, np.float32), "mel.1.max": np.array(-np.inf, np.float32)}
    assert "it was never trained" in refusal(write(path, untrained))
    few = weights | {"model.emb.weight": np.zeros((500, 32), np.float32)}
    assert "vocabulary of 500 tokens" in refusal(write(path, few))
    torch.save({"state_dict": {"a": 3}}, path)
    assert "no state_dict of tensors" in refusal(path)
    torch.save([1, 2], path)
    assert "no state_dict of tensors" in refusal(path)
    torch.save({"state_dict": {"a": torch.zeros(2, dtype=torch.int64)}}, path)
    assert "1 not floating point: a" in refusal(path)


class Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (pytest.fail, ("the payload of a pickle was executed",))


@pytest.mark.parametrize("is_new", [True, False])
def test_a_pickle_with_more_in_it_is_not_executed(tmp_path: Path, is_new: bool) -> None:
    path = tmp_path / "a.ckpt"
    content = {"state_dict": {}, "callbacks": Payload()}
    torch.save(content, path, _use_new_zipfile_serialization=is_new)
    assert "is not loaded, it holds more than tensors and plain values" in refusal(path)
    path.write_bytes(pickle.dumps(Payload(), protocol=2))
    refusal(path)


def test_a_damaged_checkpoint(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ckpt", lightning_weights(context=False))
    whole = path.read_bytes()
    for content in (b"\x80\x02", b"\x80\x02" + whole[:500], whole[:5000], whole[: len(whole) // 2]):
        path.write_bytes(content)
        refusal(path)


def test_the_diffusers_layout_has_no_place_for_it(pair: tuple[Weights, Source, Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has layer norms and biases, for which that layout has no place"):
        write_diffusers(tmp_path / "a", pair[1].voice, overwrite=False)
