"""The bar fits on one line of any terminal."""

import io
import sys
from pathlib import Path

import pytest
from rich.console import Console

from specdiff_cli.cli import progress as ours
from specdiff_cli.cli.progress import BarDisplay, FilesBar, render_display
from specdiff_cli.rendering.events import Done, Loaded, Opened, Step
from specdiff_cli.rendering.jobs import Job
from specdiff_cli.rendering.remaining import Remaining


def begun(n_windows: int, n_jobs: int = 1) -> tuple[Remaining, Opened]:
    """A song of whose windows all but one are done, after 5000 s."""
    job = Job(Path("a.mid"), None)
    opened = Opened(job, 5.0 * n_windows, n_windows, n_steps=1000)
    clock_s = iter([0.0, 0.0, 5000.0])
    remaining = Remaining([], n_jobs, now_s=lambda: next(clock_s, 5000.0))
    remaining.see(Loaded("a voice", 1))
    remaining.see(opened)
    remaining.see(Step(job, n_windows - 2, n_windows, 1000, 1000, 5.0 * (n_windows - 1), 5.0 * n_windows))
    return remaining, opened


def drawn(monkeypatch: pytest.MonkeyPatch, width: int, n_windows: int, is_alone: bool) -> str:
    """What the bar looks like in the last window but one."""
    text = io.StringIO()
    console = Console(file=text, width=width, force_terminal=True, color_system=None)
    monkeypatch.setattr(ours, "stderr_console", lambda: console)
    remaining, opened = begun(n_windows)
    bar = BarDisplay("a song with a long\nname.mid", opened, remaining, is_alone)
    bar.step(n_windows - 2, 999)
    console.print(bar._progress.get_renderable())
    return text.getvalue()


@pytest.mark.parametrize("is_alone", [True, False])
@pytest.mark.parametrize("n_windows", [2, 12, 2110])  # 2110: three hours
@pytest.mark.parametrize("width", [10, 16, 20, 30, 36, 40, 59, 60, 79, 80, 99, 100, 200])
def test_the_bar_is_one_line_and_its_numbers_are_whole(
    monkeypatch: pytest.MonkeyPatch, width: int, n_windows: int, is_alone: bool
) -> None:
    (line,) = drawn(monkeypatch, width, n_windows, is_alone).splitlines()
    assert len(line) <= width
    assert f"{n_windows - 1}/{n_windows}" in line.replace("…", " ").split()
    left = {2: "1:23:20", 12: "7:35", 2110: "0:02"}[n_windows]  # 5000 s for each of those that are done
    assert left in line.split() or width < 20
    assert ("left in all" in line) == (width >= 60 and not is_alone)
    assert ("window" in line) == (width >= 40)
    if width >= 100:
        assert "step 999/1000" in line


@pytest.mark.parametrize("width", [30, 59, 60, 80, 100, 200])
def test_the_bar_of_several_songs_at_once_tells_the_time_left_for_all(
    monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    text = io.StringIO()
    console = Console(file=text, width=width, force_terminal=True, color_system=None)
    monkeypatch.setattr(ours, "stderr_console", lambda: console)
    remaining, _ = begun(3, n_jobs=4)
    bar = FilesBar(4, "files", remaining)
    bar.update(0, "2/2 workers")
    console.print(bar.bar.get_renderable())
    (line,) = text.getvalue().splitlines()
    assert len(line) <= width
    assert line.startswith("0/4 files")
    assert "6:56:40" in line  # 10 of 60 s took 5000 s


@pytest.mark.parametrize(("term", "is_drawn"), [("xterm", True), ("dumb", False), ("unknown", False)])
def test_a_terminal_that_cannot_move_its_cursor_gets_plain_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], term: str, is_drawn: bool
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", term)
    remaining, opened = begun(3, n_jobs=2)
    with render_display("a.mid", opened, remaining, quiet=False, is_alone=False) as display:
        assert isinstance(display, BarDisplay) == is_drawn
    # 10 of 30 s took 5000 s: 5 s of this song are left, and 15 of another that is thought to be as long
    assert (
        "a.mid: rendering 3 windows of 1000 steps; about 2.8 h left in all\n" == capsys.readouterr().err
    ) != is_drawn


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (120, "4/6 files · 0.20 h · 60.0 × realtime · 2/2 workers · 42.3 × each · 0:12 · 0:06 left"),
        (80, "4/6 files · 0.20 h · 60.0 × realtime · 42.3 × each · 0:06 left"),
        (60, "4/6 files · 60.0 × realtime · 42.3 × each · 0:06 left"),
        (38, "4/6 files · 42.3 × each · 0:06 left"),
        (20, "4/6 files · 0:06 left"),
    ],
)
def test_the_bar_of_several_songs_leaves_out_what_matters_least(
    monkeypatch: pytest.MonkeyPatch, width: int, shown: str
) -> None:
    now_s = 0.0
    jobs = [Job(Path(f"{number}.mid"), Path(f"{number}.wav")) for number in range(6)]
    remaining = Remaining(jobs, len(jobs), now_s=lambda: now_s)
    monkeypatch.setenv("COLUMNS", str(width))
    bar = FilesBar(len(jobs), "files", remaining)
    now_s = 12.0
    for job in jobs[:4]:
        remaining.see(Done(job, duration_s=180.0, elapsed_s=4.0, realtime_factor=42.3, n_windows=36, how=""))
    bar.update(4, "2/2 workers", "42.3 × each")
    assert bar._facts() == shown
