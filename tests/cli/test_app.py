import errno
import os
import subprocess
import sys
from importlib.metadata import version

import pytest

from specdiff_cli import __version__
from specdiff_cli.cli.guard import report
from specdiff_cli.cli.help import show_version
from specdiff_cli.errors import DeviceError, ExitCode, MidiError, OutputError, UsageError, WeightsError
from specdiff_cli.wording import clock, count, one_line


def specdiff(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "specdiff_cli", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rendr"], "No such command"),
        (["convert"], "Missing argument"),
        (["render", "a.mid", "--steps", "abc"], "--steps"),
        (["render", "a.mid", "--nope"], "--nope"),
    ],
)
def test_a_command_line_that_cannot_be_parsed_gives_one_line(arguments: list[str], message: str) -> None:
    done = specdiff(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert line.endswith("--help")


def test_a_song_where_a_command_belongs_is_told_how_to_render_it() -> None:
    done = specdiff("my song.MID")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: No such command 'my song.MID'; specdiff render 'my song.MID' renders it\n"


def test_help_says_the_same_where_python_leaves_docstrings_out() -> None:
    plain, bare = (
        subprocess.run([sys.executable, *flags, "-m", "specdiff_cli", *words], capture_output=True, check=True).stdout
        for flags in ([], ["-OO"])
        for words in (["compose", "--help"],)
    )
    assert bare == plain and b"Exit codes:" in plain


def test_no_arguments_show_the_help_and_are_a_usage_error() -> None:
    done = specdiff()
    assert done.returncode == 2
    assert "inspect-midi" in done.stdout + done.stderr


def test_version() -> None:
    done = specdiff("--version")
    first, second = done.stdout.splitlines()
    assert (done.returncode, first) == (0, f"specdiff {__version__}")
    assert second.startswith(f"torch {version('torch')}, Python {sys.version_info.major}.")


def test_version_with_the_device(capsys: pytest.CaptureFixture[str]) -> None:
    show_version(verbose=True)
    device = capsys.readouterr().out.splitlines()[2]
    assert device.startswith("device ")
    assert "CPU thread" in device


def test_closed_and_full_standard_output_are_no_bugs() -> None:
    if os.path.exists("/dev/full"):
        done = subprocess.run(
            ["sh", "-c", f"{sys.executable} -m specdiff_cli --version > /dev/full"], capture_output=True, check=False
        )
        assert done.returncode == 5
        assert done.stderr == b"error: cannot write to standard output: No space left on device\n"


@pytest.mark.parametrize("command", ["render", "inspect-midi", "inspect-wav", "download-weights"])
def test_every_help_has_examples_and_exit_codes(command: str) -> None:
    done = specdiff(command, "--help")
    assert done.returncode == 0
    assert f"specdiff {command} " in done.stdout
    assert "xit code" in done.stdout
    if command == "render":
        assert "143 terminated" in done.stdout


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("x"), 2),
        (MidiError("x"), 3),
        (WeightsError("x"), 4),
        (OutputError("x"), 5),
        (DeviceError("x"), 6),
        (MemoryError(), 6),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes"), 6),
        (RuntimeError("anything else"), 1),
        (OSError(errno.ENOSPC, "No space left on device", "x.json"), 5),
        (KeyboardInterrupt(), 130),
    ],
)
def test_every_error_has_its_code_and_one_line(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(error) == code
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_documented_codes() -> None:
    assert {code.name: code.value for code in ExitCode} == {
        "OK": 0,
        "FAILURE": 1,
        "USAGE": 2,
        "MIDI": 3,
        "WEIGHTS": 4,
        "OUTPUT": 5,
        "DEVICE": 6,
        "INTERRUPTED": 130,
        "TERMINATED": 143,
    }


def test_file_names_cannot_write_to_the_terminal() -> None:
    assert one_line("a\nb\x1b[31m é ×") == "a\\nb\\x1b[31m é ×"
    assert one_line("bad \udcff byte") == "bad \\udcff byte"


def test_clock() -> None:
    assert [clock(s) for s in (0, 59.4, 59.6, 3599.9, 7322)] == ["0:00", "0:59", "1:00", "1:00:00", "2:02:02"]


def test_numbers_agree_with_their_nouns() -> None:
    assert (count(1, "step"), count(2, "step"), count(0, "input")) == ("1 step", "2 steps", "0 inputs")
