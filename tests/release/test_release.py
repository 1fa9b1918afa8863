"""What is published: versions, pins, the container's steps and the example for GitHub Actions."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import specdiff_cli

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_the_pinned_extra_is_what_is_tested() -> None:
    run_part = (ROOT / "constraints.txt").read_text(encoding="utf-8").split("# run\n")[1].split("\n\n")[0]
    assert PROJECT["project"]["optional-dependencies"]["pinned"] == run_part.split()


def test_every_pinned_version_admits_the_lower_bound() -> None:
    from packaging.requirements import Requirement

    pinned = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if "==" in line and not line.startswith("#"):
            name, version = line.split("==")
            pinned[name.lower()] = version
    extras = PROJECT["project"]["optional-dependencies"].values()
    for text in [*PROJECT["project"]["dependencies"], *(text for extra in extras for text in extra)]:
        requirement = Requirement(text)
        assert pinned[requirement.name.lower()] in requirement.specifier, text


def test_the_change_log_has_dates_and_its_newest_version_is_the_one_to_come() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (.*)$", text, re.M)
    assert headings[0] == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", heading) for heading in headings[1:])
    fallback = PROJECT["tool"]["hatch"]["version"]["fallback-version"]
    assert headings[1].startswith(f"[{fallback.removesuffix('.dev0')}]")


def test_the_public_names_are_listed() -> None:
    assert dir(specdiff_cli) == sorted(specdiff_cli.__all__)
    assert re.match(r"\d", specdiff_cli.__version__)


def container_steps() -> str:
    """What the Dockerfile runs, as a script."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    return "\n".join(re.findall(r"^RUN (.*)$", text, re.M))


def test_the_container_is_for_a_user_without_rights() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    after = text[text.index("USER 1000") :]
    assert "RUN" not in after
    assert "VOLUME /models" in after
    assert "SPECDIFF_CACHE=/models" in text
    assert "useradd" in container_steps()
    checked = subprocess.run(["bash", "-n"], input=container_steps(), text=True, capture_output=True, check=False)
    assert checked.returncode == 0, checked.stderr


def action_steps() -> list[str]:
    """The ``run`` steps of the example, in order."""
    text = (ROOT / "examples" / "ci" / "github-actions.yml").read_text(encoding="utf-8")
    blocks = re.findall(r"^( +)run: \|\n((?:\1  .*\n)+)", text, re.M)
    return ["\n".join(line.strip() for line in body.splitlines()) for _, body in blocks]


def run_step(step: str, folder: Path, path: str) -> None:
    environment = {**os.environ, "PATH": path, "SPECDIFF": str(ROOT)}
    done = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", step],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{step}\n{done.stderr}"


def test_the_steps_for_github_actions_render(tmp_path: Path) -> None:
    """All steps but the installation, with what is installed here."""
    (tmp_path / "music").mkdir()
    subprocess.run([sys.executable, ROOT / "examples" / "demo_song.py", tmp_path / "music" / "demo.mid"], check=True)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    if shutil.which("specdiff", path=path) is None:
        pytest.skip("the command is not installed")
    steps = action_steps()
    assert len(steps) == 4
    assert steps[0].startswith("pip install")
    for step in steps[1:]:
        run_step(step, tmp_path, path)
    assert [file.name for file in (tmp_path / "rendered").iterdir()] == ["demo.flac"]
    run_step(steps[2], tmp_path, path)  # a second push: nothing is rendered again
    assert '"skipped"' in (tmp_path / "rendered.jsonl").read_text()


@pytest.mark.slow
def test_the_installation_for_github_actions_works_in_a_new_environment(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    path = f"{tmp_path / 'venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    run_step(action_steps()[0], tmp_path, path)
    smoke = [ROOT / "scripts" / "smoke.sh", tmp_path / "venv" / "bin", ROOT / "examples" / "demo_song.py"]
    subprocess.run(smoke, cwd=tmp_path, check=True)
