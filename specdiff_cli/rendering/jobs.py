"""Which input goes to which output, decided before anything starts."""

import os
import re
import string
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from specdiff_cli.choices import Format
from specdiff_cli.errors import Option, UsageError
from specdiff_cli.rendering.inputs import Source

if TYPE_CHECKING:
    from specdiff_cli.rendering.record import Settled

STDOUT = "-"
#: Fields of ``output_template``, with what stands for them in the help and in the documentation.
FIELDS = {
    "stem": "the input's name without its suffix",
    "name": "the input's name",
    "parent": "the name of the input's folder",
    "model": "the voice's name",
    "seed": "the seed",
    "steps": "denoising steps",
    "index": "the input's position, from 1",
}
_SPEC_PATTERN = re.compile(r"0?\d{0,2}")  # a width, for {index:03}
#: What other programs know by these names, and we do not write.
OTHER_SUFFIXES = frozenset(
    ".aac .ac3 .aif .aifc .aiff .alac .amr .ape .au .avi .caf .m4a .m4b .mka .mkv .mov .mp2 .mp4 .oga .ra .weba .webm "
    ".wma .wv .mid .midi .kar .smf .rmi .png .jpg .jpeg .pdf .svg .npy".split()
)


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
    problem: str | None = None
    """What is wrong with the input, where that is known already; nothing is rendered then."""

    @property
    def companions(self) -> list[Path]:
        """What is written beside the audio."""
        return [path for path in (self.mel_target, self.plot_target) if path is not None]


def plan(sources: Sequence[Source], settled: "Settled", first: int = 1) -> list[Job]:
    """Pair every input with its output; ``first``: the position of the first input among all, for ``{index}``.

    Raises:
        UsageError: two inputs would share an output, an output is an input, or several would go to one file.
    """
    request = settled.request.output
    output, template = request.output, request.output_template
    if output == "":
        raise UsageError(Option("output"), ": the name is empty (an unset variable?)", option="output")
    is_single = len(sources) == 1 and sources[0].is_named
    plots = request.plot if request.plot is not None and _holds_plots(request.plot, is_single) else None
    if request.save_mel is not None and not is_single:
        raise UsageError(Option("save_mel"), " takes a single input; render the files one by one", option="save_mel")
    if request.plot is not None and plots is None and not is_single:
        raise UsageError(Option("plot"), " takes a folder for several inputs, not a file", option="plot")
    companions = request.save_mel, request.plot if plots is None else None
    if output == STDOUT:
        if not is_single:
            raise UsageError(
                Option("output", STDOUT), " takes a single input; give a folder for several", option="output"
            )
        if template is not None:
            raise UsageError(Option("output_template"), ": names files; it does not go with ", Option("output", STDOUT))
        jobs = [Job(sources[0].path, None, *companions)]
    elif is_single and output is not None and template is None and not _is_folder(output):
        jobs = [Job(sources[0].path, Path(output), *companions)]
    else:
        folder = Path(output) if output is not None else Path()
        if os.path.exists(folder) and not os.path.isdir(folder):
            raise UsageError.of("output", folder, "is a file; several inputs need a folder")
        jobs = [
            Job(
                source.path,
                folder / source.subfolder / _name(source.path, index, settled),
                *companions,
                makes_folder=True,
                problem=source.problem,
            )
            for index, source in enumerate(sources, start=first)
        ]
    if plots is not None:
        jobs = [_with_plot(job, source, plots) for job, source in zip(jobs, sources, strict=True)]
    _check_distinct(jobs)
    if request.snapshots and len(jobs) > 1:
        raise UsageError(Option("snapshots"), " takes a single input; render the files one by one", option="snapshots")
    if request.plot is not None:
        from specdiff_cli.rendering.sheet import check_matplotlib, check_plot

        if plots is None:
            check_plot(request.plot, request.overwrite or settled.request.batching.skip_existing)
        check_matplotlib()
    return jobs


def _holds_plots(plot: Path, is_single: bool) -> bool:
    """Is it a folder, or for several inputs the name of one to be made?"""
    return os.path.isdir(plot) or (not is_single and not plot.suffix)


def _with_plot(job: Job, source: Source, folder: Path) -> Job:
    """The job with a picture in a folder of pictures, called like the audio, else like the input."""
    name = (source.path if job.target is None else job.target).stem
    return replace(job, plot_target=folder / source.subfolder / f"{name}.png", makes_folder=True)


def _is_folder(output: str) -> bool:
    return os.path.isdir(output) or output.endswith(("/", "\\"))


def format_of(output: str | None, template: str | None) -> str:
    """The format that the output's suffix asks for, else WAV. Raises UsageError for suffixes of other sound files."""
    name = template if template is not None else output
    suffix = Path(name).suffix.lower() if name else ""
    if suffix in OTHER_SUFFIXES:
        known = ", ".join(f".{known}" for known in Format)
        raise UsageError(
            f"{name}: {suffix} cannot be written; use {known} (or ", Option("format"), ", to insist on the name)"
        )
    return suffix[1:] if suffix[1:] in list(Format) else "wav"


def _name(source: Path, index: int, settled: "Settled") -> str:
    template = settled.request.output.output_template
    if template is None:
        return f"{source.stem}.{settled.request.output.format}"
    values: dict[str, str | int] = {
        "stem": source.stem,
        "name": source.name,
        "parent": Path(os.path.realpath(source.parent)).name,
        "model": re.sub(r"[\\/]", "_", settled.voice.name),
        "seed": settled.sound.seed,
        "steps": settled.sound.steps,
        "index": index,
    }
    return template.format_map(values)


def check_template(template: str) -> None:
    """Raises UsageError, naming what is wrong: an unknown field, a stray brace, no name of a file."""

    def refused(rule: str, *more: Option | str) -> UsageError:
        return UsageError.of("output_template", template, rule, *more)

    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise refused(f"cannot be read ({error}); a brace itself is written twice") from None
    for _, name, spec, conversion in parts:
        if name is not None and name not in FIELDS:
            known = ", ".join(f"{{{field}}}" for field in FIELDS)
            raise refused(f"{{{name}}} is not one of {known}")
        if conversion or (spec and (not _SPEC_PATTERN.fullmatch(spec) or name not in ("index", "seed", "steps"))):
            raise refused("only numbers take a width, as in {index:03}, and nothing else does")
    if not template or template.endswith(("/", "\\")) or "\0" in template or Path(template).name in ("", ".", ".."):
        raise refused("is not the name of a file")
    if Path(template).is_absolute():
        raise refused("must be relative; ", Option("output"), " names the folder")


def _check_distinct(jobs: Sequence[Job]) -> None:
    """No output may be an input or another output, not even with --overwrite: one would destroy the other."""
    folders: dict[str, str] = {}
    sources = {folded(job.source, folders) for job in jobs}
    taken: dict[str, Job] = {}
    for job in jobs:
        targets = [path for path in (job.target, *job.companions) if path is not None]
        names_on_disk = [folded(target, folders) for target in targets]
        for target, name in zip(targets, names_on_disk, strict=True):
            if name in sources:
                raise UsageError(f"{target}: is an input, too; choose another name for the output")
        if len(set(names_on_disk)) < len(targets):
            names = ", ".join(map(str, targets))
            raise UsageError(f"{names}: the audio and what is written beside it need different names")
        if job.target is not None and job.problem is None:
            other = taken.setdefault(names_on_disk[0], job)
            if other is not job:
                names = f"{other.target}"
                if other.target != job.target:
                    names += f" and {job.target}, {_why_one_name(str(other.target), str(job.target))}"
                raise UsageError(
                    f"{other.source} and {job.source} would both be written to {names}; "
                    "rename one, or tell them apart with ",
                    Option("output_template"),
                )


def _why_one_name(name: str, other: str) -> str:
    """Of two names that differ, and are one by :func:`folded`."""
    if unicodedata.normalize("NFC", name) == unicodedata.normalize("NFC", other):
        return "one name where it does not count how accents are written (macOS)"
    return "one name where case does not count (macOS, Windows)"


def folded(path: Path, folders: dict[str, str]) -> str:
    """Equal for names that are one file on some system: macOS and Windows compare without case.

    ``folders``: real names of folders, each of which is looked up once for thousands of files.
    """
    folder, name = os.path.split(path)
    if name in ("", "..") or os.path.islink(path):
        real = os.path.realpath(path)
    else:
        if folder not in folders:
            folders[folder] = os.path.realpath(folder)
        real = os.path.join(folders[folder], name)
    return unicodedata.normalize("NFC", real).casefold()
