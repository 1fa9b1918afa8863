"""The scripts of docs/cluster.md: Slurm's steps with stand-ins for its commands; the fields of the Kubernetes job."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

GUIDE = Path(__file__).parents[2] / "docs" / "cluster.md"
STAND_INS = {
    "scontrol": "printf 'node1\\nnode2\\nnode3\\n'",
    "srun": 'echo "srun $*" >> "$LOG"; case "$*" in *hostname*) echo "10.0.0.1 fe80::1";; *) exec /bin/sleep 30;; esac',
    "sleep": "exec /bin/sleep 0.3",
    "specdiff": 'echo "specdiff $*" >> "$LOG"; exit 7',
}


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(#!/bin/bash\n|apiVersion)(.*?)```", GUIDE.read_text(encoding="utf-8"), re.S)
    assert found is not None
    return found[1] + found[2]


@contextmanager
def submitted(tmp_path: Path, **stand_ins: str) -> Iterator["subprocess.Popen[bytes]"]:
    """The script as Slurm runs it; what its commands were told lies in ``log``."""
    for name, body in (STAND_INS | stand_ins).items():
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/bash\n{body}\n")
        path.chmod(0o755)
    script = tmp_path / "job.sh"
    script.write_text(block("bash"))
    allocation = {"SLURM_JOB_NODELIST": "node[1-3]", "SLURM_JOB_NUM_NODES": "3", "SLURM_CPUS_PER_TASK": "16"}
    allocation["SLURM_JOB_ID"] = "4712345"
    environment = (
        os.environ | allocation | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "LOG": str(tmp_path / "log")}
    )
    with subprocess.Popen(["bash", script], env=environment, start_new_session=True) as job:
        try:
            yield job
        finally:
            os.killpg(job.pid, 9)


@pytest.mark.skipif(sys.platform != "linux", reason="a script for bash")
def test_the_slurm_script_starts_ray_on_all_nodes_and_ends_as_the_render_does(tmp_path: Path) -> None:
    with submitted(tmp_path) as job:
        assert job.wait(20) == 7
    lines = sorted((tmp_path / "log").read_text().splitlines())
    assert lines[0].startswith("specdiff render ")
    assert "--ray 10.0.0.1:22345 --skip-existing" in lines[0]
    assert lines[1:] == [
        "srun --nodes=1 --ntasks=1 -w node1 hostname --ip-address",
        "srun --nodes=1 --ntasks=1 -w node1 ray start --head --port 22345 --num-cpus 16 --block",
        "srun --nodes=2 --ntasks=2 -x node1 ray start --address 10.0.0.1:22345 --num-cpus 16 --block",
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="a script for bash")
def test_the_slurm_script_waits_for_the_render_to_clean_up_when_time_is_over(tmp_path: Path) -> None:
    stopping = 'trap "/bin/sleep 0.3; echo stopped >> $LOG; exit 143" TERM; echo began >> "$LOG"; while :; do :; done'
    with submitted(tmp_path, specdiff=stopping) as job:
        while not (tmp_path / "log").exists() or "began" not in (tmp_path / "log").read_text():
            time.sleep(0.05)
        job.terminate()
        assert job.wait(20) == 143
    assert "stopped" in (tmp_path / "log").read_text()


def test_the_kubernetes_job_has_the_fields_of_a_ray_job() -> None:
    yaml = pytest.importorskip("yaml")
    job = yaml.safe_load(block("yaml"))
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert set(job["spec"]) <= {"entrypoint", "shutdownAfterJobFinishes", "rayClusterSpec"}
    cluster = job["spec"]["rayClusterSpec"]
    (workers,) = cluster["workerGroupSpecs"]
    assert set(workers) == {"groupName", "replicas", "rayStartParams", "template"}
    for group in (cluster["headGroupSpec"], workers):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())  # a map of strings
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
