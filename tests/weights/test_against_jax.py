"""A checkpoint of a JAX network, converted, gives what JAX gives: the noise it sees, and whole guided samplings.

Runs where jax and flax are installed (``pip install jax flax``). The network in :mod:`reference_flax` is written from
the reference's description; its parameters are stored by flax itself, as T5X stores them.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from random_voices import REFERENCE_LIKE
from t5x_checkpoints import CONFIG_GIN

from specdiff_cli.diffusion.guidance import guided
from specdiff_cli.diffusion.samplers import SAMPLERS
from specdiff_cli.diffusion.schedules import magenta
from specdiff_cli.model.network import SpectrogramDiffusion
from specdiff_cli.weights.checkpoints.source import read_source
from specdiff_cli.weights.checkpoints.target import About, write_voice
from specdiff_cli.weights.load import load_voice_folder

jax = pytest.importorskip("jax")
serialization = pytest.importorskip("flax.serialization")
pytest.importorskip("msgpack")
pytestmark = pytest.mark.slow

TOLERANCE = 1e-4  # absolute, of values of size 1
N_STEPS, GUIDANCE, OUTPUT_SCALE = 25, 2.0, 0.1
# The first step divides by alpha = exp(-10): where its x0 is not clipped, 22 026 times the last bit of noise decides.
DETERMINED_SHARE = 0.999
RNG = np.random.default_rng(0)
TOKENS = RNG.integers(1, 1391, 60)
CONTEXT, NOISE = RNG.uniform(-1, 1, (256, 128)).astype(np.float32), RNG.standard_normal((256, 128)).astype(np.float32)


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, SpectrogramDiffusion]:
    """The JAX network as a function of (noisy, time, is_seen), and ours after the conversion."""
    from reference_flax import Network, time_angles

    network = Network(REFERENCE_LIKE)
    arguments = TOKENS, CONTEXT, NOISE, time_angles(0.5, REFERENCE_LIKE.d_model), np.array(True)
    parameters = jax.jit(network.init)(jax.random.PRNGKey(1), *arguments)["params"]
    # Smaller outputs: what a random network makes of its own errors in 25 steps should not drown them.
    output = parameters["decoder"]["spec_out_dense"]
    output["kernel"] = OUTPUT_SCALE * output["kernel"]
    folder: Path = tmp_path_factory.mktemp("jax")
    checkpoint = folder / "t5x" / "checkpoint_500000"
    checkpoint.mkdir(parents=True)
    (folder / "t5x" / "config.gin").write_text(CONFIG_GIN.format(d_kv=REFERENCE_LIKE.d_kv))
    tree = {"version": 3, "optimizer": {"target": jax.tree.map(np.asarray, parameters)}}
    (checkpoint / "checkpoint").write_bytes(serialization.msgpack_serialize(tree))
    source = read_source(str(folder / "t5x"))
    write_voice(folder / "voice", source.voice, About("v", "d", "l", "o"), overwrite=False)
    ours = load_voice_folder(folder / "voice").network
    assert isinstance(ours, SpectrogramDiffusion)
    variables = {"params": parameters}
    compiled = jax.jit(lambda noisy, angles, seen: network.apply(variables, TOKENS, CONTEXT, noisy, angles, seen))

    def apply(noisy: Any, time: float, is_seen: bool) -> Any:
        return compiled(noisy, time_angles(time, REFERENCE_LIKE.d_model), np.array(is_seen))

    return apply, ours.requires_grad_(False)


def ours_of(network: SpectrogramDiffusion, noisy: torch.Tensor, time: float, is_seen: bool) -> torch.Tensor:
    """Our network's noise for (1, 256, 128)."""
    tokens = torch.from_numpy(TOKENS)[None]
    output: torch.Tensor = network(
        noisy,
        torch.tensor([time]),
        tokens,
        torch.from_numpy(CONTEXT)[None],
        torch.tensor([True]),
        torch.tensor([is_seen]),
        torch.zeros(1, 0, 3, dtype=torch.int64),
        torch.zeros(1, 0, 2),
    )
    return output


@pytest.mark.parametrize("is_seen", [True, False])
@pytest.mark.parametrize("time", [1 / 25, 0.5, 1.0])
def test_the_noise_that_is_seen(networks: tuple[Any, SpectrogramDiffusion], time: float, is_seen: bool) -> None:
    apply, network = networks
    theirs = np.asarray(apply(NOISE, time, is_seen))
    ours = ours_of(network, torch.from_numpy(NOISE)[None], time, is_seen)[0].numpy()
    assert theirs.std() > 0.1 * OUTPUT_SCALE
    np.testing.assert_allclose(ours, theirs, atol=TOLERANCE * OUTPUT_SCALE)


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
def test_whole_guided_samplings(networks: tuple[Any, SpectrogramDiffusion], sampler: str) -> None:
    from reference_flax import sample

    apply, network = networks
    noises = np.random.default_rng(2).standard_normal((N_STEPS, 256, 128)).astype(np.float32)
    theirs = np.asarray(sample(apply, NOISE, noises, GUIDANCE, sampler == "ddpm"))
    steps, drawn = magenta(N_STEPS), iter(torch.from_numpy(noises)[:, None])
    denoiser = guided(
        lambda x, i: ours_of(network, x, steps[i].time, True),
        lambda x, i: ours_of(network, x, steps[i].time, False),
        [GUIDANCE] * N_STEPS,
    )
    x = torch.from_numpy(NOISE)[None]
    ours = SAMPLERS[sampler](denoiser, x, steps, lambda: next(drawn), "eps", None)
    assert theirs.std() > 0.1
    difference = np.abs(ours[0].numpy() - theirs)
    assert np.mean(difference <= TOLERANCE) >= DETERMINED_SHARE
    assert difference.max() < 0.05
