"""``specdiff train atlas`` and ``specdiff train notes``: a soundfont note by note, and templates fitted to it."""

import time
from pathlib import Path
from typing import Annotated

import typer

from specdiff_cli.cli import shared_options as shared
from specdiff_cli.cli.progress import clock, say
from specdiff_cli.engine.devices import usable_cpus
from specdiff_cli.errors import UsageError
from specdiff_cli.wording import count

LINE_EVERY_PRESETS = 10


def train_atlas(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder of the atlas.")],
    soundfont: Annotated[Path, typer.Option(metavar="FILE", help="An .sf2 or .sf3 file.")],
    pitch_step: Annotated[int, typer.Option(metavar="N", help="Semitones from pitch to pitch.")] = 1,
    rounds: Annotated[int, typer.Option(metavar="N", help="Times four notes per pitch, of other velocities.")] = 1,
    workers: Annotated[int | None, typer.Option(metavar="N", help="Processes.", show_default="one per core")] = None,
    quiet: shared.Quiet = False,
    debug: shared.Debug = False,
) -> None:
    """Render every program and drum kit of a soundfont, note by note.

    What note templates are fitted to (`specdiff train notes`). Each note is
    played alone and dry. The same call goes on where an interrupted one
    stopped.

    \b
    Example:
      specdiff train atlas --out atlas --soundfont MuseScore_General.sf3

    \b
    Exit codes: 0 done, 2 usage (soundfont, FluidSynth, settings), 5 output,
    130 interrupted, 143 terminated.
    """
    if workers is not None and not 1 <= workers <= 1024:
        raise UsageError(f"--workers {workers}: must be between 1 and 1024")

    from specdiff_cli.corpus.atlas import AtlasConfig, make_atlas, plan
    from specdiff_cli.midi.programs import GM_NAMES

    config = AtlasConfig(str(soundfont), pitch_step=pitch_step, n_rounds=rounds)
    missing = [preset for preset in plan(config) if preset.played_by != preset.program]
    if missing and not quiet:
        pairs = ", ".join(f"{GM_NAMES[preset.program]} by {GM_NAMES[preset.played_by]}" for preset in missing)
        say(f"{soundfont.name} lacks {count(len(missing), 'program')}, played by their neighbours: {pairs}")
    began_s = time.monotonic()
    ready = n_notes = 0
    for ready, planned, n_notes in make_atlas(out, config, workers or usable_cpus()):
        if not quiet and (ready % LINE_EVERY_PRESETS == 0 or ready == planned):
            say(f"{ready} of {planned} presets, {count(n_notes, 'note')}")
    if not quiet:
        elapsed_s = time.monotonic() - began_s
        say(f"{out}: {count(ready, 'preset')}, {count(n_notes, 'note')}, complete after {clock(elapsed_s)}")


def train_notes(
    atlas: Annotated[Path, typer.Option(metavar="DIR", help="Atlas made by `specdiff train atlas`.")],
    run: Annotated[Path, typer.Option("--run", metavar="DIR", help="Folder of the run; one that is there goes on.")],
    steps: Annotated[int, typer.Option(help="Steps in all; the learning rate falls over the last of them.")] = 20000,
    decay_share: Annotated[float, typer.Option(metavar="SHARE", help="Of the steps, in which the rate falls.")] = 0.3,
    threads: shared.Threads = None,
    seed: Annotated[int, typer.Option(help="Same seed: same batches.")] = 0,
    quiet: shared.Quiet = False,
    debug: shared.Debug = False,
) -> None:
    """Fit note templates to an atlas.

    The result (`specdiff train export RUN`) is a voice of its own: the spectra
    of all notes added up, for every program and drum kit. A run that was
    stopped goes on where its last state was stored, with more steps if more
    are asked for.

    \b
    Example:
      specdiff train notes --atlas atlas --run runs/notes --steps 10000

    \b
    Exit codes: 0 done, 2 usage, 4 weights, 5 output, 130 interrupted,
    143 terminated.
    """
    if not 1 <= steps <= 100_000_000:
        raise UsageError(f"--steps {steps}: must be between 1 and 100000000")
    if not 0 < decay_share <= 1:
        raise UsageError(f"--decay-share {decay_share:g}: must be above 0 and at most 1")

    from specdiff_cli.engine.devices import set_threads
    from specdiff_cli.train.notes import AtlasNotes, NoteTrainConfig, NoteTrainer

    set_threads(threads)
    trainer = NoteTrainer(AtlasNotes(atlas), run, NoteTrainConfig(n_steps=steps, decay_share=decay_share, seed=seed))
    if trainer.resume() and not quiet:
        say(f"{run}: going on after {count(trainer.step, 'step')}")
    for row in trainer.train():
        if not quiet:
            say("  ".join(f"{name} {value:.4g}" for name, value in row.items()))
