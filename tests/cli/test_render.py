import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from command_line import only_line, specdiff
from midi_files import write_song
from random_voices import write_diffusers_folder
from typer.testing import Result


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str | Path) -> Result:
    return specdiff("render", *arguments)


def left_over(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".mid")


def test_a_song_becomes_a_wav_in_the_current_folder(folder: Path, voice: str) -> None:
    (folder / "songs").mkdir()
    result = run(write_song(folder / "songs" / "scale.mid", (60, 61, 62), ticks=480), "-m", voice)
    assert result.exit_code == 0, result.stderr
    audio, rate = soundfile.read(folder / "scale.wav")
    assert (rate, audio.shape) == (16_000, (round(2.5 * 16_000),))  # 3 notes of 0.5 s and a tail of 1 s
    assert soundfile.info(folder / "scale.wav").subtype == "PCM_16"
    lines = [line for line in result.stderr.splitlines() if "clipped" not in line]  # random weights are loud
    start, summary = lines
    assert start == "scale.mid: rendering 1 window of 2 steps"
    for part in ("scale.wav: 0:03 of audio in", "× realtime", "random + griffin-lim", "cpu float32", "seed 0"):
        assert part in summary
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("name", "options", "subtype"),
    [
        ("a.wav", ["--subtype", "pcm24"], "PCM_24"),
        ("a.wav", ["--subtype", "float"], "FLOAT"),
        ("a.flac", [], "PCM_16"),
        ("a.audio", ["--format", "flac", "--subtype", "pcm24"], "PCM_24"),
    ],
)
def test_formats(folder: Path, voice: str, name: str, options: list[str], subtype: str) -> None:
    result = run(write_song(folder / "a.mid"), "-m", voice, "-o", name, "--tail", "0", *options)
    assert result.exit_code == 0, result.stderr
    info = soundfile.info(folder / name)
    assert (info.subtype, info.frames) == (subtype, 4000)
    assert info.format == ("FLAC" if name != "a.wav" else "WAV")


def test_the_spectrogram_can_be_saved(folder: Path, voice: str) -> None:
    result = run(write_song(folder / "a.mid"), "-m", voice, "--save-mel", "a.npy", "-q")
    assert result.exit_code == 0
    assert result.stderr == ""
    mel = np.load(folder / "a.npy")
    assert (mel.dtype, mel.shape) == (np.float32, (63, 128))
    assert left_over(folder) == ["a.npy", "a.wav"]


def test_same_seed_same_file(folder: Path, voice: str) -> None:
    song = write_song(folder / "a.mid")
    for name, seed in (("1.wav", "5"), ("2.wav", "5"), ("3.wav", "6")):
        assert run(song, "-m", voice, "-o", name, "--seed", seed, "--sampler", "ddpm").exit_code == 0
    first, second, third = ((folder / name).read_bytes() for name in ("1.wav", "2.wav", "3.wav"))
    assert first == second
    assert first != third


def test_a_reference_layout_folder_with_every_option(folder: Path) -> None:
    model = write_diffusers_folder(folder / "model")
    result = run(
        write_song(folder / "a.mid"), "--model", model, "--schedule", "discrete", "--sampler", "ddpm",
        "--guidance", "1", "--steps", "2", "--seed", "1", "--device", "cpu", "--dtype", "float32",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    said = " ".join(result.stderr.split())
    assert said.count("has no melgan/model.onnx") == said.count("note templates make the sound (partials)") == 1
    assert "2 ddpm steps, discrete" in result.stderr


def test_other_instruments_and_drums_are_reported(folder: Path, voice: str) -> None:
    result = run(write_song(folder / "a.mid", number=40), "-m", voice)
    assert "a.mid: 1 note played on acoustic piano, the voice was not trained on: violin" in result.stderr
    result = run(write_song(folder / "b.mid", channel=9), "-m", voice)
    assert result.exit_code == 3
    assert "holds only drums" in only_line(result)


def test_several_inputs_go_on_after_a_bad_one(folder: Path, voice: str) -> None:
    write_song(folder / "a.mid")
    (folder / "b.mid").write_bytes(b"MThd")
    write_song(folder / "c.mid")
    result = run("a.mid", "b.mid", "c.mid", "-m", voice, "-o", "out", "--debug")
    assert result.exit_code == 1
    assert "Traceback" in result.stderr
    assert left_over(folder / "out") == ["a.wav", "c.wav"]
    assert "error: b.mid: is a damaged MIDI file" in result.stderr
    assert "3 inputs: 2 done, 1 failed" in result.stderr


def test_a_folder_is_rendered(folder: Path, voice: str) -> None:
    (folder / "in").mkdir()
    write_song(folder / "in" / "a.mid")
    write_song(folder / "in" / "B.MIDI")
    (folder / "in" / "notes.txt").write_text("not music")
    assert run("in", "-m", voice, "-o", "out").exit_code == 0
    assert left_over(folder / "out") == ["B.wav", "a.wav"]


@pytest.mark.parametrize(
    "options", [["-o", "a.mid"], ["-o", "x.wav", "--save-mel", "./a.mid"], ["-o", "x", "--save-mel", "./x"], ["-o", ""]]
)
def test_outputs_destroy_neither_the_input_nor_each_other(folder: Path, voice: str, options: list[str]) -> None:
    before = write_song(folder / "a.mid").read_bytes()
    result = run("a.mid", "-m", voice, "--overwrite", *options)
    assert result.exit_code == 2
    only_line(result)
    assert (folder / "a.mid").read_bytes() == before
    assert left_over(folder) == []


def test_closed_standard_streams(folder: Path, voice: str) -> None:
    write_song(folder / "a.mid")
    for redirection, code in (("-o y.wav 2>&-", 0), ("-o - >&-", 5)):
        line = f"{sys.executable} -m specdiff_cli render a.mid -m {voice} {redirection}"
        done = subprocess.run(["sh", "-c", line], stderr=subprocess.PIPE, timeout=120, check=False)
        assert done.returncode == code, done.stderr
    assert left_over(folder) == ["y.wav"]


def test_a_batch_keeps_what_exists_and_renders_the_rest(folder: Path, voice: str) -> None:
    write_song(folder / "a.mid")
    write_song(folder / "b.mid")
    (folder / "out").mkdir()
    (folder / "out" / "a.wav").write_bytes(b"precious")
    result = run("a.mid", "b.mid", "-m", voice, "-o", "out")
    assert result.exit_code == 1
    assert "a.wav exists already" in result.stderr
    assert (folder / "out" / "a.wav").read_bytes() == b"precious"
    assert (folder / "out" / "b.wav").exists()


def test_no_folder_is_made_for_a_bad_file(folder: Path, voice: str) -> None:
    (folder / "a.mid").write_bytes(b"MThd")
    assert run("a.mid", "-m", voice, "-o", "out/").exit_code == 3
    assert left_over(folder) == []


def test_one_failed_file_of_a_folder_of_one_keeps_its_code(folder: Path, voice: str) -> None:
    (folder / "in").mkdir()
    (folder / "in" / "a.mid").write_bytes(b"")
    assert run("in", "-m", voice, "-o", "out").exit_code == 3


BAD_INPUTS = {
    "missing": (None, "no such file"),
    "empty": (b"", "is empty"),
    "text": (b"hello, I am a text", "is not a standard MIDI file"),
    "truncated": (
        b"MThd\x00\x00\x00\x06\x00\x00\x00\x01\x01\xe0MTrk\x00\x00\x01\x00\x00\x90",
        "is a damaged MIDI file",
    ),
    "type 2": (b"MThd\x00\x00\x00\x06\x00\x02\x00\x02\x01\xe0" + b"MTrk\x00\x00\x00\x04\x00\xff\x2f\x00" * 2, "type 2"),
    "no notes": (b"MThd\x00\x00\x00\x06\x00\x00\x00\x01\x01\xe0MTrk\x00\x00\x00\x04\x00\xff\x2f\x00", "holds no notes"),
    "30 hours": (
        b"MThd\x00\x00\x00\x06\x00\x00\x00\x01\x01\xe0MTrk\x00\x00\x00\x0f"
        b"\x00\x90\x3c\x40\xb1\xb6\xb6\x00\x80\x3c\x40\x00\xff\x2f\x00",
        "--max-duration",
    ),
}


@pytest.mark.parametrize("kind", sorted(BAD_INPUTS))
def test_bad_midi_gives_one_line_and_exit_3(folder: Path, kind: str) -> None:
    content, message = BAD_INPUTS[kind]
    if content is not None:
        (folder / "bad.mid").write_bytes(content)
    result = run("bad.mid")
    assert result.exit_code == 3
    line = only_line(result)
    assert line.startswith("error: bad.mid")
    assert message in line
    assert left_over(folder) == []


def test_a_folder_without_midi(folder: Path) -> None:
    (folder / "in").mkdir()
    result = run("in")
    assert result.exit_code == 3
    assert "holds no MIDI file" in only_line(result)


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--steps", "0"], 2, "--steps 0: must be between 1 and 10000"),
        (["--steps", "2000", "--schedule", "discrete"], 2, "at most 1000"),
        (["--sampler", "euler"], 2, "--sampler euler: is not one of ddpm, ddim"),
        (["--schedule", "linear"], 2, "--schedule linear: is not one of magenta, discrete"),
        (["--guidance", "-1"], 2, "--guidance -1"),
        (["--guidance", "nan"], 2, "--guidance nan"),
        (["--tail", "-1"], 2, "--tail -1"),
        (["--seed", "-1"], 2, "--seed -1"),
        (["--threads", "0"], 2, "--threads 0"),
        (["--max-duration", "0"], 2, "--max-duration 0"),
        (["--device", "gpu"], 2, "--device gpu: is not one of"),
        (["--dtype", "int4"], 2, "--dtype int4: is not one of"),
        (["--vocoder", "wavenet"], 2, "--vocoder wavenet: is not one of"),
        (["--format", "aac"], 2, "aac"),
        (["--subtype", "pcm8"], 2, "pcm8"),
        (["--format", "flac", "--subtype", "float"], 2, "FLAC cannot hold float"),
        (["--device", "cuda"], 6, "--device cuda"),
        (["--dtype", "float16", "--device", "cpu"], 6, "use bfloat16 or float32"),
        (["--vocoder", "soundstream"], 4, "the SoundStream decoder is missing"),
        (["--vocoder", "spectral"], 4, "has no spectral vocoder"),
        (["--model", "unknown"], 4, "neither a known voice"),
        (["--model", "base"], 4, "specdiff download-weights base"),
        (["-o", "no/such/folder/"], 0, ""),
        (["-o", "a.mid/x.wav"], 5, "a.mid"),
        (["-o", "typo/x.wav"], 5, "typo does not exist"),
        (["--save-mel", "no/such/folder/x.npy"], 5, "no/such/folder"),
    ],
)
def test_bad_options_give_one_line(
    folder: Path, voice: str, options: list[str], code: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    model = [] if "--model" in options else ["--model", voice]
    result = run(write_song(folder / "a.mid"), *model, *options)
    assert result.exit_code == code, result.stderr
    if code:
        assert message in only_line(result)
        assert left_over(folder) == []


def test_an_existing_output_is_kept_unless_told(folder: Path, voice: str) -> None:
    song = write_song(folder / "a.mid")
    (folder / "a.wav").write_bytes(b"precious")
    result = run(song, "-m", voice)
    assert result.exit_code == 5
    assert "--overwrite" in only_line(result)
    assert (folder / "a.wav").read_bytes() == b"precious"
    assert run(song, "-m", voice, "--overwrite").exit_code == 0
    assert (folder / "a.wav").read_bytes()[:4] == b"RIFF"


def test_two_inputs_of_one_name_are_refused_before_anything_starts(folder: Path, voice: str) -> None:
    for name in ("x", "y"):
        (folder / name).mkdir()
        write_song(folder / name / "song.mid")
    result = run("x/song.mid", "y/song.mid", "-m", voice, "-o", "out")
    assert result.exit_code == 2
    assert "would both be written to" in only_line(result)
    assert not (folder / "out").exists()


def test_debug_shows_the_traceback(folder: Path) -> None:
    result = run("missing.mid", "--debug")
    assert result.exit_code == 3
    assert "Traceback" in result.stderr


def start_specdiff(*arguments: str, **options: object) -> "subprocess.Popen[bytes]":
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(  # type: ignore[call-overload,no-any-return]
        [sys.executable, "-m", "specdiff_cli", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        **options,
    )


def test_wav_to_a_pipe_equals_the_file(folder: Path, voice: str) -> None:
    write_song(folder / "a.mid")
    assert run("a.mid", "-m", voice, "-o", "a.wav").exit_code == 0
    process = start_specdiff("render", "a.mid", "-m", voice, "-o", "-")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert out[:4] == b"RIFF"
    piped, rate = soundfile.read(_patched(folder, out), dtype="int16")
    expected, _ = soundfile.read(folder / "a.wav", dtype="int16")
    assert rate == 16_000
    np.testing.assert_array_equal(piped, expected)
    assert b"stdout: 0:01 of audio" in err


def _patched(folder: Path, streamed: bytes) -> Path:
    """The stream as a file; readers take the unknown length for 'until the end'."""
    path = folder / "streamed.wav"
    path.write_bytes(streamed)
    return path


def test_a_closed_pipe_ends_quietly(folder: Path, voice: str) -> None:
    write_song(folder / "long.mid", [60 + i % 12 for i in range(120)], ticks=480)
    process = start_specdiff("render", "long.mid", "-m", voice, "-o", "-")
    assert process.stdout is not None
    process.stdout.read(1000)
    process.stdout.close()
    assert process.stderr is not None
    err = process.stderr.read()
    assert process.wait(timeout=120) == 0, err
    assert b"Traceback" not in err
    assert b"rror" not in err


@pytest.mark.usefixtures("heeded_signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)])
def test_an_interruption_leaves_no_file(folder: Path, voice: str, number: signal.Signals, code: int) -> None:
    write_song(folder / "long.mid", [60 + i % 12 for i in range(2000)], ticks=480)
    process = start_specdiff("render", "long.mid", "-m", voice, "--steps", "50")
    deadline_s = time.monotonic() + 100
    while not any(name.startswith(".specdiff-") for name in os.listdir(folder)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert b"Traceback" not in err
    assert left_over(folder) == []
