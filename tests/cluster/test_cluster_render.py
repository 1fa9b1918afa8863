"""``render --workers``: the same files as one process, and what becomes of them when workers and machines are lost."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from command_line import specdiff
from midi_files import midi_bytes, note

from specdiff_cli.cluster import connect
from specdiff_cli.cluster.actor import Facts
from specdiff_cli.cluster.connect import ClusterOptions, Node
from specdiff_cli.cluster.pool import Ready, Shape
from specdiff_cli.cluster.rendering import Crew, _Run, render_on_cluster
from specdiff_cli.errors import DeviceError, OutputError, WeightsError
from specdiff_cli.rendering.batch import BATCH_ON_CUDA, POOL_PER_PLACE, render_files
from specdiff_cli.rendering.events import Done, Event, Failed, Skipped, Told
from specdiff_cli.rendering.inputs import gather
from specdiff_cli.rendering.jobs import Job, plan
from specdiff_cli.rendering.record import Settled, settle
from specdiff_cli.rendering.request import Request
from specdiff_cli.weights.voices import find_voice

pytest.importorskip("ray")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

#: Enough steps that a song takes a second or two, so that a worker can be caught at it.
SLOW = {"steps": 150, "threads": 1}


@pytest.fixture
def ray_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where Ray keeps its files; its processes name it in their command lines."""
    folder = Path(tempfile.mkdtemp(prefix="sdt-", dir="/tmp"))

    @contextmanager
    def temporary() -> Iterator[Path]:
        yield folder
        shutil.rmtree(folder, ignore_errors=True)

    monkeypatch.setattr(connect, "_short_temporary_folder", temporary)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def music(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with songs of 3 to 9 s in ``in``."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for number, name in enumerate(("a", "deep/b", "c", "d")):
        path = tmp_path / "in" / f"{name}.mid"
        path.write_bytes(midi_bytes(note(0, 1920 * (number + 1), 0, 60 + number)))
    return tmp_path


def processes_of(folder: Path) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in line:
            found.append(line)
    return found


def settled_for(voice: str, output: str, **options: Any) -> tuple[Settled, list[Job]]:
    asked = {"inputs": ("in",), "recursive": True, "model": voice, "output": output, "threads": 1, **options}
    settled = settle(Request.of(asked), find_voice(voice))
    return settled, plan(gather(settled.request.inputs)[0], settled)


def contents(folder: str) -> dict[str, bytes]:
    """Every file, hidden ones too."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def by_one(voice: str, **options: Any) -> dict[str, bytes]:
    """What a single process makes of it."""
    settled, jobs = settled_for(voice, "one/", **options)
    ends = [event for event in render_files(jobs, settled.voice, settled.request) if isinstance(event, Done)]
    assert len(ends) == len(jobs)
    return contents("one")


def pid_of(crew: Crew) -> int:
    return int(crew.newest.rpartition(":")[2])


def test_two_workers_make_the_files_lines_and_exit_code_of_one_process(
    voice: str, music: Path, ray_folder: Path
) -> None:
    (music / "in" / "bad.mid").write_bytes(b"no music")
    words = ["render", "in", "-r", "-m", voice, "--threads", "1", "--json"]
    alone = specdiff(*words, "-o", "one/")
    together = specdiff(*words, "-o", "two/", "--workers", "2")
    assert alone.exit_code == together.exit_code == 1, together.stderr
    assert contents("one") == contents("two")
    assert set(contents("two")) == {"a.wav", "deep/b.wav", "c.wav", "d.wav"}

    def lines(result: Any) -> list[dict[str, Any]]:
        found = [json.loads(line) for line in result.stdout.splitlines()]
        for line in found:
            line["output"] = str(Path(line["output"]).relative_to("one" if result is alone else "two"))
            del line["seconds"], line["realtime_factor"]
        return sorted(found, key=lambda line: str(line["input"]))

    assert lines(alone) == lines(together)
    assert "rendering 5 files by 2 workers" in together.stderr
    assert "5 inputs: 4 done, 1 failed; 0:24 of audio" in together.stderr
    assert "Traceback" not in together.stderr
    assert not processes_of(ray_folder)
    assert not ray_folder.exists()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--workers", "0"], 2, "--workers 0: must be between 1 and"),
        (["--workers", "2", "-o", "-"], 2, "-o -: does not go with --workers"),
        (["--workers", "2", "--save-mel", "a.npy"], 2, "--save-mel: does not go with --workers"),
        (["--workers", "2", "--plot", "plots", "--ship"], 2, "--plot: does not go with --ship"),
        (["--ray", "auto", "--ship", "--resume"], 2, "--resume: does not go with --ship"),
        (["--workers", "2", "--device", "cuda:1"], 2, "--device cuda:1: each worker is given its GPU"),
        (["--ray", "nowhere"], 2, "--ray nowhere: is neither auto nor HOST:PORT"),
        (["--ship"], 2, "--ship: is for --workers and --ray"),
        (["--file-timeout", "-1", "--workers", "2"], 2, "--file-timeout -1: must be above 0"),
    ],
)
def test_impossible_requests_are_one_line(voice: str, music: Path, words: list[str], code: int, message: str) -> None:
    result = specdiff("render", "in", "-r", "-m", voice, *words)
    assert result.exit_code == code
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (music / "a.wav").exists()


@pytest.mark.parametrize(
    ("options", "workers", "shape", "n_threads", "side_by_side"),
    [
        ({"device": "auto"}, None, Shape(4, 1, 1.0), 4, BATCH_ON_CUDA * POOL_PER_PLACE),
        ({"device": "cuda", "batch": 2}, 8, Shape(8, 1, 0.5), 2, 2 * POOL_PER_PLACE),
        ({"device": "cuda", "stems": True}, 2, Shape(2, 1, 1.0), 8, 1),
        ({"device": "cpu", "threads": 8}, 3, Shape(3, 8, 0.0), 8, 1),
    ],
)
def test_workers_have_a_gpu_each_where_there_are_any(
    options: dict[str, Any], workers: int | None, shape: Shape, n_threads: int, side_by_side: int
) -> None:
    nodes = [Node(16, 4, 64 * 2**30), Node(16, 0, 64 * 2**30)]
    settled = settle(Request.of({"inputs": ("in",), "model": "tiny", **options}), find_voice("tiny"))
    run = _Run(settled, ClusterOptions(workers, "10.0.0.1:6379"))
    assert run._shape(nodes) == (shape, n_threads)
    assert run._side_by_side(shape) == side_by_side


def test_a_gpu_that_is_asked_for_must_be_there(voice: str) -> None:
    settled = settle(Request.of({"inputs": ("in",), "model": voice, "device": "cuda"}), find_voice(voice))
    with pytest.raises(DeviceError, match="no machine of the cluster has a GPU"):
        _Run(settled, ClusterOptions(2))._shape([Node(16, 0, 64 * 2**30)])


def test_a_worker_that_does_not_use_its_gpu_is_told(voice: str) -> None:
    settled = settle(Request.of({"inputs": ("in",), "model": voice}), find_voice(voice))
    ready = Ready(Facts("a:1", "tiny · cpu float32"), 1)
    told = [event for event in _Run(settled, ClusterOptions(1))._about(ready, Shape(1, 1, 1.0), 1)]
    assert [event.line for event in told if isinstance(event, Told)] == [
        "worker a:1 was given a GPU, but PyTorch finds none: it uses the processor"
    ]


@pytest.mark.slow
def test_a_killed_worker_costs_no_file(voice: str, music: Path, ray_folder: Path) -> None:
    expected = by_one(voice, **SLOW)
    settled, jobs = settled_for(voice, "two/", **SLOW)
    events: list[Any] = []
    with closing(render_on_cluster(iter(jobs), settled, ClusterOptions(workers=2))) as run:
        for event in run:
            events.append(event)
            if isinstance(event, Crew) and sum(isinstance(other, Crew) for other in events) == 1:
                time.sleep(0.3)  # it has a song by the time the events go on
                victim = pid_of(event)
            if isinstance(event, Done) and victim:
                os.kill(victim, signal.SIGKILL)
                victim = 0
    assert sorted(str(event.job.source) for event in events if isinstance(event, Done)) == sorted(
        str(job.source) for job in jobs
    )
    assert [event for event in events if isinstance(event, Told) and "was lost: its process died" in event.line]
    assert contents("two") == expected  # all of them, whole, and nothing besides
    assert not processes_of(ray_folder)


@pytest.mark.slow
def test_a_file_that_never_ends_is_given_up_and_the_others_are_rendered(
    voice: str, music: Path, ray_folder: Path
) -> None:
    # a song of 20 min needs more than the timeout; the others do not
    (music / "in" / "endless.mid").write_bytes(midi_bytes(note(0, 480 * 2400, 0, 60)))
    settled, jobs = settled_for(voice, "two/", steps=60)
    options = ClusterOptions(workers=2, file_timeout_s=8)
    ends = [event for event in render_on_cluster(jobs, settled, options) if isinstance(event, Done | Failed)]
    failed = [event for event in ends if isinstance(event, Failed)]
    assert [str(event.job.source) for event in failed] == ["in/endless.mid"]
    assert str(failed[0].error) == "in/endless.mid: given up after three workers: took longer than 8 s"
    assert isinstance(failed[0].error, DeviceError)
    assert set(contents("two")) == {"a.wav", "deep/b.wav", "c.wav", "d.wav"}


@pytest.mark.slow
def test_shipped_files_are_the_same_and_existing_ones_are_left_or_made_again(
    voice: str, music: Path, ray_folder: Path
) -> None:
    expected = by_one(voice, stems=True)
    Path("two").mkdir()
    shutil.copy("one/a.wav", "two/a.wav")  # complete, but its stems are missing
    shutil.copy("one/c.wav", "two/c.wav")
    shutil.copytree("one/c.stems", "two/c.stems")
    Path("two/d.wav").write_bytes(b"not ours")
    settled, jobs = settled_for(voice, "two/", stems=True, skip_existing=True)
    events = list(render_on_cluster(jobs, settled, ClusterOptions(workers=2, ship=True)))
    ends = {
        str(event.job.source): type(event).__name__ for event in events if isinstance(event, Done | Failed | Skipped)
    }
    assert ends == {"in/a.mid": "Done", "in/deep/b.mid": "Done", "in/c.mid": "Skipped", "in/d.mid": "Failed"}
    assert [event.line for event in events if isinstance(event, Told) and "rendered again" in event.line]
    found = contents("two")
    assert found.pop("d.wav") == b"not ours"
    assert found == {name: data for name, data in expected.items() if not name.startswith("d.")}


@pytest.mark.slow
def test_a_lost_machine_costs_no_file(voice: str, music: Path) -> None:
    from ray.cluster_utils import Cluster

    connect.import_ray()
    expected = by_one(voice, **SLOW)
    small: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args={**small, "include_dashboard": False})
    try:
        second = cluster.add_node(**small)
        settled, jobs = settled_for(voice, "two/", **SLOW)
        events: list[Any] = []
        with closing(render_on_cluster(jobs, settled, ClusterOptions(address=cluster.address))) as run:
            for event in run:
                events.append(event)
                if isinstance(event, Crew) and event.n_ready == 2:
                    cluster.remove_node(second, allow_graceful=False)
        assert max(event.n_workers for event in events if isinstance(event, Crew)) == 2
        assert len([event for event in events if isinstance(event, Done)]) == len(jobs)
        assert [event for event in events if isinstance(event, Told) and "was lost" in event.line]
        assert contents("two") == expected
    finally:
        cluster.shutdown()  # type: ignore[no-untyped-call]  # Ray's


@pytest.mark.slow
@pytest.mark.usefixtures("heeded_signals")
@pytest.mark.parametrize(
    ("signals", "code", "word"),
    [
        ([signal.SIGINT], 130, "interrupted"),
        ([signal.SIGTERM, signal.SIGTERM], 143, "terminated"),  # timeout sends it twice
        ([signal.SIGHUP], 143, "terminated"),
    ],
)
def test_an_interrupted_run_leaves_nothing_half_and_another_goes_on(
    voice: str, music: Path, signals: list[signal.Signals], code: int, word: str
) -> None:
    words = [sys.executable, "-m", "specdiff_cli", "render", "in", "-r", "-m", voice, "-o", "two/", "--workers", "2"]
    words += ["--steps", "400", "--threads", "1", "--skip-existing"]
    running = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    assert running.stderr is not None
    said = []
    for line in running.stderr:
        said.append(line)
        if "× realtime ·" in line:  # one song is done
            for number in signals:
                running.send_signal(number)
                time.sleep(0.1)
            break
    rest, _ = running.communicate(timeout=60)[1], None
    assert running.returncode == code, rest
    assert word in rest
    assert "the same command with --skip-existing goes on" in rest
    assert "Traceback" not in rest
    left = contents("two")
    assert 1 <= len(left) < 4
    assert all(name.endswith(".wav") and not Path(name).name.startswith(".") for name in left)
    again = subprocess.run(words, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert f"{len(left)} skipped" in again.stderr
    assert set(contents("two")) == {"a.wav", "deep/b.wav", "c.wav", "d.wav"}
    assert {name: contents("two")[name] for name in left} == left


@pytest.mark.slow
def test_workers_without_the_voice_or_the_folder_say_so(voice: str, music: Path, ray_folder: Path) -> None:
    from specdiff_cli.cluster.place import Place
    from specdiff_cli.cluster.rendering import make_render_work

    settled, _ = settled_for(voice, "two/")
    here = Place(None, None, None)
    with pytest.raises(WeightsError, match="has other weights than here"):
        make_render_work(settled.request, {"model.safetensors": "0" * 64}, here)
    with pytest.raises(OutputError, match=r"the output folder two is not the one here; use a folder .* or ship"):
        make_render_work(settled.request, settled.voice.weights_sha256, Place(str(music), "two", ".token"))
    with pytest.raises(OutputError, match="there is no folder /no/such"):
        make_render_work(settled.request, settled.voice.weights_sha256, Place("/no/such", "two", ".token"))
    gone = settle(Request.of({"model": "no-such-voice"}), settled.voice)
    with pytest.raises(WeightsError, match="no-such-voice: is neither a known voice"):
        make_render_work(gone.request, settled.voice.weights_sha256, here)


def test_a_worker_that_is_asked_to_stop_leaves_nothing(voice: str, music: Path) -> None:
    from specdiff_cli.cluster.place import Place
    from specdiff_cli.cluster.rendering import make_render_work

    settled, jobs = settled_for(voice, "two/")
    work = make_render_work(settled.request, settled.voice.weights_sha256, Place(None, None, None))
    assert work.do([(jobs[0], 0)], lambda: True) == [[]]
    assert not contents("two")
    found = work.do([(jobs[0], 0)], lambda: False)
    assert isinstance(found[0][-1], Done)


def test_what_a_lost_worker_had_finished_is_not_rendered_again(voice: str, music: Path) -> None:
    from specdiff_cli.cluster.place import Place
    from specdiff_cli.cluster.rendering import make_render_work

    settled, jobs = settled_for(voice, "two/")
    work = make_render_work(settled.request, settled.voice.weights_sha256, Place(None, None, None))
    first: list[Event] = work.do([(jobs[0], 0)], lambda: False)[0]
    made = contents("two")
    again = work.do([(jobs[0], 1)], lambda: False)[0]
    assert isinstance(first[-1], Done)
    assert isinstance(again[-1], Done)
    assert (again[-1].duration_s, again[-1].n_windows) == (first[-1].duration_s, first[-1].n_windows)
    assert again[-1].reason is not None
    foreign = work.do([(jobs[0], 0)], lambda: False)[0]  # it did not lose a worker: the file was there before
    assert isinstance(foreign[-1], Failed)
    assert contents("two") == made
