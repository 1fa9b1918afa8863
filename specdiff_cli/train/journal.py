"""What a run leaves to read: a line every few steps, and TensorBoard's numbers, pictures and sound."""

import json
import os
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from specdiff_cli.audio.griffin_lim import GriffinLim
from specdiff_cli.audio.mel import from_model_range
from specdiff_cli.constants import SAMPLE_RATE_HZ
from specdiff_cli.errors import OutputError
from specdiff_cli.train.run_folder import RunFolder, write_text_atomically


class Journal:
    """Writes ``log.jsonl``, and TensorBoard's event files where the package is installed.

    ``first_step`` is where the run goes on: records of later steps, from a process that died after its last
    checkpoint, are dropped.
    """

    def __init__(self, folder: RunFolder, first_step: int) -> None:
        self._path = folder.log
        self._drop_after(first_step)
        self._writer: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        purge = first_step + 1 if os.path.exists(folder.tensorboard) else None
        self._writer = SummaryWriter(str(folder.tensorboard), purge_step=purge)

    @property
    def has_tensorboard(self) -> bool:
        """Whether pictures and sound are kept."""
        return self._writer is not None

    def _drop_after(self, step: int) -> None:
        try:
            lines = self._path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return
        except OSError as error:
            raise OutputError(f"cannot read {self._path}: {error.strerror or error}") from None
        kept = [line for line in lines if _step_of(line) <= step]
        if len(kept) < len(lines):
            write_text_atomically(self._path, "".join(line + "\n" for line in kept))

    def record(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers of a step. Raises OutputError."""
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, **values}) + "\n")
        except OSError as error:
            raise OutputError(f"cannot write {self._path}: {error.strerror or error}; free some space") from None
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)

    def show(self, step: int, name: str, mels: Tensor) -> None:
        """Windows (n, 256, 128) in model range, as pictures and through Griffin-Lim as sound."""
        if self._writer is None:
            return
        vocoder = GriffinLim()
        for i, mel in enumerate(mels.cpu()):
            picture = ((mel.clamp(-1, 1) + 1) / 2).T.flip(0)[None]  # (1, bands from high to low, frames)
            self._writer.add_image(f"window {i}/{name}", picture, step)
            audio = vocoder.invert(from_model_range(mel)).clamp(-1, 1)
            self._writer.add_audio(f"window {i}/{name}", audio[None], step, sample_rate=SAMPLE_RATE_HZ)

    def close(self) -> None:
        """Write out what is waiting."""
        if self._writer is not None:
            self._writer.close()


def _step_of(line: str) -> int:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return 1 << 62  # a line that was cut off
