"""``specdiff train composer``: songs to a network that composes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from specdiff_cli.choices import check_range, check_threads
from specdiff_cli.cli.guard import StopSignals
from specdiff_cli.cli.progress import can_draw, clock, plain_bar, say
from specdiff_cli.wording import count

MAX_STEPS = 100_000_000

if TYPE_CHECKING:
    from specdiff_cli.composing.dataset import Songs
    from specdiff_cli.train.composer import ComposerTrainer, Report


def train_composer(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.toml", help="Which model, sizes and hyper-parameters.")],
    midi: Annotated[Path, typer.Option("--midi", metavar="DIR", help="Songs to learn from, in folders or not.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="RUN", help="Folder of the run; one that is there goes on.")
    ],
    steps: Annotated[
        int | None, typer.Option(metavar="N", help="Length of the run.", show_default="the config's")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(metavar="N", help="CPU threads.", show_default="one per physical core")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Errors only.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Train a composer on a folder of MIDI files.

    One song in twelve is held out by its name, and judges the run: the
    averaged weights that do best on it are kept. RUN receives
    composer.safetensors and composer.json (`specdiff compose --model RUN`), a
    log, TensorBoard's files, and state.pt, from which the same call goes on.
    Ctrl-C saves and stops; once more stops at once. Training runs on the CPU.

    \b
    Examples:
      specdiff train composer examples/train/composer.toml --midi songs --out runs/composer
      specdiff train composer examples/train/composer-unet.toml --midi songs --out runs/unet

    \b
    Exit codes: 0 done, 1 the training diverged, 2 usage (settings, songs, finished run), 3 bad MIDI,
    4 weights, 5 output, 6 memory, 130 interrupted and 143 terminated (both saved, to be resumed).
    """
    check_threads(threads)
    check_range("steps", steps, 1, MAX_STEPS)
    import torch

    from specdiff_cli.composing.dataset import read_songs
    from specdiff_cli.train.composer import ComposerTrainer, make_task
    from specdiff_cli.train.composer_settings import ComposerSettings

    if threads is not None:
        torch.set_num_threads(threads)
    settings = ComposerSettings.read(config, steps)
    with _display(quiet) as show:
        songs = read_songs(midi, settings.train.n_notes, show.reading)
        trainer = ComposerTrainer(make_task(songs, settings), songs, out, settings)
        if not quiet:
            say(_introduction(trainer, songs))
        with StopSignals(quiet=quiet) as stop:
            finished = trainer.run(show, stop)
    if not finished:
        say(f"{out}: saved at step {trainer.step} of {settings.train.n_steps}; the same command goes on from there")
        raise stop.error()
    if not quiet:
        say(
            f"{out}: {count(trainer.step, 'step')}, {clock(trainer.trained_s)}; best validation loss "
            f"{trainer.best_loss:.3f}"
        )


def _introduction(trainer: "ComposerTrainer", songs: "Songs") -> str:
    going_on = f", goes on at step {trainer.step}" if trainer.step else ""
    left_out = ""
    if songs.n_unreadable or songs.n_short:
        left_out = f" ({songs.n_unreadable} unreadable and {songs.n_short} too short left out)"
    return (
        f"{trainer.out}: {trainer.settings.kind}, {trainer.n_parameters / 1e6:.1f} M parameters, "
        f"{count(len(songs.training), 'song')} of {songs.n_notes} notes, "
        f"{len(songs.validation)} held out{left_out}{going_on}"
    )


@contextmanager
def _display(quiet: bool) -> Iterator["_Lines"]:
    if quiet or not can_draw():
        yield _Lines(quiet)
        return
    with plain_bar() as progress:
        yield _Bar(progress)


class _Lines:
    """A line for every line of the log; nothing with ``--quiet``."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet

    def reading(self, n_done: int, n_files: int) -> None:
        """Say once how much there is to read."""
        if n_done == 1 and not self._quiet:
            say(f"reading {count(n_files, 'MIDI file')}")

    def __call__(self, report: "Report") -> None:
        """Print where the run is."""
        if report.means and not self._quiet:
            say(f"step {report.step}/{report.n_steps}: {_described(report)}")


class _Bar(_Lines):
    """A live line; validation stays above it."""

    def __init__(self, progress: Any) -> None:
        super().__init__(quiet=False)
        self._progress = progress
        self._task = progress.add_task("reading songs", total=None)
        self._losses = ""
        self._is_training = False

    def reading(self, n_done: int, n_files: int) -> None:
        """Move the bar of the files."""
        self._progress.update(self._task, completed=n_done, total=n_files)

    def __call__(self, report: "Report") -> None:
        """Move the bar of the steps."""
        if not self._is_training:
            self._progress.remove_task(self._task)
            self._task = self._progress.add_task("training", total=report.n_steps, completed=report.step - 1)
            self._is_training = True
        if report.means:
            self._losses = _described(report)
        if "validation_loss" in report.means:
            self._progress.console.print(f"step {report.step}: {_described(report)}", markup=False)
        label = f"step {report.step}/{report.n_steps} {self._losses}"
        self._progress.update(self._task, completed=report.step, description=label)


def _described(report: "Report") -> str:
    shown = ("loss", "steps_per_s", "validation_loss")
    return ", ".join(f"{name.replace('_', ' ')} {report.means[name]:.3f}" for name in shown if name in report.means)
