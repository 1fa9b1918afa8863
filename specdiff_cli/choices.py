"""Every closed list of names and every limit of a number, declared once. Loads nothing."""

from collections.abc import Collection
from enum import StrEnum

from specdiff_cli.errors import UsageError


class Format(StrEnum):
    """File formats that can be written; each is also the usual ending of a file's name."""

    WAV = "wav"
    FLAC = "flac"
    OGG = "ogg"  # Vorbis
    OPUS = "opus"  # in Ogg, too
    MP3 = "mp3"

    @property
    def is_lossy(self) -> bool:
        """Is what is read back close to what was written, but not the same?"""
        return self in (Format.OGG, Format.OPUS, Format.MP3)


class Subtype(StrEnum):
    """Sample formats that can be written."""

    PCM16 = "pcm16"
    PCM24 = "pcm24"
    FLOAT = "float"

    @property
    def n_bytes(self) -> int:
        """Bytes per sample."""
        return {"pcm16": 2, "pcm24": 3, "float": 4}[self.value]


SAMPLERS = ("ddpm", "ddim", "dpm++2m", "unipc")
SCHEDULES = ("magenta", "discrete")
#: What stands in their place in voices without denoising, which have no choice.
NO_SAMPLERS, NO_SCHEDULE = ("autoregressive", "templates"), "none"
VOCODERS = ("melgan", "partials", "spectral", "soundstream", "griffin-lim")
#: Those that are told the notes.
NOTE_VOCODERS = ("melgan", "partials")
DEVICES = ("auto", "cpu", "cuda", "mps")
DEVICES_IN_WORDS = ("auto", "cpu", "cuda", "cuda:N", "mps")
DTYPES = ("auto", "float32", "bfloat16", "float16", "int8")
LAYOUTS = ("voice", "diffusers")
SOURCES = ("huggingface", "gcs")

#: The voice and the composer that nobody has to name; both ship with the package.
DEFAULT_VOICE, DEFAULT_COMPOSER = "tiny", "lieder"

#: How MIDI files are read: as players hear them, or as the published checkpoints' training did.
READERS = ("music", "reference")
#: How long the audio is: to the end of the notes, or at least to that of the file.
LENGTHS = ("notes", "file")
#: What a stem is.
STEMS_BY = ("instruments", "tracks")

#: What --normalize gets in examples and remedies: what podcasts and music services have, and hardly a peak is limited.
RECOMMENDED_LOUDNESS = "-16LUFS"

MAX_STEPS = 10_000
MAX_TRAINING_STEPS = 100_000_000
MAX_DISCRETE_STEPS = 1000  # the table of the discrete schedule is so long
MAX_GUIDANCE = 100.0
MAX_SEED = 2**63 - 1
MAX_OVERLAP_FRAMES = 128  # half a window: what is new in it then still has as much music before it
MAX_REUSE_EVERY = 100
MAX_BATCH = 1024
MAX_THREADS = 1024
MAX_TAIL_S = MAX_FADE_S = 600.0
DEFAULT_MAX_DURATION_S = 3 * 3600.0  # of a song, unless the user says otherwise


def check_choice(option: str, value: str, choices: Collection[object]) -> None:
    """Raises UsageError unless the option's value is one of ``choices``."""
    if value not in choices:
        raise UsageError.of(option, value, f"is not one of {', '.join(map(str, choices))}")


def check_range(option: str, value: float | None, least: float, most: float, more: str = "") -> None:
    """Raises UsageError unless an option's number is from ``least`` to ``most``, or None. ``more``: words behind it."""
    if value is not None and not least <= value <= most:
        limits = [f"{limit:g}" if isinstance(limit, float) else str(limit) for limit in (least, most)]
        raise UsageError.of(option, value, f"must be between {' and '.join(limits)}{more}")


def check_steps(steps: int | None, option: str = "steps") -> None:
    """Raises UsageError for a number of denoising steps that nobody waits for, or none at all."""
    check_range(option, steps, 1, MAX_STEPS)


def check_guidance(guidance: float | None) -> None:
    """Raises UsageError for a weight of guidance that makes no sense."""
    check_range("guidance", guidance, 0, MAX_GUIDANCE, " (1 is off)")


def check_reuse(reuse_every: int | None) -> None:
    """Raises UsageError for a number of steps that share one whole evaluation."""
    check_range("reuse_every", reuse_every, 1, MAX_REUSE_EVERY, " (1 is off)")


def check_seed(seed: int) -> None:
    """Raises UsageError for what is no seed."""
    if not 0 <= seed <= MAX_SEED:
        raise UsageError.of("seed", seed, "must be between 0 and 2^63 - 1")


def check_threads(threads: int | None) -> None:
    """Raises UsageError for a number of threads that no machine has."""
    check_range("threads", threads, 1, MAX_THREADS)


def check_max_duration(max_duration_s: float) -> None:
    """Raises UsageError for a limit that no song keeps to."""
    if not max_duration_s > 0:
        raise UsageError.of("max_duration", float(max_duration_s), "must be above 0 seconds")
