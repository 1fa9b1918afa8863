"""The scripts of docs/cluster.md: Slurm's steps with stand-ins for its commands; the fields of the Kubernetes job."""

import os
import re
import subprocess
import sys
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


@pytest.mark.skipif(sys.platform != "linux", reason="a script for bash")
def test_the_slurm_script_starts_ray_on_all_nodes_and_ends_as_the_render_does(tmp_path: Path) -> None:
    for name, body in STAND_INS.items():
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/bash\n{body}\n")
        path.chmod(0o755)
    script = tmp_path / "job.sh"
    script.write_text(block("bash"))
    told = tmp_path / "log"
    allocation = {"SLURM_JOB_NODELIST": "node[1-3]", "SLURM_JOB_NUM_NODES": "3", "SLURM_CPUS_PER_TASK": "16"}
    environment = os.environ | allocation | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "LOG": str(told)}
    with subprocess.Popen(["bash", script], env=environment, start_new_session=True) as job:
        try:
            assert job.wait(20) == 7
        finally:
            os.killpg(job.pid, 9)
    lines = sorted(told.read_text().splitlines())
    assert lines[0].startswith("specdiff render ")
    assert "--ray 10.0.0.1:6379 --skip-existing" in lines[0]
    assert lines[1:] == [
        "srun --nodes=1 --ntasks=1 -w node1 hostname --ip-address",
        "srun --nodes=1 --ntasks=1 -w node1 ray start --head --port 6379 --num-cpus 16 --block",
        "srun --nodes=2 --ntasks=2 -x node1 ray start --address 10.0.0.1:6379 --num-cpus 16 --block",
    ]


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
