"""The command around the training: what it says, and how it ends."""

import signal
from pathlib import Path

import numpy as np
import pytest
from command_line import specdiff
from typer.testing import Result

from specdiff_cli.train.vocoder import Trainer

CONFIG = """\
[vocoder]
dim = 8
n_blocks = 1
kernel = 3
expansion = 1
n_iterations = 1

[train]
n_steps = 3
batch_size = 1
n_frames = 4
discriminator_width = 1
log_every_steps = 2
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("vocoder.toml").write_text(CONFIG)
    for split in ("train", "validation"):
        (tmp_path / "corpus" / split).mkdir(parents=True)
        noise = np.random.default_rng(0).integers(-3000, 3000, 8000)
        np.savez(tmp_path / "corpus" / split / "piece-0.npz", audio=noise.astype(np.int16))
    return tmp_path


def run(*arguments: str) -> Result:
    return specdiff("train", "vocoder", "vocoder.toml", "--corpus", "corpus", "--out", "run", *arguments)


def test_a_run_tells_its_losses_and_how_good_it_became(folder: Path) -> None:
    result = run()
    assert result.exit_code == 0, result.stderr
    introduction, second, third, summary = result.stderr.splitlines()
    assert introduction.startswith("run: 0.02 M parameters, head advance, 1 pieces of 0.0 h, cpu ")
    assert second.startswith("step 2/3: magnitude ")
    assert "log-mel" in third
    assert summary.startswith("run: 3 steps, 0:0")
    assert result.stdout == ""
    again = run()
    assert again.exit_code == 2
    assert again.stderr.startswith("error: run: is finished (3 steps)")
    assert len(again.stderr.splitlines()) == 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.usefixtures("heeded_signals")
def test_a_signal_saves_and_the_same_command_goes_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, code: int
) -> None:
    step = Trainer.train_step

    def interrupted_step(trainer: Trainer) -> dict[str, float]:
        signal.raise_signal(number)
        return step(trainer)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_step", interrupted_step)
        stopped = run("--quiet")
    assert stopped.exit_code == code, stopped.stderr
    saved, ended = stopped.stderr.splitlines()
    assert saved == "run: saved at step 1 of 3; the same command goes on from there"
    assert ended in ("interrupted", "terminated")
    resumed = run()
    assert resumed.exit_code == 0
    assert "goes on at step 1" in resumed.stderr.splitlines()[0]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--steps", "0"], 2, "--steps: n_steps = 0: must be at least 1"),
        (["--device", "abacus"], 2, "--device abacus"),
        (["--threads", "0"], 2, "--threads 0"),
        (["--corpus", "nowhere"], 2, "no pieces of music in nowhere/train"),
        (["--start-from", "nothing.safetensors"], 4, "nothing.safetensors: is missing"),
    ],
)
def test_faults_are_told_in_one_line(folder: Path, arguments: list[str], code: int, words: str) -> None:
    result = run(*arguments)
    assert result.exit_code == code
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert words in line
    assert not Path("run").exists()


def test_a_config_with_an_unknown_key(folder: Path) -> None:
    Path("vocoder.toml").write_text("[train]\nsteps = 3\n")
    result = run()
    assert result.exit_code == 2
    assert "steps: is an unknown key" in result.stderr
