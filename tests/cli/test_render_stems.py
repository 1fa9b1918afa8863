"""``render --stems`` and ``--stereo``: instruments on their own, and their sum."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from command_line import specdiff
from midi_files import control, midi_bytes, note, program
from random_voices import write_voice_folder
from typer.testing import Result

from specdiff_cli.audio.record import find_problem, read_record
from specdiff_cli.audio.wav import AtomicWriter

#: Piano on the first channel, hard left; violin on the second, hard right.
PIANO_AND_VIOLIN = [program(0, 0, 0), program(0, 1, 40), control(0, 0, 10, 0), control(0, 1, 10, 127)]
TAIL = ("--tail", "0.1")


@pytest.fixture(scope="module")
def voice(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = write_voice_folder(tmp_path_factory.mktemp("voices") / "random")
    told = folder / "voice.toml"
    told.write_text(told.read_text().replace("programs = [0]", "programs = [0, 40]"))
    return str(folder)


@pytest.fixture
def folder(folder: Path) -> Path:
    body = PIANO_AND_VIOLIN + note(0, 480, 0, 60) + note(0, 12 * 960, 1, 72) + note(0, 240, 0, 64)
    Path("duo.mid").write_bytes(midi_bytes(body))
    return folder


def run(*arguments: str | Path) -> Result:
    return specdiff("render", *TAIL, *arguments)


def samples(path: str) -> Any:
    return soundfile.read(path, dtype="float64")[0]


def test_stems_add_up_to_the_output(folder: Path) -> None:
    result = run("duo.mid", "--stems", "--subtype", "float", "--json")
    assert result.exit_code == 0, result.stderr
    assert "duo.mid, 2 instruments: rendering 3 windows of 2 steps" in result.stderr
    names = ["acoustic-grand-piano.wav", "violin.wav"]
    assert sorted(os.listdir("duo.stems")) == names
    stems = [samples(f"duo.stems/{name}") for name in names]
    np.testing.assert_allclose(sum(stems), samples("duo.wav"), atol=1e-6)
    assert all(np.abs(stem).max() > 0 for stem in stems)
    (line,) = map(json.loads, result.stdout.splitlines())
    assert line["stems"] == [f"duo.stems/{name}" for name in names]
    assert line["windows"] == 6  # three windows of each
    for name in names:
        record = read_record(Path("duo.stems", name))
        assert record is not None and find_problem(Path("duo.stems", name), record) is None
        assert record["stem"].lower().replace(" ", "-") + ".wav" == name


def test_stems_fade_with_the_song(folder: Path) -> None:
    assert run("duo.mid", "--stems", "--subtype", "float", "--fade-out", "2").exit_code == 0
    stems = [samples(str(path)) for path in sorted(Path("duo.stems").iterdir())]
    np.testing.assert_allclose(sum(stems), samples("duo.wav"), atol=1e-6)
    assert all(np.abs(stem[-160:]).max() < 1e-3 * np.abs(stem).max() for stem in stems)


def test_a_stem_is_that_instrument_rendered_alone(folder: Path) -> None:
    assert run("duo.mid", "--stems", "--subtype", "float").exit_code == 0
    assert run("duo.mid", "--only", "violin", "--subtype", "float", "-o", "violin.wav").exit_code == 0
    alone, stem = samples("violin.wav"), samples("duo.stems/violin.wav")
    n = min(len(alone), len(stem))
    assert np.abs(alone[:n] - stem[:n]).max() < 0.02 * np.abs(alone).max()  # rounding of larger matrix products


def test_stereo_places_instruments_by_their_pan(folder: Path) -> None:
    assert run("duo.mid", "--stereo", "--stems", "--subtype", "float").exit_code == 0
    both, piano, violin = (
        samples(name) for name in ("duo.wav", "duo.stems/acoustic-grand-piano.wav", "duo.stems/violin.wav")
    )
    assert both.shape == piano.shape == violin.shape and both.shape[1] == 2
    assert np.abs(piano[:, 1]).max() < 1e-9 and np.abs(violin[:, 0]).max() < 1e-9
    np.testing.assert_allclose(piano + violin, both, atol=1e-6)
    assert run("duo.mid", "--stereo", "--subtype", "float", "-o", "alone.wav").exit_code == 0
    np.testing.assert_array_equal(samples("alone.wav"), both)
    assert not Path("alone.stems").exists()


def test_a_missing_stem_is_rendered_again_and_a_complete_set_is_skipped(folder: Path) -> None:
    assert run("duo.mid", "--stems").exit_code == 0
    assert "skipped" in run("duo.mid", "--stems", "--skip-existing").stderr
    os.unlink("duo.stems/violin.wav")
    result = run("duo.mid", "--stems", "--skip-existing")
    assert "rendered again: duo.stems/violin.wav is missing" in result.stderr
    assert Path("duo.stems/violin.wav").exists()
    result = run("duo.mid", "--skip-existing")
    assert "rendered again: stems was on, now off" in result.stderr


def test_existing_stems_are_not_replaced_unasked(folder: Path) -> None:
    Path("duo.stems").mkdir()
    Path("duo.stems/violin.wav").write_bytes(b"mine")
    result = run("duo.mid", "--stems")
    assert result.exit_code == 5
    assert "duo.stems/violin.wav" in result.stderr and "--overwrite" in result.stderr
    assert Path("duo.stems/violin.wav").read_bytes() == b"mine"
    assert not Path("duo.wav").exists()


@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_full_disk_leaves_neither_stems_nor_sum(folder: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    real = AtomicWriter.settle
    n_settled = 0

    def settle(self: AtomicWriter) -> None:
        nonlocal n_settled
        n_settled += 1
        if n_settled == at:
            raise OSError(28, "No space left on device")
        real(self)

    monkeypatch.setattr(AtomicWriter, "settle", settle)
    result = run("duo.mid", "--stems")
    assert result.exit_code in (1, 5)
    assert os.listdir() == ["duo.mid"]


def test_a_sum_whose_name_is_taken_meanwhile_takes_its_stems_back(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = AtomicWriter.settle

    def settle(self: AtomicWriter) -> None:
        Path("duo.wav").write_bytes(b"somebody else's")
        real(self)

    monkeypatch.setattr(AtomicWriter, "settle", settle)
    assert run("duo.mid", "--stems").exit_code == 5
    assert sorted(os.listdir()) == ["duo.mid", "duo.stems", "duo.wav"]
    assert os.listdir("duo.stems") == []
    assert Path("duo.wav").read_bytes() == b"somebody else's"


def test_the_spectrogram_of_a_sum_adds_the_powers_of_its_stems(folder: Path) -> None:
    pytest.importorskip("matplotlib")
    assert run("duo.mid", "--stereo", "--save-mel", "sum.npy", "--plot", "page.png").exit_code == 0
    powers = 0.0
    for instrument in ("piano", "violin"):
        name = f"{instrument}.npy"
        options = ("--only", instrument, "--save-mel", name, "--end", "12", "-o", f"{instrument}.wav")
        assert run("duo.mid", *options).exit_code == 0
        powers = powers + np.exp(2 * np.load(name).astype(np.float64))
    np.testing.assert_allclose(np.load("sum.npy"), np.log(powers) / 2, atol=0.01)
    assert Path("page.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize("option", [["--resume"], ["--snapshots", "1,0"], ["--batch", "2"]])
@pytest.mark.parametrize("by_stems", ["--stems", "--stereo"])
def test_what_does_not_go_with_stems(folder: Path, option: list[str], by_stems: str) -> None:
    result = run("duo.mid", by_stems, *option)
    assert result.exit_code == 2
    assert f"{option[0]}: does not go with {by_stems}" in result.stderr


def test_several_songs_each_have_their_stems(folder: Path) -> None:
    Path("solo.mid").write_bytes(midi_bytes(note(0, 240, 0, 60)))
    result = run("duo.mid", "solo.mid", "--stems", "-o", "out")
    assert result.exit_code == 0
    assert sorted(os.listdir("out")) == ["duo.stems", "duo.wav", "solo.stems", "solo.wav"]
    assert os.listdir("out/solo.stems") == ["acoustic-grand-piano.wav"]


@pytest.mark.parametrize("words", [("--stems", "tracks"), ("--stems=tracks",), ("--stems", "--stems-by", "tracks")])
def test_stems_may_be_tracks(folder: Path, words: tuple[str, ...]) -> None:
    hands = [midi_bytes(note(0, 480, 0, 72))[14:], midi_bytes(note(0, 480, 0, 48))[14:]]
    header = midi_bytes([])[:8] + bytes([0, 1, 0, 2]) + midi_bytes([])[12:14]
    Path("duo.mid").write_bytes(header + b"".join(hands))
    result = specdiff("render", "duo.mid", *TAIL, *words)
    assert result.exit_code == 0, result.stderr
    assert sorted(path.name for path in Path("duo.stems").iterdir()) == ["track-1.wav", "track-2.wav"]
    record = read_record(Path("duo.wav"))
    assert record is not None and record["options"]["stems_by"] == "tracks"
    refused = specdiff("render", "duo.mid", *TAIL, "--stems-by", "tracks")
    assert refused.exit_code == 2
