"""Who learns how, and a Muon for many matrices at once that equals torch's."""

import copy

import pytest
import torch
from small_corpora import HASTY, SMALLEST

from specdiff_cli.model.network import SpectrogramDiffusion
from specdiff_cli.train.optimisers import BatchedMuon, Rates, make_optimisers, orthogonal


def test_many_matrices_at_once_are_updated_as_one_by_one() -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = [(8, 24), (8, 24), (24, 8), (16, 16), (8, 24)]
    ours = [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]
    theirs = copy.deepcopy(ours)
    settings = {"lr": 0.05, "weight_decay": 0.1, "adjust_lr_fn": "match_rms_adamw"}
    muons = [BatchedMuon(ours, **settings), torch.optim.Muon(theirs, **settings)]  # type: ignore[arg-type]
    for _ in range(3):
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.randn(one.shape, generator=generator)
            other.grad = one.grad.clone()
        for muon in muons:
            muon.step()  # type: ignore[no-untyped-call]
    for one, other in zip(ours, theirs, strict=True):
        # three steps move an entry by about 0.03; both compute them in bfloat16
        torch.testing.assert_close(one, other, atol=1e-3, rtol=0)
    muons[0].load_state_dict(muons[1].state_dict())  # a run may go on on another device


def test_updates_are_nearly_orthogonal() -> None:
    matrices = torch.randn(3, 32, 8, generator=torch.Generator().manual_seed(0))
    found = orthogonal(matrices, (3.4445, -4.7750, 2.0315), 5, 1e-7).float()
    singular = torch.linalg.svdvals(found)
    assert 0.6 < singular.min() <= singular.max() < 1.3


def test_queries_take_smaller_steps_and_position_tables_none() -> None:
    model = SpectrogramDiffusion(SMALLEST)
    matrices, queries, others = make_optimisers(model, HASTY)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    held = [[names[id(p)] for p in o.param_groups[0]["params"]] for o in (matrices, queries, others)]
    assert queries.param_groups[0]["lr"] == pytest.approx(HASTY.matrix_lr / 4)  # d_kv is 16
    assert held[1] == [name for name in names.values() if name.endswith("attention.q.weight")]
    assert "decoder.blocks.0.mlp.wo.weight" in held[0]
    assert {"decoder.blocks.0.mlp_film.weight", "note_encoder.embedding.weight", "decoder.norm.weight"} < set(held[2])
    tables = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert tables == {name for name in names.values() if "positions" in name}
    assert sorted(sum(held, [])) == sorted(set(names.values()) - tables)


def test_rates_are_scaled_after_a_state_was_loaded() -> None:
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    rates = Rates([optimiser])
    rates.scale(0.25)
    assert optimiser.param_groups[0]["lr"] == 0.125
    optimiser.load_state_dict(optimiser.state_dict())
    rates.scale(0.5)
    assert optimiser.param_groups[0]["lr"] == 0.25
