"""``specdiff train vocoder``: a corpus to the network of a voice's vocoder."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from specdiff_cli.choices import check_threads
from specdiff_cli.cli import shared_options as shared
from specdiff_cli.cli.guard import StopSignals
from specdiff_cli.cli.progress import can_draw, clock, plain_bar, say
from specdiff_cli.errors import UsageError

if TYPE_CHECKING:
    from specdiff_cli.train.vocoder import Report, Trainer


PIECES_A_LINE = 5


def train_vocoder(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.toml", help="Sizes and settings.", show_default=False)],
    corpus: Annotated[Path, typer.Option(metavar="DIR", help="A corpus of specdiff train data.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="RUN", help="Folder of the run; goes on if it holds one.")
    ],
    start_from: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A vocoder.safetensors of the same sizes, to train on from its weights."),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(metavar="N", help="Length of the run.", show_default="the config's")
    ] = None,
    device: shared.Device = "auto",
    threads: shared.Threads = None,
    quiet: shared.Quiet = False,
    debug: shared.Debug = False,
) -> None:
    """Train the vocoder of a voice: log-mel to sound, or the stage behind partials.

    RUN receives vocoder.safetensors (what a voice ships), its sizes and how
    good it is, a log, and the state from which the same call goes on bit for
    bit. Ctrl-C saves and stops; once more stops at once. examples/train/vocoder.toml
    is a configuration with every key explained.

    \b
    Examples:
      specdiff train vocoder vocoder.toml --corpus corpus --out runs/vocoder
      specdiff train vocoder vocoder-melgan.toml --corpus corpus --out runs/melgan
      specdiff train vocoder vocoder.toml --corpus corpus --out runs/finer --steps 600 \\
          --start-from runs/vocoder/vocoder.safetensors

    \b
    Exit codes: 0 done, 1 the numbers ran away (NaN), 2 usage (settings, corpus, finished run), 4 weights,
    5 output, 6 device or memory, 130 interrupted and 143 terminated (both saved, to be resumed).
    """
    check_threads(threads)
    from specdiff_cli.engine.devices import check_device_name

    check_device_name(device)
    from specdiff_cli.engine.devices import resolve_device, set_threads

    try:
        from specdiff_cli.train.vocoder import Trainer, read_vocoder_settings
    except ModuleNotFoundError as error:
        raise UsageError(f"{error.name} is not installed; install specdiff with its 'train' extra") from None
    set_threads(threads)
    settings, sizes = read_vocoder_settings(config, steps)

    def on_ready(n_ready: int, n_pieces: int) -> None:
        if not quiet and n_ready % PIECES_A_LINE == 0:
            say(f"{corpus}: rendering pieces with the voice, {n_ready} of {n_pieces} are there")

    trainer = Trainer(corpus, out, settings, sizes, resolve_device(device), start_from, on_ready)
    if not quiet:
        say(_introduction(trainer, out))
    began_s = time.monotonic()
    with StopSignals(quiet=quiet) as stop, _display(quiet) as show:
        finished = trainer.run(show, stop)
    if not finished:
        say(f"{out}: saved at step {trainer.step} of {settings.n_steps}; the same command goes on from there")
        raise stop.error()
    if not quiet:
        say(f"{out}: {trainer.step} steps, {clock(time.monotonic() - began_s)} · {trainer.measure()} (quality.json)")


def _introduction(trainer: "Trainer", out: Path) -> str:
    n_parameters = sum(parameter.numel() for parameter in trainer.network.parameters())
    going_on = f", goes on at step {trainer.step}" if trainer.step else ""
    route = trainer.route
    return (
        f"{out}: {n_parameters / 1e6:.2f} M parameters, head {trainer.sizes.head}, {route.n_pieces} pieces "
        f"of {route.hours:.1f} h, {trainer.device} {str(route.half).removeprefix('torch.')}{going_on}"
    )


@contextmanager
def _display(quiet: bool) -> Iterator[Any]:
    """What draws a report: a live line on a terminal, a plain one every few steps elsewhere."""
    if quiet or not can_draw():
        yield _Lines(quiet)
        return
    with plain_bar() as progress:
        yield _Bar(progress)


class _Lines:
    """Plain lines; nothing with ``--quiet``."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet

    def __call__(self, report: "Report") -> None:
        if (report.means or report.quality) and not self._quiet:
            say(_described(report))


class _Bar:
    """The live line; measured quality stays above it."""

    def __init__(self, progress: Any) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=None)
        self._start: tuple[float, int] | None = None
        self._losses = ""

    def __call__(self, report: "Report") -> None:
        now_s = time.monotonic()
        began_s, first = self._start = self._start or (now_s, report.step)
        pace = (report.step - first) / (now_s - began_s) if report.step > first else 0.0
        if report.means:
            self._losses = _losses(report)
        if report.quality is not None:
            self._progress.console.print(f"step {report.step}: {report.quality}")
        self._progress.update(
            self._task,
            completed=report.step,
            total=report.n_steps,
            description=f"step {report.step}/{report.n_steps} {pace:.1f} steps/s {self._losses}",
        )


def _described(report: "Report") -> str:
    measured = "" if report.quality is None else str(report.quality)
    return f"step {report.step}/{report.n_steps}: {' · '.join(filter(None, (_losses(report), measured)))}"


def _losses(report: "Report") -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in report.means.items())
