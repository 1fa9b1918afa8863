"""What a batch promises: nothing lost, nothing trusted blindly, everything told."""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import soundfile
from command_line import specdiff
from midi_files import write_song
from typer.testing import Result

from specdiff_cli.audio.record import find_problem, read_record
from specdiff_cli.audio.wav import AtomicWriter
from specdiff_cli.cli import screen
from specdiff_cli.engine import loading
from specdiff_cli.engine.synthesizer import Synthesizer
from specdiff_cli.rendering import batch
from specdiff_cli.rendering.prepare import prepare as real_prepare
from specdiff_cli.rendering.record import differences
from specdiff_cli.signals import Terminated


def run(*arguments: str | Path) -> Result:
    return specdiff("render", "--tail", "0.1", *arguments)


def lines_of(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def never_load(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object, **__: object) -> None:
        raise AssertionError("the voice was loaded")

    monkeypatch.setattr(loading, "load_synthesizer", load)


def test_one_bad_file_stops_nothing_and_everything_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loads = []
    real_load = loading.load_synthesizer

    def load(*given: Any, **options: Any) -> Synthesizer:
        loads.append(1)
        return real_load(*given, **options)

    monkeypatch.setattr(loading, "load_synthesizer", load)
    write_song("a.mid")
    Path("b.mid").write_bytes(b"MThd")
    write_song("c.mid")
    result = run("a.mid", "b.mid", "missing.mid", "c.mid", "-o", "out", "--json")
    assert result.exit_code == 1
    told = lines_of(result)
    assert [(line["status"], line["input"], line["exit_code"]) for line in told] == [
        ("done", "a.mid", 0), ("failed", "b.mid", 3), ("failed", "missing.mid", 3), ("done", "c.mid", 0),
    ]  # fmt: skip
    assert told[0]["output"] == "out/a.wav"
    assert told[0]["duration_s"] == pytest.approx(0.35)  # 240 ticks of 480 to the beat of 0.5 s, and the tail
    assert told[0]["seconds"] > 0 and told[0]["realtime_factor"] > 0
    assert "damaged" in told[1]["error"]
    assert loads == [1]
    assert "4 inputs: 2 done, 2 failed" in result.stderr
    for word in ("Result", "missing.mid", "no such file"):
        assert word in result.stderr
    assert sorted(os.listdir("out")) == ["a.wav", "c.wav"]


def test_fail_fast_stops_at_the_first(folder: Path) -> None:
    Path("a.mid").write_bytes(b"MThd")
    write_song("b.mid")
    result = run("a.mid", "b.mid", "--fail-fast")
    assert result.exit_code == 1
    assert "2 inputs: 0 done, 1 failed, 1 not rendered" in result.stderr
    assert not Path("b.wav").exists()


def test_a_bug_in_one_file_is_told_and_the_rest_goes_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    def prepare(job: Any, *rest: Any) -> Any:
        if job.source.name == "a.mid":
            raise RecursionError("too deep")
        return real_prepare(job, *rest)

    monkeypatch.setattr(batch, "prepare", prepare)
    write_song("a.mid")
    write_song("b.mid")
    result = run("a.mid", "b.mid")
    assert result.exit_code == 1
    assert "error: internal error (RecursionError: too deep); please report it" in result.stderr
    assert Path("b.wav").exists()


def test_a_voice_that_cannot_be_loaded_ends_the_batch_at_once(folder: Path) -> None:
    write_song("a.mid")
    write_song("b.mid")
    for options, code in ((["--sampler", "euler"], 2), (["-m", "unknown"], 4), (["--vocoder", "melgan"], 4)):
        result = run("a.mid", "b.mid", *options)
        assert result.exit_code == code
        assert len(result.stderr.splitlines()) == 1


def test_a_tree_is_mirrored(folder: Path) -> None:
    write_song("in/a.mid")
    write_song("in/x/y/a.mid", [62])
    result = run("in", "-r", "-o", "out", "--output-template", "{stem}.{model}.flac", "-q")
    assert (result.exit_code, result.stderr, result.stdout) == (0, "", "")
    for name in ("out/a.random.flac", "out/x/y/a.random.flac"):
        assert soundfile.info(name).frames == 5600


def test_a_second_run_skips_what_is_done_without_loading_anything(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_song("a.mid")
    write_song("b.mid", [62])
    for suffix in ("wav", "flac"):
        assert run("a.mid", "b.mid", "-o", "out", "--format", suffix).exit_code == 0
    before = {name: Path("out", name).read_bytes() for name in os.listdir("out")}
    never_load(monkeypatch)
    for suffix in ("wav", "flac"):
        result = run("a.mid", "b.mid", "-o", "out", "--format", suffix, "--skip-existing", "--json")
        assert result.exit_code == 0, result.stderr
        assert [line["status"] for line in lines_of(result)] == ["skipped", "skipped"]
        assert "2 inputs: 0 done, 2 skipped" in result.stderr
    assert {name: Path("out", name).read_bytes() for name in os.listdir("out")} == before


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--seed", "1"], "seed was 0, now 1"),
        (["--steps", "3"], "steps was 2, now 3"),
        (["--tail", "0.2"], "tail was 0.1, now 0.2"),
        (["--dtype", "bfloat16"], "dtype was auto, now bfloat16"),
        (["--subtype", "pcm24"], "subtype was pcm16, now pcm24"),
    ],
)
def test_other_options_render_again_and_say_why(folder: Path, options: list[str], why: str) -> None:
    write_song("a.mid")
    assert run("a.mid").exit_code == 0
    result = run("a.mid", "--skip-existing", *options)
    assert result.exit_code == 0, result.stderr
    assert f"a.wav: rendered again: {why}" in result.stderr
    assert "skipped" in run("a.mid", "--skip-existing", *options).stderr


def test_another_input_or_other_weights_render_again(folder: Path, voice: str, tmp_path: Path) -> None:
    write_song("a.mid")
    assert run("a.mid").exit_code == 0
    write_song("a.mid", [64])
    assert "rendered again: the input has changed" in run("a.mid", "--skip-existing").stderr
    other = tmp_path / "other"
    shutil.copytree(voice, other)
    with (other / "voice.toml").open("a") as file:
        file.write("\n")
    result = run("a.mid", "--skip-existing", "-m", other)
    assert "rendered again: the weights of random have changed" in result.stderr
    assert "skipped" in run("a.mid", "--skip-existing", "-m", other).stderr


def test_asking_by_name_for_what_auto_took_changes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    write_song("a.mid")
    assert run("a.mid").exit_code == 0
    assert "skipped" in run("a.mid", "--skip-existing", "--device", "cpu", "--dtype", "float32").stderr


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_a_damaged_or_cut_file_is_not_trusted(folder: Path, suffix: str) -> None:
    write_song("a.mid")
    target = Path(f"a.{suffix}")
    assert run("a.mid", "-o", target).exit_code == 0
    whole = target.read_bytes()
    for broken in (whole[:-1], whole[: len(whole) * 2 // 3], whole[:-500] + b"\x55" + whole[-499:]):
        target.write_bytes(broken)
        result = run("a.mid", "-o", target, "--skip-existing")
        assert result.exit_code == 0, result.stderr
        assert f"{target}: rendered again: it" in result.stderr
        assert target.read_bytes() == whole


def test_files_of_others_are_never_replaced_unasked(folder: Path) -> None:
    write_song("a.mid")
    write_song("b.mid")
    Path("a.wav").write_bytes(b"precious")
    result = run("a.mid", "b.mid", "--skip-existing")
    assert result.exit_code == 1
    assert "a.wav exists already and does not tell how it was made: use --overwrite" in result.stderr
    assert Path("a.wav").read_bytes() == b"precious"
    assert Path("b.wav").exists()
    result = run("a.mid", "b.mid", "--skip-existing", "--overwrite")
    assert result.exit_code == 0
    assert "rendered again: it was not made by specdiff" in result.stderr
    assert read_record(Path("a.wav")) is not None


def test_a_missing_spectrogram_renders_again(folder: Path) -> None:
    write_song("a.mid")
    assert run("a.mid").exit_code == 0
    assert "rendered again: a.npy is missing" in run("a.mid", "--skip-existing", "--save-mel", "a.npy").stderr
    assert "skipped" in run("a.mid", "--skip-existing", "--save-mel", "a.npy").stderr


def test_the_record_tells_all(folder: Path, voice: str) -> None:
    write_song("a.mid")
    assert run("a.mid", "--threads", "1").exit_code == 0
    record = read_record(Path("a.wav"))
    assert record is not None
    assert record["input"]["name"] == "a.mid"
    assert set(record["model"]["weights"]) == {"model.safetensors", "voice.toml"}
    assert record["options"] | {"device": 0, "dtype": 0} == {
        "steps": 2, "sampler": "ddim", "schedule": "magenta", "guidance": 1.0, "seed": 0, "vocoder": "griffin-lim",
        "tail_s": 0.1, "subtype": "pcm16", "device": 0, "dtype": 0,
    }  # fmt: skip
    assert (record["samples"], record["dtype"]) == (5600, "float32")
    assert find_problem(Path("a.wav"), record) is None
    assert differences(record, record) == []


@pytest.mark.skipif(sys.platform != "linux", reason="names are any bytes on Linux")
def test_names_of_any_bytes_survive(folder: Path) -> None:
    names = [os.fsdecode(name) for name in (b"bad\xff.mid", b"new\nline.mid", "é ×.mid".encode())]
    for name in names:
        write_song(name)
    for _ in range(2):
        result = run(".", "-o", "out", "--json", "--skip-existing")
        assert result.exit_code == 0, result.stderr
        assert sorted(line["input"] for line in lines_of(result)) == sorted(names)
    for name in names:
        record = read_record(Path("out", name).with_suffix(".wav"))
        assert record is not None
        assert record["input"]["name"] == name
        shown = specdiff("inspect-wav", "--json", Path("out", name).with_suffix(".wav"))
        assert json.loads(shown.stdout)["record"]["input"]["name"] == name
        assert len(shown.stdout.splitlines()) == 1


def test_an_interruption_prints_what_is_done(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = AtomicWriter.write
    for error, code, word in ((KeyboardInterrupt, 130, "interrupted"), (Terminated, 143, "terminated")):
        n_writes = 0

        def write(self: AtomicWriter, samples: Any, error: Any = error) -> None:
            nonlocal n_writes
            n_writes += 1
            if n_writes == 2:
                raise error
            real(self, samples)

        monkeypatch.setattr(AtomicWriter, "write", write)
        for name in "abc":
            write_song(f"{name}.mid")
        result = run("a.mid", "b.mid", "c.mid", "-o", word)
        assert result.exit_code == code
        assert os.listdir(word) == ["a.wav"]
        assert "3 inputs: 1 done, 2 not rendered" in result.stderr
        assert result.stderr.splitlines()[-1] == word


def test_a_long_batch_shows_its_failures(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screen, "MAX_ROWS", 2)
    write_song("a.mid")
    result = run("a.mid", "missing1.mid", "missing2.mid", "-o", "out")
    table = result.stderr[result.stderr.index("Result") :]
    assert "missing2.mid" in table
    assert "a.mid" not in table


@pytest.mark.parametrize("options", [["--json"], ["--skip-existing"], ["--resume"], ["--output-template", "{stem}"]])
def test_what_does_not_go_with_a_pipe(folder: Path, options: list[str]) -> None:
    result = run(write_song("a.mid"), "-o", "-", *options)
    assert result.exit_code == 2
    assert "does not go with -o -" in result.stderr
    assert result.stdout == ""


def test_quiet_means_errors_only_and_verbose_tells_where_settings_come_from(folder: Path) -> None:
    write_song("a.mid")
    assert run("a.mid", "missing.mid", "-q", "-f").stderr.splitlines()[0].startswith("error: missing.mid")
    result = run("a.mid", "-v", "-f")
    assert "--model" in result.stderr and "from SPECDIFF_MODEL" in result.stderr
    assert run("a.mid", "-v", "-q").exit_code == 2


def test_audio_that_fails_at_its_end_leaves_no_spectrogram(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_song("a.mid")
    real = os.fsync
    calls = []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 1:
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    result = run("a.mid", "--save-mel", "a.npy")
    assert result.exit_code == 5
    assert "No space left on device" in result.stderr
    assert os.listdir() == ["a.mid"]


def test_audio_whose_name_is_taken_meanwhile_leaves_no_spectrogram(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_song("a.mid")
    real = AtomicWriter.settle

    def settle(self: AtomicWriter) -> None:
        Path("a.wav").write_bytes(b"somebody else's")
        real(self)

    monkeypatch.setattr(AtomicWriter, "settle", settle)
    result = run("a.mid", "--save-mel", "a.npy")
    assert result.exit_code == 5
    assert "appeared while" in result.stderr
    assert sorted(os.listdir()) == ["a.mid", "a.wav"]
    assert Path("a.wav").read_bytes() == b"somebody else's"


def test_a_folder_that_is_removed_meanwhile_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_song("a.mid")
    Path("out").mkdir()
    real = AtomicWriter.settle

    def settle(self: AtomicWriter) -> None:
        real(self)
        shutil.rmtree("out")

    monkeypatch.setattr(AtomicWriter, "settle", settle)
    result = run("a.mid", "-o", "out/a.wav", "-q")
    assert result.exit_code == 5
    assert result.stderr == "error: cannot write out/a.wav: its folder was removed meanwhile\n"
