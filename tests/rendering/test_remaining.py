"""The time that is left of a batch: for the whole of it, by the length of its audio."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from specdiff_cli.errors import MidiError
from specdiff_cli.rendering.events import Done, Failed, Loaded, Opened, Skipped, Step
from specdiff_cli.rendering.jobs import Job
from specdiff_cli.rendering.remaining import Remaining


@dataclass
class Clock:
    """Goes on when it is told to."""

    at_s: float = 100.0

    def __call__(self) -> float:
        return self.at_s


def jobs_of(folder: Path, *sizes: int) -> list[Job]:
    paths = [folder / f"{number}.mid" for number in range(len(sizes))]
    for path, size in zip(paths, sizes, strict=True):
        path.write_bytes(bytes(size))
    return [Job(path, path.with_suffix(".wav")) for path in paths]


def opened(job: Job, duration_s: float, n_kept: int = 0, n_parts: int = 1) -> Opened:
    return Opened(job, duration_s, n_windows=10, n_parts=n_parts, n_kept=n_kept)


def step(job: Job, done_s: float, duration_s: float) -> Step:
    return Step(job, 0, 10, 1, 1, done_s, duration_s)


def done(job: Job, duration_s: float) -> Done:
    return Done(job, duration_s, 1.0, 1.0, 10, "so")


def test_songs_that_wait_are_as_long_for_each_byte_as_those_that_were_opened(tmp_path: Path) -> None:
    clock = Clock()
    jobs = jobs_of(tmp_path, 1000, 3000, 500)
    remaining = Remaining(jobs, 3, clock)
    assert remaining.left_s() is None
    clock.at_s += 30  # the voice is loaded: not the pace of the songs
    remaining.see(Loaded("voice", 1))
    remaining.see(opened(jobs[0], 60.0))
    assert remaining.left_s() is None
    clock.at_s += 3
    remaining.see(step(jobs[0], 30.0, 60.0))  # 10 s a second
    assert remaining.left_s() == pytest.approx((30 + 3.5 * 60) / 10)
    assert remaining.share == pytest.approx(30 / 270)
    clock.at_s += 2
    assert remaining.left_s() == pytest.approx(24 - 2)  # it runs while nothing is heard
    clock.at_s += 1
    remaining.see(done(jobs[0], 60.0))
    remaining.see(opened(jobs[1], 40.0))  # shorter than was thought: 100 s for 4000 bytes, so 12.5 s for the last
    assert remaining.left_s() == pytest.approx((40 + 12.5) / 10)
    remaining.see(Skipped(jobs[2], "there"))
    assert remaining.left_s() == pytest.approx(40 / 10)
    remaining.see(Failed(jobs[1], MidiError("no")))
    assert remaining.left_s() == 0
    assert remaining.share == 1
    assert remaining.audio_s == 60
    assert remaining.pace() == pytest.approx(10)


def test_what_an_earlier_run_did_is_neither_left_nor_the_pace(tmp_path: Path) -> None:
    clock = Clock()
    (job,) = jobs_of(tmp_path, 100)
    remaining = Remaining([job], 1, clock)
    remaining.see(opened(job, 100.0, n_kept=8))
    clock.at_s += 5
    remaining.see(step(job, 90.0, 100.0))
    assert remaining.left_s() == pytest.approx(5)
    assert remaining.share == pytest.approx(0.5)


def test_every_instrument_of_stems_is_work(tmp_path: Path) -> None:
    clock = Clock()
    jobs = jobs_of(tmp_path, 100, 100)
    remaining = Remaining(jobs, 2, clock)
    remaining.see(opened(jobs[0], 10.0, n_parts=4))
    clock.at_s += 8
    remaining.see(done(jobs[0], 10.0))
    remaining.see(opened(jobs[1], 10.0, n_parts=1))
    assert remaining.left_s() == pytest.approx(2)


def test_workers_tell_only_how_songs_end_and_a_batch_may_have_any_length(tmp_path: Path) -> None:
    clock = Clock()
    remaining = Remaining((), 1000, clock)
    remaining.see(Loaded("voice", 1))
    clock.at_s += 10
    for number in range(4):
        remaining.see(done(Job(tmp_path / f"{number}.mid", None), 30.0 + number))
    assert remaining.left_s() == pytest.approx(996 * 10 / 4)


def test_a_song_that_is_begun_anew_counts_once(tmp_path: Path) -> None:
    clock = Clock()
    jobs = jobs_of(tmp_path, 100, 100)
    remaining = Remaining(jobs, 2, clock)
    for job in jobs:
        remaining.see(opened(job, 20.0))
    clock.at_s += 4
    for job in jobs:  # memory ran out: each alone
        remaining.see(opened(job, 20.0))
        remaining.see(step(job, 10.0, 20.0))
    assert remaining.left_s() == pytest.approx(4)


def test_one_dense_song_does_not_make_it_swing(tmp_path: Path) -> None:
    """Twenty songs at 10 s a second, the sixth at 2: what is foretold stays within 40 % of the truth."""
    clock = Clock()
    jobs = jobs_of(tmp_path, *[1000] * 20)
    remaining = Remaining(jobs, 20, clock)
    remaining.see(Loaded("voice", 1))
    took_s, foretold = 0.0, []
    for number, job in enumerate(jobs):
        remaining.see(opened(job, 60.0))
        for part in range(1, 7):
            clock.at_s += 10 / (2 if number == 5 else 10)
            took_s = clock.at_s - 100
            remaining.see(step(job, part * 10.0, 60.0))
            foretold.append(took_s + (remaining.left_s() or 0))
        remaining.see(done(job, 60.0))
    assert min(foretold) == pytest.approx(120)
    assert max(foretold) < 1.4 * took_s
