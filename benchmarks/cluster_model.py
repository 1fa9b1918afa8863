"""How a render scales to machines that nobody here has: a simulated pool with measured times.

The pool is :class:`specdiff_cli.cluster.pool.Pool` as a queue: workers load the voice, take tasks (of as many files
as the pool would give them), lose time to deaths, and share one driver and one file system. What is measured on one
machine comes in as numbers (see the options); the rest follows. ``docs/cluster.md`` shows the tables.

    python benchmarks/cluster_model.py
    python benchmarks/cluster_model.py --file-s 20 --audio-s 180 --workers 16 256 --files 180000
"""

import argparse
import heapq
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace

from specdiff_cli.cluster.pool import HELD_PER_WORKER, LEAST_HELD, MAX_RETRIES, items_per_task

SPREAD = 0.8  # of the logarithm of a song's length: one in six is over 2.2 times the median


@dataclass(frozen=True)
class Setting:
    """What is known of the work and of the machines. Times are in seconds."""

    n_workers: int
    n_files: int
    file_s: float = 4.9
    """Mean, on one worker; measured: the bundled voice at 36.6 x realtime."""
    audio_s: float = 180.0
    """Mean length of the audio."""
    audio_bytes_per_s: float = 176_400.0
    """What is written of it: 16 bits at 44.1 kHz in stereo, as WAV."""
    load_s: float = 6.0
    """From the start of a worker until its first file; measured."""
    driver_task_s: float = 0.0007
    """What the driver spends on a task; measured."""
    driver_file_s: float = 0.0002
    """What it spends on a file besides: finding, planning, telling; measured."""
    storage_bytes_per_s: float = 1e9
    """What the shared file system (with ``--ship`` the driver's network and disk) takes."""
    deaths_per_worker_h: float = 0.001
    """Workers lost by the machines' fault."""
    detect_s: float = 10.0
    """Until a loss is noticed and another worker begins to start."""
    poison_share: float = 0.0
    """Of the files: those that end the process."""


@dataclass(frozen=True)
class Outcome:
    """What came of it. Shares are of all workers' time, but for ``driver_share`` and ``storage_share``."""

    wall_s: float
    efficiency: float
    load_share: float
    wait_share: float
    """Waiting for the driver."""
    tail_share: float
    """Idle at the end, when others still work."""
    lost_share: float
    """Work that died, and the time until it was replaced."""
    driver_share: float
    storage_share: float
    n_deaths: int
    n_given_up: int

    @property
    def binds(self) -> str:
        """What keeps it from being faster."""
        if self.storage_share > 0.95:
            return "storage"
        if self.driver_share > 0.95:
            return "driver"
        losses = {
            "load": self.load_share,
            "tail": self.tail_share,
            "losses": self.lost_share,
            "driver": self.wait_share,
        }
        worst = max(losses, key=lambda name: losses[name])
        return worst if losses[worst] > 0.02 else "workers"


def file_times(setting: Setting, rng: random.Random) -> Iterator[float]:
    """Seconds of each file, log-normal about the mean."""
    mu = -(SPREAD**2) / 2
    for _ in range(setting.n_files):
        yield setting.file_s * rng.lognormvariate(mu, SPREAD)


class _Backlog:
    """As the pool's: the longest of those that are held comes first."""

    def __init__(self, times: Iterator[float], limit: int) -> None:
        self._times, self._limit = times, limit
        self._held: list[float] = []
        self.fill()

    def __len__(self) -> int:
        return len(self._held)

    def fill(self) -> None:
        while len(self._held) < self._limit:
            length = next(self._times, None)
            if length is None:
                return
            heapq.heappush(self._held, -length)

    def take(self, most: int) -> list[float]:
        return [-heapq.heappop(self._held) for _ in range(min(most, len(self._held)))]


def simulate(setting: Setting, seed: int = 0) -> Outcome:
    """One run, from the start of the workers to the last file."""
    rng = random.Random(seed + 1)  # of what goes wrong, so that the songs are the same in any case
    backlog = _Backlog(file_times(setting, random.Random(seed)), max(LEAST_HELD, HELD_PER_WORKER * setting.n_workers))
    n_workers = min(setting.n_workers, len(backlog))
    storage_file_s = setting.audio_s * setting.audio_bytes_per_s / setting.storage_bytes_per_s
    free = [(setting.load_s, worker) for worker in range(n_workers)]
    heapq.heapify(free)
    driver_free_s = storage_free_s = busy_s = wait_s = lost_s = driver_s = storage_s = end_s = 0.0
    n_deaths = n_given_up = 0
    finished_at = [0.0] * n_workers
    while len(backlog):
        at_s, worker = heapq.heappop(free)
        task = backlog.take(items_per_task(n_workers, setting.file_s, len(backlog), 1))
        cost_s = setting.driver_task_s + len(task) * setting.driver_file_s
        begin_s = max(at_s, driver_free_s) + cost_s
        driver_free_s = begin_s
        driver_s += cost_s
        wait_s += begin_s - at_s
        work_s = sum(task)
        storage_free_s = max(storage_free_s, begin_s) + storage_file_s * len(task)
        storage_s += storage_file_s * len(task)
        done_s = max(begin_s + work_s, storage_free_s)
        busy_s += work_s
        for _ in range(sum(rng.random() < setting.poison_share for _ in task)):
            n_given_up += 1
            n_deaths += MAX_RETRIES + 1
            gone_s = (MAX_RETRIES + 1) * (setting.detect_s + setting.load_s)
            lost_s += gone_s
            done_s += gone_s
        if rng.random() < setting.deaths_per_worker_h * work_s / 3600:
            n_deaths += 1
            gone_s = rng.random() * work_s + setting.detect_s + setting.load_s
            lost_s += gone_s
            done_s += gone_s
        finished_at[worker] = done_s
        end_s = max(end_s, done_s)
        heapq.heappush(free, (done_s, worker))
        backlog.fill()
    all_s = end_s * n_workers
    return Outcome(
        wall_s=end_s,
        efficiency=busy_s / all_s,
        load_share=setting.load_s * n_workers / all_s,
        wait_share=wait_s / all_s,
        tail_share=sum(end_s - at_s for at_s in finished_at) / all_s,
        lost_share=lost_s / all_s,
        driver_share=driver_s / end_s,
        storage_share=storage_s / end_s,
        n_deaths=n_deaths,
        n_given_up=n_given_up,
    )


def most_files_per_s(setting: Setting) -> tuple[float, str]:
    """The rate that no number of workers exceeds, and what sets it: beyond, files are to be split among drivers."""
    k = items_per_task(setting.n_workers, setting.file_s, HELD_PER_WORKER * setting.n_workers, 1)
    driver = 1 / (setting.driver_task_s / k + setting.driver_file_s)
    storage = setting.storage_bytes_per_s / (setting.audio_s * setting.audio_bytes_per_s)
    return min((driver, "driver"), (storage, "storage"))


def rows(base: Setting, workers: Sequence[int], files: Sequence[int]) -> Iterator[str]:
    """The lines of a table in Markdown."""
    yield "| workers | files | hours | efficiency | loading | tail | losses | driver busy | storage busy | what binds |"
    yield "|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|"
    for n_files in files:
        for n_workers in workers:
            found = simulate(replace(base, n_workers=n_workers, n_files=n_files))
            shares = (found.load_share, found.tail_share, found.lost_share, found.driver_share, found.storage_share)
            cells = " | ".join(f"{100 * share:.1f} %" for share in shares)
            yield (
                f"| {n_workers} | {n_files} | {found.wall_s / 3600:.2f} | {100 * found.efficiency:.1f} % | {cells} | "
                f"{found.binds} |"
            )


def main() -> None:
    """Print the table for the numbers that are given."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 16, 128, 1000])
    parser.add_argument("--files", type=int, nargs="+", default=[1000, 100_000, 1_000_000])
    counted = ("n_workers", "n_files")
    for setting in (setting for setting in fields(Setting) if setting.name not in counted):
        parser.add_argument(f"--{setting.name.replace('_', '-')}", type=float, default=setting.default)
    given = vars(parser.parse_args())
    workers, files = given.pop("workers"), given.pop("files")
    base = Setting(n_workers=1, n_files=1, **given)
    for line in rows(base, workers, files):
        print(line)
    rate, binding = most_files_per_s(replace(base, n_workers=max(workers)))
    print(
        f"\nat most {rate:.0f} files a second ({binding}): {rate * base.file_s:.0f} workers at {base.file_s:g} s a file"
    )


if __name__ == "__main__":
    main()
