"""The U-Net: as large as the original's, really causal, with the time everywhere, and its diffusion."""

import pytest
import torch
from torch import Tensor, nn

from specdiff_cli.composing.unet import N_DIFFUSION_STEPS, UnetConfig, UnetNetwork, alpha_bars, sample


@pytest.fixture(scope="module")
def small() -> UnetNetwork:
    network = UnetNetwork(UnetConfig(width=16))
    network.initialise(0)
    return network.eval()


def test_it_has_the_original_s_parameters() -> None:
    with torch.device("meta"):
        network = UnetNetwork(UnetConfig())
    assert sum(parameter.numel() for parameter in network.parameters()) == 12_316_355


@pytest.mark.parametrize("place", [1, 7, 8, 21, 30])
def test_no_note_hears_a_later_one(small: UnetNetwork, place: int) -> None:
    x = torch.randn(1, 32, 3, generator=torch.Generator().manual_seed(0))
    changed = x.clone()
    changed[:, place:] += 1
    with torch.no_grad():
        difference = (small(x, torch.tensor([300])) - small(changed, torch.tensor([300]))).abs().amax(dim=(0, 2))
    assert difference[:place].max() < 1e-6
    assert difference[place] > 1e-4


def test_every_note_hears_the_time(small: UnetNetwork) -> None:
    x = torch.randn(1, 32, 3, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        difference = (small(x, torch.tensor([10])) - small(x, torch.tensor([900]))).abs().amax(dim=(0, 2))
    assert difference.min() > 1e-3


def test_the_schedule_is_the_original_s() -> None:
    bars = alpha_bars()
    assert float(bars[0]) == pytest.approx(1 - 1e-4)
    assert float(bars[999]) == pytest.approx(4.04e-5, rel=2e-3)


class Oracle(nn.Module):
    """Knows the noise, since it knows what is under it."""

    def __init__(self, clean: Tensor) -> None:
        super().__init__()
        self.clean = clean

    def forward(self, x: Tensor, steps: Tensor) -> Tensor:
        bar = alpha_bars().float()[steps][:, None, None]
        return (x - bar.sqrt() * self.clean) / (1 - bar).sqrt()


@pytest.mark.parametrize("n_steps", [1, 7, N_DIFFUSION_STEPS])
def test_sampling_finds_what_the_noise_hides(n_steps: int) -> None:
    generator = torch.Generator().manual_seed(1)
    clean = torch.rand(2, 8, 3, generator=generator)
    noise = torch.randn(2, 8, 3, generator=generator)
    fresh = [torch.randn(2, 8, 3, generator=generator) for _ in range(n_steps)] if n_steps == 1000 else None
    found = sample(Oracle(clean), noise, n_steps, fresh)  # type: ignore[arg-type]
    assert (found - clean).abs().max() < 1e-3
