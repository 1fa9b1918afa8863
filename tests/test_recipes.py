"""The recipes of docs/batches.md, run as they stand."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "batches.md"


def run(script: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    """In a folder with the checkout's examples, with the `python` and `specdiff` of this environment."""
    (folder / "examples").symlink_to(ROOT / "examples")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", script],
        cwd=folder,
        env=os.environ | {"PATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs bash")
def test_the_workflow_for_github_actions_renders_with_the_bundled_voice(tmp_path: Path) -> None:
    (workflow,) = re.findall(r"```yaml\n(name: smoke\n.*?)```", PAGE.read_text(), re.S)
    lines = re.findall(r"- run: (.*)", workflow)
    assert lines[0].startswith("pip install -c constraints.txt ")
    assert lines[0].endswith(" .")
    done = run("\n".join(lines[1:]), tmp_path)
    assert done.returncode == 0, done.stderr
    assert '"complete": true' in done.stdout
    (artifact,) = re.findall(r"path: (\S+) }", workflow)
    assert (tmp_path / artifact).is_file()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs bash")
def test_the_smoke_test(tmp_path: Path) -> None:
    (script,) = re.findall(r"```bash\n(set -e\n.*?)```", PAGE.read_text(), re.S)
    done = run(script, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Complete" in done.stdout
