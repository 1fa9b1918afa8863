"""What is asked for: one record of all options of a render, checked once, wherever they come from. No torch.

The command line, a TOML file, Python's keywords and a worker elsewhere all make the same :class:`Request`, which can be
pickled. An option is a field of one of its groups; its name outside is the field's without the unit
(``sample_rate_hz`` is ``--sample-rate`` and ``sample_rate``).
"""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from specdiff_cli.choices import (
    DEFAULT_MAX_DURATION_S,
    DEFAULT_VOICE,
    LENGTHS,
    MAX_BATCH,
    MAX_FADE_S,
    MAX_TAIL_S,
    READERS,
    SAMPLERS,
    SCHEDULES,
    STEMS_BY,
    check_choice,
    check_guidance,
    check_max_duration,
    check_range,
    check_reuse,
    check_seed,
    check_steps,
    check_threads,
)
from specdiff_cli.constants import SAMPLE_RATE_HZ
from specdiff_cli.errors import Option, UsageError
from specdiff_cli.midi.edits import Edits, check_edits
from specdiff_cli.rendering.option_fields import OptionField, hint, option_fields, with_options

STDOUT = "-"


@dataclass(frozen=True, slots=True)
class Inputs:
    """What is to be rendered: files, folders, patterns, and lists of them; see :mod:`specdiff_cli.rendering.inputs`."""

    inputs: tuple[str, ...] = ()
    files_from: str | None = None
    null: bool = False
    recursive: bool = False

    def check_any(self) -> None:
        """Raises UsageError where nothing is named."""
        if not self.inputs and self.files_from is None:
            what = ": is missing; name MIDI files or folders, or a list of them with "
            raise UsageError(Option("inputs"), what, Option("files_from"), option="inputs")


@dataclass(frozen=True, slots=True)
class Score:
    """Which notes of a file are played, and which others in their place."""

    track: int | None = None
    """From 1; of a type 2 file the sequence."""
    max_duration_s: float = DEFAULT_MAX_DURATION_S
    """Longer songs are refused."""
    reader: str = "music"
    """``music``, as players hear the file, or ``reference``, as the published checkpoints' training read it."""
    edits: Edits = field(default_factory=Edits)

    def __post_init__(self) -> None:
        check_max_duration(self.max_duration_s)
        check_choice("reader", self.reader, READERS)
        check_edits(self.edits)


@dataclass(frozen=True, slots=True)
class SamplingChoice:
    """How to sample, as far as it is not left to the preset or the voice (None)."""

    preset: str | None = None
    steps: int | None = None
    sampler: str | None = None
    schedule: str | None = None
    guidance: float | None = None
    guidance_interval: tuple[float, float] | None = None
    """The times, 1 for noise and 0 for the end, between which guidance is applied; as an option also ``LOW-HIGH``."""
    reuse_every: int | None = None
    """Of so many neighbouring steps, one evaluates the whole network."""
    overlap_frames: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        from specdiff_cli.diffusion.sampling import check_guidance_interval, check_overlap_frames

        check_steps(self.steps)
        check_guidance(self.guidance)
        check_reuse(self.reuse_every)
        check_seed(self.seed)
        for option, value, choices in (("sampler", self.sampler, SAMPLERS), ("schedule", self.schedule, SCHEDULES)):
            if value is not None:
                check_choice(option, value, choices)
        check_overlap_frames(self.overlap_frames)
        if self.guidance_interval is not None:
            check_guidance_interval(self.guidance_interval)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """What becomes of the sound, whatever made it. A field is an option everywhere, and in the record of a file."""

    length: str = "notes"
    """``notes``: until the last note and the tail have sounded; ``file``: at least as long as the file says."""
    normalize: str | None = None
    """A peak, ``-1dBFS``, or a loudness, ``-16LUFS``."""
    stems: bool = False
    stems_by: str = "instruments"
    """What a stem is: ``instruments`` or ``tracks``."""
    quality: float | None = None
    """Of lossy formats, 0 to 10; None: 6."""
    bit_rate_kbps: float | None = None
    """Of Opus and MP3, instead of a quality."""
    loop: bool = False
    """The end leads into the start."""
    fade_out_s: float = 0.0
    """The last seconds of the audio fade to silence, tail included; of shorter songs all of it."""

    def finish(self) -> dict[str, Any]:
        """These fields alone."""
        return {item.name: getattr(self, item.name) for item in fields(Finish)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sound(Finish):
    """How the spectrogram becomes sound. Every field can be heard, and stands in the record of a file."""

    vocoder: str | None = None
    """None: the voice's."""
    tail_s: float = 1.0
    """What still rings at its end fades to silence."""
    sample_rate_hz: int | None = None
    """None: the voice's, as for ``stereo``."""
    stereo: bool | None = None

    def __post_init__(self) -> None:
        from specdiff_cli.audio.normalise import parse_normalise
        from specdiff_cli.audio.resample import check_rate

        check_range("tail", self.tail_s, 0, MAX_TAIL_S, " seconds")
        if self.sample_rate_hz is not None:
            check_rate(self.sample_rate_hz)
        check_range("fade_out", self.fade_out_s, 0, MAX_FADE_S, " seconds")
        if self.fade_out_s and self.loop:
            raise _contradiction("fade_out", Option("loop"), ", which has no end")
        check_choice("length", self.length, LENGTHS)
        check_choice("stems_by", self.stems_by, STEMS_BY)
        if self.stems_by != "instruments" and not self.stems:
            raise UsageError.of("stems_by", self.stems_by, "says what a stem is; give ", Option("stems"), ", too")
        if self.normalize is not None:
            object.__setattr__(self, "normalize", str(parse_normalise(self.normalize)))


@dataclass(frozen=True, slots=True)
class Output:
    """Where the results go, and as what. ``output``: a file, a folder, or ``-`` for standard output."""

    output: str | None = None
    output_template: str | None = None
    file_format: str | None = None
    """None: as the output's suffix says, else WAV."""
    subtype: str = "pcm16"
    save_mel: Path | None = None
    plot: Path | None = None
    snapshots: tuple[int, ...] = ()
    """Steps still to go; as an option also ``N,N,…``."""
    snapshot_window: int = 1
    overwrite: bool = False

    def __post_init__(self) -> None:
        from specdiff_cli.audio.encoding import check_format
        from specdiff_cli.rendering.jobs import check_template, format_of

        if self.output_template is not None:
            check_template(self.output_template)
        check_format(self.file_format or format_of(self.output, self.output_template), self.subtype)
        if self.snapshot_window < 1:
            raise UsageError.of("snapshot_window", self.snapshot_window, "windows count from 1")

    @property
    def format(self) -> str:
        """The format of the audio files."""
        from specdiff_cli.rendering.jobs import format_of

        return self.file_format or format_of(self.output, self.output_template)


@dataclass(frozen=True, slots=True)
class Machine:
    """What computes it, and how much at once."""

    device: str = "auto"
    dtype: str = "auto"
    threads: int | None = None
    """Of the CPU; None: one for each core that may be used."""
    batch: int | None = None
    """Songs side by side; None: 1, on CUDA 16."""

    def __post_init__(self) -> None:
        from specdiff_cli.engine.devices import check_device_name

        check_device_name(self.device)
        check_threads(self.threads)
        check_range("batch", self.batch, 1, MAX_BATCH)


@dataclass(frozen=True, slots=True)
class Batching:
    """What is done about earlier runs, and about failures."""

    skip_existing: bool = False
    resume: bool = False
    fail_fast: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """All that is asked for: immutable, picklable, and valid once it exists.

    Raises UsageError: a value is out of range, or options contradict each other.
    """

    model: str = DEFAULT_VOICE
    inputs: Inputs = field(default_factory=Inputs)
    score: Score = field(default_factory=Score)
    sampling: SamplingChoice = field(default_factory=SamplingChoice)
    sound: Sound = field(default_factory=Sound)
    output: Output = field(default_factory=Output)
    machine: Machine = field(default_factory=Machine)
    batching: Batching = field(default_factory=Batching)

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Self:
        """A request from flat options, name -> value, as on the command line but with ``_`` (or ``-``).

        None stands for an option's default. Raises UsageError: an unknown name, a wrong type, an impossible value.
        """
        return cls().changed(options)

    @classmethod
    def read(cls, path: Path) -> Self:
        """A request from a TOML file of such options. Raises UsageError."""
        return cls.of(read_options(path))

    def changed(self, options: Mapping[str, Any]) -> Self:
        """The same request but for these options, which are as for :meth:`of`."""
        given = {}
        for name, value in options.items():
            known = OPTIONS.get(name.replace("-", "_"))
            if known is None:
                raise UsageError(f"unknown option {name}; {hint(name, OPTIONS)}")
            if value is not None:
                given[known.path] = known.taken(value)
        return with_options(self, given)

    def __post_init__(self) -> None:
        self._check_format()
        self._check_stdout()
        if self.sound.stems:
            self.check_by_stems(Option("stems"))
        if self.batching.resume and self.output.snapshots:
            raise _contradiction("snapshots", Option("resume"), ", which does not sample finished windows again")
        if self.output.snapshot_window != 1 and not self.output.snapshots:
            raise UsageError(
                Option("snapshot_window"),
                ": says which window ",
                Option("snapshots"),
                " are of; give them, too",
                option="snapshot_window",
            )

    def _check_format(self) -> None:
        from specdiff_cli.audio.compressed import check_compression
        from specdiff_cli.audio.compression import Compression
        from specdiff_cli.audio.encoding import Layout, check_format
        from specdiff_cli.audio.tags import Loop

        sound = self.sound
        compression = Compression(sound.quality, sound.bit_rate_kbps)
        loop = Loop(0, 1) if sound.loop else None  # which it is, only the song says
        file_format, subtype = check_format(self.output.format, self.output.subtype, compression, loop)
        layout = Layout(subtype, sound.sample_rate_hz or SAMPLE_RATE_HZ, 2 if sound.stereo else 1)
        check_compression(file_format, layout, compression, loop)
        if not sound.loop:
            return
        if self.output.output == STDOUT and file_format != "wav":
            raise UsageError(Option("loop"), ": loop points reach standard output as WAV only", option="loop")
        twice = {"save_mel": self.output.save_mel, "snapshots": self.output.snapshots, "plot": self.output.plot}
        for name in (name for name, is_asked in twice.items() if is_asked):
            raise _contradiction(name, Option("loop"), ", which renders the loop twice")

    def _check_stdout(self) -> None:
        if self.output.output != STDOUT:
            return
        asked = {
            "resume": self.batching.resume,
            "skip_existing": self.batching.skip_existing,
            "stems": self.sound.stems,
            "snapshots": self.output.snapshots,
        }
        for name in (name for name, is_asked in asked.items() if is_asked):
            raise _contradiction(name, Option("output", STDOUT), ", which sends the audio to standard output")

    def check_by_stems(self, by: Option) -> None:
        """Raises UsageError for options that do not go with ``by``, which renders instrument by instrument."""
        for name, is_asked in (("resume", self.batching.resume), ("snapshots", bool(self.output.snapshots))):
            if is_asked:
                raise _contradiction(name, by, ", which renders instrument by instrument")
        if self.machine.batch:
            raise _contradiction("batch", by, ": the instruments of a song are its batch")


def _contradiction(option: str, other: Option, why: str) -> UsageError:
    return UsageError(Option(option), ": does not go with ", other, why, option=option)


def read_options(path: Path, only: Iterable[str] | None = None) -> dict[str, Any]:
    """The options in a TOML file, name -> value, checked for their names and types.

    Args:
        only: the names that may stand there, with ``-``; by default all.

    Raises:
        UsageError: the file cannot be read, or holds an unknown name or a wrong type.
        FileNotFoundError, NotADirectoryError: there is no such file.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, not TOML
        detail = error.strerror if isinstance(error, OSError) else str(error).splitlines()[0]
        raise UsageError(f"{path}: cannot be read ({detail})") from None
    allowed = list(only) if only is not None else [name.replace("_", "-") for name in OPTIONS]
    for name, value in values.items():
        if name not in allowed:
            raise UsageError(f"{path}: unknown key {name}; {hint(name, allowed)}")
        try:
            OPTIONS[name.replace("-", "_")].taken(value)
        except UsageError as error:
            raise UsageError(f"{path}: {error}") from None
    return values


#: Name of an option (with ``_``) -> where it stands. Every field is one.
OPTIONS: Mapping[str, OptionField] = option_fields(Request)
