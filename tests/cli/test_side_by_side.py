"""``render --batch``: several songs at once are the songs that are rendered alone, and one's trouble is its own."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from command_line import specdiff
from midi_files import midi_bytes, note
from typer.testing import Result

from specdiff_cli.audio.record import find_problem, read_record
from specdiff_cli.audio.wav import AtomicWriter
from specdiff_cli.model.compiled import CompiledNetwork
from specdiff_cli.rendering import batch
from specdiff_cli.rendering.batch import _longest_first
from specdiff_cli.rendering.prepare import prepare as real_prepare
from specdiff_cli.signals import Terminated

TICKS_PER_S = 960
LENGTHS_S = {"a.mid": 2.0, "b.mid": 12.0, "c.mid": 6.0, "d.mid": 1.0, "e.mid": 7.0}


@pytest.fixture
def folder(folder: Path) -> Path:
    Path("in").mkdir()
    for pitch, (name, length_s) in enumerate(LENGTHS_S.items(), start=60):
        Path("in", name).write_bytes(midi_bytes(note(0, round(length_s * TICKS_PER_S), 0, pitch)))
    return folder


def run(*arguments: str | Path) -> Result:
    return specdiff("render", "--tail", "0.1", *arguments)


def test_songs_rendered_together_are_those_rendered_alone(folder: Path) -> None:
    assert run("in", "-o", "alone", "--batch", "1", "--subtype", "float").exit_code == 0
    result = run("in", "-o", "together", "--batch", "3", "--subtype", "float", "--json")
    assert result.exit_code == 0
    told = [json.loads(line) for line in result.stdout.splitlines()]
    assert sorted(line["input"] for line in told) == [f"in/{name}" for name in LENGTHS_S]
    assert "rendering 5 songs, 3 at once" in result.stderr
    assert (
        "5 inputs: 5 done; 0:28 of audio in" in result.stderr.replace("\n", " ") or "5 inputs: 5 done;" in result.stderr
    )
    for name in os.listdir("alone"):
        alone, together = (soundfile.read(Path(where, name), dtype="float32")[0] for where in ("alone", "together"))
        assert len(alone) == len(together)
        # the same noise and the same notes, up to the rounding of larger matrix products
        assert np.abs(alone - together).max() < 0.02 * np.abs(alone).max()
        record = read_record(Path("together", name))
        assert record is not None and find_problem(Path("together", name), record) is None


def test_what_was_rendered_together_is_skipped_when_rendered_alone(folder: Path) -> None:
    assert run("in", "-o", "out", "--batch", "4").exit_code == 0
    assert run("in", "-o", "out", "--skip-existing").stderr.count("skipped:") == 5


def test_one_bad_file_and_one_bad_output_stop_no_other(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("in/x.mid").write_bytes(b"MThd")
    real = AtomicWriter.write

    def write(self: AtomicWriter, samples: Any) -> None:
        if "b.wav" in self._shown and self.levels.n_samples:
            raise OSError(28, "No space left on device")
        real(self, samples)

    monkeypatch.setattr(AtomicWriter, "write", write)
    result = run("in", "-o", "out", "--batch", "2", "--json")
    assert result.exit_code == 1
    told = {line["input"]: line for line in map(json.loads, result.stdout.splitlines())}
    assert {name for name, line in told.items() if line["status"] == "failed"} == {"in/b.mid", "in/x.mid"}
    assert "No space left" in told["in/b.mid"]["error"]
    assert sorted(os.listdir("out")) == ["a.wav", "c.wav", "d.wav", "e.wav"]


def test_a_network_that_fails_on_one_song_fails_that_song(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = CompiledNetwork.remember

    def remember(self: CompiledNetwork, tokens: Any, *rest: Any, **options: Any) -> Any:
        if any((row == 3 + 1001 + 61).any() for row in tokens):  # the pitch of b.mid
            raise ZeroDivisionError("of b")
        return real(self, tokens, *rest, **options)

    monkeypatch.setattr(CompiledNetwork, "remember", remember)
    result = run("in", "-o", "out", "--batch", "3")
    assert result.exit_code == 1
    assert "5 inputs: 4 done, 1 failed" in result.stderr
    assert sorted(os.listdir("out")) == ["a.wav", "c.wav", "d.wav", "e.wav"]


def test_the_last_song_of_a_batch_fails_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def remember(self: CompiledNetwork, tokens: Any, *rest: Any, **options: Any) -> Any:
        if len(tokens) == 1:  # the longest song is alone at its end
            raise ZeroDivisionError("alone")
        return real(self, tokens, *rest, **options)

    real = CompiledNetwork.remember
    monkeypatch.setattr(CompiledNetwork, "remember", remember)
    result = run("in/a.mid", "in/b.mid", "-o", "out", "--batch", "2", "--json")
    assert result.exit_code == 1
    assert [json.loads(line)["status"] for line in result.stdout.splitlines()] == ["done", "failed"]
    assert "2 inputs: 1 done, 1 failed" in result.stderr


def test_fail_fast_holds_when_the_network_fails(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def remember(self: CompiledNetwork, *rest: Any, **options: Any) -> Any:
        raise ZeroDivisionError("always")

    monkeypatch.setattr(CompiledNetwork, "remember", remember)
    result = run("in", "-o", "out", "--batch", "2", "--fail-fast")
    assert result.exit_code == 1
    assert "5 inputs: 0 done, 1 failed, 4 not rendered" in result.stderr


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt, 130), (Terminated, 143)])
def test_an_interruption_leaves_no_half_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException], code: int
) -> None:
    real = AtomicWriter.settle
    n_settled = 0

    def settle(self: AtomicWriter) -> None:
        nonlocal n_settled
        n_settled += 1
        if n_settled == 3:  # the second song; each is settled once more when its block ends
            raise error
        real(self)

    monkeypatch.setattr(AtomicWriter, "settle", settle)
    result = run("in", "-o", "out", "--batch", "3")
    assert result.exit_code == code
    assert len(os.listdir("out")) == 1
    assert "5 inputs: 1 done, 4 not rendered" in result.stderr


def test_fail_fast_ends_the_others_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def settle(self: AtomicWriter) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(AtomicWriter, "settle", settle)
    result = run("in", "-o", "out", "--batch", "2", "--fail-fast")
    assert result.exit_code == 1
    assert "5 inputs: 0 done, 1 failed, 4 not rendered" in result.stderr
    assert os.listdir("out") == []


def test_finished_windows_are_kept_in_a_batch_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("in/b.mid", "-o", "whole.wav").exit_code == 0
    real = AtomicWriter.settle
    monkeypatch.setattr(AtomicWriter, "settle", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
    assert run("in/b.mid", "in/c.mid", "-o", "out", "--batch", "2", "--resume").exit_code == 130
    monkeypatch.setattr(AtomicWriter, "settle", real)
    result = run("in/b.mid", "in/c.mid", "-o", "out", "--batch", "2", "--resume")
    assert result.exit_code == 0
    assert "b.mid: 2 windows of 3 done earlier" in result.stderr
    assert sorted(os.listdir("out")) == ["b.wav", "c.wav"]


def test_a_batch_too_large_for_memory_is_halved_with_a_note(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = CompiledNetwork.remember

    def remember(self: CompiledNetwork, tokens: Any, *rest: Any, **options: Any) -> Any:
        if len(tokens) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, tokens, *rest, **options)

    monkeypatch.setattr(CompiledNetwork, "remember", remember)
    result = run("in", "-o", "out", "--batch", "4")
    assert result.exit_code == 0
    assert "4 songs at once do not fit into the memory of cpu; going on with 2" in result.stderr
    assert len(os.listdir("out")) == 5


def test_long_songs_go_first_as_far_as_is_seen_ahead() -> None:
    class Song:
        def __init__(self, duration_s: float) -> None:
            self.duration_s = duration_s

    songs = iter([Song(duration_s) for duration_s in (1, 5, 3, 9, 2, 7)])
    assert [song.duration_s for song in _longest_first(songs, 3)] == [5, 9, 3, 7, 2, 1]  # type: ignore[arg-type]


@pytest.mark.parametrize("n_songs", ["0", "1025"])
def test_numbers_that_make_no_batch_are_refused(folder: Path, n_songs: str) -> None:
    result = run("in", "--batch", n_songs)
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"--batch {n_songs}: must be between 1 and 1024" in result.stderr


def test_a_bug_while_songs_are_prepared_is_that_songs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    def prepare(job: Any, *rest: Any) -> Any:
        if job.source.name == "c.mid":
            raise RecursionError("too deep")
        return real_prepare(job, *rest)

    monkeypatch.setattr(batch, "prepare", prepare)
    result = run("in", "-o", "out", "--batch", "2")
    assert result.exit_code == 1
    assert sorted(os.listdir("out")) == ["a.wav", "b.wav", "d.wav", "e.wav"]
