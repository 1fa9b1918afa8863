"""Networks without storage, and what is put in afterwards."""

import torch
from torch import nn

from specdiff_cli.model.storage import without_storage


def test_modules_have_shapes_but_nothing_in_them() -> None:
    with without_storage():
        module = nn.Sequential(nn.Embedding(7, 5, padding_idx=0), nn.Linear(5, 3), nn.LayerNorm(3))
    shapes = {name: tuple(parameter.shape) for name, parameter in module.named_parameters()}
    assert shapes == {"0.weight": (7, 5), "1.weight": (3, 5), "1.bias": (3,), "2.weight": (3,), "2.bias": (3,)}
    assert all(parameter.is_meta for parameter in module.parameters())


def test_modules_made_afterwards_are_filled_as_ever() -> None:
    with without_storage():
        nn.Linear(2, 2)
    weights = nn.Linear(50, 50).weight
    assert weights.device.type == "cpu" and 0.01 < float(weights.std().detach()) < 1.0


def test_weights_that_are_put_in_stay() -> None:
    with without_storage():
        module = nn.Embedding(3, 2)
    module.load_state_dict({"weight": torch.ones(3, 2)}, assign=True)
    assert torch.equal(module(torch.tensor([2])), torch.ones(1, 2))
