"""``specdiff compose``: pieces out of nothing, and songs that go on."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from specdiff_cli.choices import DEFAULT_COMPOSER
from specdiff_cli.cli.help import PlainHelpCommand
from specdiff_cli.cli.progress import counted_display, fail, teller, working
from specdiff_cli.cli.shared_options import argument, option, record_of
from specdiff_cli.composing.files import DEFAULT_TEMPLATE, ComposeRequest, compose_files, plan
from specdiff_cli.errors import ExitCode
from specdiff_cli.streams import JsonLines
from specdiff_cli.wording import clock, count

RENDER = "--render"
_song, _music, _output = (partial(option, panel=name) for name in ("Songs that there are", "Music", "Output"))
_machine = partial(option, panel="Machine and messages")


class ComposeCommand(PlainHelpCommand):
    """Leaves everything behind ``--render`` to ``specdiff render``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse what is before it; the rest lies in the context, already parsed once, so that mistakes show now."""
        if RENDER in args:
            place = args.index(RENDER)
            args, rest = args[: place + 1], args[place + 1 :]
            ctx.meta[RENDER] = rest
            if not ctx.resilient_parsing:
                render = ctx.parent.command.commands["render"]
                render.make_context("render", ["song.mid", *rest], parent=ctx.parent, resilient_parsing=False)
        return super().parse_args(ctx, args)


def compose(
    context: typer.Context,
    out_dir: Annotated[Path, argument("Folder for the pieces; made if it is not there.", metavar="OUT_DIR")],
    n: Annotated[int, _music("How many pieces.", "--n", metavar="N")] = 8,
    notes: Annotated[int | None, _music("Notes of each piece.", metavar="N", default="128")] = None,
    seed: Annotated[int, _music("Same seed, same machine: same bytes.")] = 0,
    program: Annotated[str, _music("Instrument: a name or a program.", metavar="WHAT")] = "0",
    melody_program: Annotated[
        str | None, _music("Another instrument for the melody.", metavar="WHAT", default="as --program")
    ] = None,
    tempo: Annotated[float | None, _music("Beats (quarter notes) per minute.", metavar="BPM", default="drawn")] = None,
    key: Annotated[str | None, _music("C, F#, Am, ...", metavar="KEY", default="drawn")] = None,
    metre: Annotated[str | None, _music("2/4, 3/4, 4/4, 6/8, ...", metavar="N/N", default="drawn")] = None,
    density: Annotated[int | None, _music("Few notes per beat, or many.", metavar="0-7", default="drawn")] = None,
    temperature: Annotated[float, _music("Below 1 safer, above 1 wilder.", metavar="T")] = 1.0,
    continue_: Annotated[Path | None, _song("Go on after a song's last note.", "--continue", metavar="SONG")] = None,
    fill: Annotated[
        tuple[str, Path] | None, _song("Compose a part anew: 12.5-20 or bar:9-bar:13.", metavar="START-END SONG")
    ] = None,
    reharmonise: Annotated[Path | None, _song("Other harmonies to its tune and rhythm.", metavar="SONG")] = None,
    accompany: Annotated[Path | None, _song("Add two hands to a tune.", metavar="SONG")] = None,
    output_template: Annotated[
        str, _output("Names of the files; also {seed} {model} {stem}.", metavar="TEMPLATE")
    ] = DEFAULT_TEMPLATE,
    overwrite: Annotated[bool, _output("Replace existing files.", "--overwrite", "-f")] = False,
    render: Annotated[
        bool, _output("Also render them to audio; what follows are options of specdiff render.", RENDER)
    ] = False,
    as_json: Annotated[bool, _output("One JSON object per piece on standard output.", "--json")] = False,
    model: Annotated[str, _machine("A composer's name or the folder of a run.", "--model", "-m")] = DEFAULT_COMPOSER,
    steps: Annotated[int | None, _machine("Passes of the network.", metavar="N", default="32")] = None,
    batch: Annotated[
        int | None, _machine("Pieces at once.", metavar="N", default="8, less when memory is short")
    ] = None,
    dtype: Annotated[
        str,
        _machine("float32, or bfloat16, which is three times as fast where processors know it.", metavar="TYPE"),
    ] = "auto",
    threads: Annotated[int | None, _machine("CPU threads.", metavar="N", default="one per physical core")] = None,
    quiet: Annotated[bool, _machine("Print errors only.", "--quiet", "-q")] = False,
    debug: Annotated[bool, _machine("Show tracebacks.", "--debug")] = False,
) -> None:
    """Compose pieces of music as MIDI files.

    The composer ships with the program and works offline. It also continues
    songs, fills gaps in them, finds other harmonies and accompanies tunes.
    docs/composing.md says how good it is.

    \b
    Examples:
      specdiff compose pieces
      specdiff compose pieces --n 2 --key Am --metre 3/4 --melody-program flute
      specdiff compose pieces --continue song.mid --n 3 --notes 64
      specdiff compose pieces --fill bar:9-bar:13 song.mid
      specdiff compose pieces --n 4 --render --format flac --stereo

    \b
    Exit codes: 0 done, 2 usage, 3 bad MIDI, 4 weights, 5 output,
    6 device or memory, 130 interrupted, 143 terminated.
    """
    tell, lines = teller(quiet), JsonLines(fail)
    planned = plan(record_of(ComposeRequest, locals()))
    with working("loading the composer", quiet):
        from specdiff_cli.composing.bundle import load_composer

        composer = load_composer(model, threads)
    n_done = 0.0
    with counted_display(f"composing {count(n, 'piece')}", quiet) as show:

        def advance(share: float) -> None:
            nonlocal n_done
            show(n_done := n_done + share, n)

        for target, about, made in compose_files(composer, planned, advance):
            if as_json:
                lines.write(about)
            tell(f"{target}: {count(made.n_notes, 'note')}, {clock(made.duration_s)}, {made.description}")
    if render:
        _render(context, out_dir, planned.targets, overwrite, quiet)
    if lines.is_unread:
        raise typer.Exit(ExitCode.OUTPUT)


def _render(context: typer.Context, folder: Path, pieces: list[Path], overwrite: bool, quiet: bool) -> None:
    """Call ``specdiff render`` on the pieces, with the options behind ``--render``."""
    rest = list(context.meta[RENDER])
    has_place = any(word in ("-o", "--output") or word.startswith(("-o", "--output=")) for word in rest)
    own = [] if has_place else ["-o", str(folder)]
    own += ["--overwrite"] if overwrite else []
    own += ["--quiet"] if quiet else []
    assert context.parent is not None  # noqa: S101 - a subcommand
    command = context.parent.command.commands["render"]  # type: ignore[attr-defined]
    arguments = [*map(str, pieces), *own, *rest]
    with command.make_context("render", arguments, parent=context.parent) as inner:
        command.invoke(inner)
