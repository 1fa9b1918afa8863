"""The pool: what is held and given out, and what becomes of items that cost their workers."""

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import cluster_work
import pytest

from specdiff_cli.cluster import connect
from specdiff_cli.cluster.actor import Actor, Facts, Making, versions
from specdiff_cli.cluster.connect import ClusterOptions, connected
from specdiff_cli.cluster.pool import (
    MAX_ITEMS_PER_TASK,
    MAX_RETRIES,
    Backlog,
    Finished,
    GivenUp,
    Lost,
    Pool,
    Ready,
    Shape,
    items_per_task,
)
from specdiff_cli.errors import DeviceError


def test_a_backlog_holds_no_more_than_its_limit_and_gives_the_largest_it_holds() -> None:
    taken: list[int] = []

    def numbers() -> Iterator[tuple[int, float]]:
        for number in range(1000):
            taken.append(number)
            yield number, float(number % 10)

    backlog = Backlog(numbers(), limit=20)
    backlog.fill()
    assert len(backlog) == len(taken) == 20
    assert [held.item for held in backlog.take(2)] == [9, 19]
    assert len(taken) == 20
    backlog.fill()
    assert len(taken) == 22


def test_what_lost_its_worker_comes_next_and_alone() -> None:
    backlog = Backlog(((number, 1.0) for number in range(5)), limit=5)
    first, second = backlog.take(2)
    backlog.put_back(first)
    backlog.put_back(second)
    assert [[held.item for held in backlog.take(3)] for _ in range(3)] == [[0], [1], [2, 3, 4]]


def test_items_that_need_no_worker_are_passed_over_in_bounded_strides() -> None:
    backlog: Backlog[int] = Backlog((None for _ in range(5000)), limit=10)
    strides = 0
    while not backlog.is_exhausted:
        backlog.fill()
        strides += 1
    assert strides == 3
    assert len(backlog) == 0


@pytest.mark.parametrize(
    ("n_workers", "mean_s", "n_held", "least", "expected"),
    [
        (2, None, 100, 1, 1),  # nothing known yet
        (2, 2.0, 100, 1, 1),  # two workers never keep a driver busy
        (1000, 2.0, 16_000, 1, 3),
        (1000, 0.001, 10**6, 1, MAX_ITEMS_PER_TASK),
        (4, 2.0, 1000, 64, 64),  # a GPU wants them together
        (4, 2.0, 10, 64, 2),  # but not all of what is left for four
        (4, 2.0, 3, 1, 1),
    ],
)
def test_tasks_are_large_enough_for_the_driver_and_small_enough_for_the_workers(
    n_workers: int, mean_s: float | None, n_held: int, least: int, expected: int
) -> None:
    assert items_per_task(n_workers, mean_s, n_held, least) == expected


def test_a_worker_of_another_version_says_so_before_it_opens_anything() -> None:
    answer = Actor().start({**versions(), "specdiff": "9.9"}, 1, b"cannot be opened")
    assert isinstance(answer, DeviceError)
    assert "install the same on all machines" in str(answer)
    assert "9.9" in str(answer)


def test_what_is_wrong_with_a_worker_is_one_line_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import pickle

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    making = Making(Path("/no/such/file").read_text, ())  # type: ignore[arg-type]  # fails as a worker's start may
    answer = Actor().start(versions(), 1, pickle.dumps(making))
    assert isinstance(answer, Exception)
    assert str(answer).startswith("worker ")
    assert f":{os.getpid()}: " in str(answer)
    fine = Actor().start(versions(), 1, pickle.dumps(Making(cluster_work.make_orders, ())))
    assert isinstance(fine, Facts)
    assert fine.description == "a loud voice"


@pytest.mark.slow
def test_poisonous_and_endless_items_fail_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("PYTHONPATH", str(Path(cluster_work.__file__).parent))
    items = ["a", "die", "b", "hang", "c", f"once:{tmp_path / 'mark'}", "d"]
    with connected(ClusterOptions(workers=2)):
        pool: Pool[str, str] = Pool(Making(cluster_work.make_orders, ()), Shape(2), item_timeout_s=2.0)
        news = list(pool.run((item, 1.0) for item in items))
    finished = {new.item: new.result for new in news if isinstance(new, Finished)}
    assert finished == {"a": "A", "b": "B", "c": "C", "d": "D", items[5]: "ONCE"}
    assert {new.item for new in news if isinstance(new, GivenUp)} == {"die", "hang"}
    lost = [item for new in news if isinstance(new, Lost) for item in new.items]
    assert lost.count("die") == lost.count("hang") == 1 + MAX_RETRIES
    assert lost.count(items[5]) == 1
    assert sum(isinstance(new, Ready) for new in news) >= 2


@pytest.mark.slow
def test_workers_that_cannot_start_end_it_with_their_line(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    with connected(ClusterOptions(workers=2)):
        making = Making(Path("/no/such/file").read_text, ())  # type: ignore[arg-type]
        pool: Pool[str, str] = Pool(making, Shape(2))
        with pytest.raises(Exception, match=r"^worker .*no/such/file"):
            list(pool.run([("a", 1.0)]))


@pytest.mark.slow
@pytest.mark.parametrize(("shape", "seen"), [(Shape(2, 1, 1.0), ["0", "1"]), (Shape(3, 1, 0.5), ["0", "0", "1"])])
def test_each_worker_has_a_gpu_or_its_share_of_one(
    monkeypatch: pytest.MonkeyPatch, shape: Shape, seen: list[str]
) -> None:
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", str(Path(cluster_work.__file__).parent))
    connect.import_ray()
    # GPUs that nobody has: Ray gives them out all the same
    head = {"num_cpus": 3, "num_gpus": 2, "object_store_memory": 80 * 2**20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        with connected(ClusterOptions(address=cluster.address)) as found:
            assert [(node.cpus, node.gpus) for node in found.nodes] == [(3, 2)]
            pool: Pool[str, str] = Pool(Making(cluster_work.SeesGpus, ()), shape)
            ready = []
            with closing(pool.run((str(number), 1.0) for number in range(10**6))) as news:
                for new in news:
                    ready += [new.facts.description] if isinstance(new, Ready) else []
                    if len(ready) == shape.n_workers:
                        break
        assert sorted(ready) == seen
    finally:
        cluster.shutdown()  # type: ignore[no-untyped-call]  # Ray's
