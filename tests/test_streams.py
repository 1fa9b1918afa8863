"""Standard input by name, pipes that are read twice, and a standard output that is not there."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from specdiff_cli import streams
from specdiff_cli.errors import OutputError
from specdiff_cli.streams import STDIN, ClosedOutput, input_path, seekable


def test_a_dash_is_standard_input_and_a_file_of_that_name_is_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert input_path("-") == STDIN
    assert input_path("./-") == tmp_path / "-"
    assert input_path("a/-") == Path("a/-")
    assert input_path("a.mid") == Path("a.mid")


def test_a_file_is_not_copied(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    for path in (tmp_path / "a", tmp_path / "missing"):
        with seekable(path) as found:
            assert found is path


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_can_be_read_twice_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    content = bytes(range(256)) * 9000
    writer = threading.Thread(target=pipe.write_bytes, args=(content,))
    writer.start()
    with seekable(pipe) as copy:
        assert [copy.read_bytes(), copy.read_bytes()] == [content, content]
    writer.join()
    assert list(tmp_path.iterdir()) == [pipe]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_an_endless_pipe_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "MAX_SPOOLED_BYTES", 1 << 20)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["sh", "-c", f"exec cat /dev/zero > '{pipe}'"]) as writer:  # noqa: S603, S607 - ours
        with pytest.raises(OSError, match="does not end within"), seekable(pipe):
            pass
        writer.wait(timeout=20)  # its reader is gone


def test_closed_standard_input_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(OSError, match="closed"), seekable(STDIN):
        pass


def test_writing_where_nothing_is_open_is_one_line() -> None:
    closed = ClosedOutput()
    with pytest.raises(OutputError, match="cannot write to standard output: it is closed"):
        closed.write("x")
    with pytest.raises(OutputError, match="cannot write to standard output: it is closed"):
        closed.buffer.write(b"x")
    closed.flush()
    assert not closed.isatty()


@pytest.mark.skipif(os.name != "posix", reason="needs a shell")
def test_files_never_get_the_numbers_of_closed_streams(tmp_path: Path) -> None:
    program = (
        "import os; from specdiff_cli.streams import replace_closed; replace_closed(); "
        f"file = open({str(tmp_path / 'a')!r}, 'w'); file.write(str(file.fileno()))"
    )
    subprocess.run(f'"{sys.executable}" -c "{program}" <&- >&- 2>&-', shell=True, check=True)  # noqa: S602 - ours
    assert int((tmp_path / "a").read_text()) > 2
