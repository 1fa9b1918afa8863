"""How each job ended, or what a render would do: one record, for tables, JSON and the line that counts. No torch."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from specdiff_cli.constants import WINDOW_S
from specdiff_cli.errors import ExitCode, SpecdiffError, explain
from specdiff_cli.rendering.events import End, Failed, Skipped
from specdiff_cli.rendering.jobs import Job
from specdiff_cli.wording import clock, count

if TYPE_CHECKING:
    from specdiff_cli.midi.remarks import Remark
    from specdiff_cli.rendering.record import Settled

STATUSES = ("done", "skipped", "failed")
#: Seconds per window and denoising step for each byte of weights: a guess, for two CPU cores.
GUESSED_S_PER_BYTE = WINDOW_S / 39 / 2 / 37e6
#: Of a voice of note templates, with the vocoder that knows the notes: CPU time on one core, of a full band at 44.1 kHz
#: in stereo; 16 kHz mono takes nine tenths of it.
TEMPLATES_S_PER_WINDOW = 0.5


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one job ended, or of a dry run what would become of it."""

    job: Job
    status: str
    """One of ``STATUSES``; of a dry run also ``planned``."""
    duration_s: float | None = None
    elapsed_s: float | None = None
    realtime_factor: float | None = None
    error: SpecdiffError | None = None
    reason: str | None = None
    n_windows: int | None = None
    stems: tuple[str, ...] = ()
    remarks: "tuple[Remark, ...]" = ()
    n_clipped: int = 0
    """Samples."""

    @classmethod
    def of(cls, end: End) -> "Outcome":
        """From the event that ends a job."""
        if isinstance(end, Failed):
            return cls(end.job, "failed", error=end.error)
        if isinstance(end, Skipped):
            return cls(end.job, "skipped", reason=end.reason)
        return cls(
            end.job,
            "done",
            duration_s=end.duration_s,
            elapsed_s=end.elapsed_s,
            realtime_factor=end.realtime_factor,
            reason=end.reason,
            n_windows=end.n_windows,
            stems=end.stems,
            remarks=end.remarks,
            n_clipped=end.n_clipped,
        )

    def to_json(self, line_of: Callable[[SpecdiffError], str] = str) -> dict[str, Any]:
        """Plain types. ``line_of``: how an error is told."""
        told: dict[str, Any] = {
            "status": self.status,
            "input": str(self.job.source),
            "output": None if self.job.target is None else str(self.job.target),
            "duration_s": _rounded(self.duration_s),
            "windows": self.n_windows,
            "seconds": _rounded(self.elapsed_s),
            "realtime_factor": _rounded(self.realtime_factor),
            "reason": self.reason,
            "error": None if self.error is None else line_of(self.error),
            "exit_code": int(ExitCode.OK if self.error is None else self.error.exit_code),
        }
        if self.status in ("done", "planned"):
            told["remarks"] = [asdict(remark) for remark in self.remarks]
        if self.status == "done":
            told["clipped_samples"] = self.n_clipped
        return {**told, "stems": list(self.stems)} if self.stems else told


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 3)


@dataclass(slots=True)
class Tally:
    """Of a render's jobs, how many ended in which way, and how much audio was made."""

    n_jobs: int
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STATUSES, 0))
    audio_s: float = 0.0
    work_s: float = 0.0
    """Of all that worked on it together."""
    n_clipped: int = 0
    """Files."""
    only_error: SpecdiffError | None = None

    @property
    def n_ended(self) -> int:
        """Jobs that have ended."""
        return sum(self.counts.values())

    @property
    def exit_code(self) -> int:
        """0; the failure's own code for a single job; 1 where some of several failed."""
        if not self.counts["failed"]:
            return ExitCode.OK
        return self.only_error.exit_code if self.n_jobs == 1 and self.only_error is not None else ExitCode.FAILURE

    def add(self, outcome: Outcome) -> None:
        """Count a job that has ended."""
        self.counts[outcome.status] = self.counts.get(outcome.status, 0) + 1
        self.only_error = outcome.error
        self.n_clipped += outcome.n_clipped > 0
        self.audio_s += outcome.duration_s or 0.0
        self.work_s += outcome.elapsed_s or 0.0

    def sentence(self, elapsed_s: float, each: str = "") -> str:
        """``3 inputs: 2 done, 1 failed; 1:02 of audio in 4.1 s, 15.1 × realtime``; ``each``: more about the speed."""
        parts = [f"{number} {status}" for status, number in self.counts.items() if number or status == "done"]
        if n_left := self.n_jobs - self.n_ended:
            parts.append(f"{n_left} not rendered")
        speed = ""
        if self.audio_s:
            pace = self.audio_s / elapsed_s
            speed = f"; {clock(self.audio_s)} of audio in {elapsed_s:.1f} s, {pace:.1f} × realtime{each}"
        return f"{count(self.n_jobs, 'input')}: {', '.join(parts)}{speed}"


def foresee(job: Job, settled: "Settled") -> Outcome:
    """What would become of a job: it is read and checked, and nothing is loaded or written."""
    from specdiff_cli.rendering.batch import COMPLETE
    from specdiff_cli.rendering.prepare import prepare

    try:
        prepared = prepare(job, settled)
    except Exception as error:
        return Outcome(job, "failed", error=explain(error))
    if prepared is None:
        return Outcome(job, "skipped", reason=COMPLETE)
    return Outcome(
        job,
        "planned",
        duration_s=prepared.duration_s,
        n_windows=prepared.n_windows * prepared.n_parts,
        reason=prepared.why,
        remarks=prepared.remarks,
    )


def guessed_window_s(settled: "Settled") -> float:
    """Seconds that a window takes: a guess for two CPU cores, from the size of the voice."""
    if settled.voice.kind == "templates":
        return TEMPLATES_S_PER_WINDOW
    n_evaluations = settled.sound.steps * (1 if settled.sound.guidance == 1 else 2)
    return settled.voice.n_bytes * n_evaluations * GUESSED_S_PER_BYTE
