"""Commands whose standard input or output is a pipe, closed, or left by its reader."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
from command_line import specdiff
from midi_files import midi_bytes, note

SONG = midi_bytes(note(0, 240, 0, 60))
posix = pytest.mark.skipif(os.name != "posix", reason="needs a shell")


def shell(line: str) -> subprocess.CompletedProcess[bytes]:
    command = f"'{sys.executable}' -m specdiff_cli"
    return subprocess.run(line.replace("specdiff", command), shell=True, capture_output=True, check=False)  # noqa: S602


@pytest.mark.parametrize("output", [None, "out.wav", "new/", "-"])
def test_a_dash_renders_standard_input(folder: Path, output: str | None) -> None:
    options = [] if output is None else ["-o", output]
    result = specdiff("render", "-", "--tail", "0", "-q", *options, input=SONG)
    assert result.exit_code == 0, result.stderr
    if output == "-":
        assert result.stdout_bytes[:4] == b"RIFF"
        return
    made = {None: "stdin.wav", "out.wav": "out.wav", "new/": "new/stdin.wav"}[output]
    assert soundfile.info(made).duration == pytest.approx(0.25)


@pytest.mark.parametrize(("data", "words"), [(b"", "is empty"), (b"no music", "is not a standard MIDI file")])
def test_what_is_wrong_with_standard_input_is_told(folder: Path, data: bytes, words: str) -> None:
    for command in ("render", "inspect-midi"):
        result = specdiff(command, "-", input=data)
        assert result.exit_code == 3
        assert result.stderr.startswith(f"error: /dev/stdin: {words}") and len(result.stderr.splitlines()) == 1


def test_both_inspectors_read_standard_input(folder: Path) -> None:
    result = specdiff("inspect-midi", "-", "--json", input=SONG)
    assert json.loads(result.stdout)["n_notes"] == 1
    sound = specdiff("render", "-", "-o", "-", "-q", "--tail", "0", input=SONG).stdout_bytes
    result = specdiff("inspect-wav", "-", "--json", input=sound)
    assert json.loads(result.stdout)["n_samples"] == 4_000
    result = specdiff("inspect-wav", "-", input=b"no sound")
    assert (result.exit_code, result.stderr.count("\n")) == (3, 1)
    assert result.stderr.startswith("error: /dev/stdin: is not an audio file")


@posix
def test_vocode_reads_pipes(folder: Path) -> None:
    assert specdiff("render", "-", "-q", "--save-mel", "a.npy", input=SONG).exit_code == 0
    done = shell("cat stdin.wav | specdiff vocode -m $SPECDIFF_MODEL -q - -o dash.wav")
    assert (done.returncode, done.stderr) == (0, b"")
    vocode = ("vocode", "-m", os.environ["SPECDIFF_MODEL"], "-q")
    mel = Path("a.npy").read_bytes()
    for source, target, piped in (
        ("stdin.wav", "file.wav", None),
        ("a.npy", "mel_file.wav", None),
        ("-", "mel.wav", mel),
    ):
        done_here = specdiff(*vocode, source, "-o", target, input=piped)
        assert (done_here.exit_code, done_here.stderr) == (0, ""), target
    assert Path("dash.wav").read_bytes() == Path("file.wav").read_bytes()
    assert Path("mel.wav").read_bytes() == Path("mel_file.wav").read_bytes()


@posix
@pytest.mark.parametrize(
    "line", ["inspect-midi a.mid", "models", "render -n a.mid", "render a.mid --json", "--help"]
)  # fmt: skip
def test_closed_standard_output_is_one_line(folder: Path, line: str) -> None:
    Path("a.mid").write_bytes(SONG)
    done = shell(f"specdiff {line} >&-")
    assert (done.returncode, done.stderr) == (5, b"error: cannot write to standard output: it is closed\n")
    assert sorted(path.name for path in folder.iterdir()) == ["a.mid"]


@posix
def test_what_needs_no_standard_output_does_without(folder: Path) -> None:
    Path("a.mid").write_bytes(SONG)
    assert shell("specdiff render a.mid -q >&-").returncode == 0
    assert soundfile.info("a.wav").duration == pytest.approx(1.25)


@posix
def test_a_batch_outlives_who_reads_its_json(folder: Path) -> None:
    for name in ("a.mid", "b.mid"):
        Path(name).write_bytes(SONG)
    done = shell("(specdiff render a.mid b.mid --json -q --tail 0; echo $? > code) | true")
    assert Path("code").read_text() == "5\n"
    assert Path("a.wav").exists() and Path("b.wav").exists()
    assert done.stderr.count(b"its reader is gone; the rest is made all the same") == 1


@posix
def test_pieces_outlive_who_reads_their_json_and_are_no_standard_output(folder: Path) -> None:
    options = "--n 2 --batch 1 --notes 16 --steps 16 -q"
    done = shell(f"(specdiff compose pieces {options} --json; echo $? > code) | true")
    assert Path("code").read_text() == "5\n"
    assert len(list(Path("pieces").glob("*.mid"))) == 2
    assert done.stderr.count(b"its reader is gone; the rest is made all the same") == 1
    done = shell(f"specdiff compose - {options}")
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"give a folder" in done.stderr
    assert not Path("-").exists()
