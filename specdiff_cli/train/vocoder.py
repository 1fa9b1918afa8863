"""Train the network of a voice's vocoder (``specdiff train vocoder``).

The folder of a run receives ``vocoder.safetensors`` (averaged weights in float16, what a voice ships),
``vocoder.json`` (sizes and settings), ``quality.json`` (of these weights, beside Griffin-Lim's), ``log.jsonl``,
TensorBoard's files where it is installed, and ``state.pt``, from which the same call goes on bit for bit. The first
part of the steps goes to known answers, the rest adds the discriminator; ``supervised.safetensors`` holds the averaged
weights from just before that, to compare.
"""

import copy
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from specdiff_cli.audio.gains import GainsConfig
from specdiff_cli.audio.melgan import GeneratorConfig
from specdiff_cli.audio.spectral import SpectralConfig
from specdiff_cli.constants import SAMPLE_RATE_HZ
from specdiff_cli.errors import Option, SpecdiffError, UsageError, WeightsError
from specdiff_cli.train.journal import Journal
from specdiff_cli.train.listener import Listener
from specdiff_cli.train.run_folder import RunFolder, load_tensors, write_atomically, write_text_atomically
from specdiff_cli.train.settings import read_settings, read_toml
from specdiff_cli.train.vocoder_losses import Quality
from specdiff_cli.train.vocoder_pairs import OnReady
from specdiff_cli.train.vocoder_routes import Attempt, VocoderSizes, open_route
from specdiff_cli.train.vocoder_settings import (
    RETIRED_KEYS,
    GainsTrainConfig,
    MelGanTrainConfig,
    RunSettings,
    TrainConfig,
    lr_factor,
)
from specdiff_cli.weights.load import read_tensors

STATE_VERSION = 1
_SPECTRAL: tuple[type[Any], type[Any]] = (SpectralConfig, TrainConfig)
#: Sizes and settings of the stages of ``partials``, by their heads.
_STAGES: dict[str, tuple[type[Any], type[Any]]] = {
    "melgan": (GeneratorConfig, MelGanTrainConfig),
    "gains": (GainsConfig, GainsTrainConfig),
}


@dataclass(frozen=True)
class Report:
    """What is known after a step."""

    step: int
    n_steps: int
    means: dict[str, float]
    """Losses and learning rate, averaged since the last line of the log; empty between its lines."""
    quality: Quality | None
    """Of the averaged weights on the validation pieces, where they were just measured."""

    def tell(self, listener: Listener) -> None:
        """Say it in words."""
        losses = ", ".join(f"{name} {value:.3g}" for name, value in self.means.items())
        listener.step(self.step, self.n_steps, losses)
        words = [*filter(None, (losses, "" if self.quality is None else str(self.quality)))]
        if words:
            line = f"step {self.step}/{self.n_steps}: {' · '.join(words)}"
            listener.logged(line, is_measured=self.quality is not None)


def read_vocoder_settings(path: Path, n_steps: int | None = None) -> tuple[RunSettings, VocoderSizes]:
    """The settings of a run, of the kind that ``head`` names; ``n_steps`` replaces the file's.

    Raises UsageError with one line that names the file and the key.
    """
    table = read_toml(path).get("vocoder")
    head = str(table.get("head")) if isinstance(table, dict) else ""
    sizes, train = _STAGES.get(head, _SPECTRAL)
    kinds: dict[str, type[Any]] = {"vocoder": sizes, "train": train}
    retired = {} if head in _STAGES else RETIRED_KEYS
    try:
        settings = read_settings(path, kinds, retired)
    except UsageError:
        raise
    except SpecdiffError as error:  # sizes that cannot be
        raise UsageError(f"{path}: [vocoder] {error}") from None
    config: RunSettings = settings["train"]
    try:
        return (config if n_steps is None else replace(config, n_steps=n_steps)), settings["vocoder"]
    except ValueError as error:
        raise UsageError(Option("steps"), f": {error}", option="steps", value=n_steps) from None


class VocoderJournal(Journal):
    """A journal that also keeps sound."""

    def listen(self, step: int, name: str, pieces: Sequence[Tensor]) -> None:
        """Audio of the validation pieces, (n_samples,) each."""
        if self._writer is None:
            return
        for i, audio in enumerate(pieces):
            self._writer.add_audio(f"piece {i}/{name}", audio.clamp(-1, 1)[None], step, sample_rate=SAMPLE_RATE_HZ)


@contextmanager
def _without_denormals() -> Iterator[None]:
    """Spectra of near-silence are full of denormal numbers, which this kind of arithmetic pays dearly for."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


class Trainer:
    """One run: network, averaged network, discriminator, optimisers, corpus, and where they are saved.

    Raises UsageError for a corpus without training or validation part, and for a folder that holds a finished run or
    one with other settings; WeightsError for weights to start from that do not fit.
    """

    def __init__(
        self,
        corpus: Path,
        out: Path,
        config: RunSettings,
        sizes: VocoderSizes,
        device: torch.device | None = None,
        start_from: Path | None = None,
        on_ready: OnReady = lambda ready, planned: None,
    ) -> None:
        self.config, self.sizes, self.out = config, sizes, out
        self.device = device or torch.device("cpu")
        self.settings = json.loads(json.dumps({"vocoder": asdict(sizes), "train": asdict(config)}))
        self.step = 0
        self.route = open_route(corpus, config, sizes, self.device, on_ready)
        state = self._saved_state()
        torch.manual_seed(config.seed)
        self.network = self.route.network().to(self.device)
        self.discriminator = self.route.discriminator().to(self.device)
        self.starts_from_weights = start_from is not None and state is None
        if start_from is not None and state is None:
            self.route.begin_with(self.network, read_tensors(start_from))
        self.averaged = copy.deepcopy(self.network).requires_grad_(False)
        self.optimiser = _adamw(self.network, (0.9, 0.98))
        self.judge_optimiser = _adamw(self.discriminator, (0.5, 0.9))
        self.generator = np.random.default_rng(config.seed)
        self.noise = torch.Generator().manual_seed(config.seed)
        self._plain: Quality | None = None
        self._measured: tuple[int, Quality] | None = None
        if state is not None:
            self._restore(state)

    def describe(self) -> str:
        """What is trained, on what, in one line."""
        n_parameters = sum(parameter.numel() for parameter in self.network.parameters())
        going_on = f", goes on at step {self.step}" if self.step else ""
        pieces = f"{self.route.n_pieces} pieces"
        return (
            f"{self.out}: {n_parameters / 1e6:.2f} M parameters, head {self.sizes.head}, {pieces} of "
            f"{self.route.hours:.1f} h, {self.device} {str(self.route.half).removeprefix('torch.')}{going_on}"
        )

    @property
    def is_adversarial(self) -> bool:
        """Whether the discriminator takes part in the next step."""
        return self.step >= self.config.first_adversarial_step

    def train_step(self, example: Any = None) -> dict[str, float]:
        """One step, on the given batch or the next one; returns the losses by name.

        Raises SpecdiffError when the gradient is not finite: the network is then as it was before the step.
        """
        config = self.config
        rate = config.learning_rate * lr_factor(self.step, config)
        attempt = self.route.attempt(self.network, example or self.next_example())
        losses = dict(attempt.losses)
        if self.is_adversarial:
            losses["judge"] = self._train_discriminator(attempt, rate / 4)
            losses["adversarial"], losses["matching"] = self._verdict(attempt)
        weighted = [getattr(config, f"{name}_weight") * loss for name, loss in losses.items() if name != "judge"]
        self._update(self.optimiser, self.network, torch.stack(weighted).sum(), rate)
        self.step += 1
        decay = min(config.ema_decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for average, current in zip(self.averaged.parameters(), self.network.parameters(), strict=True):
                average.lerp_(current, 1 - decay)
        return {name: loss.item() for name, loss in losses.items()} | {"rate": rate}

    def next_example(self) -> Any:
        """A batch of random excerpts, as its route makes them."""
        return self.route.next_example(self.generator, self.noise)

    def _judge(self, spectra_or_audio: tuple[Tensor, ...]) -> list[list[Tensor]]:
        with torch.autocast(self.device.type, self.route.half, enabled=self.route.half != torch.float32):
            judged: list[list[Tensor]] = self.discriminator(*spectra_or_audio)
        return judged

    def _verdict(self, attempt: Attempt) -> tuple[Tensor, Tensor]:
        """Adversarial and matching losses of the network; the discriminator takes no gradient from them."""
        self.discriminator.requires_grad_(False)
        verdict = self.route.generator_losses(self._judge(attempt.real), self._judge(attempt.made))
        self.discriminator.requires_grad_(True)
        return verdict

    def _train_discriminator(self, attempt: Attempt, rate: float) -> Tensor:
        made = tuple(tensor.detach() for tensor in attempt.made)
        loss = self.route.discriminator_loss(self._judge(attempt.real), self._judge(made))
        self._update(self.judge_optimiser, self.discriminator, loss, rate)
        return loss.detach()

    def _update(self, optimiser: torch.optim.Optimizer, module: torch.nn.Module, loss: Tensor, rate: float) -> None:
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(module.parameters(), self.config.clip_norm)
        if not torch.isfinite(norm):
            raise SpecdiffError(
                f"the gradient is not finite at step {self.step}; lower learning_rate and train into another ",
                Option("out"),
                " (what was saved before is intact)",
            )
        for group in optimiser.param_groups:
            group["lr"] = rate
        optimiser.step()

    def run(
        self,
        on_report: Callable[[Report], None] = lambda report: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Train to the last step, saving on the way; returns whether it was reached.

        Args:
            on_report: called after every step, and before the first of a run that starts from given weights.
            should_stop: asked after every step; when it says yes, the run is saved and ends there, to be resumed.

        Raises OutputError when something cannot be written: what was saved before is intact.
        """
        config = self.config
        totals: dict[str, list[float]] = {}
        began_s, first_step = time.monotonic(), self.step
        folder = RunFolder(self.out)
        folder.create()
        with _without_denormals(), closing(VocoderJournal(folder, self.step)) as journal:
            if not os.path.exists(self.out / "quality.json"):
                journal.listen(self.step, "recording", self.route.heard(None))
            if self.starts_from_weights and self.step == 0:
                on_report(Report(0, config.n_steps, {}, self._validate(journal)))
            while self.step < config.n_steps:
                if self.step == config.first_adversarial_step > 0:
                    self._write_weights("supervised.safetensors")
                for name, value in self.train_step().items():
                    totals.setdefault(name, []).append(value)
                is_last, means, measured = self.step == config.n_steps, {}, None
                if is_last or self.step % config.log_every_steps == 0:
                    means = {name: sum(values) / len(values) for name, values in totals.items()}
                    totals = {}
                    pace = (self.step - first_step) / (time.monotonic() - began_s)
                    journal.record(self.step, {**means, "steps_per_s": pace})
                if is_last or self.step % config.validate_every_steps == 0:
                    measured = self._validate(journal)
                on_report(Report(self.step, config.n_steps, means, measured))
                stops = not is_last and should_stop()
                if is_last or stops or self.step % config.save_every_steps == 0:
                    self.save()
                if stops:
                    return False
        return True

    def measure(self) -> Quality:
        """Quality of the averaged weights as they are now."""
        if self._measured is None or self._measured[0] != self.step:
            self._measured = self.step, self.route.quality(self.averaged)
        return self._measured[1]

    def _validate(self, journal: "VocoderJournal") -> Quality:
        measured = self.measure()
        journal.record(self.step, {f"validation_{name}": value for name, value in measured._asdict().items()})
        journal.listen(self.step, "vocoder", self.route.heard(self.averaged))
        return measured

    def save(self) -> None:
        """Write the state to resume from, the averaged weights, and how good they are."""
        state = {
            "network": self.network.state_dict(),
            "averaged": self.averaged.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "judge_optimiser": self.judge_optimiser.state_dict(),
            "noise": self.noise.get_state(),
            "generator": json.dumps(self.generator.bit_generator.state),
            "settings": json.dumps(self.settings),
            "corpus": self.route.fingerprint,
            "version": STATE_VERSION,
            "step": self.step,
        }
        self._plain = self._plain or self.route.quality(None)
        scores = {
            "step": self.step,
            self.route.name: self.measure()._asdict(),
            self.route.plain: self._plain._asdict(),
        }
        about = {"sizes": self.settings["vocoder"], "train": self.settings["train"], "step": self.step}
        RunFolder(self.out).create()
        write_atomically(self.out / "state.pt", lambda file: torch.save(state, file))
        self._write_weights("vocoder.safetensors")
        write_text_atomically(self.out / "vocoder.json", json.dumps(about, indent=1) + "\n")
        write_text_atomically(self.out / "quality.json", json.dumps(scores, indent=1) + "\n")

    def _write_weights(self, name: str) -> None:
        weights = {key: tensor.half().cpu().contiguous() for key, tensor in self.route.shipped(self.averaged).items()}
        write_atomically(self.out / name, lambda file: file.write(safetensors.torch.save(weights)))

    def _saved_state(self) -> dict[str, Any] | None:
        """The state in the folder, None for a new run. Raises UsageError where neither may go there."""
        path = self.out / "state.pt"
        if not os.path.exists(path):
            if os.path.exists(self.out / "vocoder.safetensors"):
                raise UsageError(
                    f"{self.out}: holds a vocoder but no state.pt to go on from; give another ", Option("out")
                )
            return None
        state = load_tensors(path)
        if state.get("version") != STATE_VERSION:
            raise WeightsError(f"{path}: was written by another version of specdiff; give another ", Option("out"))
        folder = RunFolder(self.out)
        folder.check_settings(json.loads(state["settings"]), self.settings)
        if state["corpus"] != self.route.fingerprint:
            raise UsageError(f"{self.out}: was begun with another corpus; give that one, or another ", Option("out"))
        folder.check_unfinished(state["step"], self.config.n_steps)
        return state

    def _restore(self, state: dict[str, Any]) -> None:
        for name in ("network", "averaged", "discriminator", "optimiser", "judge_optimiser"):
            getattr(self, name).load_state_dict(state[name])
        self.noise.set_state(state["noise"].cpu())
        self.generator.bit_generator.state = json.loads(state["generator"])
        self.step = state["step"]


def _adamw(module: torch.nn.Module, betas: tuple[float, float]) -> torch.optim.Optimizer:
    # the rate is set at every step
    return torch.optim.AdamW(module.parameters(), lr=0.0, betas=betas, weight_decay=0.01)
