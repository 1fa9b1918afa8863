from pathlib import Path

import numpy as np
import pytest
import torch
from random_voices import OURS

from specdiff_cli.diffusion.samplers import implied_x0
from specdiff_cli.diffusion.schedules import magenta
from specdiff_cli.midi.notes import Note
from specdiff_cli.midi.windows import tokenize
from specdiff_cli.train.batches import Corpus, Piece, collate
from specdiff_cli.train.model import TrainConfig, Trainer, alpha_sigma, loss_on

NOTES = [(0.5, 1.5, 60, 80, 0, 0), (1.0, 6.0, 64, 40, 0, 0), (5.5, 7.0, 67, 127, 0, 0)]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    seconds = np.arange(16_000 * 8) / 16_000
    audio = (np.sin(2 * np.pi * 440 * seconds) * 8000).astype(np.int16)
    for part in ("train", "validation"):
        (tmp_path / part).mkdir()
        np.savez(tmp_path / part / "piece-000000.npz", audio=audio, notes=np.array(NOTES, dtype=np.float64))
    return tmp_path


def test_training_windows_are_the_tokens_that_rendering_sees(corpus: Path) -> None:
    piece = Piece(corpus / "train" / "piece-000000.npz", OURS.vocabulary)
    notes = [Note(start, end, pitch, velocity, 0, False) for start, end, pitch, velocity, _, _ in NOTES]
    for window in tokenize(notes, OURS.vocabulary):
        first_frame = window.index * 256
        assert piece.tokens(first_frame) == window.tokens.tolist()
        ids, times = piece.layout(first_frame)
        np.testing.assert_array_equal(ids, window.layout[:, :3])
        np.testing.assert_allclose(times, window.layout[:, 3:], atol=1e-9)


def test_a_batch_holds_the_true_previous_window(corpus: Path) -> None:
    piece = Piece(corpus / "train" / "piece-000000.npz", OURS.vocabulary)
    batch = collate([(piece, 0), (piece, 100)])
    assert batch.has_context.tolist() == [False, True]
    assert torch.all(batch.context[0] == -1)
    assert torch.equal(batch.context[1, -100:], batch.target[0, :100])


def test_noise_levels_are_the_magenta_schedule() -> None:
    for step in magenta(7):
        alpha, sigma = alpha_sigma(torch.tensor([step.time], dtype=torch.float64))
        assert alpha.item() == pytest.approx(step.alpha_t, abs=1e-6)
        assert sigma.item() == pytest.approx(step.sigma_t, abs=1e-6)


def test_the_x0_objective_adds_the_best_linear_guess() -> None:
    # alpha 0.6, sigma 0.8, spread 0.16: the guess is 0.6 * 0.16 / (0.36 * 0.16 + 0.64) of the noisy value.
    out = implied_x0(torch.tensor([0.1]), torch.tensor([2.0]), 0.6, 0.8, "x0")
    assert out.item() == pytest.approx(0.1 + 2 * 0.096 / 0.6976, rel=1e-6)


def test_training_lowers_the_loss_and_resumes(corpus: Path, tmp_path: Path) -> None:
    config = TrainConfig(batch_size=4, matrix_lr=5e-3, other_lr=5e-3)
    trainer = Trainer(corpus, tmp_path / "run", config, OURS)
    assert trainer.corpus.refresh() == 1
    batch = collate(trainer.corpus.choose(8, np.random.default_rng(0)))

    def loss() -> float:
        torch.manual_seed(0)  # the same noise and levels both times
        return float(loss_on(trainer.model, batch, config).detach())

    before = loss()
    for _ in range(40):
        trainer.train_step(1.0)
    assert loss() < 0.9 * before
    trainer.save()
    resumed = Trainer(corpus, tmp_path / "run", config, OURS)
    assert resumed.step == 40
    for (name, one), other in zip(
        trainer.averaged.state_dict().items(), resumed.averaged.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other), name


def test_a_corpus_finds_new_pieces_once(corpus: Path) -> None:
    loaded = Corpus(corpus / "train", OURS.vocabulary)
    assert (loaded.refresh(), loaded.refresh()) == (1, 0)
    assert loaded.hours == pytest.approx(8 / 3600, rel=0.01)
