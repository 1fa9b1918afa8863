"""``specdiff train composer``: runs that end, stop, go on, and compose."""

import json
from pathlib import Path

import pytest
import torch
from command_line import specdiff
from songs_for_composing import write_songs
from typer.testing import Result

from specdiff_cli.composing.dataset import read_songs
from specdiff_cli.midi.notes import read_midi
from specdiff_cli.train.composer import ComposerTrainer, make_task
from specdiff_cli.train.composer_settings import ComposerSettings
from specdiff_cli.train.run_folder import load_tensors

TOKENS = """\
[composer]
kind = "tokens"
[tokens]
d_model = 32
n_heads = 2
n_layers = 1
d_ff = 32
"""
UNET = '[composer]\nkind = "unet"\n[unet]\nwidth = 16\npitch = "logarithmic"\n'
TRAIN = """\
[train]
n_steps = 6
batch_size = 4
n_notes = 32
warmup_steps = 0
log_every_steps = 2
validate_every_steps = 3
save_every_steps = 2
n_judged_pieces = 0
"""


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_songs(tmp_path_factory.mktemp("songs"), 14, n_bars=6)


def settings(folder: Path, text: str) -> Path:
    path = folder / "composer.toml"
    path.write_text(text)
    return path


def call(config: Path, songs: Path, out: Path, *more: str) -> Result:
    return specdiff("train", "composer", config, "--midi", songs, "--out", out, *more)


@pytest.mark.parametrize("model", [TOKENS, UNET], ids=["tokens", "unet"])
def test_a_run_ends_with_a_composer(model: str, songs: Path, tmp_path: Path) -> None:
    text = model + TRAIN.replace("judged_pieces = 0", "judged_pieces = 2")
    result = call(settings(tmp_path, text), songs, tmp_path / "run")
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 3, 4, 6]
    assert all(row["loss"] > 0 for row in rows if "loss" in row)
    assert "validation_loss" in rows[-1]
    assert rows[1]["judge_held_out/on_grid_share"] == 1.0  # what the songs are by construction
    assert rows[1]["judge_held_out/scale_consistency"] == 1.0
    assert 0 <= rows[1]["judge/pitch_class_entropy_bits"] <= 3.585
    assert 0 <= rows[1]["judge/n_features_alike"] <= 9
    made = specdiff("compose", tmp_path / "out", "-m", tmp_path / "run", "--n", "2", "--notes", "16", "--steps", "5")
    assert made.exit_code == 0, made.output
    assert len(read_midi(tmp_path / "out" / "sample_n_2.mid").notes) == 16
    again = call(settings(tmp_path, text), songs, tmp_path / "run")
    assert again.exit_code == 2
    assert "is finished (6 steps)" in again.stderr


@pytest.mark.parametrize("model", [TOKENS, UNET], ids=["tokens", "unet"])
def test_a_run_that_stopped_equals_one_that_did_not(model: str, songs: Path, tmp_path: Path) -> None:
    chosen = ComposerSettings.read(settings(tmp_path, model + TRAIN))
    read = read_songs(songs, 32)
    whole = ComposerTrainer(make_task(read, chosen), read, tmp_path / "whole", chosen)
    assert whole.run()
    first = ComposerTrainer(make_task(read, chosen), read, tmp_path / "parts", chosen)
    assert not first.run(should_stop=lambda: first.step == 3)
    second = ComposerTrainer(make_task(read, chosen), read, tmp_path / "parts", chosen)
    assert second.step == 3
    assert second.run()
    for name in ("network", "averaged"):
        a, b = (load_tensors(tmp_path / run / "state.pt")[name] for run in ("whole", "parts"))
        assert all(torch.equal(a[key], b[key]) for key in a)


def test_training_learns(songs: Path, tmp_path: Path) -> None:
    text = TOKENS + TRAIN.replace("n_steps = 6", "n_steps = 60").replace("batch_size = 4", "batch_size = 16")
    chosen = ComposerSettings.read(settings(tmp_path, text.replace("_every_steps = 3", "_every_steps = 30")))
    read = read_songs(songs, 32)
    task = make_task(read, chosen)
    trainer = ComposerTrainer(task, read, tmp_path / "run", chosen)
    with torch.no_grad():
        before = task.validate(trainer.network)
    assert trainer.run()
    after = json.loads((tmp_path / "run" / "composer.json").read_text())["validation_loss"]
    assert after < 0.75 * before["validation_loss"]


def test_patience_ends_a_run_that_gets_no_better(songs: Path, tmp_path: Path) -> None:
    text = TOKENS + TRAIN + "patience = 2\nmatrix_lr = 1e-12\nother_lr = 1e-12\nprecision = 'float32'\n"
    chosen = ComposerSettings.read(settings(tmp_path, text.replace("n_steps = 6", "n_steps = 400")))
    read = read_songs(songs, 32)
    trainer = ComposerTrainer(make_task(read, chosen), read, tmp_path / "run", chosen)
    trainer.best_loss = 0.0
    assert trainer.run()
    assert trainer.step == 6


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (TOKENS.replace("tokens", "gan", 1) + TRAIN, 'kind = "gan": is not one of "tokens", "unet"'),
        (TOKENS.replace("= 32", "= 30", 1) + TRAIN, "d_model = 30: must be a multiple of 4 * n_heads (8)"),
        (UNET.replace("16", "20") + TRAIN, "width = 20: must be a multiple of 16"),
        (UNET + TRAIN.replace("n_notes = 32", "n_notes = 30"), "n_notes = 30: must be a multiple of 8"),
        (TOKENS + TRAIN.replace("batch_size = 4", "batch_size = 0"), "batch_size = 0: must be at least 1"),
    ],
)
def test_settings_that_cannot_be(text: str, words: str, songs: Path, tmp_path: Path) -> None:
    result = call(settings(tmp_path, text), songs, tmp_path / "run")
    assert result.exit_code == 2
    assert words in result.stderr
    assert not (tmp_path / "run").exists()


def test_other_songs_and_other_settings_do_not_go_on(songs: Path, tmp_path: Path) -> None:
    config = settings(tmp_path, TOKENS + TRAIN)
    assert call(config, songs, tmp_path / "run", "--steps", "2").exit_code == 0
    others = write_songs(tmp_path / "others", 5, n_bars=7)
    result = call(config, others, tmp_path / "run")
    assert (result.exit_code, "was begun with other songs" in result.stderr) == (2, True)
    changed = settings(tmp_path, TOKENS + TRAIN.replace("batch_size = 4", "batch_size = 3"))
    result = call(changed, songs, tmp_path / "run")
    assert (result.exit_code, "was begun with [train] batch_size = 4, not 3" in result.stderr) == (2, True)


def test_folders_without_songs(tmp_path: Path) -> None:
    config = settings(tmp_path, TOKENS + TRAIN)
    result = call(config, tmp_path, tmp_path / "run")
    assert (result.exit_code, "holds no MIDI files" in result.stderr) == (2, True)
    short = write_songs(tmp_path / "short", 3, n_bars=1)
    result = call(config, short, tmp_path / "run")
    assert result.exit_code == 2
    assert "of 3 MIDI files, 0 can be read and have 32 notes or more" in result.stderr
