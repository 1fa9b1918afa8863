"""Train the spectrogram network of a voice.

    python -m specdiff_cli.train.model --corpus CORPUS --out RUN --minutes 90

CORPUS holds ``train/`` and ``validation/`` folders of pieces (see :mod:`specdiff_cli.train.corpus`). RUN receives
``state.pt`` (to resume), ``model.safetensors`` (averaged weights) and ``log.jsonl``.
"""

import argparse
import copy
import json
import logging
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from specdiff_cli.diffusion.samplers import implied_x0
from specdiff_cli.model.config import ModelConfig
from specdiff_cli.model.network import SpectrogramDiffusion
from specdiff_cli.train.batches import Batch, Corpus, collate

log = logging.getLogger("specdiff.train")

TINY = ModelConfig(
    d_model=256,
    n_heads=4,
    d_kv=64,
    d_ff=512,
    n_note_layers=1,
    n_context_layers=1,
    n_decoder_layers=5,
    n_vocabulary_rows=1424,
    n_velocity_bins=32,
    note_layout=True,
    objective="x0",
)


@dataclass(frozen=True)
class TrainConfig:
    """Hyper-parameters of a run."""

    batch_size: int = 12
    matrix_lr: float = 2e-3
    other_lr: float = 1e-3
    warmup_steps: int = 150
    ema_decay: float = 0.999
    condition_dropout: float = 0.1
    context_dropout: float = 0.15
    context_noise: float = 0.25
    clip_norm: float = 1.0
    seed: int = 0


def alpha_sigma(times: Tensor) -> tuple[Tensor, Tensor]:
    """Times (B,) -> alpha, sigma (B, 1, 1) of the magenta (cosine) schedule."""
    b = math.atan(math.exp(-10.0))
    angle = (math.atan(math.exp(10.0)) - b) * times + b
    return torch.cos(angle)[:, None, None], torch.sin(angle)[:, None, None]


def loss_on(model: SpectrogramDiffusion, batch: Batch, config: TrainConfig) -> Tensor:
    """L1 distance between the true and the implied spectrogram at uniformly random noise levels."""
    n_windows = batch.target.shape[0]
    times = torch.rand(n_windows)
    alpha, sigma = alpha_sigma(times)
    noisy = alpha * batch.target + sigma * torch.randn_like(batch.target)
    # A rolling render sees its own imperfect output as context; noise of random strength stands in for it.
    strength = torch.rand(n_windows, 1, 1) * config.context_noise
    context = batch.context + strength * torch.randn_like(batch.context)
    has_context = batch.has_context & (torch.rand(n_windows) >= config.context_dropout)
    is_conditioned = torch.rand(n_windows) >= config.condition_dropout
    output = run_model(model, noisy, times, batch, context, has_context, is_conditioned)
    implied = implied_x0(output, noisy, alpha, sigma, model.config.objective)
    return (implied - batch.target).abs().mean()


def run_model(
    model: SpectrogramDiffusion,
    noisy: Tensor,
    times: Tensor,
    batch: Batch,
    context: Tensor,
    has_context: Tensor,
    is_conditioned: Tensor,
) -> Tensor:
    """One evaluation in bfloat16; the output is float32."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out: Tensor = model(
            noisy,
            times,
            batch.tokens,
            context,
            has_context,
            is_conditioned,
            batch.layout_tokens,
            batch.layout_times,
        )
    return out.float()


@torch.no_grad()
def validate(model: SpectrogramDiffusion, batch: Batch, n_steps: int = 10) -> float:
    """Mean absolute mel error (model range) of DDIM samples with the true context."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch.target.shape, generator=generator)
    yes = torch.ones(x.shape[0], dtype=torch.bool)
    for i in range(n_steps, 0, -1):
        t = torch.full((x.shape[0],), i / n_steps)
        s = torch.full((x.shape[0],), (i - 1) / n_steps)
        (alpha_t, sigma_t), (alpha_s, sigma_s) = alpha_sigma(t), alpha_sigma(s)
        out = run_model(model, x, t, batch, batch.context, batch.has_context, yes)
        x0 = implied_x0(out, x, alpha_t, sigma_t, model.config.objective).clamp(-1, 1)
        eps = (x - alpha_t * x0) / sigma_t
        x = alpha_s * x0 + sigma_s * eps if i > 1 else x0
    return float((x - batch.target).abs().mean())


def optimisers(model: SpectrogramDiffusion, config: TrainConfig) -> list[torch.optim.Optimizer]:
    """Muon for the square-ish matrices of the blocks, AdamW for everything else.

    The FiLM matrices are far larger than they are used (once per window), so orthogonalising them would cost more
    than the network's own step.
    """
    matrices, queries, others = [], [], []
    for name, parameter in model.named_parameters():
        if "positions" in name:
            parameter.requires_grad_(False)  # fixed tables
        elif name.endswith("attention.q.weight"):
            queries.append(parameter)
        elif ".blocks." in name and parameter.ndim == 2 and "film" not in name:
            matrices.append(parameter)
        else:
            others.append(parameter)
    return [
        torch.optim.Muon(matrices, lr=config.matrix_lr, weight_decay=0.02, adjust_lr_fn="match_rms_adamw"),
        # Logits are not scaled, so queries live at 1/sqrt(d_kv) of the usual size, and so must their steps.
        torch.optim.Muon(
            queries, lr=config.matrix_lr * model.config.d_kv**-0.5, weight_decay=0.02, adjust_lr_fn="match_rms_adamw"
        ),
        torch.optim.AdamW(others, lr=config.other_lr, betas=(0.9, 0.98), weight_decay=0.01),
    ]


class Trainer:
    """One run: model, averaged model, optimisers, corpus, and where they are saved."""

    def __init__(self, corpus: Path, out: Path, config: TrainConfig, model_config: ModelConfig) -> None:
        torch.manual_seed(config.seed)
        self.config = config
        self.out = out
        self.model = SpectrogramDiffusion(model_config)
        self.model.initialise(config.seed)
        self.averaged = copy.deepcopy(self.model).requires_grad_(False)
        self.optimisers = optimisers(self.model, config)
        self.base_lrs = [group["lr"] for o in self.optimisers for group in o.param_groups]
        self.step = 0
        self.trained_s = 0.0
        self.corpus = Corpus(corpus / "train", model_config.vocabulary)
        self.validation = Corpus(corpus / "validation", model_config.vocabulary)
        self.generator = np.random.default_rng(config.seed)
        self.queue: list[Batch] = []
        out.mkdir(parents=True, exist_ok=True)
        if (out / "state.pt").exists():
            self._resume()

    def _resume(self) -> None:
        state = torch.load(self.out / "state.pt", weights_only=True)
        self.model.load_state_dict(state["model"])
        self.averaged.load_state_dict(state["averaged"])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        self.step, self.trained_s = state["step"], state["trained_s"]
        self.generator = np.random.default_rng([self.config.seed, self.step])
        torch.manual_seed(self.config.seed + self.step)

    def start_from(self, path: Path) -> None:
        """Take over the weights of another run, not its optimisers."""
        weights = torch.load(path, weights_only=True)["model"]
        self.model.load_state_dict(weights)
        self.averaged.load_state_dict(weights)

    def save(self) -> None:
        state = {
            "model": self.model.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimisers": [o.state_dict() for o in self.optimisers],
            "step": self.step,
            "trained_s": self.trained_s,
        }
        temporary = self.out / "state.pt.part"
        torch.save(state, temporary)
        temporary.replace(self.out / "state.pt")
        weights = {name: tensor.half().contiguous() for name, tensor in self.averaged.state_dict().items()}
        save_file(weights, self.out / "model.safetensors.part")
        (self.out / "model.safetensors.part").replace(self.out / "model.safetensors")
        (self.out / "config.json").write_text(
            json.dumps({"model": asdict(self.model.config), "train": asdict(self.config), "step": self.step}, indent=1)
        )

    def train_step(self, lr_factor: float) -> float:
        if not self.queue:
            self.queue = self.corpus.batches(self.config.batch_size, self.generator)
        batch = self.queue.pop()
        loss = loss_on(self.model, batch, self.config)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        if not torch.isfinite(norm):
            raise FloatingPointError(f"the gradient is not finite at step {self.step}; lower the learning rates")
        groups = [group for o in self.optimisers for group in o.param_groups]
        for group, base in zip(groups, self.base_lrs, strict=True):
            group["lr"] = base * lr_factor
        for optimiser in self.optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        self.step += 1
        decay = min(self.config.ema_decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.averaged.parameters()), list(self.model.parameters()), 1 - decay)
        return float(loss.detach())

    def run(self, minutes: float) -> None:
        """Train until ``minutes`` of training time (over all resumptions) are spent; cosine decay over that time."""
        total_s = minutes * 60
        while not self.validation.refresh() or not self.corpus.refresh(limit=40):
            time.sleep(5)
        held_out = collate(self.validation.choose(16, np.random.default_rng(1)))
        losses: list[float] = []
        mark = time.monotonic()
        while self.trained_s < total_s:
            progress = self.trained_s / total_s
            warmup = min(1.0, (self.step + 1) / self.config.warmup_steps)
            factor = warmup * (0.02 + 0.49 * (1 + math.cos(math.pi * progress)))
            losses.append(self.train_step(factor))
            now = time.monotonic()
            self.trained_s, mark = self.trained_s + now - mark, now
            if self.step % 50 == 0:
                record = {"step": self.step, "loss": float(np.mean(losses)), "minutes": self.trained_s / 60}
                losses.clear()
                if self.step % 250 == 0:
                    record["validation_mel_l1"] = validate(self.averaged, held_out)
                    self.save()
                    self.corpus.refresh(limit=60)
                    record["hours"] = self.corpus.hours
                    mark = time.monotonic()
                log.info(" ".join(f"{key} {value:.4g}" for key, value in record.items()))
                with (self.out / "log.jsonl").open("a") as file:
                    file.write(json.dumps(record) + "\n")
        self.save()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=90)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--batch-size", type=int, default=TrainConfig.batch_size)
    parser.add_argument("--start-from", type=Path, help="state.pt whose weights to start from")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(args.threads)
    config = TrainConfig(batch_size=args.batch_size)
    trainer = Trainer(args.corpus, args.out, config, TINY)
    if args.start_from is not None and trainer.step == 0:
        trainer.start_from(args.start_from)
    n_parameters = sum(parameter.numel() for parameter in trainer.model.parameters())
    log.info("%.1f M parameters", n_parameters / 1e6)
    trainer.run(args.minutes)


if __name__ == "__main__":
    main()
