"""``specdiff train model``: train the spectrogram network of a voice."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Self

import typer

from specdiff_cli.cli import completion as complete
from specdiff_cli.cli import shared_options as shared
from specdiff_cli.cli.guard import StopSignals
from specdiff_cli.cli.progress import can_draw, clock, one_line, say, stderr_console
from specdiff_cli.errors import UsageError

if TYPE_CHECKING:
    import torch
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

    from specdiff_cli.train.trainer import Listener, Progress, Trainer


def train_model(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.toml", help="Sizes and hyper-parameters.")],
    corpus: Annotated[Path, typer.Option("--corpus", metavar="DIR", help="Corpus made by `specdiff train data`.")],
    out: Annotated[Path, typer.Option("--out", metavar="RUN", help="Folder of the run; one that is there goes on.")],
    device: Annotated[
        str, typer.Option(metavar="NAME", help="auto, cpu, cuda or cuda:N.", autocompletion=complete.devices)
    ] = "auto",
    start_from: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="state.pt or model.safetensors whose weights a new run begins with."),
    ] = None,
    steps: Annotated[int | None, typer.Option(metavar="N", help="Length of the run, instead of n_steps.")] = None,
    quiet: shared.Quiet = False,
    debug: shared.Debug = False,
) -> None:
    """Train the spectrogram network of a voice.

    CONFIG.toml has the tables model (sizes) and train (how to learn); the
    examples are examples/train/*.toml. RUN receives state.pt (the same call
    goes on from it), model.safetensors, log.jsonl and TensorBoard's files.
    Ctrl-C saves and stops; a second one stops at once.

    \b
    Examples:
      specdiff train model examples/train/tiny.toml --corpus corpus --out runs/model
      torchrun --nproc-per-node 2 -m specdiff_cli train model CONFIG.toml --corpus corpus --out runs/model

    \b
    Exit codes: 0 done, 1 the training diverged, 2 usage, 4 weights, 5 output,
    6 device or memory, 130 interrupted, 143 terminated.
    """
    import dataclasses

    from specdiff_cli.engine.devices import check_device_name

    check_device_name(device)
    if device == "mps":
        raise UsageError("--device mps: training runs on cpu or cuda")
    if steps is not None and steps < 1:
        raise UsageError(f"--steps {steps}: must be at least 1")

    from specdiff_cli.train.distributed import device_of, joined, processes_of_environment
    from specdiff_cli.train.run_folder import RunConfig

    settings = RunConfig.read(config)
    if steps is not None:
        settings = dataclasses.replace(settings, train=dataclasses.replace(settings.train, n_steps=steps))
    processes = processes_of_environment()
    chosen = device_of(processes, _training_device(device))

    with joined(processes, chosen), _display(quiet or not processes.is_first) as display:
        from specdiff_cli.train.trainer import Trainer

        trainer = Trainer(corpus, out, settings, chosen, processes, start_from, display)
        display.note(_describe(trainer))
        with StopSignals(is_alone=processes.count == 1, quiet=quiet) as stop:
            finished = trainer.run(stop)
        if finished:
            display.note(
                f"finished after {trainer.step} steps and {clock(trainer.trained_s)}: {trainer.folder.weights}"
            )
        else:
            display.note(f"saved {trainer.folder.state} at step {trainer.step}; the same command goes on from there")
    if not finished:
        raise stop.error()


def _training_device(name: str) -> "torch.device":
    import torch

    from specdiff_cli.engine.devices import resolve_device, set_threads

    set_threads()
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = resolve_device(name)
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    return device


def _describe(trainer: "Trainer") -> str:
    begun = f"goes on at step {trainer.step}" if trainer.step else "begins"
    several = f" × {trainer.processes.count}" if trainer.processes.count > 1 else ""
    return (
        f"{trainer.folder.path}: {begun}; {trainer.n_parameters / 1e6:.1f} M parameters on {trainer.device}{several} "
        f"in {trainer.precision}, {trainer.corpus.hours:.2f} h of music in {len(trainer.files.training)} pieces"
    )


@contextmanager
def _display(quiet: bool) -> "Iterator[Listener]":
    if quiet:
        from specdiff_cli.train.trainer import SilentListener

        yield SilentListener()
    elif not can_draw():
        yield PlainDisplay()
    else:
        with BarDisplay() as display:
            yield display


def _left(progress: "Progress") -> str:
    return "" if progress.remaining_s is None else f"{clock(progress.remaining_s)} left"


class PlainDisplay:
    """A line for every line of the log."""

    def loading(self, n_done: int, n_pieces: int) -> None:
        """Say how much there is to read."""
        if n_done == 1:
            say(f"reading {n_pieces} pieces")

    def progress(self, progress: "Progress") -> None:
        """Wait for the next line of the log."""

    def logged(self, progress: "Progress", validation_mel_l1: float | None) -> None:
        """Print where the run is."""
        validation = "" if validation_mel_l1 is None else f", validation mel L1 {validation_mel_l1:.4f}"
        say(
            f"step {progress.step}/{progress.n_steps}, loss {progress.loss:.4f}{validation}, "
            f"{progress.windows_per_s:.1f} windows/s, {_left(progress)}"
        )

    def note(self, line: str) -> None:
        """Print it."""
        say(line)


class BarDisplay:
    """A live line: steps, smoothed loss, windows per second and the time that is left."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self._console = stderr_console()
        self._bar: Bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TextColumn("{task.fields[detail]}", markup=False),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}", markup=False),
            console=self._console,
            transient=True,
        )
        self._task: TaskID | None = None
        self._is_reading = False
        self._validation = ""

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def loading(self, n_done: int, n_pieces: int) -> None:
        """Move the bar of the pieces."""
        self._move("reading pieces", n_done, n_pieces, is_reading=True)

    def progress(self, progress: "Progress") -> None:
        """Move the bar of the steps."""
        detail = f"loss {progress.loss:.4f}{self._validation} · {progress.windows_per_s:.1f} windows/s"
        self._move("training", progress.step, progress.n_steps, detail, _left(progress))

    def logged(self, progress: "Progress", validation_mel_l1: float | None) -> None:
        """Keep the last validation in sight."""
        if validation_mel_l1 is not None:
            self._validation = f" · validation {validation_mel_l1:.4f}"

    def note(self, line: str) -> None:
        """Print it above the bar."""
        self._console.print(one_line(line))

    def _move(
        self, label: str, n_done: int, n_all: int, detail: str = "", left: str = "", *, is_reading: bool = False
    ) -> None:
        if self._task is None or self._is_reading != is_reading:
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._task = self._bar.add_task(label, total=n_all, detail=detail, left=left)
            self._is_reading = is_reading
        self._bar.update(self._task, completed=n_done, detail=detail, left=left)
