"""The bar fits on one line of any terminal."""

import io
import sys

import pytest
from rich.console import Console

from specdiff_cli.cli import progress as ours
from specdiff_cli.cli.progress import BarDisplay, render_display


def drawn(monkeypatch: pytest.MonkeyPatch, width: int, n_windows: int) -> str:
    """What the bar looks like in the last window but one."""
    text = io.StringIO()
    console = Console(file=text, width=width, force_terminal=True, color_system=None)
    monkeypatch.setattr(ours, "stderr_console", lambda: console)
    bar = BarDisplay("a song with a long\nname.mid", n_windows, n_steps=1000)
    bar._start_s -= 5000
    bar.step(n_windows - 2, n_windows, 999, 1000, done_s=5.12 * n_windows)
    console.print(bar._progress.get_renderable())
    return text.getvalue()


@pytest.mark.parametrize("n_windows", [2, 12, 2110])  # 2110: three hours
@pytest.mark.parametrize("width", [10, 16, 20, 30, 36, 40, 59, 60, 79, 80, 99, 100, 200])
def test_the_bar_is_one_line_and_its_numbers_are_whole(
    monkeypatch: pytest.MonkeyPatch, width: int, n_windows: int
) -> None:
    (line,) = drawn(monkeypatch, width, n_windows).splitlines()
    assert len(line) <= width
    assert f"{n_windows - 1}/{n_windows}" in line.replace("…", " ").split()
    assert "--:--" in line or width < 20
    assert ("window" in line) == (width >= 40)
    if width >= 100:
        assert "step 999/1000" in line


@pytest.mark.parametrize(("term", "is_drawn"), [("xterm", True), ("dumb", False), ("unknown", False)])
def test_a_terminal_that_cannot_move_its_cursor_gets_plain_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], term: str, is_drawn: bool
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", term)
    with render_display("a.mid", 3, 10, quiet=False) as display:
        assert isinstance(display, BarDisplay) == is_drawn
    assert ("a.mid: rendering 3 windows of 10 steps\n" == capsys.readouterr().err) != is_drawn
