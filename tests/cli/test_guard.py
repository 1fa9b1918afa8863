"""Signals: the first one cleans up, a second Ctrl-C does not wait for it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from midi_files import write_song

from specdiff_cli.cli.progress import say
from specdiff_cli.signals import StopSignals, Terminated

pytestmark = [
    pytest.mark.skipif(os.name == "nt", reason="signals of POSIX"),
    pytest.mark.usefixtures("heeded_signals"),
]

#: A command with an unfinished file, whose cleaning up takes very long.
SLOW_TO_CLEAN = """
import time
from pathlib import Path
from specdiff_cli.files import PendingFile
from specdiff_cli.cli.guard import guarded
import typer

def command():
    PendingFile(Path("a.wav").absolute(), overwrite=False).open()
    try:
        print("working", flush=True)
        time.sleep(60)
    finally:
        print("cleaning", flush=True)
        time.sleep({cleaning_s})
try:
    guarded(command)()
except typer.Exit as error:
    raise SystemExit(error.exit_code)
"""


def start(folder: Path, *, cleaning_s: float, sigint: signal.Handlers = signal.SIG_DFL) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-c", SLOW_TO_CLEAN.format(cleaning_s=cleaning_s)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=folder,
        preexec_fn=lambda: signal.signal(signal.SIGINT, sigint) and None,
    )


def wait_for(process: "subprocess.Popen[bytes]", word: bytes) -> None:
    assert process.stdout is not None
    assert process.stdout.readline().strip() == word


def test_a_second_ctrl_c_leaves_at_once(tmp_path: Path) -> None:
    with start(tmp_path, cleaning_s=60) as process:
        wait_for(process, b"working")
        assert len(os.listdir(tmp_path)) == 1
        process.send_signal(signal.SIGINT)
        wait_for(process, b"cleaning")
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130
    assert os.listdir(tmp_path) == []


def test_a_second_sigterm_changes_nothing(tmp_path: Path) -> None:
    # `timeout` sends it to the process and once more to its group.
    with start(tmp_path, cleaning_s=0.5) as process:
        wait_for(process, b"working")
        process.send_signal(signal.SIGTERM)
        wait_for(process, b"cleaning")
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (143, b"terminated\n")


def test_what_runs_in_the_background_ignores_ctrl_c(tmp_path: Path) -> None:
    with start(tmp_path, cleaning_s=0, sigint=signal.SIG_IGN) as process:
        wait_for(process, b"working")
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (143, b"terminated\n")


@pytest.mark.parametrize(
    ("first", "ending"),
    [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated), (signal.SIGHUP, Terminated)],
)
def test_a_training_notes_the_first_signal_and_a_second_sigterm_changes_nothing(
    first: signal.Signals, ending: type[BaseException], capsys: pytest.CaptureFixture[str]
) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    with StopSignals(say) as stop:
        assert not stop()
        signal.raise_signal(first)
        assert stop()
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert type(stop.error()) is ending
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before
    assert capsys.readouterr().err.count("stopping after this step") == 1


def test_beside_other_processes_every_signal_is_only_noted(capsys: pytest.CaptureFixture[str]) -> None:
    with StopSignals(say, is_alone=False) as stop:
        for _ in range(3):  # from the terminal, and from torchrun
            signal.raise_signal(signal.SIGINT)
    assert stop()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("with_names_from_the_root", [False, True])
def test_a_current_folder_that_was_removed_is_no_bug(tmp_path: Path, with_names_from_the_root: bool) -> None:
    code = "import os; from specdiff_cli.cli.app import run; os.rmdir(os.getcwd()); run()"
    write_song(tmp_path / "a.mid")
    (folder := tmp_path / "gone").mkdir()
    arguments = [str(tmp_path / "a.mid"), "-o", str(tmp_path / "a.wav")] if with_names_from_the_root else ["a.mid"]
    done = subprocess.run(
        [sys.executable, "-c", code, "render", "-q", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not (tmp_path / "a.wav").exists()
    assert (done.returncode, done.stderr) == (5, "error: the current folder was removed; change into another one\n")
