"""``specdiff train data``, ``atlas`` and ``notes``: what voices learn from, and templates fitted to single notes."""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from specdiff_cli.choices import check_choice, check_range
from specdiff_cli.cli import shared_options as shared
from specdiff_cli.cli.progress import can_draw, counted_display, say, teller
from specdiff_cli.cli.shared_options import option
from specdiff_cli.errors import ExitCode, MidiError, Option, UsageError
from specdiff_cli.wording import clock, count

LINE_EVERY = 10  # pieces, or presets


def train_atlas(
    out: Annotated[Path, option("Folder of the atlas.", "--out", "-o", metavar="DIR")],
    soundfont: Annotated[Path, option("An .sf2 or .sf3 file.", metavar="FILE")],
    pitch_step: Annotated[int, option("Semitones from pitch to pitch.", metavar="N")] = 1,
    rounds: Annotated[int, option("Times four notes per pitch, of other velocities.", metavar="N")] = 1,
    workers: Annotated[int | None, option("Processes.", metavar="N", default="one per core")] = None,
    ray: shared.Ray = None,
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
    6 the cluster, 130 interrupted, 143 terminated.
    """
    check_range("workers", workers, 1, 1024)
    from specdiff_cli.cluster.spreading import here_or_there
    from specdiff_cli.corpus.atlas import AtlasConfig, make_atlas, plan
    from specdiff_cli.midi.programs import GM_NAMES

    config = AtlasConfig(str(soundfont), pitch_step=pitch_step, n_rounds=rounds)
    missing = [preset for preset in plan(config) if preset.played_by != preset.program]
    tell = teller(quiet)
    if missing:
        pairs = ", ".join(f"{GM_NAMES[preset.program]} by {GM_NAMES[preset.played_by]}" for preset in missing)
        tell(f"{soundfont.name} lacks {count(len(missing), 'program')}, played by their neighbours: {pairs}")
    began_s, ready, n_notes = time.monotonic(), 0, 0
    for ready, planned, n_notes in make_atlas(out, config, here_or_there(workers, ray, out, tell)):
        if ready % LINE_EVERY == 0 or ready == planned:
            tell(f"{ready} of {planned} presets, {count(n_notes, 'note')}")
    took = clock(time.monotonic() - began_s)
    tell(f"{out}: {count(ready, 'preset')}, {count(n_notes, 'note')}, complete after {took}")


def train_notes(
    atlas: Annotated[Path, option("Atlas made by `specdiff train atlas`.", metavar="DIR")],
    run: Annotated[Path, option("Folder of the run; one that is there goes on.", "--run", metavar="DIR")],
    steps: Annotated[int, option("Steps in all; the learning rate falls over the last of them.")] = 20000,
    decay_share: Annotated[float, option("Of the steps, in which the rate falls.", metavar="SHARE")] = 0.3,
    threads: shared.Threads = None,
    seed: Annotated[int, option("Same seed: same batches.")] = 0,
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
    from specdiff_cli.engine.devices import set_threads
    from specdiff_cli.train.atlas_notes import AtlasNotes
    from specdiff_cli.train.notes import NoteTrainConfig, NoteTrainer

    set_threads(threads)
    trainer = NoteTrainer(AtlasNotes(atlas), run, NoteTrainConfig(n_steps=steps, decay_share=decay_share, seed=seed))
    if trainer.resume():
        teller(quiet)(f"{run}: going on after {count(trainer.step, 'step')}")
    for row in trainer.train():
        teller(quiet)("  ".join(f"{name} {value:.4g}" for name, value in row.items()))


def train_data(
    out: Annotated[Path, option("Folder of the corpus.", "--out", "-o", metavar="DIR")],
    soundfont: Annotated[Path | None, option("An .sf2 or .sf3 file.", metavar="FILE")] = None,
    recordings: Annotated[
        Path | None,
        option(
            "Instead of a soundfont: NAME.wav beside NAME.mid, or MAESTRO, Slakh or MusicNet as they unpack.",
            metavar="DIR",
        ),
    ] = None,
    hours: Annotated[float, option("About how much audio.")] = 10.0,
    midi: Annotated[
        list[Path] | None, option("Folder of MIDI files to arrange, searched in depth; may be repeated.", metavar="DIR")
    ] = None,
    midi_share: Annotated[
        float, option("Share of arrangements; the other pieces are composed.", metavar="SHARE")
    ] = 0.4,
    ensemble: Annotated[
        str, option("Who plays: general-midi (1 to 8 instruments of all classes, drums) or piano (alone).")
    ] = "general-midi",
    validation_share: Annotated[
        float, option("Share of pieces, and of MIDI files, kept out of training.", metavar="SHARE")
    ] = 0.02,
    reverb_share: Annotated[
        float, option("Share of pieces with light reverb; the others are dry.", metavar="SHARE")
    ] = 0.0,
    sounds_share: Annotated[
        float, option("Share of the composed pieces in which single notes are heard one by one.", metavar="SHARE")
    ] = 0.0,
    loudness: Annotated[
        float, option("Mean loudness of the pieces; one gain serves the whole corpus.", metavar="LUFS")
    ] = -28.0,
    seed: Annotated[int, option("Same seed and settings: same corpus.")] = 0,
    workers: Annotated[int | None, option("Processes.", metavar="N", default="one per core")] = None,
    ray: shared.Ray = None,
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
    3 no readable MIDI, or no recording that could be used, 5 output, 6 the cluster,
    130 interrupted, 143 terminated.
    """
    check_choice("ensemble", ensemble, ("general-midi", "piano"))
    check_range("workers", workers, 1, 1024)
    if (soundfont is None) == (recordings is None):
        raise UsageError("give either ", Option("soundfont", "FILE"), " or ", Option("recordings", "DIR"))
    from specdiff_cli.cluster.spreading import here_or_there

    crew = here_or_there(workers, ray, out, teller(quiet))
    if recordings is not None:
        _use_recordings(out, recordings, validation_share, loudness, crew, quiet)
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
        sounds_share=sounds_share,
        loudness_lufs=loudness,
    )
    composer, began_s = SOLO_PIANO if ensemble == "piano" else ComposeConfig(), time.monotonic()
    ready, ready_h = _follow(make_corpus(out, hours, config, crew, composer), quiet)
    took = clock(time.monotonic() - began_s)
    teller(quiet)(f"{out}: {count(ready, 'piece')}, {ready_h:.2f} h, complete after {took}")


def _use_recordings(out: Path, source: Path, validation_share: float, lufs: float, crew: Any, quiet: bool) -> None:
    """Make the corpus, and say of each recording how it lies against its notes."""
    from specdiff_cli.corpus.recordings import make_recorded_corpus

    tell = teller(quiet)
    n_used, n_left_out, length_s = 0, 0, 0.0
    for done, planned, outcome in make_recorded_corpus(out, source, validation_share, lufs, crew):
        if outcome.problem is not None:
            n_left_out += 1
            say(f"left out: {outcome.problem}")
            continue
        n_used += 1
        length_s += outcome.length_s
        tell(f"{done} of {planned}: {outcome.describe()}")
    if not n_used:
        raise MidiError(f"{source}: holds no recording that could be used")
    tell(f"{out}: {count(n_used, 'recording')}, {length_s / 3600:.2f} h; {n_left_out} left out")
    if n_left_out:
        raise typer.Exit(ExitCode.FAILURE)


def _follow(made: Iterable[tuple[int, int, float]], quiet: bool) -> tuple[int, float]:
    """Draw progress until the corpus is complete; returns its pieces and hours."""
    tell = teller(quiet or can_draw())
    ready, hours = 0, 0.0
    with counted_display("calibrating", quiet) as show:
        for ready, planned, hours in made:
            show(ready, planned, f"{ready} of {planned} pieces, {hours:.2f} h")
            if ready % LINE_EVERY == 0 or ready == planned:
                tell(f"{ready} of {planned} pieces, {hours:.2f} h")
    return ready, hours
