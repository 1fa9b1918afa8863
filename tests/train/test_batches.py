"""Training windows: what rendering would see, cut anywhere, the same again for the same number of a batch."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from random_voices import OURS
from small_corpora import NOTES, write_corpus, write_piece

from specdiff_cli.errors import UsageError
from specdiff_cli.midi.notes import Note
from specdiff_cli.midi.windows import tokenize
from specdiff_cli.train.batches import Batch, BatchStream, Corpus, CorpusFiles, Piece, collate, iterate

CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_corpus(tmp_path / "corpus")


def load(folder: Path) -> Corpus:
    return Corpus.load(CorpusFiles.find(folder).training, OURS.vocabulary)


def assert_equal(one: Batch, other: Batch) -> None:
    for field in fields(Batch):
        assert torch.equal(getattr(one, field.name), getattr(other, field.name)), field.name


def test_training_windows_are_the_tokens_that_rendering_sees(tmp_path: Path) -> None:
    rows = [*NOTES, (4.0, 4.1, 38, 90, 0, 1), (5.3, 9.0, 50, 70, 45, 0)]
    rows.sort()
    piece = Piece(write_piece(tmp_path / "piece.npz", rows), OURS.vocabulary)
    notes = [
        Note(start_s, end_s, pitch, velocity, program, bool(is_drum))
        for start_s, end_s, pitch, velocity, program, is_drum in rows
    ]
    for window in tokenize(notes, OURS.vocabulary):
        first_frame = window.index * 256
        assert piece.tokens(first_frame) == window.tokens.tolist()
        ids, times = piece.layout(first_frame)
        np.testing.assert_array_equal(ids, window.layout[:, :3])
        np.testing.assert_allclose(times, window.layout[:, 3:], atol=1e-9)


def test_a_batch_holds_the_true_previous_window(folder: Path) -> None:
    piece = Piece(folder / "train" / "piece-000000.npz", OURS.vocabulary)
    batch = collate([(piece, 0), (piece, 100)])
    assert batch.has_context.tolist() == [False, True]
    assert torch.all(batch.context[0] == -1)
    assert torch.equal(batch.context[1, -100:], batch.target[0, :100])
    assert batch.to(CPU).target.dtype == torch.float32


def test_a_piece_without_notes_can_be_cut(tmp_path: Path) -> None:
    piece = Piece(write_piece(tmp_path / "silent.npz", []), OURS.vocabulary)
    batch = collate([(piece, 0)])
    assert batch.tokens[0].nonzero().flatten().tolist() == [0, 1]  # tie and end
    assert not batch.layout_tokens.any()


def test_a_batch_is_a_function_of_seed_process_and_number(folder: Path) -> None:
    corpus = load(folder)
    stream = BatchStream(corpus, 3, seed=1)
    later = BatchStream(load(folder), 3, seed=1)
    for index in (9, 2, 8):  # of two groups, in any order
        assert_equal(stream[index], later[index])
    for other in (BatchStream(corpus, 3, seed=2), BatchStream(corpus, 3, seed=1, rank=1)):
        assert not torch.equal(stream[0].target, other[0].target)


@pytest.mark.slow  # starts processes
def test_worker_processes_give_the_same_batches_in_order(folder: Path) -> None:
    stream = BatchStream(load(folder), 2, seed=0)
    built_ahead = list(iterate(stream, 3, 9, 2, CPU))
    assert len(built_ahead) == 6
    for batch, plain in zip(built_ahead, iterate(stream, 3, 9, 0, CPU), strict=True):
        assert_equal(batch, plain)


def test_notes_are_counted_by_class(tmp_path: Path) -> None:
    notes = [(0.0, 1.0, 60, 80, 1, 0), (0.0, 1.0, 62, 80, 0, 0), (1.0, 2.0, 50, 80, 45, 0), (1.0, 2.0, 36, 80, 0, 1)]
    piece = Piece(write_piece(tmp_path / "piece.npz", notes), OURS.vocabulary)
    # programs 0 and 1 are both acoustic pianos; pizzicato (45) is folded onto the contrabass (43)
    assert piece.count_notes() == {0: 2, 43: 1, "drums": 1}


def test_what_is_no_corpus_is_one_line(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(UsageError, match="is not a folder"):
        CorpusFiles.find(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"empty: holds no pieces \(train/\*\.npz\)"):
        CorpusFiles.find(tmp_path / "empty")
    for path in (folder / "validation").iterdir():
        path.unlink()
    with pytest.raises(UsageError, match=r"corpus: has no validation part \(validation/\*\.npz\)"):
        CorpusFiles.find(folder)


@pytest.mark.parametrize("content", ["text", "other arrays"])
def test_a_damaged_piece_is_named(folder: Path, content: str) -> None:
    path = folder / "train" / "piece-000001.npz"
    if content == "text":
        path.write_bytes(b"not an archive")
    else:
        np.savez(path, audio=np.zeros(5), notes=np.zeros((1, 4)))
    with pytest.raises(UsageError, match=r"piece-000001\.npz: is not a piece of a corpus"):
        load(folder)


def test_the_fingerprint_follows_the_pieces(folder: Path) -> None:
    before = CorpusFiles.find(folder).fingerprint
    assert CorpusFiles.find(folder).fingerprint == before
    write_piece(folder / "train" / "piece-000003.npz", NOTES)
    assert CorpusFiles.find(folder).fingerprint != before


def test_length_and_progress_of_loading(folder: Path) -> None:
    heard: list[tuple[int, int]] = []
    corpus = Corpus.load(CorpusFiles.find(folder).training, OURS.vocabulary, lambda *counts: heard.append(counts))
    assert heard == [(1, 2), (2, 2)]
    assert corpus.hours == pytest.approx(14 / 3600, rel=0.01)
