"""``specdiff train``: train a voice or a composer; what it learns from is made by the commands in ``corpus``."""

import time
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from specdiff_cli.choices import (
    MAX_TRAINING_STEPS,
    SAMPLERS,
    check_choice,
    check_guidance,
    check_range,
    check_steps,
    check_threads,
)
from specdiff_cli.cli import completion as complete
from specdiff_cli.cli import shared_options as shared
from specdiff_cli.cli.corpus import train_atlas, train_data, train_notes
from specdiff_cli.cli.guard import guarded
from specdiff_cli.cli.progress import say, teller, training_display
from specdiff_cli.cli.shared_options import argument, option
from specdiff_cli.errors import UsageError
from specdiff_cli.files import files_in, size_bytes
from specdiff_cli.signals import StopSignals
from specdiff_cli.wording import clock, count, either

PIECES_A_LINE = 5


def train_model(
    config: Annotated[Path, argument("Sizes and hyper-parameters.", metavar="CONFIG.toml")],
    corpus: Annotated[Path, option("Corpus made by `specdiff train data`.", "--corpus", metavar="DIR")],
    out: Annotated[Path, option("Folder of the run; one that is there goes on.", "--out", metavar="RUN")],
    device: Annotated[str, option("auto, cpu, cuda or cuda:N.", metavar="NAME", offer=complete.devices)] = "auto",
    start_from: Annotated[
        Path | None, option("state.pt or model.safetensors whose weights a new run begins with.", metavar="FILE")
    ] = None,
    steps: Annotated[int | None, option("Length of the run, instead of n_steps.", metavar="N")] = None,
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
        raise UsageError.of("device", device, "training runs on cpu or cuda")
    check_range("steps", steps, 1, MAX_TRAINING_STEPS)

    from specdiff_cli.train.distributed import device_of, joined, processes_of_environment, training_device
    from specdiff_cli.train.run_folder import RunConfig

    settings = RunConfig.read(config)
    if steps is not None:
        settings = dataclasses.replace(settings, train=dataclasses.replace(settings.train, n_steps=steps))
    processes = processes_of_environment()
    chosen = device_of(processes, training_device(device))

    with joined(processes, chosen), training_display(quiet or not processes.is_first) as display:
        from specdiff_cli.train.trainer import Trainer

        trainer = Trainer(corpus, out, settings, chosen, processes, start_from, display)
        display.note(trainer.describe())
        with StopSignals(teller(quiet), is_alone=processes.count == 1) as stop:
            finished = trainer.run(stop)
        if finished:
            display.note(
                f"finished after {trainer.step} steps and {clock(trainer.trained_s)}: {trainer.folder.weights}"
            )
        else:
            display.note(f"saved {trainer.folder.state} at step {trainer.step}; the same command goes on from there")
    if not finished:
        raise stop.error()


def train_vocoder(
    config: Annotated[Path, argument("Sizes and settings.", metavar="CONFIG.toml")],
    corpus: Annotated[Path, option("A corpus of specdiff train data.", metavar="DIR")],
    out: Annotated[Path, option("Folder of the run; goes on if it holds one.", "--out", "-o", metavar="RUN")],
    start_from: Annotated[
        Path | None, option("A vocoder.safetensors of the same sizes, to train on from its weights.", metavar="FILE")
    ] = None,
    steps: Annotated[int | None, option("Length of the run.", metavar="N", default="the config's")] = None,
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
    tell = teller(quiet)

    def on_ready(n_ready: int, n_pieces: int) -> None:
        if n_ready % PIECES_A_LINE == 0:
            tell(f"{corpus}: rendering pieces with the voice, {n_ready} of {n_pieces} are there")

    trainer = Trainer(corpus, out, settings, sizes, resolve_device(device), start_from, on_ready)
    tell(trainer.describe())
    began_s = time.monotonic()
    with StopSignals(teller(quiet)) as stop, training_display(quiet) as display:
        finished = trainer.run(lambda report: report.tell(display), stop)
    if not finished:
        say(f"{out}: saved at step {trainer.step} of {settings.n_steps}; the same command goes on from there")
        raise stop.error()
    if not quiet:  # measuring takes a while
        say(f"{out}: {trainer.step} steps, {clock(time.monotonic() - began_s)} · {trainer.measure()} (quality.json)")


def train_composer(
    config: Annotated[Path, argument("Which model, sizes and hyper-parameters.", metavar="CONFIG.toml")],
    midi: Annotated[Path, option("Songs to learn from, in folders or not.", "--midi", metavar="DIR")],
    out: Annotated[Path, option("Folder of the run; one that is there goes on.", "--out", "-o", metavar="RUN")],
    steps: Annotated[int | None, option("Length of the run.", metavar="N", default="the config's")] = None,
    threads: Annotated[int | None, option("CPU threads.", metavar="N", default="one per physical core")] = None,
    quiet: shared.Quiet = False,
    debug: shared.Debug = False,
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
    check_range("steps", steps, 1, MAX_TRAINING_STEPS)
    import torch

    from specdiff_cli.composing.dataset import read_songs
    from specdiff_cli.train.composer import ComposerTrainer, make_task
    from specdiff_cli.train.composer_settings import ComposerSettings

    if threads is not None:
        torch.set_num_threads(threads)
    settings = ComposerSettings.read(config, steps)
    with training_display(quiet) as display:
        songs = read_songs(midi, settings.train.n_notes, partial(display.reading, noun="MIDI file"))
        trainer = ComposerTrainer(make_task(songs, settings), songs, out, settings)
        display.note(trainer.describe())
        with StopSignals(teller(quiet)) as stop:
            finished = trainer.run(lambda report: report.tell(display), stop)
    if not finished:
        say(f"{out}: saved at step {trainer.step} of {settings.train.n_steps}; the same command goes on from there")
        raise stop.error()
    took = f"{count(trainer.step, 'step')}, {clock(trainer.trained_s)}"
    teller(quiet)(f"{out}: {took}; best validation loss {trainer.best_loss:.3f}")


def train_export(
    run: Annotated[Path, argument("Run of `specdiff train model`.", metavar="RUN")],
    voice: Annotated[Path, option("Folder of the voice, named like it.", "--voice", metavar="DIR")],
    vocoder: Annotated[
        list[Path] | None,
        option(
            "Run of `specdiff train vocoder`, one of either head; without one the voice uses partials.", metavar="RUN"
        ),
    ] = None,
    lock: Annotated[
        Path | None, option("A weights.lock whose hashes of this voice are replaced.", metavar="FILE")
    ] = None,
    description: Annotated[str | None, option("A few words; by default the instruments.")] = None,
    steps: Annotated[int, option("Denoising steps of a render, unless the user says otherwise.")] = 20,
    sampler: Annotated[str, option(f"{either(SAMPLERS)}.", offer=complete.samplers)] = "ddim",
    guidance: Annotated[float, option("Guidance weight; 1 is none, and twice as fast.")] = 1.0,
    overwrite: Annotated[bool, option("Replace a voice that is there.", "--overwrite")] = False,
    quiet: shared.Quiet = False,
    debug: shared.Debug = False,
) -> None:
    """Turn training runs into a voice.

    The folder can be given to `specdiff render --model DIR`. Which instruments
    it plays comes from the pieces that it was trained on.

    \b
    Examples:
      specdiff train export runs/model --vocoder runs/vocoder --voice voices/mine

    \b
    Exit codes: 0 done, 2 usage, 4 weights, 5 output, 130 interrupted, 143 terminated.
    """
    check_steps(steps)
    check_guidance(guidance)
    check_choice("sampler", sampler, SAMPLERS)
    from specdiff_cli.diffusion.sampling import Sampling
    from specdiff_cli.train.export import export, read_lock_text, update_lock

    if lock is not None:
        read_lock_text(lock, voice)  # before anything is written
    sampling = Sampling(steps, sampler, "magenta", guidance)
    words = export(run, voice, sampling, vocoder_runs=vocoder or (), description=description, overwrite=overwrite)
    if lock is not None:
        update_lock(lock, voice, words)
    if not quiet:
        n_bytes = sum(map(size_bytes, files_in(voice)))
        say(f"{voice}: {words}; {n_bytes / 1e6:.1f} MB")


train_app = typer.Typer(
    name="train",
    no_args_is_help=True,
    help="Make a corpus and train a voice on it (docs/training.md). Needs the 'train' extra.",
)
train_app.command("atlas")(guarded(train_atlas))
train_app.command("notes")(guarded(train_notes))
train_app.command("data")(guarded(train_data))
train_app.command("model")(guarded(train_model))
train_app.command("vocoder")(guarded(train_vocoder))
train_app.command("composer")(guarded(train_composer))
train_app.command("export")(guarded(train_export))
