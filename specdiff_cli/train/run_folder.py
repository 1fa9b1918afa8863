"""The folder of a training run: what it holds, and what may go on in it.

- ``state.pt``: everything that a run needs to go on where it stopped.
- ``model.safetensors``: the averaged weights in float16, ``config.json``: what they are and how they were made.
- ``log.jsonl``: a line every few steps; ``tensorboard/``: the same, with pictures and sound.
"""

import json
import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from specdiff_cli.errors import Option, OutputError, UsageError, WeightsError
from specdiff_cli.files import make_folder
from specdiff_cli.model.config import ModelConfig
from specdiff_cli.train.batches import CorpusFiles
from specdiff_cli.train.hyperparameters import TrainConfig
from specdiff_cli.train.settings import read_settings
from specdiff_cli.weights.load import read_content

STATE_VERSION = 1
#: Keys of [train] that may differ when a run goes on: they change no step that is already made.
FREE_KEYS = {"n_steps", "log_every_steps", "validate_every_steps", "save_every_steps", "n_data_workers"}


@dataclass(frozen=True)
class RunConfig:
    """What a settings file says: the network and how to train it."""

    model: ModelConfig
    train: TrainConfig

    @classmethod
    def read(cls, path: Path) -> "RunConfig":
        """Read a settings file. Raises UsageError."""
        settings = read_settings(path, {"model": ModelConfig, "train": TrainConfig})
        config = cls(settings["model"], settings["train"])
        try:
            config.check_sizes()
        except ValueError as error:
            raise UsageError(f"{path}: [model] {error}") from None
        return config

    def check_sizes(self) -> None:
        """Raises ValueError for sizes that make no network, or none that can be trained."""
        model = self.model
        if model.is_templates:
            raise ValueError("kind = 'templates': is trained by `specdiff train notes`")
        if model.is_autoregressive:
            raise ValueError("kind = 'autoregressive': cannot be trained here; only diffusion models can")
        if model.is_lightning:
            raise ValueError("dialect = 'lightning': cannot be trained here; leave it out")
        for key in ("d_model", "n_heads", "d_kv", "d_ff", "n_decoder_layers"):
            if getattr(model, key) < 1:
                raise ValueError(f"{key} = {getattr(model, key)}: must be at least 1")
        for key in ("n_note_layers", "n_context_layers"):
            if getattr(model, key) < 0:
                raise ValueError(f"{key} = {getattr(model, key)}: must not be negative")
        if model.d_model % 2 or model.d_model < 4:
            raise ValueError(f"d_model = {model.d_model}: must be even and at least 4")
        if self.train.n_template_steps and not model.note_templates:
            raise ValueError("note_templates = false: [train] n_template_steps has nothing to train")

    def to_json(self) -> str:
        """One line, as it is kept in the state."""
        return json.dumps({"model": asdict(self.model), "train": asdict(self.train)})


class RunFolder:
    """Paths of a run, and what was saved in it before."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.state = path / "state.pt"
        self.weights = path / "model.safetensors"
        self.config = path / "config.json"
        self.log = path / "log.jsonl"
        self.tensorboard = path / "tensorboard"

    def create(self) -> None:
        """Make the folder. Raises OutputError."""
        make_folder(self.path)

    def load_state(self) -> dict[str, Any] | None:
        """The saved state, None in a new run. Raises WeightsError for a file that is not one."""
        if not os.path.exists(self.state):
            if os.path.exists(self.weights):
                raise UsageError(
                    f"{self.path}: holds weights but no state.pt to go on from; give another ", Option("out")
                )
            return None
        state = load_tensors(self.state)
        if state.get("version") != STATE_VERSION:
            raise WeightsError(
                f"{self.state}: was written by another version of specdiff; give another ", Option("out")
            )
        return state

    def check(self, state: Mapping[str, Any], config: RunConfig, corpus: CorpusFiles, n_processes: int) -> None:
        """Whether the saved run may go on under these settings. Raises UsageError."""
        self.check_settings(json.loads(state["config"]), json.loads(config.to_json()))
        if state["corpus"] != corpus.fingerprint:
            raise UsageError(
                f"{self.path}: was begun with other pieces than {corpus.folder} holds now ({state['n_pieces']} then, "
                f"{len(corpus.training) + len(corpus.validation)} now); give that corpus, or another ",
                Option("out"),
            )
        if state["n_processes"] != n_processes:
            raise UsageError(
                f"{self.path}: was begun with {state['n_processes']} processes, not {n_processes}; "
                "start as many, or give another ",
                Option("out"),
            )
        self.check_unfinished(state["step"], config.train.n_steps)

    def check_settings(self, saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
        """Whether a run of the ``saved`` tables of settings may go on under the ``wanted`` ones. Raises UsageError."""
        for table, values in wanted.items():
            for key, value in values.items():
                before = saved[table].get(key, value)
                if before != value and not (table == "train" and key in FREE_KEYS):
                    raise UsageError(
                        f"{self.path}: was begun with [{table}] {key} = {json.dumps(before)}, not {json.dumps(value)}; "
                        "set it back, or give another ",
                        Option("out"),
                    )

    def check_unfinished(self, step: int, n_steps: int) -> None:
        """Whether there are steps left to make. Raises UsageError."""
        if step >= n_steps:
            what = f"{self.path}: is finished ({step} steps); raise n_steps to go on, or give another "
            raise UsageError(what, Option("out"))


def load_tensors(path: Path) -> dict[str, Any]:
    """A file of ``torch.save`` that holds a table of tensors and plain values. Raises WeightsError."""
    content = read_content(path, mapped=False)  # a later state takes its name, which Windows refuses while it is mapped
    if not isinstance(content, dict):
        raise WeightsError(f"{path}: is no state of a run; give another")
    return content


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let ``write`` fill a file that takes its name only when it is complete and on the disk.

    Raises OutputError; what had the name before is then untouched.
    """
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(4)}.part")
    try:
        try:
            with open(temporary, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror or error}; free some space, then start again"
        ) from None
    except RuntimeError as error:
        if not isinstance(error.__context__, OSError) and "PytorchStreamWriter" not in str(error):
            raise
        reason = getattr(error.__context__, "strerror", None) or "the disk may be full"
        raise OutputError(f"cannot write {path}: {reason}; free some space, start again") from None


def write_text_atomically(path: Path, text: str) -> None:
    """As :func:`write_atomically`, for a text in UTF-8."""
    write_atomically(path, lambda file: file.write(text.encode()))
