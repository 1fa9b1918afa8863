"""What happens while files are rendered, as data: whoever shows it decides how. All of it can be pickled."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from specdiff_cli.errors import SpecdiffError
from specdiff_cli.rendering.jobs import Job

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from specdiff_cli.midi.remarks import Remark


@dataclass(frozen=True, slots=True)
class Loading:
    """The voice is about to be loaded, which may take a while. Comes once, before the first song is opened."""

    model: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """The voice is ready. ``batch``: how many songs go side by side from now on."""

    description: str
    batch: int


@dataclass(frozen=True, slots=True)
class Opened:
    """A song has begun, and its output is open."""

    job: Job
    duration_s: float
    n_windows: int
    """Of one part."""
    n_parts: int = 1
    """Instruments that are rendered on their own; 1 where the song is rendered as a whole."""
    n_kept: int = 0
    """Windows at its start that an earlier run has finished."""
    n_steps: int = 1
    """Of each window; frames of an autoregressive voice."""


@dataclass(frozen=True, slots=True)
class Step:
    """``step`` of ``n_steps`` of ``window`` (from 0) of ``n_windows`` is done; of several parts the first one's."""

    job: Job
    window: int
    n_windows: int
    step: int
    n_steps: int
    done_s: float
    """Seconds of the song that are done by now, those of an earlier run included."""
    duration_s: float


@dataclass(frozen=True, slots=True)
class Heard:
    """The next samples of a song, as they go to its file, before the level of the whole is set (``normalize``).

    Only where they were asked for.
    """

    job: Job
    audio: "npt.NDArray[np.float32]"
    """(n,), or (n, 2) in stereo; about within +-1."""
    sample_rate_hz: int


@dataclass(frozen=True, slots=True)
class Told:
    """A line for the user, which begins with what it is about."""

    line: str
    job: Job | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """A song is rendered, and its files have their names."""

    job: Job
    duration_s: float
    elapsed_s: float
    realtime_factor: float
    """Seconds of audio that were made in this run for each second it took."""
    n_windows: int
    """Of all parts."""
    how: str
    """Voice, device, sampling and seed, in words."""
    reason: str | None = None
    """Why it was rendered although there was a file."""
    stems: tuple[str, ...] = ()
    remarks: "tuple[Remark, ...]" = ()
    """What of the file is not heard as it asks."""
    n_clipped: int = 0
    """Samples beyond full scale that the file's format had to cut, those of stems included."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """The file is there, complete, and just what was asked for."""

    job: Job
    reason: str


@dataclass(frozen=True, slots=True)
class Failed:
    """A song could not be rendered; the others go on. Nothing of it has appeared."""

    job: Job
    error: SpecdiffError
    """With a line for the user, and an exit code."""
    cause: BaseException | None = field(default=None, compare=False)
    """What was raised, where that is not ``error`` itself; for tracebacks. It is not pickled."""

    def __reduce__(self) -> tuple[type["Failed"], tuple[Job, SpecdiffError]]:
        return Failed, (self.job, self.error)


Event: TypeAlias = Loading | Loaded | Opened | Step | Heard | Told | Done | Skipped | Failed
#: Each job ends with one of these, whatever comes before.
End: TypeAlias = Done | Skipped | Failed
