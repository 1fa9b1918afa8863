"""How far a render is, as notebooks and terminals show it."""

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from midi_files import midi_bytes, note

from specdiff_cli import show_progress
from specdiff_cli.errors import MidiError
from specdiff_cli.rendering import progress
from specdiff_cli.rendering.events import Done, Event, Failed, Loading, Opened, Step
from specdiff_cli.rendering.jobs import Job

JOB = Job(Path("a <song>\x1b.mid"), Path("song.wav"))
EVENTS: list[Event] = [
    Loading("tiny"),
    Opened(JOB, 10.0, 2),
    Step(JOB, 0, 2, 1, 1, 5.12, 10.0),
    Step(JOB, 1, 2, 1, 1, 10.0, 10.0),
    Done(JOB, 10.0, 1.0, 10.0, 2, "tiny"),
    Failed(JOB, MidiError("x: broken")),
]


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_has_one_line_and_keeps_the_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = _Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(progress, "INTERVAL_S", 0.0)
    assert list(show_progress(EVENTS)) == EVENTS
    lines = screen.getvalue().split("\r\x1b[K")
    assert lines[1:] == [
        "  0% loading tiny",
        "  0% a <song>?.mid: 2 windows",
        " 51% a <song>?.mid: 0:05.12 of 0:10.00, window 1 of 2",
        "100% a <song>?.mid: 0:10.00 of 0:10.00, window 2 of 2",
        "1 song rendered, 1 song failed\n",
    ]


def test_files_and_pipes_are_spared(monkeypatch: pytest.MonkeyPatch) -> None:
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    assert list(show_progress(iter(EVENTS))) == EVENTS
    assert log.getvalue() == ""


def test_closing_it_stops_the_render() -> None:
    is_closed = False

    def events() -> Iterator[Event]:
        nonlocal is_closed
        try:
            yield from EVENTS
        finally:
            is_closed = True

    shown = show_progress(events())
    next(shown)
    shown.close()
    assert is_closed


@pytest.mark.slow
def test_a_real_notebook_shows_a_bar_and_a_player(tmp_path: Path, voice: str) -> None:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    (tmp_path / "song.mid").write_bytes(midi_bytes(*(note(i * 480, i * 480 + 400, 0, 60) for i in range(24))))
    cells = [
        "from specdiff_cli import Player, render_files, show_progress",
        f"for event in show_progress(render_files('song.mid', output='song.wav', model={voice!r})):\n    pass",
        "Player.of_file('song.wav')",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    client = nbclient.NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    bars: list[str] = []
    handle_message = client.process_message

    def listen(message: dict[str, object], *given: object) -> object:
        if message["msg_type"] == "update_display_data":
            bars.append(json.dumps(message["content"]))
        return handle_message(message, *given)

    client.process_message = listen
    client.execute()
    assert sum("<progress" in bar for bar in bars) >= 2
    (shown,) = notebook.cells[1].outputs
    assert "1 song rendered" in shown["data"]["text/html"]
    (player,) = notebook.cells[2].outputs
    assert "<audio controls" in player["data"]["text/html"]
