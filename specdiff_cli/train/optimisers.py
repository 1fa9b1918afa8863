"""Who learns how: Muon for the matrices of the blocks, AdamW for everything else."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from specdiff_cli.model.network import SpectrogramDiffusion
from specdiff_cli.train.hyperparameters import TrainConfig


class BatchedMuon(torch.optim.Muon):
    """torch's Muon, with all matrices of one shape orthogonalised together.

    The arithmetic is the same. One by one, a small network's matrices take thousands of kernels a step, which a GPU
    starts more slowly than it computes them; together they take dozens.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update every matrix that has a gradient."""
        for group in self.param_groups:
            alike: dict[torch.Size, list[Tensor]] = {}
            for matrix in group["params"]:
                if matrix.grad is not None:
                    alike.setdefault(matrix.shape, []).append(matrix)
            for matrices in alike.values():
                self._step_alike(matrices, group)

    def _step_alike(self, matrices: list[Tensor], group: dict[str, Any]) -> None:
        gradients = [matrix.grad for matrix in matrices if matrix.grad is not None]
        for matrix in matrices:
            if "momentum_buffer" not in self.state[matrix]:
                self.state[matrix]["momentum_buffer"] = torch.zeros_like(matrix)
        buffers = [self.state[matrix]["momentum_buffer"] for matrix in matrices]
        torch._foreach_lerp_(buffers, gradients, 1 - group["momentum"])
        updates = torch._foreach_lerp(gradients, buffers, group["momentum"])
        directions = orthogonal(torch.stack(list(updates)), group["ns_coefficients"], group["ns_steps"], group["eps"])
        rate = group["lr"] * 0.2 * max(matrices[0].shape) ** 0.5  # adjust_lr_fn "match_rms_adamw"
        torch._foreach_mul_(matrices, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(matrices, list(directions.float().unbind()), alpha=-rate)


def orthogonal(matrices: Tensor, coefficients: tuple[float, float, float], n_iterations: int, eps: float) -> Tensor:
    """Nearly orthogonal matrices (n, rows, columns), bfloat16, by the quintic Newton-Schulz iteration of Muon.

    Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks".
    """
    a, b, c = coefficients
    x = matrices.bfloat16()
    is_tall = x.shape[1] > x.shape[2]
    if is_tall:
        x = x.mT
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=eps)
    for _ in range(n_iterations):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if is_tall else x


def make_optimisers(model: SpectrogramDiffusion, config: TrainConfig) -> list[torch.optim.Optimizer]:
    """Muon for the square-ish matrices of the blocks, AdamW for everything else; position tables are frozen.

    The FiLM matrices are far larger than they are used (once per window), so orthogonalising them would cost more
    than the network's own step.
    """
    matrices, queries, others, templates = [], [], [], []
    for name, parameter in model.named_parameters():
        if "positions" in name:
            parameter.requires_grad_(False)  # fixed tables
        elif name.startswith("note_templates."):
            templates.append(parameter)
        elif name.endswith("attention.q.weight"):
            queries.append(parameter)
        elif ".blocks." in name and parameter.ndim == 2 and "film" not in name:
            matrices.append(parameter)
        else:
            others.append(parameter)
    on_gpu = next(model.parameters()).is_cuda
    muon = BatchedMuon if on_gpu else torch.optim.Muon
    # Logits are not scaled, so queries live at 1/sqrt(d_kv) of the usual size, and so must their steps.
    query_lr = config.matrix_lr * model.config.d_kv**-0.5
    optimisers: list[torch.optim.Optimizer] = [
        muon(matrices, lr=config.matrix_lr, weight_decay=0.02, adjust_lr_fn="match_rms_adamw"),
        muon(queries, lr=query_lr, weight_decay=0.02, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=config.other_lr, betas=(0.9, 0.98), weight_decay=0.01, fused=on_gpu),
    ]
    if templates:
        optimisers.append(
            torch.optim.AdamW(templates, lr=config.template_lr, betas=(0.9, 0.98), weight_decay=1e-3, fused=on_gpu)
        )
    return optimisers


class Rates:
    """Scales the learning rates of several optimisers by one factor."""

    def __init__(self, optimisers: Sequence[torch.optim.Optimizer]) -> None:
        self._optimisers = optimisers
        self._bases = [[group["lr"] for group in optimiser.param_groups] for optimiser in optimisers]

    def scale(self, factor: float) -> None:
        """Set every rate to ``factor`` times what it was made with."""
        for optimiser, bases in zip(self._optimisers, self._bases, strict=True):
            # Looked up each time: loading a state replaces the groups.
            for group, base in zip(optimiser.param_groups, bases, strict=True):
                group["lr"] = base * factor
