"""``specdiff train export``: runs to a voice folder."""

from pathlib import Path
from typing import Annotated

import typer

from specdiff_cli.choices import SAMPLERS
from specdiff_cli.cli import completion as complete
from specdiff_cli.cli import shared_options as shared
from specdiff_cli.cli.progress import say
from specdiff_cli.errors import UsageError
from specdiff_cli.wording import either


def train_export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run of `specdiff train model`.")],
    voice: Annotated[Path, typer.Option("--voice", metavar="DIR", help="Folder of the voice, named like it.")],
    vocoder: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="RUN",
            help="Run of `specdiff train vocoder`, one of either head; without one the voice uses partials.",
        ),
    ] = None,
    lock: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A weights.lock whose hashes of this voice are replaced.")
    ] = None,
    description: Annotated[str | None, typer.Option(help="A few words; by default the instruments.")] = None,
    steps: Annotated[int, typer.Option(help="Denoising steps of a render, unless the user says otherwise.")] = 20,
    sampler: Annotated[str, typer.Option(help=f"{either(SAMPLERS)}.", autocompletion=complete.samplers)] = "ddim",
    guidance: Annotated[float, typer.Option(help="Guidance weight; 1 is none, and twice as fast.")] = 1.0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a voice that is there.")] = False,
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
    if not 1 <= steps <= 1000:
        raise UsageError(f"--steps {steps}: must be between 1 and 1000")
    if not 0 <= guidance <= 100:
        raise UsageError(f"--guidance {guidance:g}: must be between 0 and 100")

    from specdiff_cli.diffusion.sampling import Sampling
    from specdiff_cli.train.export import export, read_lock_text, update_lock

    if sampler not in SAMPLERS:
        raise UsageError(f"--sampler {sampler}: is not one of {', '.join(SAMPLERS)}")
    if lock is not None:
        read_lock_text(lock, voice)  # before anything is written
    sampling = Sampling(steps, sampler, "magenta", guidance)
    words = export(run, voice, sampling, vocoder_runs=vocoder or (), description=description, overwrite=overwrite)
    if lock is not None:
        update_lock(lock, voice, words)
    if not quiet:
        n_bytes = sum(path.stat().st_size for path in voice.iterdir())
        say(f"{voice}: {words}; {n_bytes / 1e6:.1f} MB")
