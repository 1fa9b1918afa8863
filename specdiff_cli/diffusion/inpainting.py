"""Frames of a window that are given: kept known at every step, so that the rest is sampled to go on from them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from specdiff_cli.diffusion.samplers import Denoiser, NoiseSource
from specdiff_cli.diffusion.schedules import Step


class KnownFrames:
    """The first frames of some windows, at the noise level of each step, in place of what the sampler made of them.

    The denoiser sees alpha * known + sigma * noise there. The noise is what the sampler drew last: at each step anew
    where it draws at each step (ddpm), else the noise that the window began with, so that the known frames too move
    along one path of the deterministic samplers. Samplers treat every value of a spectrogram alone, so that what
    becomes of these frames in their own state matters nowhere else.

    Source: replacement, as Song et al. 2021 (score SDEs, appendix I.2) and Lugmayr et al. 2022 (RePaint).

    Args:
        values: (B, k, M), the known frames as the sampler has them, without noise.
        is_known: (B, 1, 1) bool, which windows have them.
        steps: of the schedule.
        noise: (B, F, M) draws.
    """

    def __init__(self, values: Tensor, is_known: Tensor, steps: Sequence[Step], noise: NoiseSource) -> None:
        self._values = values
        self._is_known = is_known
        self._steps = steps
        self._draw = noise
        self._noise: Tensor | None = None

    def noise(self) -> Tensor:
        """The next draw; the sampler must take all its noise, the first included, from here."""
        self._noise = self._draw()
        return self._noise

    def around(self, denoiser: Denoiser) -> Denoiser:
        """The same denoiser, which sees the known frames where they are known."""

        def denoise(x: Tensor, i: int) -> Tensor:
            if self._noise is None:
                raise ValueError("sampling begins with noise() of these frames")
            step = self._steps[i]
            noisy = step.alpha_t * self._values + step.sigma_t * self._noise[:, : self._values.shape[1]]
            return denoiser(self.put(noisy, x), i)

        return denoise

    def put(self, first: Tensor, x: Tensor) -> Tensor:
        """``x`` (B, F, M) with ``first`` (B, k, M) as its first frames in the windows that have known ones."""
        n_known = first.shape[1]
        return torch.cat([torch.where(self._is_known, first, x[:, :n_known]), x[:, n_known:]], dim=1)
