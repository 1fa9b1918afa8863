"""Corpora, atlases and evaluations by the workers of a cluster: the same results as by processes here."""

import json
import os
import re
import signal
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from command_line import specdiff
from midi_files import midi_bytes, note
from soundfonts import SOUNDFONTS, needs_soundfont

from specdiff_cli.cluster.actor import Facts
from specdiff_cli.cluster.connect import ClusterOptions
from specdiff_cli.cluster.folders import temporary_folder
from specdiff_cli.cluster.place import Place
from specdiff_cli.cluster.pool import Finished, GivenUp, Lost, Ready, Shape
from specdiff_cli.cluster.shipping import PREFIX
from specdiff_cli.cluster.spreading import _results, by_cluster, here_or_there, make_item_work
from specdiff_cli.errors import DeviceError, OutputError, UsageError


class Doubling:
    def one(self, item: int) -> int:
        return 2 * item


def test_what_is_given_up_is_told_when_all_others_are_done() -> None:
    def news() -> Generator[Any, None, None]:
        yield Ready(Facts("here:1", ""), 1)
        yield Lost("its process died", "worker here:1", (1,), 1)
        yield GivenUp(1, "its process died")
        yield Finished(0, "first")
        yield Finished(2, "third")

    told: list[str] = []
    found: list[str] = []
    with pytest.raises(DeviceError, match="1 item given up after three workers each, number 2 first: its process died"):
        found.extend(_results(news(), Shape(2), told.append))
    assert told == [
        "2 workers, the first of them here:1",
        "worker here:1 was lost: its process died; 1 item will be tried again",
    ]


def test_work_ends_between_items_once_nobody_waits() -> None:
    work = make_item_work(Place(None, None, None), Doubling, ())
    assert work.do([(1, 0), (2, 0)], lambda: False) == [2, 4]
    assert work.do([(1, 0), (2, 0)], lambda: True) == []


def test_a_worker_that_sees_another_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is not the one here"):
        make_item_work(Place(str(tmp_path), str(tmp_path), ".token"), Doubling, ())


@pytest.mark.skipif(sys.platform == "win32", reason="has no such locks")
def test_folders_of_killed_workers_are_swept_and_others_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in ("specdiff-parcels-dead", "others"):
        (tmp_path / name / "0").mkdir(parents=True)
    with temporary_folder(PREFIX) as busy, temporary_folder(PREFIX) as mine:
        assert set(tmp_path.iterdir()) == {busy, mine, tmp_path / "others"}
    assert [path.name for path in tmp_path.iterdir()] == ["others"]


def test_processes_here_unless_there_is_an_address(tmp_path: Path) -> None:
    assert here_or_there(3, None, tmp_path, print) == 3
    assert callable(here_or_there(3, "10.0.0.1:6379", tmp_path, print))
    with pytest.raises(UsageError, match="neither auto nor HOST:PORT"):
        here_or_there(None, "nowhere", tmp_path, print)


def timeless(value: Any) -> Any:
    """A report without what two runs never have alike."""
    if isinstance(value, dict):
        return {key: timeless(inner) for key, inner in value.items() if not re.search("realtime|elapsed|made_at", key)}
    return [timeless(inner) for inner in value] if isinstance(value, list) else value


@pytest.mark.slow
def test_an_evaluation_by_two_workers_says_what_one_process_says(voice: str, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    pytest.importorskip("scipy")
    for number in range(3):
        stem = tmp_path / f"piece{number}"
        stem.with_suffix(".mid").write_bytes(midi_bytes(note(0, 1920, 0, 60 + number)))
        soundfile.write(stem.with_suffix(".wav"), np.sin(np.arange(48000) * 0.1 * (number + 1)) * 0.3, 16000)
    words = ["evaluate", voice, "--midi", str(tmp_path), "--no-transcriber", "--threads", "1", "--json"]

    def judged(*more: str) -> Any:
        result = specdiff(*words, *more)
        assert result.exit_code == 0, result.output
        return timeless(json.loads(result.stdout))

    assert judged() == judged("--workers", "2")
    bad = specdiff(*words, "--workers", "0")
    assert (bad.exit_code, "--workers 0: must be between 1 and" in bad.stderr) == (2, True)


def contents(folder: Path) -> dict[str, bytes]:
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {name: data for name, data in found.items() if name != ".lock"}


@needs_soundfont
@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="kills a process")
def test_a_corpus_by_workers_of_which_one_is_killed_equals_one_by_processes(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    pytest.importorskip("pyloudnorm")
    from specdiff_cli.corpus.compose import ComposeConfig
    from specdiff_cli.corpus.pieces import CorpusConfig, make_corpus

    config = CorpusConfig(seed=1, soundfont=str(SOUNDFONTS[0]), validation_share=0.5)
    short = ComposeConfig(length_s=(10.0, 15.0))
    told: list[str] = []

    def tell(line: str) -> None:
        if not told:
            os.kill(int(line.rpartition(":")[2]), signal.SIGKILL)
        told.append(line)

    here = list(make_corpus(tmp_path / "here", 0.15, config, 1, short))
    folder = tmp_path / "there"
    there = list(make_corpus(folder, 0.15, config, by_cluster(ClusterOptions(workers=2), folder, tell), short))
    assert here[-1][:2] == there[-1][:2] == (6, 6)
    assert here[-1][2] == pytest.approx(there[-1][2])
    assert any("was lost" in line for line in told)
    assert contents(tmp_path / "here") == contents(folder)


@needs_soundfont
@pytest.mark.slow
def test_an_atlas_by_workers_equals_one_by_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    from specdiff_cli.corpus import atlas

    config = atlas.AtlasConfig(str(SOUNDFONTS[0]), lowest_pitch=60, highest_pitch=62, lowest_key=36, highest_key=38)
    whole = atlas.plan(config)
    monkeypatch.setattr(atlas, "plan", lambda config: [whole[0], whole[40], whole[-1]])
    here = list(atlas.make_atlas(tmp_path / "here", config, 1))
    folder = tmp_path / "there"
    there = list(atlas.make_atlas(folder, config, by_cluster(ClusterOptions(workers=2), folder, print)))
    assert here[-1] == there[-1] == (3, 3, here[-1][2])
    assert contents(tmp_path / "here") == contents(folder)
