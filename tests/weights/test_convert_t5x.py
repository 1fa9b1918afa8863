"""The key maps of T5X: every array of every published architecture has one place, and every place one array."""

import math

import pytest
import torch
from t5x_checkpoints import AUTOREGRESSIVE, t5x_shapes

from specdiff_cli.model.config import REFERENCE_CONFIGS, ModelConfig
from specdiff_cli.model.network import build_network
from specdiff_cli.weights.convert import diffusers_parts, misfits
from specdiff_cli.weights.convert_t5x import is_transposed, t5x_config, t5x_names

#: Parameters in millions, as the paper's supplement and the published files have them.
MILLIONS = {"small-no-context": 85, "small": 104, "base": 411.7, "small-autoregressive": 45}


def our_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return {key: tuple(value.shape) for key, value in build_network(config).state_dict().items()}


@pytest.mark.parametrize("name", MILLIONS)
def test_every_array_has_a_place_of_its_shape(name: str) -> None:
    config = REFERENCE_CONFIGS[name]
    theirs, ours, names = dict(t5x_shapes(config)), our_shapes(config), t5x_names(config)
    assert sorted(names) == sorted(theirs)
    assert sorted(names.values()) == sorted(ours)
    for key, our in names.items():
        assert (theirs[key][::-1] if is_transposed(key) else theirs[key]) == ours[our]
    n_parameters = sum(math.prod(shape) for shape in theirs.values())
    assert n_parameters / 1e6 == pytest.approx(MILLIONS[name], abs=0.5)


def test_the_parts_of_the_base_model_are_as_large_as_published() -> None:
    sizes = {"token_encoder": 0, "continuous_encoder": 0, "decoder": 0}
    for key, shape in t5x_shapes(REFERENCE_CONFIGS["base"]):
        sizes[key.partition(".")[0]] += math.prod(shape)
    millions = {part: size / 1e6 for part, size in sizes.items()}
    assert millions == pytest.approx({"token_encoder": 87.7, "continuous_encoder": 85.2, "decoder": 238.7}, abs=0.1)


@pytest.mark.parametrize("config", [*REFERENCE_CONFIGS.values(), AUTOREGRESSIVE])
def test_the_architecture_is_inferred_from_shapes(config: ModelConfig) -> None:
    settings = {} if config.d_kv == 64 else {"head_dim": config.d_kv}
    assert t5x_config(dict(t5x_shapes(config)), settings) == config


def test_velocity_bins_come_from_the_settings() -> None:
    shapes = dict(t5x_shapes(REFERENCE_CONFIGS["small"]))
    assert t5x_config(shapes, {"num_velocity_bins": 127}).n_velocity_bins == 127


def test_what_is_no_such_model_is_named() -> None:
    shapes = dict(t5x_shapes(REFERENCE_CONFIGS["small"]))
    with pytest.raises(ValueError, match="attention width 384 is no multiple of the head size 100"):
        t5x_config(shapes, {"head_dim": 100})
    del shapes["decoder.continuous_inputs_projection.kernel"]
    with pytest.raises(ValueError, match=r"no matrix decoder\.continuous_inputs_projection\.kernel"):
        t5x_config(shapes, {})
    with pytest.raises(ValueError, match=r"no matrix decoder\.layers_0"):
        t5x_config({}, {})


@pytest.mark.parametrize("name", ["small-no-context", "small", "base"])
def test_the_diffusers_map_reaches_every_parameter_once(name: str) -> None:
    config = REFERENCE_CONFIGS[name]
    parts = diffusers_parts(config)
    reached = [f"{attribute}.{key}" for attribute, names in parts.values() for key in names.values()]
    assert sorted(reached) == sorted(our_shapes(config))


def test_one_sorted_report_of_what_does_not_fit() -> None:
    found = {"b": (1,), "z": (1,), "a": (2, 3)}
    assert misfits(found, dict(found)) is None
    report = misfits(found, {"b": (), "y": (1,), "c": (1,), "a": (2, 3)})
    assert report == "2 missing: c, y; 1 unexpected: z; 1 of wrong shape: b is 1, expected a scalar"
    many = misfits({}, {f"{i:02}": (1,) for i in range(20)})
    assert many is not None and many.startswith("20 missing: 00, 01,") and many.endswith("11 and 8 more")
