"""``specdiff download-weights``: what goes to which stream, with which exit code."""

import hashlib
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from command_line import specdiff
from typer.testing import Result

from specdiff_cli.cli import progress as displays
from specdiff_cli.cli import weights as command_module
from specdiff_cli.cli.progress import DownloadBar
from specdiff_cli.errors import ExitCode
from specdiff_cli.weights import cache, lock
from specdiff_cli.weights.progress import Action, format_bytes

CONTENT = {"/r1/w.bin": bytes(range(256)) * 1000, "/r1/c.json": b"{}"}
LOCK_TEXT = f"""
lock_version = 1
[models.base]
description = "a test model"
license = "Apache-2.0"
revision = "r1"
[[models.base.files]]
path = "decoder/w.bin"
url = "{{endpoint}}/{{revision}}/w.bin"
size_bytes = 256000
sha256 = "{hashlib.sha256(CONTENT["/r1/w.bin"]).hexdigest()}"
[[models.base.files]]
path = "c.json"
url = "{{endpoint}}/{{revision}}/c.json"
about_bytes = 1_000_000
[models.base.sources.gcs]
layout = "t5x"
revision = "checkpoint_1"
[[models.base.sources.gcs.files]]
path = "base.zip"
url = "{{endpoint}}/base.zip"
[bundled.tiny]
description = "a test voice"
license = "Apache-2.0"
files = [{{ path = "v.bin", sha256 = "{hashlib.sha256(b"voice").hexdigest()}" }}]
"""


def run(*arguments: str) -> Result:
    return specdiff("download-weights", *arguments)


@pytest.fixture
def requests() -> list[str]:
    return []


@pytest.fixture
def endpoint_url(requests: list[str]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the name that http.server asks for
            requests.append(self.path)
            content = CONTENT[self.path]
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def environment(endpoint_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "weights.lock"
    path.write_text(LOCK_TEXT)
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "v.bin").write_bytes(b"voice")
    monkeypatch.setattr(lock, "bundled_folder", lambda name: tmp_path / name)
    monkeypatch.setattr(lock, "lock_path", lambda: path)
    monkeypatch.setenv("HF_ENDPOINT", endpoint_url)
    monkeypatch.setenv("SPECDIFF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")  # the lower-case name wins over the other
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)


def states() -> dict[str, str]:
    entries = json.loads(run("--list", "--json").stdout)
    files = [(entry, file) for entry in entries for file in entry["files"] if entry["source"] != "gcs"]
    return {f"{entry['model']}/{file['path']}": file["state"] for entry, file in files}


def test_base_is_the_default_and_progress_goes_to_standard_error(requests: list[str], tmp_path: Path) -> None:
    result = run("--allow-unpinned")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == ""
    assert "decoder/w.bin: downloading 256 kB\n" in result.stderr
    assert "decoder/w.bin: ok\n" in result.stderr
    assert f"c.json: ok, recorded sha256 {hashlib.sha256(b'{}').hexdigest()}\n" in result.stderr
    assert f"base: verified in {tmp_path / 'cache/models/base/r1'}\n" in result.stderr
    assert requests == ["/r1/w.bin", "/r1/c.json"]
    assert run("base").exit_code == 0  # nothing left to do, and the unpinned hash is known by now
    assert len(requests) == 2


def test_quiet_says_nothing() -> None:
    result = run("base", "--allow-unpinned", "--quiet")
    assert (result.stdout, result.stderr, result.exit_code) == ("", "", 0)


def test_unpinned_files_need_the_option() -> None:
    result = run("base")
    assert "--allow-unpinned" in result.stderr
    assert result.exit_code == ExitCode.WEIGHTS


def test_list_is_a_table_on_standard_output(requests: list[str]) -> None:
    result = run("--list")
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0] == ["MODEL", "SOURCE", "FILE", "SIZE", "SHA256", "STATE"]
    digest = hashlib.sha256(CONTENT["/r1/w.bin"]).hexdigest()
    assert lines[1][:4] == ["tiny", "package", "v.bin", "?"] and lines[1][-2:] == ["verified", "(bundled)"]
    assert lines[2] == ["base", "huggingface", "decoder/w.bin", "256", "kB", digest[:12] + "…", "missing"]
    assert lines[3] == ["base", "huggingface", "c.json", "about", "1", "MB", "not", "pinned", "missing"]
    assert lines[4] == ["base", "gcs", "base.zip", "?", "not", "pinned", "missing"]
    assert (result.stderr, requests) == ("", [])
    assert "tiny" not in run("base", "--list").stdout
    assert "decoder" not in run("base", "--list", "--source", "gcs").stdout
    assert "base" not in run("tiny", "--list").stdout


def test_list_as_json_before_and_after(endpoint_url: str, tmp_path: Path) -> None:
    assert states() == {"base/decoder/w.bin": "missing", "base/c.json": "missing", "tiny/v.bin": "verified"}
    run("--allow-unpinned")
    assert states() == {"base/decoder/w.bin": "verified", "base/c.json": "verified", "tiny/v.bin": "verified"}
    base = json.loads(run("base", "--list", "--json").stdout)[0]
    assert base["revision"] == "r1"
    assert base["folder"] == str(tmp_path / "cache/models/base/r1")
    assert base["files"][0]["url"] == f"{endpoint_url}/r1/w.bin"
    assert base["files"][1]["sha256"] is None
    assert base["files"][1]["recorded_sha256"] == hashlib.sha256(b"{}").hexdigest()
    (tmp_path / "cache/models/base/r1/c.json").write_bytes(b"[1]")
    (tmp_path / "tiny/v.bin").write_bytes(b"noise")
    assert states() == {"base/decoder/w.bin": "verified", "base/c.json": "unverified", "tiny/v.bin": "wrong content"}


def test_verify_hashes_and_fetches_nothing(requests: list[str]) -> None:
    assert "not downloaded" in run("--verify").stderr
    run("--allow-unpinned")
    result = run("--verify")
    assert result.exit_code == 0, result.stderr
    assert "decoder/w.bin: ok\nc.json: ok\nbase: verified in" in result.stderr
    folder = cache.model_folder(lock.load_lock().model("base"))
    (folder / "decoder/w.bin").write_bytes(b"?" * 256_000)
    result = run("--verify")
    assert "decoder/w.bin: wrong content" in result.stderr and "c.json: ok" in result.stderr
    assert "1 of 2 files cannot be used" in result.stderr
    assert result.exit_code == ExitCode.WEIGHTS
    assert len(requests) == 2


def test_bundled_voice_needs_no_download(requests: list[str], tmp_path: Path) -> None:
    assert "tiny: ships with specdiff" in run("tiny").stderr
    assert run("tiny", "--verify").exit_code == 0
    (tmp_path / "tiny/v.bin").write_bytes(b"noise")
    assert "wrong content" in run("tiny").stderr
    assert requests == []


@pytest.mark.parametrize("arguments", [["large"], ["large", "--list"], ["large", "--verify"]])
def test_unknown_model(arguments: list[str]) -> None:
    result = run(*arguments)
    assert 'unknown model "large"' in result.stderr
    assert result.exit_code == ExitCode.WEIGHTS


@pytest.mark.parametrize(
    "arguments", [["--list", "--verify"], ["--json"], ["--verify", "--force"], ["--list", "--allow-unpinned"]]
)
def test_options_that_contradict_each_other(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == ExitCode.USAGE


def test_sources(requests: list[str]) -> None:
    assert 'is not to be had from "ftp", only from huggingface or gcs' in run("base", "--source", "ftp").stderr
    assert "there is nothing to download" in run("tiny", "--source", "gcs").stderr
    assert "base.zip" in run("base", "--source", "gcs").stderr  # unpinned: needs the option
    assert "not downloaded" in run("base", "--source", "gcs", "--verify").stderr
    assert requests == []


def test_a_conversion_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with displays.download_display(quiet=False) as progress:
        progress.start("base.zip", Action.CONVERTING, 0, None)
    assert capsys.readouterr().err == "base.zip: converting to a voice\n"


def test_timeout_below_a_second_is_a_usage_error() -> None:
    assert run("--timeout", "0").exit_code == ExitCode.USAGE


def test_interrupt_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command_module, "download_model", interrupt)
    result = run("base")
    assert "interrupted; what has arrived is kept" in result.stderr
    assert result.exit_code == ExitCode.INTERRUPTED


def test_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(displays, "can_draw", lambda: True)
    with displays.download_display(quiet=False) as progress:
        assert isinstance(progress, DownloadBar)
        progress.start("w[0].bin", Action.DOWNLOADING, 0, 1000)
        progress.advance(500)
        progress.start("w[0].bin", Action.RESUMING, 500, None)
        progress.advance(700)
        progress.note("a [note]")
        progress.finish("w[0].bin", "ok")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "a [note]" in captured.err and "w[0].bin: ok" in captured.err


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (60_487_709, "60.5 MB"),
        (955_000_000, "955 MB"),
        (999_900_000, "1000 MB"),
        (1_700_000_000, "1.70 GB"),
    ],
)
def test_format_bytes(n_bytes: int, text: str) -> None:
    assert format_bytes(n_bytes) == text


def test_help_shows_examples_and_the_command_loads_nothing_heavy() -> None:
    assert re.search(r"specdiff download-weights base\s*\n", run("--help").stdout)
    code = (
        "import sys, typer\n"
        "from specdiff_cli.cli.weights import download_weights\n"
        "app = typer.Typer(); app.command()(download_weights)\n"
        "app(['--list'], standalone_mode=False)\n"
        "sys.exit(', '.join({'torch', 'numpy', 'onnxruntime', 'soundfile'} & set(sys.modules)) or 0)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert "melgan/model.onnx" in result.stdout
