"""Classifier-free guidance."""

from torch import Tensor

from specdiff_cli.diffusion.samplers import Denoiser


def guided(conditional: Denoiser, unconditional: Denoiser, weight: float) -> Denoiser:
    """Combine two denoisers: ``weight * conditional + (1 - weight) * unconditional``.

    The combination is linear, so it holds for outputs in eps and in v alike. A weight of 1 is the conditional
    denoiser alone, at the cost of one evaluation per step; 0 is the unconditional one alone.

    Source: Ho and Salimans 2022, in the reference code's convention (the paper's demonstrations use 2.0).
    """
    if weight == 1.0:
        return conditional
    if weight == 0.0:
        return unconditional

    def denoise(x: Tensor, i: int) -> Tensor:
        return weight * conditional(x, i) + (1.0 - weight) * unconditional(x, i)

    return denoise
