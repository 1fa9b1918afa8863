"""How far a whole batch is, and how long the rest of it will take; from its events."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from specdiff_cli.files import size_bytes
from specdiff_cli.rendering.events import Done, End, Event, Failed, Loaded, Opened, Skipped, Step
from specdiff_cli.rendering.jobs import Job

#: Of so many files the sizes are looked up. Of more, each that is left counts as an average one.
MAX_SIZED = 5000


@dataclass(slots=True)
class _Open:
    """A song on its way. ``n_parts``: instruments that are rendered on their own; each is work."""

    duration_s: float
    n_parts: int
    kept_s: float  # done by an earlier run
    done_s: float


class Remaining:
    """What is made of a batch and what is left of it, by the length of its audio.

    Songs that have not been opened are of unknown length: as much audio a byte as those that have been. The pace is
    that of the whole run since the voice was loaded, so one dense song does not make the time swing.
    """

    def __init__(self, jobs: Sequence[Job], n_jobs: int, now_s: Callable[[], float] = time.perf_counter) -> None:
        self._now_s = now_s
        self._start_s = now_s()
        self._sizes = {job: size_bytes(job.source) for job in jobs} if len(jobs) <= MAX_SIZED else {}
        self._n_waiting = n_jobs
        self._bytes_waiting = sum(self._sizes.values())
        self._open: dict[Job, _Open] = {}
        self._n_known = self._bytes_known = 0  # of songs whose length was seen
        self._work_known_s = 0.0
        self._work_ended_s = 0.0  # made by this run, of songs that have ended
        self._audio_ended_s = 0.0
        self._made_at_s = self._start_s  # when the last of it was made

    def see(self, event: Event) -> None:
        """Take note of what has happened."""
        if isinstance(event, Loaded):
            self._start_s = self._made_at_s = self._now_s()
        elif isinstance(event, Opened):
            kept_s = event.duration_s * event.n_kept / max(event.n_windows, 1)
            if event.job not in self._open:  # one that failed among others is opened a second time
                self._known(event.job, event.duration_s * event.n_parts)
            self._open[event.job] = _Open(event.duration_s, event.n_parts, kept_s, kept_s)
        elif isinstance(event, Step) and (song := self._open.get(event.job)) is not None:
            song.done_s = min(event.done_s, song.duration_s)
            self._made_at_s = self._now_s()
        elif isinstance(event, Done | Skipped | Failed):
            self._end(event)

    def _known(self, job: Job, work_s: float) -> None:
        self._begun(job)
        self._n_known += 1
        self._bytes_known += self._sizes.get(job, 0)
        self._work_known_s += work_s

    def _begun(self, job: Job) -> None:
        self._n_waiting -= 1
        self._bytes_waiting -= self._sizes.get(job, 0)

    def _end(self, event: End) -> None:
        song = self._open.pop(event.job, None)
        if isinstance(event, Done):
            if song is None:  # rendered by somebody else
                song = _Open(event.duration_s, 1, 0.0, 0.0)
                self._known(event.job, event.duration_s)
            song.done_s = song.duration_s
            self._made_at_s = self._now_s()
        elif song is None:
            self._begun(event.job)
        if song is not None:
            self._work_ended_s += _made_s(song) * song.n_parts
            self._audio_ended_s += _made_s(song)

    def _underway(self) -> tuple[_Open, ...]:
        return tuple(self._open.values())  # at once: whoever draws the bar asks from another thread

    @property
    def audio_s(self) -> float:
        """Audio that this run has made."""
        return self._audio_ended_s + sum(map(_made_s, self._underway()))

    def elapsed_s(self) -> float:
        """Since the voice was loaded."""
        return self._now_s() - self._start_s

    def pace(self) -> float:
        """Audio for each second it took."""
        return self.audio_s / max(self.elapsed_s(), 1e-9)

    def left_s(self) -> float | None:
        """Seconds until all is done; None before anything is made."""
        work_s = self._work_s()
        if work_s <= 0:
            return None
        rest_s = self._rest_s() * (self._made_at_s - self._start_s) / work_s
        return max(rest_s - (self._now_s() - self._made_at_s), 0.0)

    @property
    def share(self) -> float:
        """Of the work of this run, what is done: 0 to 1."""
        work_s = self._work_s()
        return work_s / max(work_s + self._rest_s(), 1e-9)

    def _work_s(self) -> float:
        return self._work_ended_s + sum(_made_s(song) * song.n_parts for song in self._underway())

    def _rest_s(self) -> float:
        """Work that is left, in seconds of audio."""
        if self._bytes_known:
            waiting_s = self._bytes_waiting * self._work_known_s / self._bytes_known
        else:
            waiting_s = self._n_waiting * self._work_known_s / max(self._n_known, 1)
        return waiting_s + sum((song.duration_s - song.done_s) * song.n_parts for song in self._underway())


def _made_s(song: _Open) -> float:
    return song.done_s - song.kept_s
