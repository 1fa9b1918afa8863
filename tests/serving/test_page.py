"""The page as its visitors meet it: through HTTP, and in a browser where there is one."""

import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import soundfile
from midi_files import midi_bytes, note

from specdiff_cli.midi.notes import parse_midi
from specdiff_cli.serving.limits import Limits
from specdiff_cli.serving.results import Moment, Rendered
from specdiff_cli.serving.server import Address, be_quiet, serving, temporary_folder
from specdiff_cli.serving.studio import Studio
from specdiff_cli.serving.uploads import OpenSong
from specdiff_cli.serving.wishes import Wishes

pytest.importorskip("gradio")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WAIT_MS = 60_000


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class SlowStudio(Studio):
    """Renders that never end by themselves, where they are asked to be slow."""

    is_slow = False

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.was_closed = threading.Event()

    def render(self, opened: OpenSong, wishes: Wishes) -> Iterator[Moment | Rendered]:
        if not self.is_slow:
            yield from super().render(opened, wishes)
            return
        try:
            for step in range(600):
                yield Moment(f"step {step}", 0.0)
                threading.Event().wait(0.1)
        finally:
            self.was_closed.set()


@pytest.fixture(scope="module")
def page(voice: str) -> Iterator[tuple[str, SlowStudio]]:
    be_quiet()
    with temporary_folder() as folder:
        studio = SlowStudio([voice, "tiny"], Limits(max_duration_s=30.0, max_bytes=10_000), folder)
        with serving(studio, Address(port=_free_port())) as url:
            yield url, studio


@pytest.fixture
def song(tmp_path: Path) -> Path:
    path = tmp_path / "song.mid"
    path.write_bytes(midi_bytes(*(note(i * 240, i * 240 + 200, 0, 60 + i % 12) for i in range(40))))
    return path


def test_programs_render_through_http(page: tuple[str, SlowStudio], song: Path) -> None:
    from gradio_client import Client, handle_file

    client = Client(page[0], verbose=False)
    path = client.predict(handle_file(song), {"model": "random", "transpose": 3}, api_name="/render")
    assert soundfile.info(path).duration == pytest.approx(11.0, abs=0.2)
    with pytest.raises(Exception, match="unknown option output"):
        client.predict(handle_file(song), {"output": "/etc/passwd"}, api_name="/render")
    bad = song.with_name("bad.mid")
    bad.write_bytes(b"nothing of MIDI")
    with pytest.raises(Exception, match="is not a standard MIDI file") as caught:
        client.predict(handle_file(bad), {}, api_name="/render")
    assert str(page[1]._folder) not in str(caught.value)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    with sync_api.sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield chromium
        chromium.close()


def _open(browser: Any, url: str, **options: Any) -> Any:
    tab = browser.new_page(**options)
    tab.foreign = []
    tab.on("request", lambda r: tab.foreign.append(r.url) if not _is_ours(r.url) else None)
    tab.goto(url)
    tab.wait_for_selector("#midi input[type=file]", state="attached", timeout=WAIT_MS)
    return tab


def _is_ours(url: str) -> bool:
    return url.startswith(("http://127.0.0.1", "ws://127.0.0.1", "data:", "blob:"))


def _drop(tab: Any, path: Path) -> None:
    tab.set_input_files("#midi input[type=file]", path)
    tab.wait_for_selector("#overview .roll, #overview .problem", timeout=WAIT_MS)


def _wait_for_status(tab: Any, text: str) -> None:
    tab.wait_for_function(f"document.querySelector('#status').innerText.includes('{text}')", timeout=WAIT_MS)


@pytest.mark.browser
def test_a_song_is_seen_heard_and_downloaded(page: tuple[str, SlowStudio], browser: Any, song: Path) -> None:
    tab = _open(browser, page[0])
    _drop(tab, song)
    assert "40 notes" in tab.inner_text("#overview")
    assert "Acoustic Grand Piano" in tab.inner_text("#instruments tbody")
    tab.click("#render")
    tab.wait_for_function("(document.querySelector('#live audio') || {}).currentTime > 0.2", timeout=WAIT_MS)
    _wait_for_status(tab, "realtime")
    tab.wait_for_selector("#wav", timeout=WAIT_MS)
    with tab.expect_download(timeout=WAIT_MS) as download:
        tab.click("#wav")
    ours = soundfile.read(download.value.path())[0]
    (_, studio) = page
    done = list(Studio.render(studio, studio.open(song), Wishes(model=studio.voices.names[0])))[-1]
    assert isinstance(done, Rendered)
    expected = soundfile.read(done.path)[0]
    assert ours.shape == expected.shape
    assert abs(ours - expected).max() <= 1e-4
    assert tab.foreign == [], "nothing is fetched from elsewhere"
    tab.close()


@pytest.mark.browser
def test_a_broken_upload_is_one_line_and_the_page_goes_on(
    page: tuple[str, SlowStudio], browser: Any, song: Path
) -> None:
    tab = _open(browser, page[0], viewport={"width": 360, "height": 740})
    bad = song.with_name("<img src=x onerror=document.title='taken'>.mid")
    bad.write_bytes(b"MThd")
    _drop(tab, bad)
    assert "is a damaged MIDI file" in tab.inner_text("#overview .problem")
    assert tab.title() == "specdiff"
    width = tab.evaluate("document.documentElement.scrollWidth")
    assert width <= 360, "a phone needs no scrolling to the side"
    tab.close()
    again = _open(browser, page[0])
    _drop(again, song)
    assert again.query_selector("#overview .problem") is None
    again.close()


@pytest.mark.browser
def test_a_visitor_who_leaves_stops_their_render(page: tuple[str, SlowStudio], browser: Any, song: Path) -> None:
    url, studio = page
    studio.is_slow = True
    try:
        tab = _open(browser, url)
        _drop(tab, song)
        tab.click("#render")
        _wait_for_status(tab, "step")
        tab.close()
        assert studio.was_closed.wait(30), "the render went on with nobody there"
    finally:
        studio.is_slow = False


@pytest.mark.browser
def test_stop_and_the_keyboard(page: tuple[str, SlowStudio], browser: Any, song: Path) -> None:
    url, studio = page
    studio.is_slow = True
    studio.was_closed.clear()
    try:
        tab = _open(browser, url)
        _drop(tab, song)
        tab.focus("#render")
        tab.keyboard.press("Enter")
        _wait_for_status(tab, "step")
        tab.focus("#stop")
        tab.keyboard.press("Enter")
        _wait_for_status(tab, "Stopped")
        assert studio.was_closed.wait(30)
        assert tab.is_enabled("#render")
        tab.close()
    finally:
        studio.is_slow = False


@pytest.mark.browser
def test_two_tabs_at_once_are_served_one_after_the_other(
    page: tuple[str, SlowStudio], browser: Any, song: Path
) -> None:
    tabs = [_open(browser, page[0]) for _ in range(2)]
    for tab in tabs:
        _drop(tab, song)
    with page[1]._line.join():  # somebody who takes as long as this test wants
        for place, tab in enumerate(tabs, start=1):
            tab.click("#render")
            _wait_for_status(tab, f"Number {place} in line")
            assert tab.is_enabled("#stop"), "whoever waits can leave the line"
    for tab in tabs:
        _wait_for_status(tab, "realtime")
        tab.close()


@pytest.mark.browser
def test_instruments_are_swapped_and_muted_beside_their_names(
    page: tuple[str, SlowStudio], browser: Any, tmp_path: Path
) -> None:
    path = tmp_path / "two.mid"
    path.write_bytes(midi_bytes(note(0, 480, 0, 60), [*note(0, 480, 1, 64), *note(480, 960, 9, 36)]))
    tab = _open(browser, page[0])
    _drop(tab, path)
    tab.wait_for_selector("#instruments tbody tr", timeout=WAIT_MS)
    choices = tab.query_selector_all("#instruments select")
    assert len(choices) == 3
    choices[0].select_option("73")
    choices[2].select_option("mute")
    sounds = tab.eval_on_selector_all("#instruments .sounds", "cells => cells.map(cell => cell.innerText)")
    assert sounds == ["Acoustic piano", "Acoustic piano", "silent"], "all that this voice was trained on"
    assert tab.query_selector("#instruments tr.swapped") is not None
    tab.click("#render")
    _wait_for_status(tab, "realtime")
    with tab.expect_download(timeout=WAIT_MS) as download:
        tab.click("#midi-as-rendered")
    notes = parse_midi(Path(download.value.path()).read_bytes(), "download").notes
    assert [(found.program, found.is_drum, found.pitch) for found in notes] == [(73, False, 60), (0, False, 64)]
    # Another song begins with nothing chosen.
    path.write_bytes(midi_bytes(note(0, 480, 0, 62), note(0, 480, 1, 67)))
    tab.click("#midi button[aria-label*=lear], #midi button[aria-label*=emove]")
    _drop(tab, path)
    tab.wait_for_function("document.querySelectorAll('#instruments select').length == 2", timeout=WAIT_MS)
    assert tab.eval_on_selector_all("#instruments select", "all => all.map(one => one.value)") == ["keep", "keep"]
    tab.close()


@pytest.mark.browser
def test_presets_are_offered_where_the_voice_has_any(page: tuple[str, SlowStudio], browser: Any, song: Path) -> None:
    tab = _open(browser, page[0])
    _drop(tab, song)
    tab.click("#sound button")
    tab.wait_for_selector("#preset input", timeout=WAIT_MS)
    for voice, is_offered in (("tiny", False), ("random", True)):
        tab.click("#voice input")
        tab.click(f"[role=option]:has-text('{voice}')")
        tab.wait_for_selector("#preset input", state="visible" if is_offered else "hidden", timeout=WAIT_MS)
    tab.close()


@pytest.mark.browser
def test_the_space_starts(tmp_path: Path) -> None:
    import os
    import subprocess
    import sys
    import time
    import urllib.request

    port = _free_port()
    app = Path(__file__).parents[2] / "examples" / "space" / "app.py"
    environment = {**os.environ, "PORT": str(port), "TMPDIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, str(app)], env=environment) as process:
        try:
            for _ in range(120):
                time.sleep(0.5)
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
                        assert b"specdiff" in answer.read()
                        break
                except OSError:
                    assert process.poll() is None, "it ended by itself"
            else:
                pytest.fail("it did not start within a minute")
        finally:
            process.terminate()


@pytest.mark.browser
def test_a_composed_piece_can_be_heard(page: tuple[str, SlowStudio], browser: Any) -> None:
    tab = _open(browser, page[0])
    tab.click("button[role=tab]:has-text('Compose')")
    tab.click("#compose-go")
    tab.wait_for_selector("#compose-rolls .roll", timeout=2 * WAIT_MS)
    tab.click("#compose-hear")
    tab.wait_for_selector("#overview .roll", timeout=WAIT_MS)
    assert "128 notes" in tab.inner_text("#overview") or "notes" in tab.inner_text("#overview .problem")
    tab.close()
