"""Train the network of a voice's vocoder.

    python -m specdiff_cli.train.vocoder --corpus CORPUS --out RUN --minutes 60 --threads 1

CORPUS is a folder made by ``specdiff_cli.train.corpus`` (``train/`` and ``validation/`` pieces). RUN receives
``vocoder.safetensors`` (averaged weights, what a voice ships), ``vocoder.json`` (sizes and settings), ``state.pt``
(a later call with the same folders goes on from it; its minutes are counted in) and ``quality.json`` (of the saved
weights, beside Griffin-Lim's). The first part of the time goes to known answers, the rest adds the discriminator;
``supervised.safetensors`` holds the averaged weights from just before that, to compare.
"""

import argparse
import copy
import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save_file
from torch import Tensor

from specdiff_cli.audio.griffin_lim import GriffinLim
from specdiff_cli.audio.mel import log_mel
from specdiff_cli.audio.melgan import MelGan, MelGanConfig, MelGanVocoder, network_inputs
from specdiff_cli.constants import HOP_SAMPLES, LOG_MEL_MIN, N_MELS, SAMPLE_RATE_HZ
from specdiff_cli.devices import resolve_dtype
from specdiff_cli.errors import OutputError, SpecdiffError, UsageError
from specdiff_cli.train.corpus import INT16_PEAK
from specdiff_cli.train.vocoder_losses import (
    Discriminator,
    Guess,
    Quality,
    Truth,
    discriminator_loss,
    generator_losses,
    guess_of,
    mean_quality,
    quality,
    supervised_losses,
    truth_of,
)

logger = logging.getLogger(__name__)

N_VALIDATION_PIECES = 6
VALIDATION_SAMPLES = 6 * SAMPLE_RATE_HZ
LOG_EVERY_STEPS = 50


@dataclass(frozen=True)
class TrainConfig:
    """Hyper-parameters of a run."""

    batch_size: int = 16
    n_frames: int = 64
    learning_rate: float = 2e-3
    warmup_steps: int = 50
    ema_decay: float = 0.998
    clip_norm: float = 1.0
    level_range_db: tuple[float, float] = (-12.0, 12.0)
    largest_noise: float = 0.2
    """Upper end of the standard deviation of the noise on the mel: what the spectrogram network gets wrong."""
    advance_weight: float = 1.0
    adversarial_share: float = 0.3
    """Share of the time, at the end, in which the discriminator takes part."""
    adversarial_weight: float = 0.03
    matching_weight: float = 0.3
    seed: int = 0


@dataclass(frozen=True)
class Example:
    """A training batch."""

    mel: Tensor  # (B, n_frames, 128), with noise
    spread: Tensor  # (B, n_frames, 513)
    peak_turns: Tensor  # (B, n_frames, 513), radians
    truth: Truth


class AudioCorpus:
    """The audio of a folder of pieces, in memory as 16-bit integers (115 MB an hour)."""

    def __init__(self, folder: Path, shortest_samples: int) -> None:
        pieces: list[npt.NDArray[np.int16]] = []
        for path in sorted(folder.glob("*.npz")):
            try:
                with np.load(path) as archive:
                    pieces.append(archive["audio"])
            except (OSError, ValueError, KeyError) as error:
                raise UsageError(f"cannot read {path}: {error}; make the corpus again") from error
        self.pieces = [piece for piece in pieces if len(piece) >= shortest_samples]
        if not self.pieces:
            raise UsageError(f"no pieces of music in {folder}: make them with specdiff_cli.train.corpus")
        lengths = np.array([len(piece) for piece in self.pieces], dtype=np.float64)
        self._odds = lengths / lengths.sum()

    def sample(self, n_pieces: int, n_samples: int, generator: np.random.Generator) -> Tensor:
        """Random excerpts, (n_pieces, n_samples) float32 within +-1."""
        rows = []
        for index in generator.choice(len(self.pieces), size=n_pieces, p=self._odds):
            piece = self.pieces[index]
            start = int(generator.integers(len(piece) - n_samples + 1))
            rows.append(piece[start : start + n_samples])
        return torch.from_numpy(np.stack(rows).astype(np.float32) / INT16_PEAK)


def make_example(audio: Tensor, noise: float | Tensor, config: TrainConfig) -> Example:
    """From (B, (n_frames + 2) * 320) samples; ``noise`` is the standard deviation of what is added to the mel."""
    mel = log_mel(audio)[:, 1 : 1 + config.n_frames]
    mel = (mel + noise * torch.randn(mel.shape)).clamp_min(LOG_MEL_MIN)
    spread, peaks = network_inputs(mel.reshape(-1, N_MELS))
    shape = (*mel.shape[:2], -1)
    return Example(mel, spread.view(shape), peaks.turns.float().view(shape), truth_of(audio))


class Trainer:
    """One run: network, averaged network, discriminator, optimisers, corpus, and where they are saved."""

    def __init__(self, corpus: Path, out: Path, config: TrainConfig, sizes: MelGanConfig) -> None:
        torch.manual_seed(config.seed)
        # spectra of near-silence are full of denormal numbers, which this kind of arithmetic pays dearly for
        torch.set_flush_denormal(True)
        self.config, self.sizes, self.out = config, sizes, out
        self.excerpt_samples = (config.n_frames + 2) * HOP_SAMPLES
        self.corpus = AudioCorpus(corpus / "train", self.excerpt_samples)
        self.validation = AudioCorpus(corpus / "validation", self.excerpt_samples)
        self.network = MelGan(sizes)
        self.averaged = copy.deepcopy(self.network).requires_grad_(False)
        self.discriminator = Discriminator()
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=0.01
        )
        self.judge_optimiser = torch.optim.AdamW(
            self.discriminator.parameters(), lr=config.learning_rate / 4, betas=(0.5, 0.9), weight_decay=0.01
        )
        self.half = resolve_dtype("auto", torch.device("cpu"), prefers_bfloat16=True)
        self.generator = np.random.default_rng(config.seed)
        self.step = 0
        self.trained_s = 0.0
        self.adversarial = False
        self._resume()

    def train_step(self, rate: float, adversarial: bool) -> dict[str, float]:
        """One step at ``rate`` times the learning rate; returns the losses by name."""
        config = self.config
        example = self._example()
        with torch.autocast("cpu", self.half, enabled=self.half != torch.float32):
            outputs = self.network(example.mel, example.spread)
        guess = guess_of(outputs, example.peak_turns)
        magnitude, advance = supervised_losses(guess, example.truth)
        loss = magnitude + config.advance_weight * advance
        losses = {"magnitude": magnitude.item(), "advance": advance.item()}
        if adversarial:
            losses["judge"] = self._train_discriminator(guess, example.truth, rate)
            real, fake = self._judge(Guess(*example.truth[:2])), self._judge(guess)
            fooling, matching = generator_losses(real, fake)
            loss = loss + config.adversarial_weight * fooling + config.matching_weight * matching
            losses |= {"fooling": fooling.item(), "matching": matching.item()}
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._update(self.optimiser, self.network, config.learning_rate * rate)
        self.step += 1
        decay = min(config.ema_decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for average, current in zip(self.averaged.parameters(), self.network.parameters(), strict=True):
                average.lerp_(current, 1 - decay)
        return losses

    def _example(self) -> Example:
        config = self.config
        audio = self.corpus.sample(config.batch_size, self.excerpt_samples, self.generator)
        level_db = torch.from_numpy(self.generator.uniform(*config.level_range_db, (config.batch_size, 1))).float()
        noise = torch.from_numpy(self.generator.uniform(0, config.largest_noise, (config.batch_size, 1, 1))).float()
        return make_example(audio * 10 ** (level_db / 20), noise, config)

    def _judge(self, guess: Guess) -> list[list[Tensor]]:
        with torch.autocast("cpu", self.half, enabled=self.half != torch.float32):
            judged: list[list[Tensor]] = self.discriminator(guess.log_magnitude, guess.turn)
        return judged

    def _train_discriminator(self, guess: Guess, truth: Truth, rate: float) -> float:
        made = Guess(guess.log_magnitude.detach(), guess.turn.detach())
        loss = discriminator_loss(self._judge(Guess(truth.log_magnitude, truth.turn)), self._judge(made))
        self.judge_optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._update(self.judge_optimiser, self.discriminator, self.config.learning_rate / 4 * rate)
        return loss.item()

    def _update(self, optimiser: torch.optim.Optimizer, module: torch.nn.Module, rate: float) -> None:
        norm = torch.nn.utils.clip_grad_norm_(module.parameters(), self.config.clip_norm)
        if not torch.isfinite(norm):
            raise FloatingPointError(f"the gradient is not finite at step {self.step}: lower the learning rate")
        for group in optimiser.param_groups:
            group["lr"] = rate
        optimiser.step()

    def run(self, minutes: float, save_every_s: float = 600.0) -> None:
        """Train until ``minutes`` have been spent, those of earlier calls included; saves as it goes and at the end."""
        budget_s = minutes * 60
        totals: dict[str, list[float]] = {}
        began_s = last_s = last_save_s = time.monotonic()
        before_s = self.trained_s
        while self.trained_s < budget_s:
            done = self.trained_s / budget_s
            warmup = min(1.0, (self.step + 1) / self.config.warmup_steps)
            rate = warmup * (0.02 + 0.98 * (0.5 + 0.5 * math.cos(math.pi * done)))
            adversarial = done >= 1 - self.config.adversarial_share
            if adversarial and not self.adversarial:
                self.adversarial = True
                self._write_weights("supervised.safetensors")
            for name, value in self.train_step(rate, adversarial).items():
                totals.setdefault(name, []).append(value)
            now_s = time.monotonic()
            self.trained_s = before_s + now_s - began_s
            if self.step % LOG_EVERY_STEPS == 0:
                means = ", ".join(f"{name} {sum(values) / len(values):.4f}" for name, values in totals.items())
                pace_s = (now_s - last_s) / LOG_EVERY_STEPS
                logger.info("step %d, %.1f min, %.2f s/step: %s", self.step, self.trained_s / 60, pace_s, means)
                totals, last_s = {}, now_s
            if now_s - last_save_s > save_every_s:
                self.save()
                last_save_s = last_s = time.monotonic()
        self.save()

    @torch.no_grad()
    def evaluate(self, invert: Callable[[Tensor, int], Tensor]) -> Quality:
        """Mean quality on fixed excerpts of the validation pieces, resynthesised from their own mel."""
        measured = []
        for piece in self.validation.pieces[:N_VALIDATION_PIECES]:
            middle = max(0, len(piece) // 2 - VALIDATION_SAMPLES // 2)
            excerpt = piece[middle : middle + VALIDATION_SAMPLES].astype(np.float32) / INT16_PEAK
            audio = torch.from_numpy(excerpt)
            measured.append(quality(audio, invert(log_mel(audio), 0)))
        return mean_quality(measured)

    def save(self) -> None:
        """Write the averaged weights, the state to resume from, and how good they are."""
        vocoder = MelGanVocoder(copy.deepcopy(self.averaged), self.sizes)
        ours, plain = self.evaluate(vocoder.invert), self.evaluate(GriffinLim().invert)
        logger.info("step %d, melgan: %s", self.step, ours)
        logger.info("step %d, griffin-lim: %s", self.step, plain)
        state = {
            "network": self.network.state_dict(),
            "averaged": self.averaged.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "judge_optimiser": self.judge_optimiser.state_dict(),
            "step": self.step,
            "trained_s": self.trained_s,
            "adversarial": self.adversarial,
            "sizes": asdict(self.sizes),
        }
        about = {"sizes": asdict(self.sizes), "train": asdict(self.config), "step": self.step}
        scores = {"melgan": ours._asdict(), "griffin-lim": plain._asdict()}
        self._write_weights("vocoder.safetensors")
        try:
            _replace(self.out / "vocoder.json", lambda path: path.write_text(json.dumps(about, indent=1) + "\n"))
            _replace(self.out / "quality.json", lambda path: path.write_text(json.dumps(scores, indent=1) + "\n"))
            _replace(self.out / "state.pt", lambda path: torch.save(state, path))
        except OSError as error:
            raise OutputError(f"cannot write into {self.out}: {error.strerror or error}") from error

    def _write_weights(self, name: str) -> None:
        weights = {key: tensor.half().contiguous() for key, tensor in self.averaged.state_dict().items()}
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            _replace(self.out / name, lambda path: save_file(weights, path))
        except OSError as error:
            raise OutputError(f"cannot write into {self.out}: {error.strerror or error}") from error

    def _resume(self) -> None:
        path = self.out / "state.pt"
        if not path.exists():
            return
        state = torch.load(path, weights_only=True)
        if state["sizes"] != asdict(self.sizes):
            raise UsageError(f"{path} is a network of other sizes: give another --out, or the same sizes")
        self.network.load_state_dict(state["network"])
        self.averaged.load_state_dict(state["averaged"])
        self.discriminator.load_state_dict(state["discriminator"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.judge_optimiser.load_state_dict(state["judge_optimiser"])
        self.step, self.trained_s, self.adversarial = state["step"], state["trained_s"], state["adversarial"]
        self.generator = np.random.default_rng([self.config.seed, self.step])
        torch.manual_seed(self.config.seed + self.step)
        logger.info("resumed at step %d after %.1f min", self.step, self.trained_s / 60)


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    """Write beside the file, then rename: a run that is stopped leaves the last complete state."""
    partial = path.with_suffix(path.suffix + ".part")
    write(partial)
    partial.replace(path)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m specdiff_cli.train.vocoder", description="Train a vocoder.")
    parser.add_argument("--corpus", type=Path, required=True, help="folder made by specdiff_cli.train.corpus")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--minutes", type=float, required=True, help="time to train, earlier calls included")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=TrainConfig.batch_size)
    parser.add_argument("--adversarial-share", type=float, default=TrainConfig.adversarial_share)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> int:
    """The command; returns its exit code."""
    arguments = _arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(arguments.threads)
    config = TrainConfig(
        batch_size=arguments.batch_size, adversarial_share=arguments.adversarial_share, seed=arguments.seed
    )
    try:
        trainer = Trainer(arguments.corpus, arguments.out, config, MelGanConfig())
        n_parameters = sum(parameter.numel() for parameter in trainer.network.parameters())
        logger.info("%.2f M parameters, %d pieces", n_parameters / 1e6, len(trainer.corpus.pieces))
        trainer.run(arguments.minutes)
    except SpecdiffError as error:
        logger.error("%s", error)
        return int(error.exit_code)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
