"""Which input goes to which output, decided before anything starts."""

import os
import re
import string
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from specdiff_cli.cli.inputs import Source
from specdiff_cli.errors import UsageError

STDOUT = "-"
#: Fields of --output-template, with what stands for them in the help and in the documentation.
FIELDS = {
    "stem": "the input's name without its suffix",
    "name": "the input's name",
    "parent": "the name of the input's folder",
    "model": "the voice's name",
    "seed": "--seed",
    "steps": "denoising steps",
    "index": "the input's position, from 1",
}
_SPEC_PATTERN = re.compile(r"0?\d{0,2}")  # a width, for {index:03}


#: What players know by these names, and libsndfile or we do not write.
OTHER_SUFFIXES = (".mp3", ".ogg", ".opus", ".m4a", ".aac", ".wma", ".aif", ".aiff", ".mid", ".midi")


@dataclass(frozen=True, slots=True)
class Job:
    """One input and where its audio goes; ``target`` None is standard output.

    ``makes_folder``: the target's folder was asked for as such and is made when the first file goes into it.
    """

    source: Path
    target: Path | None
    mel_target: Path | None = None
    plot_target: Path | None = None
    makes_folder: bool = False

    @property
    def companions(self) -> list[Path]:
        """What is written beside the audio."""
        return [path for path in (self.mel_target, self.plot_target) if path is not None]


@dataclass(frozen=True, slots=True)
class Naming:
    """How outputs are named: ``output`` is -o; the rest fills --output-template."""

    output: str | None
    template: str | None
    file_format: str
    model: str
    seed: int
    steps: int


def plan(
    sources: Sequence[Source], naming: Naming, save_mel: Path | None = None, plot: Path | None = None
) -> list[Job]:
    """Pair every input with its output.

    Raises:
        UsageError: two inputs would share an output, an output is an input, or several would go to one file.
    """
    output = naming.output
    if output == "":
        raise UsageError("-o: the name is empty (an unset variable?)")
    is_single = len(sources) == 1 and sources[0].is_named
    for option, value in (("--save-mel", save_mel), ("--plot", plot)):
        if value is not None and not is_single:
            raise UsageError(f"{option} takes a single input; render the files one by one")
    if output == STDOUT:
        if not is_single:
            raise UsageError("-o - takes a single input; give a folder for several")
        if naming.template is not None:
            raise UsageError("--output-template: names files; it does not go with -o -")
        jobs = [Job(sources[0].path, None, save_mel, plot)]
    elif is_single and output is not None and naming.template is None and not _is_folder(output):
        jobs = [Job(sources[0].path, Path(output), save_mel, plot)]
    else:
        folder = Path(output) if output is not None else Path()
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"-o {folder}: is a file; several inputs need a folder")
        jobs = [
            Job(
                source.path,
                folder / source.subfolder / _name(source.path, index, naming),
                save_mel,
                plot,
                makes_folder=True,
            )
            for index, source in enumerate(sources, start=1)
        ]
    _check_distinct(jobs)
    return jobs


def _is_folder(output: str) -> bool:
    return Path(output).is_dir() or output.endswith(("/", "\\"))


def format_of(output: str | None, template: str | None) -> str:
    """The format that the output's suffix asks for, else WAV. Raises UsageError for suffixes of other sound files."""
    name = template if template is not None else output
    suffix = Path(name).suffix.lower() if name else ""
    if suffix in OTHER_SUFFIXES:
        raise UsageError(f"{name}: {suffix} cannot be written; use .wav or .flac (or --format, to insist on the name)")
    return "flac" if name is not None and name.lower().endswith(".flac") else "wav"


def _name(source: Path, index: int, naming: Naming) -> str:
    if naming.template is None:
        return f"{source.stem}.{naming.file_format}"
    values: dict[str, str | int] = {
        "stem": source.stem,
        "name": source.name,
        "parent": Path(os.path.realpath(source.parent)).name,
        "model": re.sub(r"[\\/]", "_", naming.model),
        "seed": naming.seed,
        "steps": naming.steps,
        "index": index,
    }
    return naming.template.format_map(values)


def check_template(template: str) -> None:
    """Raises UsageError, naming what is wrong: an unknown field, a stray brace, no name of a file."""
    where = f"--output-template {template}"
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise UsageError(f"{where}: cannot be read ({error}); a brace itself is written twice") from None
    for _, name, spec, conversion in parts:
        if name is not None and name not in FIELDS:
            known = ", ".join(f"{{{field}}}" for field in FIELDS)
            raise UsageError(f"{where}: {{{name}}} is not one of {known}")
        if conversion or (spec and (not _SPEC_PATTERN.fullmatch(spec) or name not in ("index", "seed", "steps"))):
            raise UsageError(f"{where}: only numbers take a width, as in {{index:03}}, and nothing else does")
    if not template or template.endswith(("/", "\\")) or "\0" in template or Path(template).name in ("", ".", ".."):
        raise UsageError(f"{where}: is not the name of a file")
    if Path(template).is_absolute():
        raise UsageError(f"{where}: must be relative; -o names the folder")


def _check_distinct(jobs: Sequence[Job]) -> None:
    """No output may be an input or another output, not even with --overwrite: one would destroy the other."""
    sources = {_folded(job.source) for job in jobs}
    taken: dict[str, Job] = {}
    for job in jobs:
        targets = [path for path in (job.target, *job.companions) if path is not None]
        for target in targets:
            if _folded(target) in sources:
                raise UsageError(f"{target}: is an input, too; choose another name for the output")
        if len({_folded(target) for target in targets}) < len(targets):
            names = ", ".join(map(str, targets))
            raise UsageError(f"{names}: the audio and what is written beside it need different names")
        if job.target is not None:
            other = taken.setdefault(_folded(job.target), job)
            if other is not job:
                names = f"{job.target}"
                if other.target != job.target:
                    names += f" and {other.target}, one name where case does not count (macOS, Windows)"
                raise UsageError(
                    f"{other.source} and {job.source} would both be written to {names}; "
                    "rename one, or tell them apart with --output-template"
                )


def _folded(path: Path) -> str:
    """Equal for names that are one file on some system: macOS and Windows compare without case."""
    return unicodedata.normalize("NFC", os.path.realpath(path)).casefold()
