"""Every test runs away from the user's caches, settings and network configuration."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest_plugins = ["downloads"]
SHARED_MIDI = Path(__file__).resolve().parents[2] / "shared" / "midi"


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--update-golden``: write what the command line says now to ``tests/golden`` before comparing."""
    parser.addoption("--update-golden", action="store_true", help="write tests/golden again")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs the reference MIDI files where they are not beside the checkout."""
    if SHARED_MIDI.is_dir():
        return
    skip = pytest.mark.skip(reason=f"needs {SHARED_MIDI}")
    for item in items:
        if "shared" in item.keywords or "shared_midi" in getattr(item, "fixturenames", ()):
            item.add_marker(skip)


@pytest.fixture(autouse=True)
def isolated(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """An empty cache, and none of the variables by which a user steers specdiff."""
    cache = tmp_path_factory.mktemp("cache")
    for name in list(os.environ):
        if name.startswith(("HF_", "SPECDIFF_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("SPECDIFF_CACHE", str(cache / "specdiff"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache / "xdg"))
    monkeypatch.setenv("SPECDIFF_CONFIG", os.devnull)  # an empty user file in place of the real one


@pytest.fixture(autouse=True)
def single_threaded() -> None:
    """One thread for networks as small as the tests': more would only wait for each other on a busy machine."""
    torch = sys.modules.get("torch")
    if torch is not None:  # a test that needs no torch must not pay for it
        torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def scripted_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks of the same bytes are scripted once per process: most of a small render's time. Not in tests of that."""
    if "model" in request.path.parts:
        return
    for name in ("specdiff_cli.model.compiled", "specdiff_cli.model.autoregressive_compiled"):
        module = sys.modules.get(name)
        if module is not None:
            from scripted import scripted_once

            monkeypatch.setattr(module, "compiled", scripted_once)


@pytest.fixture
def heeded_signals() -> Iterator[None]:
    """Signals as a terminal's programs have them, for this test and what it starts, even where they are ignored here.

    ``nohup`` ignores SIGHUP from the start, and shells SIGINT for what runs in the background; specdiff respects that.
    """
    handlers: dict[int, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    if hasattr(signal, "SIGHUP"):
        handlers[signal.SIGHUP] = signal.SIG_DFL
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def shared_midi() -> Path:
    """The folder of reference MIDI files; the test is skipped where there is none."""
    return SHARED_MIDI


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, voice: str) -> Path:
    """The current folder, empty; the tiny random voice is the default one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPECDIFF_MODEL", voice)
    return tmp_path


@pytest.fixture(scope="module")
def voice(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a tiny random voice, whose vocoder is Griffin-Lim; as ``--model`` takes it."""
    from random_voices import write_voice_folder

    return str(write_voice_folder(tmp_path_factory.mktemp("voices") / "random"))


@pytest.fixture
def without_tensorboard(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where it is not installed: it takes its time."""
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
