"""`specdiff train model`: it trains, is interrupted and goes on, and says in one line what cannot work."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import specdiff
from small_corpora import SMALLEST_TABLE, write_corpus
from typer.testing import Result

from specdiff_cli.train.trainer import Trainer

pytestmark = pytest.mark.usefixtures("without_tensorboard")

SETTINGS = f"""\
{SMALLEST_TABLE}
[train]
n_steps = 6
batch_size = 2
precision = "float32"
log_every_steps = 2
"""


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_corpus(tmp_path / "corpus")


def train(folder: Path, settings: str = SETTINGS, *more: str) -> Result:
    (folder / "run.toml").write_text(settings)
    arguments = ["--corpus", str(folder / "corpus"), "--out", str(folder / "run"), "--device", "cpu", *more]
    return specdiff("train", "model", folder / "run.toml", *arguments)


def test_the_command_trains_and_refuses_to_train_again(corpus: Path, tmp_path: Path) -> None:
    result = train(tmp_path)
    assert (result.exit_code, result.stdout) == (0, "")
    lines = result.stderr.splitlines()
    assert lines[0] == "reading 2 pieces"
    assert "begins; 0.1 M parameters on cpu in float32, 0.00 h of music in 2 pieces" in lines[1]
    assert [line.split(",")[0] for line in lines[3:6]] == ["step 2/6", "step 4/6", "step 6/6"]
    assert "finished" in lines[-1]
    again = train(tmp_path)
    assert again.exit_code == 2
    assert "is finished" in again.stderr
    longer = train(tmp_path, SETTINGS, "--steps", "7", "--quiet")
    assert (longer.exit_code, longer.stderr) == (0, "")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.usefixtures("heeded_signals")
def test_an_interrupted_command_saves_and_says_how_to_go_on(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    step = Trainer.train_step

    def interrupted_step(self: Trainer, *arguments: Any) -> Any:
        if self.step == 1:
            os.kill(os.getpid(), number)
        return step(self, *arguments)

    monkeypatch.setattr(Trainer, "train_step", interrupted_step)
    result = train(tmp_path)
    assert result.exit_code == code
    assert "at step 2; the same command goes on from there" in result.stderr
    assert torch.load(tmp_path / "run" / "state.pt", weights_only=True)["step"] == 2


@pytest.mark.parametrize(
    ("settings", "more", "message"),
    [
        (SETTINGS.replace("n_steps", "steps"), [], "run.toml: [train] steps: is an unknown key; did you mean n_steps?"),
        (SETTINGS.replace("= 16", "= 15"), [], "[model] d_model = 15: must be even"),
        (SETTINGS.replace("[train]", 'kind = "autoregressive"\n[train]'), [], "has no context encoder"),
        (
            SETTINGS.replace("note_layout = true", 'dialect = "lightning"'),
            [],
            "dialect = 'lightning': cannot be trained here",
        ),
        (
            SETTINGS.replace("n_context_layers = 1", "n_context_layers = 0").replace(
                "note_layout = true", 'kind = "autoregressive"'
            ),
            [],
            "[model] kind = 'autoregressive': cannot be trained here",
        ),
        (SETTINGS + "n_vocabulary_rows = 3", [], "[train] n_vocabulary_rows: is an unknown key"),
        (SETTINGS.replace("[train]", "n_vocabulary_rows = 3\n[train]"), [], "must be at least 1391, the tokens with 1"),
        (SETTINGS.replace("n_heads = 1\n", ""), [], "[model] n_heads: is missing"),
        (SETTINGS, ["--steps", "0"], "--steps 0: must be between 1 and 100000000"),
        (SETTINGS, ["--device", "tpu"], "--device tpu: is not one of"),
        (SETTINGS, ["--device", "mps"], "--device mps: training runs on cpu or cuda"),
        (SETTINGS, ["--corpus", "nowhere"], "nowhere: is not a folder"),
        (SETTINGS, ["--out", "/proc/nowhere"], "cannot make the folder /proc/nowhere"),
    ],
)
def test_what_cannot_work_is_one_line(
    corpus: Path, tmp_path: Path, settings: str, more: list[str], message: str
) -> None:
    result = train(tmp_path, settings, *more)
    assert result.exit_code in (2, 5)
    assert message in result.stderr
    assert result.stderr.count("error:") == 1
    assert not (tmp_path / "run").exists()
