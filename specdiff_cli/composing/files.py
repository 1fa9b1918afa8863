"""From what was asked for, in words, to pieces as files: what ``specdiff compose`` does. No torch until needed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from specdiff_cli.choices import DEFAULT_COMPOSER, MAX_STEPS, check_choice, check_range, check_seed, check_threads
from specdiff_cli.errors import Option, UsageError
from specdiff_cli.files import check_target, make_folder
from specdiff_cli.streams import DASH

if TYPE_CHECKING:
    from specdiff_cli.composing.bundle import Composer
    from specdiff_cli.composing.jobs import Made, Order

MAX_PIECES, MAX_NOTES = 10_000, 4096
DEFAULT_TEMPLATE = "sample_n_{index}.mid"
TEMPLATE_FIELDS = ("index", "seed", "model", "stem")


@dataclass(frozen=True, slots=True)
class ComposeRequest:
    """What is asked of the composer; None leaves it to chance or to the song. Raises UsageError for numbers."""

    out_dir: Path
    n: int = 8
    """Pieces."""
    notes: int | None = None
    seed: int = 0
    program: str = "0"
    melody_program: str | None = None
    """None: as ``program``."""
    tempo: float | None = None
    """Quarter notes per minute."""
    key: str | None = None
    metre: str | None = None
    density: int | None = None
    temperature: float = 1.0
    continue_: Path | None = None
    fill: tuple[str, Path] | None = None
    reharmonise: Path | None = None
    accompany: Path | None = None
    output_template: str = DEFAULT_TEMPLATE
    overwrite: bool = False
    model: str = DEFAULT_COMPOSER
    steps: int | None = None
    batch: int | None = None
    dtype: str = "auto"
    threads: int | None = None

    def __post_init__(self) -> None:
        check_seed(self.seed)
        check_range("n", self.n, 1, MAX_PIECES)
        check_range("notes", self.notes, 2, MAX_NOTES)
        check_range("tempo", self.tempo, 20, 400)
        check_range("temperature", self.temperature, 0.05, 5)
        check_range("steps", self.steps, 3, MAX_STEPS)
        check_range("batch", self.batch, 1, MAX_PIECES)
        check_threads(self.threads)

    def order(self) -> "Order":
        """The words as the numbers that the composer works with. Raises UsageError."""
        from specdiff_cli.composing import requests as ask
        from specdiff_cli.composing.jobs import DTYPES, Order, Songs

        check_choice("dtype", self.dtype, DTYPES)
        ask.check_density(self.density)
        filled = None if self.fill is None else (ask.parse_range(self.fill[0]), self.fill[1])
        songs = Songs(self.continue_, filled, self.reharmonise, self.accompany)
        songs.check(
            has_notes=self.notes is not None, has_metre=self.metre is not None, has_tempo=self.tempo is not None
        )
        program = ask.parse_program("program", self.program)
        melody = program if self.melody_program is None else ask.parse_program("melody_program", self.melody_program)
        conditions = ask.Conditions(
            None if self.metre is None else ask.parse_metre(self.metre),
            None if self.key is None else ask.parse_key(self.key),
            self.tempo,
            self.density,
        )
        return Order(
            n_notes=self.notes or 128,
            seed=self.seed,
            programs=(melody, program, program),
            conditions=conditions,
            temperature=self.temperature,
            n_steps=self.steps,
            dtype=self.dtype,
            songs=songs,
        )

    def targets(self, stem: str) -> list[Path]:
        """A name for every piece. Raises UsageError for a template that gives none, or one twice."""
        template = self.output_template
        named = Option("output_template"), f" {template!r}: "
        values = {"seed": self.seed, "model": Path(self.model).name, "stem": stem}
        try:
            names = [template.format(index=index, **values) for index in range(1, self.n + 1)]
        except (KeyError, IndexError, ValueError, AttributeError) as error:
            known = " ".join(f"{{{name}}}" for name in TEMPLATE_FIELDS)
            problem = f"cannot be filled in ({error}); fields are {known}"
            raise UsageError(*named, problem) from None
        if len(set(names)) < self.n:
            raise UsageError(*named, "names several pieces alike; put {index} into it")
        for name in names[:1]:
            if not name or "/" in name or "\\" in name or name in (".", ".."):
                raise UsageError(*named, "must name a file inside OUT_DIR")
        suffixed = [name if Path(name).suffix.lower() in (".mid", ".midi") else f"{name}.mid" for name in names]
        return [self.out_dir / name for name in suffixed]


@dataclass(frozen=True, slots=True)
class Plan:
    """All that is known before the composer is loaded: the order, the song it is about, and a file for each piece."""

    request: ComposeRequest
    order: "Order"
    song: Any
    targets: list[Path]


def plan(request: ComposeRequest) -> Plan:
    """Check everything, read the song and make the folder, before anything takes long.

    Raises:
        UsageError: what is asked for cannot be.
        OutputError: the folder cannot be made, or a file is there or cannot be.
        MidiError: the song cannot be worked on.
    """
    order = request.order()
    if str(request.out_dir) == DASH:
        raise UsageError("-: pieces are files, and do not go to standard output; give a folder of another name")
    targets = request.targets(order.songs.stem)
    make_folder(request.out_dir)
    for target in targets:
        check_target(target, request.overwrite)
    return Plan(request, order, order.songs.read(), targets)


def compose_files(
    composer: "Composer", planned: Plan, advance: Callable[[float], None] = lambda share: None
) -> Iterator[tuple[Path, dict[str, Any], "Made"]]:
    """Compose and write every piece; those that are complete stay, whatever happens then.

    Args:
        advance: told the pieces' worth of work that was done.

    Yields:
        (file, what it is in plain types, the piece), as each is written.

    Raises:
        MidiError: the song cannot be worked on.
        OutputError: a file cannot be written.
    """
    from specdiff_cli.composing.jobs import make_pieces
    from specdiff_cli.composing.writing import write_midi

    request = planned.request
    for index, made in make_pieces(composer, planned.order, planned.song, request.n, request.batch, advance):
        target = planned.targets[index]
        write_midi(target, made.data, overwrite=request.overwrite)
        yield target, {"path": str(target), "index": index + 1, "seed": request.seed, **made.about()}, made
