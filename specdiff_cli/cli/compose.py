"""``specdiff compose``: pieces out of nothing, and songs that go on."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from specdiff_cli.choices import check_choice, check_range, check_seed, check_threads
from specdiff_cli.cli.progress import can_draw, clock, plain_bar, say, working
from specdiff_cli.errors import OutputError, UsageError
from specdiff_cli.wording import count

if TYPE_CHECKING:
    from specdiff_cli.composing.bundle import Composer
    from specdiff_cli.composing.jobs import Made, Order

MAX_PIECES, MAX_NOTES, MAX_STEPS = 10_000, 4096, 10_000
RENDER = "--render"
DEFAULT_TEMPLATE = "sample_n_{index}.mid"
TEMPLATE_FIELDS = ("index", "seed", "model", "stem")

_SONG, _MUSIC, _OUTPUT, _MACHINE = "Songs that there are", "Music", "Output", "Machine and messages"


class ComposeCommand(TyperCommand):
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
    out_dir: Annotated[Path, typer.Argument(metavar="OUT_DIR", help="Folder for the pieces; made if it is not there.")],
    n: Annotated[int, typer.Option("--n", metavar="N", help="How many pieces.", rich_help_panel=_MUSIC)] = 8,
    notes: Annotated[
        int | None,
        typer.Option(metavar="N", help="Notes of each piece.", show_default="128", rich_help_panel=_MUSIC),
    ] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same machine: same bytes.", rich_help_panel=_MUSIC)] = 0,
    program: Annotated[
        str, typer.Option(metavar="WHAT", help="Instrument: a name or a program.", rich_help_panel=_MUSIC)
    ] = "0",
    melody_program: Annotated[
        str | None,
        typer.Option(
            metavar="WHAT",
            help="Another instrument for the melody.",
            show_default="as --program",
            rich_help_panel=_MUSIC,
        ),
    ] = None,
    tempo: Annotated[
        float | None,
        typer.Option(
            metavar="BPM", help="Beats (quarter notes) per minute.", show_default="drawn", rich_help_panel=_MUSIC
        ),
    ] = None,
    key: Annotated[
        str | None, typer.Option(metavar="KEY", help="C, F#, Am, ...", show_default="drawn", rich_help_panel=_MUSIC)
    ] = None,
    metre: Annotated[
        str | None,
        typer.Option(metavar="N/N", help="2/4, 3/4, 4/4, 6/8, ...", show_default="drawn", rich_help_panel=_MUSIC),
    ] = None,
    density: Annotated[
        int | None,
        typer.Option(metavar="0-7", help="Few notes per beat, or many.", show_default="drawn", rich_help_panel=_MUSIC),
    ] = None,
    temperature: Annotated[
        float, typer.Option(metavar="T", help="Below 1 safer, above 1 wilder.", rich_help_panel=_MUSIC)
    ] = 1.0,
    continue_: Annotated[
        Path | None,
        typer.Option("--continue", metavar="SONG", help="Go on after a song's last note.", rich_help_panel=_SONG),
    ] = None,
    fill: Annotated[
        tuple[str, Path] | None,
        typer.Option(
            metavar="START-END SONG", help="Compose a part anew: 12.5-20 or bar:9-bar:13.", rich_help_panel=_SONG
        ),
    ] = None,
    reharmonise: Annotated[
        Path | None,
        typer.Option(metavar="SONG", help="Other harmonies to its tune and rhythm.", rich_help_panel=_SONG),
    ] = None,
    accompany: Annotated[
        Path | None, typer.Option(metavar="SONG", help="Add two hands to a tune.", rich_help_panel=_SONG)
    ] = None,
    output_template: Annotated[
        str,
        typer.Option(
            metavar="TEMPLATE", help="Names of the files; also {seed} {model} {stem}.", rich_help_panel=_OUTPUT
        ),
    ] = DEFAULT_TEMPLATE,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", "-f", help="Replace existing files.", rich_help_panel=_OUTPUT)
    ] = False,
    render: Annotated[
        bool,
        typer.Option(
            RENDER,
            help="Also render them to audio; what follows are options of specdiff render.",
            rich_help_panel=_OUTPUT,
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object per piece on standard output.", rich_help_panel=_OUTPUT)
    ] = False,
    model: Annotated[
        str,
        typer.Option("--model", "-m", help="A composer's name or the folder of a run.", rich_help_panel=_MACHINE),
    ] = "lieder",
    steps: Annotated[
        int | None,
        typer.Option(metavar="N", help="Passes of the network.", show_default="32", rich_help_panel=_MACHINE),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Pieces at once.", show_default="8, less when memory is short", rich_help_panel=_MACHINE
        ),
    ] = None,
    dtype: Annotated[
        str,
        typer.Option(
            metavar="TYPE",
            help="float32, or bfloat16, which is three times as fast where processors know it.",
            rich_help_panel=_MACHINE,
        ),
    ] = "auto",
    threads: Annotated[
        int | None,
        typer.Option(metavar="N", help="CPU threads.", show_default="one per physical core", rich_help_panel=_MACHINE),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.", rich_help_panel=_MACHINE)] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.", rich_help_panel=_MACHINE)] = False,
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
    _check_numbers(n, notes, seed, tempo, temperature, steps, batch)
    check_threads(threads)
    from specdiff_cli.composing.jobs import DTYPES, Order, Songs
    from specdiff_cli.composing.requests import (
        Conditions,
        check_density,
        parse_key,
        parse_metre,
        parse_program,
        parse_range,
    )

    check_choice("dtype", dtype, DTYPES)
    check_density(density)
    songs = Songs(continue_, None if fill is None else (parse_range(fill[0]), fill[1]), reharmonise, accompany)
    songs.check(has_notes=notes is not None, has_metre=metre is not None, has_tempo=tempo is not None)
    accompaniment = parse_program("program", program)
    melody = accompaniment if melody_program is None else parse_program("melody_program", melody_program)
    order = Order(
        n_notes=notes or 128,
        seed=seed,
        programs=(melody, accompaniment, accompaniment),
        conditions=Conditions(
            None if metre is None else parse_metre(metre), None if key is None else parse_key(key), tempo, density
        ),
        temperature=temperature,
        n_steps=steps,
        dtype=dtype,
        songs=songs,
    )
    targets = _targets(out_dir, n, output_template, {"seed": seed, "model": Path(model).name, "stem": songs.stem})
    _make_ready(out_dir, targets, overwrite)
    song = songs.read()
    composer = _load(model, threads, quiet)
    written = _write_all(composer, order, song, targets, batch, Manners(overwrite, as_json, quiet))
    if render:
        _render(context, out_dir, written, overwrite, quiet)


@dataclass(frozen=True)
class Manners:
    """How to write and to tell."""

    overwrite: bool
    as_json: bool
    quiet: bool


def _check_numbers(
    n: int,
    notes: int | None,
    seed: int,
    tempo: float | None,
    temperature: float,
    steps: int | None,
    batch: int | None,
) -> None:
    check_seed(seed)
    check_range("n", n, 1, MAX_PIECES)
    check_range("notes", notes, 2, MAX_NOTES)
    check_range("tempo", tempo, 20, 400)
    check_range("temperature", temperature, 0.05, 5)
    check_range("steps", steps, 3, MAX_STEPS)
    check_range("batch", batch, 1, MAX_PIECES)


def _targets(folder: Path, n: int, template: str, fields: dict[str, Any]) -> list[Path]:
    """A name for every piece. Raises UsageError for a template that gives none, or one twice."""
    try:
        names = [template.format(index=index, **fields) for index in range(1, n + 1)]
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        known = " ".join(f"{{{name}}}" for name in TEMPLATE_FIELDS)
        raise UsageError(f"--output-template {template!r}: cannot be filled in ({error}); fields are {known}") from None
    if len(set(names)) < n:
        raise UsageError(f"--output-template {template!r}: names several pieces alike; put {{index}} into it")
    for name in names[:1]:
        if not name or "/" in name or "\\" in name or name in (".", ".."):
            raise UsageError(f"--output-template {template!r}: must name a file inside OUT_DIR")
    return [folder / (name if Path(name).suffix.lower() in (".mid", ".midi") else f"{name}.mid") for name in names]


def _make_ready(folder: Path, targets: list[Path], overwrite: bool) -> None:
    """Make the folder, and see that every file can be written, before anything takes long. Raises OutputError."""
    from specdiff_cli.files import check_target

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {folder}: {error.strerror or error}") from None
    for target in targets:
        check_target(target, overwrite)


def _load(model: str, threads: int | None, quiet: bool) -> "Composer":
    with working("loading the composer", quiet):
        import torch

        from specdiff_cli.composing.bundle import load_composer

        if threads is not None:
            torch.set_num_threads(threads)
        return load_composer(model)


def _write_all(
    composer: "Composer", order: "Order", song: Any, targets: list[Path], batch: int | None, manners: Manners
) -> list[Path]:
    """Compose and write everything; pieces that are complete stay, whatever happens then."""
    from specdiff_cli.composing.jobs import make_pieces
    from specdiff_cli.composing.writing import write_midi

    written = []
    with _progress(len(targets), manners.quiet) as advance:
        for index, made in make_pieces(composer, order, song, len(targets), batch, advance):
            write_midi(targets[index], made.data, overwrite=manners.overwrite)
            written.append(targets[index])
            _tell(targets[index], made, index, order, manners)
    return written


def _tell(target: Path, made: "Made", index: int, order: "Order", manners: Manners) -> None:
    if manners.as_json:
        typer.echo(json.dumps({"path": str(target), "index": index + 1, "seed": order.seed, **made.about()}))
    if not manners.quiet:
        say(f"{target}: {count(made.n_notes, 'note')}, {clock(made.duration_s)}, {made.description}")


@contextmanager
def _progress(n: int, quiet: bool) -> Iterator[Callable[[float], None]]:
    """Something to call with the pieces' worth of work that was done; a bar on a terminal."""
    if quiet or not can_draw():
        yield lambda share: None
        return
    with plain_bar() as progress:
        task = progress.add_task(f"composing {count(n, 'piece')}", total=n)
        yield lambda share: progress.advance(task, share)


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
