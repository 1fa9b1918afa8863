"""``specdiff train data``: MIDI and a soundfont, or recordings and their notes, to a training corpus."""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from specdiff_cli.cli import shared_options as shared
from specdiff_cli.cli.progress import can_draw, clock, say, stderr_console
from specdiff_cli.engine.devices import usable_cpus
from specdiff_cli.errors import ExitCode, MidiError, UsageError
from specdiff_cli.wording import count

ENSEMBLES = ("general-midi", "piano")
LINE_EVERY_PIECES = 10


def train_data(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder of the corpus.")],
    soundfont: Annotated[Path | None, typer.Option(metavar="FILE", help="An .sf2 or .sf3 file.")] = None,
    recordings: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Instead of a soundfont: NAME.wav beside NAME.mid, or MAESTRO, Slakh or MusicNet as they unpack.",
        ),
    ] = None,
    hours: Annotated[float, typer.Option(help="About how much audio.")] = 10.0,
    midi: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="Folder of MIDI files to arrange, searched in depth; may be repeated."),
    ] = None,
    midi_share: Annotated[
        float, typer.Option(metavar="SHARE", help="Share of arrangements; the other pieces are composed.")
    ] = 0.4,
    ensemble: Annotated[
        str,
        typer.Option(help="Who plays: general-midi (1 to 8 instruments of all classes, drums) or piano (alone)."),
    ] = "general-midi",
    validation_share: Annotated[
        float, typer.Option(metavar="SHARE", help="Share of pieces, and of MIDI files, kept out of training.")
    ] = 0.02,
    reverb_share: Annotated[
        float, typer.Option(metavar="SHARE", help="Share of pieces with light reverb; the others are dry.")
    ] = 0.0,
    loudness: Annotated[
        float, typer.Option(metavar="LUFS", help="Mean loudness of the pieces; one gain serves the whole corpus.")
    ] = -28.0,
    seed: Annotated[int, typer.Option(help="Same seed and settings: same corpus.")] = 0,
    workers: Annotated[int | None, typer.Option(metavar="N", help="Processes.", show_default="one per core")] = None,
    quiet: shared.Quiet = False,
    debug: shared.Debug = False,
) -> None:
    """Make a training corpus: music, its notes, and its sound.

    Composed pieces and arrangements of MIDI files are rendered by FluidSynth
    from the soundfont, at 16 kHz mono. The same call goes on where an
    interrupted one stopped. Training and validation never share a file.

    With --recordings, all pairs are read, resampled and checked against
    their notes; those that do not belong together are named and left out.
    A data set's own split is kept, and its test part stays out.

    \b
    Examples:
      specdiff train data --out corpus --hours 10 --soundfont MuseScore_General.sf3 --midi lieder/
      specdiff train data --out corpus --recordings maestro-v3.0.0/

    \b
    Exit codes: 0 done, 1 some recordings left out, 2 usage (soundfont, FluidSynth, settings),
    3 no readable MIDI, or no recording that could be used, 5 output,
    130 interrupted, 143 terminated.
    """
    if not 0 < hours <= 10_000:
        raise UsageError(f"--hours {hours:g}: must be above 0 and at most 10000")
    if not 0 <= seed < 2**20:
        raise UsageError(f"--seed {seed}: must be between 0 and {2**20 - 1}")
    if ensemble not in ENSEMBLES:
        raise UsageError(f"--ensemble {ensemble}: is not one of {', '.join(ENSEMBLES)}")
    if workers is not None and not 1 <= workers <= 1024:
        raise UsageError(f"--workers {workers}: must be between 1 and 1024")
    if (soundfont is None) == (recordings is None):
        raise UsageError("give either --soundfont FILE or --recordings DIR")
    if recordings is not None:
        if not 0 < validation_share < 1:
            raise UsageError(f"validation share {validation_share:g}: must be above 0 and below 1")
        _use_recordings(out, recordings, validation_share, loudness, workers, quiet)
        return
    try:
        import pyloudnorm  # noqa: F401 - asked for later, and together with the rest

        from specdiff_cli.corpus.compose import SOLO_PIANO, ComposeConfig
        from specdiff_cli.corpus.pieces import CorpusConfig, make_corpus
    except ModuleNotFoundError as error:
        raise UsageError(
            f"making a corpus needs {error.name}: run \"pip install '.[train]'\" in a copy of specdiff"
        ) from None
    config = CorpusConfig(
        seed=seed,
        soundfont=str(soundfont),
        midi_folders=tuple(map(str, midi or ())),
        midi_share=midi_share,
        validation_share=validation_share,
        reverb_share=reverb_share,
        loudness_lufs=loudness,
    )
    composer = SOLO_PIANO if ensemble == "piano" else ComposeConfig()
    began_s = time.monotonic()
    done = make_corpus(out, hours, config, workers or usable_cpus(), composer)
    ready, ready_h = _follow(done, quiet)
    if not quiet:
        elapsed_s = time.monotonic() - began_s
        say(f"{out}: {count(ready, 'piece')}, {ready_h:.2f} h, complete after {clock(elapsed_s)}")


def _use_recordings(
    out: Path, source: Path, validation_share: float, loudness_lufs: float, workers: int | None, quiet: bool
) -> None:
    """Make the corpus, and say of each recording how it lies against its notes."""
    from specdiff_cli.corpus.recordings import make_recorded_corpus

    n_workers = workers or usable_cpus()
    n_used = n_left_out = 0
    length_s = 0.0
    for done, planned, outcome in make_recorded_corpus(out, source, validation_share, loudness_lufs, n_workers):
        if outcome.problem is not None:
            n_left_out += 1
            say(f"left out: {outcome.problem}")
            continue
        n_used += 1
        length_s += outcome.length_s
        if quiet:
            continue
        found = outcome.alignment
        lies = "made before"
        if found is not None:
            lies = f"offset {1000 * found.offset_s:+.0f} ms, drift {1000 * found.drift:+.2f} ms/s"
            lies += ", notes moved" if outcome.was_corrected else ""
        say(f"{done} of {planned}: {outcome.name}: {clock(outcome.length_s)}, {lies}")
    if not n_used:
        raise MidiError(f"{source}: holds no recording that could be used")
    if not quiet:
        say(f"{out}: {count(n_used, 'recording')}, {length_s / 3600:.2f} h; {n_left_out} left out")
    if n_left_out:
        raise typer.Exit(ExitCode.FAILURE)


def _follow(made: Iterable[tuple[int, int, float]], quiet: bool) -> tuple[int, float]:
    """Draw progress until the corpus is complete; returns its pieces and hours."""
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    ready, hours = 0, 0.0
    if quiet or not can_draw():
        for ready, planned, hours in made:
            if not quiet and (ready % LINE_EVERY_PIECES == 0 or ready == planned):
                say(f"{ready} of {planned} pieces, {hours:.2f} h")
        return ready, hours
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=None), TaskProgressColumn())
    times = (TextColumn("{task.fields[hours]}"), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    with Progress(*columns, *times, console=stderr_console(), transient=True) as progress:
        task = progress.add_task("calibrating", total=None, hours="")
        for ready, planned, hours in made:
            progress.update(task, description="pieces", completed=ready, total=planned, hours=f"{hours:.2f} h")
    return ready, hours
