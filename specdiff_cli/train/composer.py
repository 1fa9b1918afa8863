"""The training loop of both composers.

As in :mod:`specdiff_cli.train.trainer`, every random number of step n comes from (seed, n) and the learning rate is a
function of n, so a run that stopped and went on equals one that did not. The folder of a run receives
``composer.safetensors`` (the averaged weights that did best in validation, in float16), ``composer.json`` (what they
are), ``log.jsonl``, TensorBoard's files, and ``state.pt`` to go on from.
"""

import copy
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import save as safetensors_bytes
from torch import Tensor, nn

from specdiff_cli.composing.bundle import ABOUT_NAME, WEIGHTS_NAME
from specdiff_cli.composing.dataset import Songs
from specdiff_cli.composing.network import TokensConfig
from specdiff_cli.composing.unet import UnetConfig
from specdiff_cli.errors import Option, SpecdiffError, UsageError
from specdiff_cli.train.composer_judge import MusicJudge
from specdiff_cli.train.composer_settings import ComposerSettings
from specdiff_cli.train.journal import Journal
from specdiff_cli.train.listener import Listener
from specdiff_cli.train.optimisers import Rates
from specdiff_cli.train.run_folder import RunFolder, load_tensors, write_atomically, write_text_atomically
from specdiff_cli.wording import count

STATE_VERSION = 1


class Task(Protocol):
    """What a network learns: see :class:`~specdiff_cli.train.composer_tokens.TokensTask`."""

    def make_network(self) -> nn.Module:
        """A network with its first weights."""

    def matrices(self, network: nn.Module) -> list[nn.Parameter]:
        """The parameters that Muon trains."""

    def losses(self, network: nn.Module, step: int) -> dict[str, Tensor]:
        """Losses of a step's batch by name, to be summed."""

    def validate(self, network: nn.Module) -> dict[str, float]:
        """Numbers on held-out songs, ``validation_loss`` among them."""

    def about(self) -> dict[str, Any]:
        """What is kept with the weights."""


def make_task(songs: Songs, settings: ComposerSettings) -> Task:
    """What the settings' model learns from these songs."""
    if settings.kind == "tokens":
        from specdiff_cli.train.composer_tokens import TokensTask

        assert isinstance(settings.sizes, TokensConfig)  # noqa: S101 - read together
        return TokensTask(songs, settings.sizes, settings.train)
    from specdiff_cli.train.composer_unet import UnetTask

    assert isinstance(settings.sizes, UnetConfig)  # noqa: S101 - read together
    return UnetTask(songs, settings.sizes, settings.train)


@dataclass(frozen=True)
class Report:
    """What is known after a step. ``means`` is empty between two lines of the log."""

    step: int
    n_steps: int
    means: dict[str, float]

    def tell(self, listener: Listener) -> None:
        """Say it in words."""
        shown = ("loss", "steps_per_s", "validation_loss")
        words = [f"{name.replace('_', ' ')} {self.means[name]:.3f}" for name in shown if name in self.means]
        listener.step(self.step, self.n_steps, ", ".join(words))
        if self.means:
            line = f"step {self.step}/{self.n_steps}: {', '.join(words)}"
            listener.logged(line, is_measured="validation_loss" in self.means)


class ComposerTrainer:
    """One run: network, averaged network, optimisers, songs, and where they are saved.

    Raises UsageError for a folder that holds a finished run or one with other settings or songs.
    """

    def __init__(self, task: Task, songs: Songs, out: Path, settings: ComposerSettings) -> None:
        self.task, self.songs, self.out, self.settings = task, songs, out, settings
        self.folder = RunFolder(out)
        state = self._saved_state()
        self.network = task.make_network()
        self.averaged = copy.deepcopy(self.network).requires_grad_(False).eval()
        self.optimisers = self._make_optimisers()
        self._rates = Rates(self.optimisers)
        self.step, self.trained_s = 0, 0.0
        self.best_loss, self.n_worse = math.inf, 0
        if state is not None:
            self._restore(state)

    def describe(self) -> str:
        """What is trained, on what, in one line."""
        songs = self.songs
        left_out = ""
        if songs.n_unreadable or songs.n_short:
            left_out = f" ({songs.n_unreadable} unreadable and {songs.n_short} too short left out)"
        return (
            f"{self.out}: {self.settings.kind}, {self.n_parameters / 1e6:.1f} M parameters, "
            f"{count(len(songs.training), 'song')} of {songs.n_notes} notes, {len(songs.validation)} held out{left_out}"
            f"{f', goes on at step {self.step}' if self.step else ''}"
        )

    @property
    def n_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.network.parameters())

    def _make_optimisers(self) -> list[torch.optim.Optimizer]:
        train = self.settings.train
        matrices = self.task.matrices(self.network)
        chosen = {id(parameter) for parameter in matrices}
        others = [parameter for parameter in self.network.parameters() if id(parameter) not in chosen]
        optimisers: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(others, lr=train.other_lr, betas=(0.9, 0.98), weight_decay=0.01)
        ]
        if matrices:
            muon = torch.optim.Muon(matrices, lr=train.matrix_lr, weight_decay=0.05, adjust_lr_fn="match_rms_adamw")
            optimisers.append(muon)
        return optimisers

    def _saved_state(self) -> dict[str, Any] | None:
        if not os.path.exists(self.folder.state):
            if os.path.exists(self.out / WEIGHTS_NAME):
                raise UsageError(
                    f"{self.out}: holds weights but no state.pt to go on from; give another ", Option("out")
                )
            return None
        state = load_tensors(self.folder.state)
        if state.get("version") != STATE_VERSION or "best_loss" not in state:
            raise UsageError(f"{self.out}: holds a run of something else; give another ", Option("out"))
        self.folder.check_settings(json.loads(state["settings"]), self.settings.tables())
        if state["songs"] != self.songs.fingerprint:
            what = f"{self.out}: was begun with other songs; give that "
            raise UsageError(what, Option("midi"), " folder, or another ", Option("out"))
        self.folder.check_unfinished(state["step"], self.settings.train.n_steps)
        return state

    def _restore(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.averaged.load_state_dict(state["averaged"])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        self.step, self.trained_s = state["step"], state["trained_s"]
        self.best_loss, self.n_worse = state["best_loss"], state["n_worse"]

    def save(self) -> None:
        """Write the state to resume from. Raises OutputError; the one before is then intact."""
        state = {
            "version": STATE_VERSION,
            "settings": json.dumps(self.settings.tables()),
            "songs": self.songs.fingerprint,
            "step": self.step,
            "trained_s": self.trained_s,
            "best_loss": self.best_loss,
            "n_worse": self.n_worse,
            "network": self.network.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
        }
        write_atomically(self.folder.state, lambda file: torch.save(state, file))

    def save_weights(self) -> None:
        """Write the averaged weights as they are now, and what they are. Raises OutputError."""
        weights = {name: tensor.half().contiguous() for name, tensor in self.averaged.state_dict().items()}
        about = {
            **self.settings.tables(),
            "step": self.step,
            "trained_minutes": round(self.trained_s / 60, 2),
            "validation_loss": self.best_loss,
            "n_songs": len(self.songs.training),
            "n_notes_in_songs": self.songs.n_notes,
            **self._about,
        }
        write_atomically(self.out / WEIGHTS_NAME, lambda file: file.write(safetensors_bytes(weights)))
        write_text_atomically(self.out / ABOUT_NAME, json.dumps(about) + "\n")

    def train_step(self) -> dict[str, float]:
        """One step; returns its losses by name and the gradient's norm. Raises SpecdiffError if they run away."""
        train = self.settings.train
        torch.manual_seed((train.seed << 32) + self.step)
        with torch.autocast("cpu", torch.bfloat16, enabled=train.precision == "bfloat16"):
            losses = self.task.losses(self.network, self.step)
        total = torch.stack(list(losses.values())).sum()
        total.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), train.clip_norm)
        if not torch.isfinite(norm):
            raise SpecdiffError(
                f"the gradient is not finite at step {self.step + 1}; lower matrix_lr and other_lr "
                "(what was saved before is intact)"
            )
        self._rates.scale(train.lr_factor(self.step))
        for optimiser in self.optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        self.step += 1
        decay = min(train.ema_decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.averaged.parameters()), list(self.network.parameters()), 1 - decay)
        return {name: loss.item() for name, loss in losses.items()} | {
            "loss": total.item(),
            "gradient_norm": norm.item(),
        }

    def run(
        self,
        on_report: Callable[[Report], None] = lambda report: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Train to the last step or to the patience's end, saving on the way; returns whether it got there.

        ``should_stop`` is asked after every step; when it says yes, the run is saved and ends there, to be resumed.
        Raises OutputError when something cannot be written: what was saved before is intact.
        """
        train = self.settings.train
        self.folder.create()
        journal = Journal(self.folder, self.step)
        totals: dict[str, list[float]] = {}
        mark_s = time.monotonic()
        try:
            while self.step < train.n_steps:
                for name, value in self.train_step().items():
                    totals.setdefault(name, []).append(value)
                is_last, means = self.step == train.n_steps, {}
                if is_last or self.step % train.log_every_steps == 0:
                    now_s = time.monotonic()
                    means = {name: sum(values) / len(values) for name, values in totals.items()}
                    means["steps_per_s"] = len(totals["loss"]) / (now_s - mark_s)
                    self.trained_s, mark_s, totals = self.trained_s + now_s - mark_s, now_s, {}
                    means["minutes"] = self.trained_s / 60
                if is_last or self.step % train.validate_every_steps == 0:
                    means |= self._validate()
                if means:
                    journal.record(self.step, means)
                on_report(Report(self.step, train.n_steps, means))
                is_done = is_last or bool(train.patience and self.n_worse >= train.patience)
                stops = not is_done and should_stop()
                if is_done or stops or self.step % train.save_every_steps == 0:
                    self.save()
                if is_done:
                    break
                if stops:
                    return False
        finally:
            journal.close()
        return True

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        """Judge the averaged weights, and keep them if they are the best so far."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.settings.train.precision == "bfloat16"):
            measured = self.task.validate(self.averaged)
        if measured["validation_loss"] < self.best_loss:
            self.best_loss, self.n_worse = measured["validation_loss"], 0
            self.save_weights()
        else:
            self.n_worse += 1
        return measured | self._judge(self.averaged)

    @cached_property
    def _about(self) -> dict[str, Any]:
        return self.task.about()

    @cached_property
    def _judge(self) -> MusicJudge:
        train = self.settings.train
        return MusicJudge(self.settings.kind, self._about, self.songs.validation, train.n_notes, train.n_judged_pieces)
