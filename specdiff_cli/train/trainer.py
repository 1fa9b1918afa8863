"""The training loop of the spectrogram network.

Every random number of step n comes from generators seeded by (seed, process, n), and the learning rate is a function
of n: a run that stopped and went on equals one that did not, to the bit on a CPU with the same number of threads.
"""

import copy
import json
import math
import os
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save as safetensors_bytes
from torch import Tensor

from specdiff_cli.engine.devices import resolve_dtype
from specdiff_cli.errors import DeviceError, SpecdiffError, UsageError, is_out_of_memory
from specdiff_cli.model.network import SpectrogramDiffusion
from specdiff_cli.train.batches import Batch, BatchStream, Corpus, CorpusFiles, collate, iterate
from specdiff_cli.train.distributed import Processes, any_of, averaged, in_parallel
from specdiff_cli.train.hyperparameters import lr_factor, stage_of
from specdiff_cli.train.journal import Journal
from specdiff_cli.train.listener import Listener, SilentListener
from specdiff_cli.train.objective import draw, loss_on, sample, template_loss_on
from specdiff_cli.train.optimisers import Rates, make_optimisers
from specdiff_cli.train.run_folder import (
    STATE_VERSION,
    RunConfig,
    RunFolder,
    load_tensors,
    write_atomically,
    write_text_atomically,
)
from specdiff_cli.weights.load import read_tensors
from specdiff_cli.wording import clock

N_VALIDATION_WINDOWS = 16
N_SHOWN_WINDOWS = 2
#: A GPU computes on while the program prepares its next steps; asking it for the loss makes both wait.
STEPS_BETWEEN_LOOKS = {"cpu": 1, "cuda": 10}
#: An instrument is one that a voice plays when it has this many notes, or this share of them.
ENOUGH_NOTES, ENOUGH_SHARE = 200, 0.002


class DivergedError(SpecdiffError):
    """The loss or the gradient is no longer a finite number."""


@dataclass(frozen=True)
class Progress:
    """How far a run is. ``loss`` is smoothed; ``remaining_s`` is None until the pace is known."""

    step: int
    n_steps: int
    loss: float
    windows_per_s: float
    remaining_s: float | None

    @property
    def losses(self) -> str:
        """Loss and pace in words."""
        return f"loss {self.loss:.4f} · {self.windows_per_s:.1f} windows/s"

    def line(self, validation_mel_l1: float | None) -> str:
        """All of it in words, with the error on the validation windows where it was measured."""
        validation = "" if validation_mel_l1 is None else f", validation mel L1 {validation_mel_l1:.4f}"
        left = "" if self.remaining_s is None else f", {clock(self.remaining_s)} left"
        pace = f"{self.windows_per_s:.1f} windows/s"
        return f"step {self.step}/{self.n_steps}, loss {self.loss:.4f}{validation}, {pace}{left}"


class Trainer:
    """One run: network, averaged network, optimisers, corpus, and where they are saved.

    Args:
        corpus: folder with ``train/`` and ``validation/`` pieces.
        out: folder of the run. A run that is there goes on.
        start_from: a ``state.pt`` or ``model.safetensors`` whose weights a new run begins with.

    Raises:
        UsageError: no corpus, or a run that is finished or was begun with other settings, pieces or processes.
        WeightsError: a damaged state, or weights of other sizes to start from.
        OutputError: the folder cannot be made.
    """

    def __init__(
        self,
        corpus: Path,
        out: Path,
        config: RunConfig,
        device: torch.device = torch.device("cpu"),  # noqa: B008 - a constant
        processes: Processes = Processes(),  # noqa: B008 - frozen
        start_from: Path | None = None,
        listener: Listener = SilentListener(),  # noqa: B008 - without state
    ) -> None:
        self.config, self.device, self.processes, self.listener = config, device, processes, listener
        self.folder = RunFolder(out)
        dtype = resolve_dtype(config.train.precision, device, prefers_bfloat16=True)
        self.precision = str(dtype).removeprefix("torch.")  # what "auto" is here
        self.files = CorpusFiles.find(corpus)
        state = self.folder.load_state()
        if state is not None:
            self.folder.check(state, config, self.files, processes.count)
        self.model = SpectrogramDiffusion(config.model)
        self.model.initialise(config.train.seed)
        if state is None and start_from is not None:
            self._start_from(start_from)
        self.model.to(device)
        self.averaged = copy.deepcopy(self.model).requires_grad_(False).eval()
        self.optimisers = make_optimisers(self.model, config.train)
        self._rates = Rates(self.optimisers)
        self.step = 0
        self.trained_s = 0.0
        self._interval: list[float] = []  # losses since the last line of the log
        if state is not None:
            self._restore(state)
        self._enter_stage()
        vocabulary = config.model.vocabulary
        self.corpus = Corpus.load(self.files.training, vocabulary, partial(listener.reading, noun="piece"))
        self.validation = Corpus.load(self.files.validation, vocabulary)
        self._generator = torch.Generator(device)
        self._unseen: list[tuple[int, Tensor, Tensor]] = []  # (step, loss, gradient norm), not yet looked at
        self._journal: Journal | None = None
        self._pace = _Pace(config.train.n_steps, config.train.batch_size * processes.count)

    def _start_from(self, path: Path) -> None:
        weights = read_tensors(path) if path.suffix == ".safetensors" else load_tensors(path).get("model", {})
        try:
            self.model.load_state_dict(weights)
        except (RuntimeError, AttributeError, TypeError) as error:
            detail = " ".join(str(error).split())[:200]
            rule = f"is not of this network ({detail}); give one of its sizes"
            raise UsageError.of("start_from", path, rule) from None

    def _restore(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.averaged.load_state_dict(state["averaged"])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        self.step, self.trained_s = state["step"], state["trained_s"]
        self._interval = list(state["interval"])

    @property
    def learns_templates(self) -> bool:
        """Whether the next step is one of the note templates'."""
        return self.step < self.config.train.n_template_steps

    def _enter_stage(self) -> None:
        """Make ready what learns now: the note templates, or the network over templates that stay as they are."""
        templates = self.model.note_templates
        if self.learns_templates and templates is not None:
            self.network = in_parallel(templates, self.processes, self.device)
            return
        if templates is not None and self.averaged.note_templates is not None:
            templates.load_state_dict(self.averaged.note_templates.state_dict())
            templates.requires_grad_(False)
        self.network = in_parallel(self.model, self.processes, self.device)
        if self.config.train.compile:
            self.network = torch.compile(self.network)  # type: ignore[assignment]

    def describe(self) -> str:
        """What is trained, on what, in one line."""
        begun = f"goes on at step {self.step}" if self.step else "begins"
        several = f" × {self.processes.count}" if self.processes.count > 1 else ""
        return (
            f"{self.folder.path}: {begun}; {self.n_parameters / 1e6:.1f} M parameters on {self.device}{several} "
            f"in {self.precision}, {self.corpus.hours:.2f} h of music in {len(self.files.training)} pieces"
        )

    @property
    def n_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.model.parameters())

    def save(self) -> None:
        """Write the state, the averaged weights and what they are. Raises OutputError; older files are then intact."""
        state = {
            "version": STATE_VERSION,
            "config": self.config.to_json(),
            "corpus": self.files.fingerprint,
            "n_pieces": len(self.files.training) + len(self.files.validation),
            "n_processes": self.processes.count,
            "step": self.step,
            "trained_s": self.trained_s,
            "interval": self._interval,
            "model": self.model.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
        }
        write_atomically(self.folder.state, lambda file: torch.save(state, file))
        weights = {name: tensor.half().cpu().contiguous() for name, tensor in self.averaged.state_dict().items()}
        write_atomically(self.folder.weights, lambda file: file.write(safetensors_bytes(weights)))
        write_text_atomically(self.folder.config, json.dumps(self._description(), indent=1) + "\n")

    def _description(self) -> dict[str, Any]:
        return {
            "model": asdict(self.config.model),
            "train": asdict(self.config.train),
            "step": self.step,
            "is_finished": self.step >= self.config.train.n_steps,
            "trained_minutes": round(self.trained_s / 60, 2),
            "device": str(self.device),
            "n_processes": self.processes.count,
            "corpus": {
                "folder": Path(os.path.realpath(self.files.folder)).name,
                "n_pieces": len(self.files.training),
                "hours": round(self.corpus.hours, 3),
            },
            "plays": plays(self.corpus),
        }

    def train_step(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """One step on a batch; returns the loss and the norm of the gradient, which may still be on their way."""
        config = self.config.train
        entropy = np.random.SeedSequence([config.seed, self.processes.rank, self.step])
        self._generator.manual_seed(int(entropy.generate_state(1, np.uint64)[0] >> 1))
        if self.learns_templates:
            loss = template_loss_on(self.network, batch)
        else:
            draws = draw(batch.target.shape[0], config, self._generator)
            base = self.model.base(batch.layout_tokens, batch.layout_times)
            loss = loss_on(self.network, batch, draws, self.config.model.objective, self.precision, base)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.clip_norm)
        self._rates.scale(lr_factor(self.step, config))
        for optimiser in self.optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        done, _ = stage_of(self.step, config)
        decay = min(config.ema_decay, (2 + done) / (11 + done))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.averaged.parameters()), list(self.model.parameters()), 1 - decay)
        self.step += 1
        if self.step == config.n_template_steps:
            self._enter_stage()
        return loss.detach(), norm.detach()

    def run(self, should_stop: Callable[[], bool] = lambda: False) -> bool:
        """Train to the last step, or until ``should_stop``; saves at the end of either. Returns whether it finished.

        Raises:
            DivergedError: the loss or the gradient is not finite; the last checkpoint stays.
            OutputError: a file cannot be written; the one before stays.
            DeviceError: out of memory, or torch.compile does not work here.
        """
        if self.processes.is_first:
            self.folder.create()
            self._journal = Journal(self.folder, self.step)
            if not self._journal.has_tensorboard:
                self.listener.note(
                    f"tensorboard is not installed (the train extra has it): numbers go to {self.folder.log} alone"
                )
        try:
            return self._run(should_stop)
        except Exception as error:
            if is_out_of_memory(error):
                size = self.config.train.batch_size
                raise DeviceError(f"out of memory at step {self.step} with batch_size {size}; lower it") from None
            if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                detail = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
                raise DeviceError(f"compile = true does not work here ({detail}); set it to false") from None
            raise
        finally:
            if self._journal is not None:
                self._journal.close()

    def _run(self, should_stop: Callable[[], bool]) -> bool:
        config = self.config.train
        every = STEPS_BETWEEN_LOOKS.get(self.device.type, 1)
        stream = BatchStream(self.corpus, config.batch_size, config.seed, self.processes.rank)
        mark_s = time.monotonic()
        self._pace.restart(self.step)
        for batch in iterate(stream, self.step, config.n_steps, config.n_data_workers, self.device):
            self._unseen.append((self.step, *self.train_step(batch)))
            is_last = self.step == config.n_steps
            validates = is_last or self.step % config.validate_every_steps == 0
            saves = is_last or self.step % config.save_every_steps == 0
            logs = is_last or validates or self.step % config.log_every_steps == 0
            if not (logs or saves or self.step % every == 0):
                continue
            progress, norm = self._look()
            stops = any_of(should_stop(), self.processes, self.device) and not is_last
            now_s = time.monotonic()
            self.trained_s, mark_s = self.trained_s + now_s - mark_s, now_s
            if logs and self._journal is not None:
                self._log(self._journal, progress, norm, validates=validates)
            if (saves or stops) and self.processes.is_first:
                self.save()
            if stops:
                return False
            if validates or saves:
                self._pace.restart(self.step)
        return True

    def _look(self) -> tuple[Progress, float]:
        """Fetch losses and norms of the last steps, and report; returns the last norm, too. Raises DivergedError."""
        rows = torch.stack([torch.stack([loss.float(), norm.float()]) for _, loss, norm in self._unseen])
        values: list[list[float]] = averaged(rows, self.processes).tolist()
        for (step, _, _), (loss, norm) in zip(self._unseen, values, strict=True):
            if not (math.isfinite(loss) and math.isfinite(norm)):
                what = "gradient" if math.isfinite(loss) else "loss"
                kept = "the last checkpoint stays" if os.path.exists(self.folder.state) else "nothing was saved yet"
                raise DivergedError(
                    f"the {what} is not finite at step {step + 1}; lower matrix_lr and other_lr, or clip_norm ({kept})"
                )
        losses = [loss for loss, _ in values]
        self._unseen.clear()
        self._interval += losses
        progress = self._pace.report(self.step, losses)
        self.listener.step(progress.step, progress.n_steps, progress.losses)
        return progress, values[-1][1]

    def _log(self, journal: Journal, progress: Progress, norm: float, *, validates: bool) -> None:
        config = self.config.train
        record = {
            "loss": float(np.mean(self._interval)),
            "learning_rate": config.matrix_lr * lr_factor(self.step - 1, config),
            "gradient_norm": norm,
            "windows_per_s": progress.windows_per_s,
            "minutes": self.trained_s / 60,
        }
        self._interval.clear()
        if validates:
            batch, samples = self.sample_validation()
            record["validation_mel_l1"] = float((samples - batch.target).abs().mean())
            if self.step <= config.validate_every_steps:
                journal.show(self.step, "true", batch.target[:N_SHOWN_WINDOWS])
            journal.show(self.step, "sampled", samples[:N_SHOWN_WINDOWS])
        journal.record(self.step, record)
        self.listener.logged(progress.line(record.get("validation_mel_l1")), is_measured=validates)

    def sample_validation(self) -> tuple[Batch, Tensor]:
        """Fixed validation windows, and what the averaged network makes of them in 10 DDIM steps.

        While the note templates learn, it is what these add up to.
        """
        chosen = self.validation.choose(N_VALIDATION_WINDOWS, np.random.default_rng(1))
        batch = collate(chosen).to(self.device)
        if self.learns_templates:
            with torch.no_grad():
                base = self.averaged.base(batch.layout_tokens, batch.layout_times)
            return batch, batch.target if base is None else base
        return batch, sample(self.averaged, batch, self.config.model.objective, self.precision)


class _Pace:
    """Windows per second over the last steps, the smoothed loss, and the time that is left."""

    def __init__(self, n_steps: int, windows_per_step: int) -> None:
        self._n_steps = n_steps
        self._windows_per_step = windows_per_step
        self._marks: deque[tuple[int, float]] = deque(maxlen=100)  # (step, seconds)
        self._loss: float | None = None
        self._windows_per_s = 0.0

    def restart(self, step: int) -> None:
        """Time before this does not count: something else than training was done."""
        self._marks.clear()
        self._marks.append((step, time.monotonic()))

    def report(self, step: int, losses: list[float]) -> Progress:
        for loss in losses:
            self._loss = loss if self._loss is None else 0.98 * self._loss + 0.02 * loss
        self._marks.append((step, time.monotonic()))
        (first, first_s), (last, last_s) = self._marks[0], self._marks[-1]
        if last > first and last_s > first_s:
            self._windows_per_s = (last - first) * self._windows_per_step / (last_s - first_s)
        remaining_s = None
        if self._windows_per_s:
            remaining_s = (self._n_steps - step) * self._windows_per_step / self._windows_per_s
        return Progress(step, self._n_steps, self._loss or 0.0, self._windows_per_s, remaining_s)


def plays(corpus: Corpus) -> dict[str, Any]:
    """Model classes with enough notes in a corpus, and whether drums have them: what a voice may say it plays."""
    counts = corpus.count_notes()
    enough = max(1, min(ENOUGH_NOTES, ENOUGH_SHARE * sum(counts.values())))
    has_drums = counts.pop("drums") >= enough
    programs = [item for item, count in counts.items() if isinstance(item, int) and count >= enough]
    return {"programs": sorted(programs), "drums": has_drums}
