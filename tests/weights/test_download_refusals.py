"""Downloading from a real HTTP server on loopback that refuses, moves away or sends something else."""

import hashlib
import http.client
import io
import re
import socket
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from urllib.request import Request

import pytest
from downloads import CONFIG, CUT, FAST, WEIGHTS, assert_complete, failure, interrupted, lock_text
from loopback_server import (
    Answer,
    Handler,
    Recorder,
    Site,
    ignoring_range,
    page,
    proper,
    status,
)

from specdiff_cli.errors import WeightsError
from specdiff_cli.weights import cache, transfer
from specdiff_cli.weights.download import download_model
from specdiff_cli.weights.lock import Lock, parse_lock
from specdiff_cli.weights.transfer import Source, TransferOptions

# --- refusals and retries --------------------------------------------------------------------------------------------


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits between attempts, none of which is really waited."""
    seconds: list[float] = []
    monkeypatch.setattr(time, "sleep", seconds.append)
    return seconds


def test_503_then_ok_waits_as_long_as_asked(site: Site, lock: Lock, target: Path, waits: list[float]) -> None:
    site.plan["/r1/w.bin"] = [status(503, Retry_After=7), status(503), status(429), proper()]
    download_model("pinned", lock=lock, options=TransferOptions(backoff_s=1.0))
    assert waits == [7, 2, 4]
    assert_complete(target)


def test_retry_after_as_a_date(site: Site, lock: Lock, target: Path, waits: list[float]) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    site.plan["/r1/w.bin"] = [status(503, Retry_After=date), proper()]
    download_model("pinned", lock=lock)
    assert 20 < waits[0] <= 30
    assert_complete(target)


def test_503_for_ever_is_bounded(site: Site, lock: Lock) -> None:
    site.plan["/r1/w.bin"] = [status(503)]
    assert re.search(r"sub/w\.bin: 127\.0\.0\.1:\d+ answers HTTP 503.*: try again later", failure(lock))
    assert len(site.seen) == FAST.max_failures


def test_too_long_a_wait_is_not_waited(site: Site, lock: Lock, waits: list[float]) -> None:
    site.plan["/r1/w.bin"] = [status(429, Retry_After=86400)]
    assert "asks to wait 86400 s" in failure(lock)
    assert waits == []


@pytest.mark.parametrize("code", [401, 403, 404, 410])
def test_plain_refusal_is_not_repeated(site: Site, lock: Lock, code: int) -> None:
    site.plan["/r1/w.bin"] = [status(code)]
    assert f"{site.url}/r1/w.bin answers HTTP {code}" in failure(lock)
    assert len(site.seen) == 1


def test_nobody_listens(lock: Lock, monkeypatch: pytest.MonkeyPatch, waits: list[float]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
    monkeypatch.setenv("HF_ENDPOINT", f"http://{address}")
    assert re.search(f"cannot reach {address} .*refused", failure(lock))
    assert waits == []


def test_connection_dropped_before_an_answer_is_retried(site: Site, lock: Lock, target: Path) -> None:
    def drop(handler: Handler, _: bytes) -> None:
        handler.connection.shutdown(socket.SHUT_RDWR)

    site.plan["/r1/w.bin"] = [drop, proper()]
    download_model("pinned", lock=lock, options=FAST)
    assert_complete(target)


def test_redirect_keeps_the_range(site: Site, lock: Lock, target: Path, part: Path) -> None:
    interrupted(site, lock, part)
    site.content["/cdn/w"] = WEIGHTS
    site.plan["/r1/w.bin"] = [status(302, Location="/cdn/w")]
    download_model("pinned", lock=lock, options=FAST)
    assert [(request.path, request.range) for request in site.seen] == [
        ("/r1/w.bin", f"bytes={CUT}-"),
        ("/cdn/w", f"bytes={CUT}-"),
    ]
    assert site.sent() == [0, len(WEIGHTS) - CUT]
    assert_complete(target)


def test_redirect_loop(site: Site, lock: Lock) -> None:
    site.plan["/r1/w.bin"] = [status(302, Location="/r1/w.bin")]
    assert "answers HTTP 302" in failure(lock)


@pytest.mark.parametrize("address", ["ftp://host/w", "file:///etc/passwd"])
def test_redirect_to_another_protocol_is_refused(site: Site, lock: Lock, address: str) -> None:
    site.plan["/r1/w.bin"] = [status(302, Location=address)]
    assert "not secure" in failure(lock) or "HTTP 302" in failure(lock)


def test_redirect_from_https_down_to_http_is_refused() -> None:
    def redirect(origin: str, address: str) -> Request | None:
        redirects = transfer._SafeRedirects(Source("w.bin", origin, "r1"))
        request, body = Request(origin, headers={"Range": "bytes=5-"}), io.BytesIO()
        return redirects.redirect_request(request, body, 302, "Found", http.client.HTTPMessage(), address)

    with pytest.raises(WeightsError, match="redirected to http://cdn, which is not secure"):
        redirect("https://host/w", "http://cdn/w")
    followed = redirect("https://host/w", "https://cdn/w")
    assert followed is not None and followed.get_header("Range") == "bytes=5-"
    assert redirect("http://127.0.0.1/w", "http://127.0.0.1/v") is not None


# --- wrong content ---------------------------------------------------------------------------------------------------


def test_wrong_content_is_deleted_and_a_rerun_starts_fresh(site: Site, lock: Lock, target: Path, part: Path) -> None:
    corrupt = WEIGHTS[:1000] + b"?" + WEIGHTS[1001:]
    site.plan["/r1/w.bin"] = [ignoring_range(content=corrupt)]
    found, expected = (hashlib.sha256(content).hexdigest() for content in (corrupt, WEIGHTS))
    assert f"sub/w.bin: wrong content: sha256 is {found}, expected {expected}" in failure(lock)
    assert not target.exists()
    assert not part.exists()
    with pytest.raises(WeightsError, match="not downloaded"):
        cache.find_model("pinned", lock=lock)
    site.plan.clear()
    download_model("pinned", lock=lock, options=FAST)
    assert site.ranges() == [None, None]
    assert_complete(target)


def test_corrupt_start_in_an_old_part_is_found(site: Site, lock: Lock, target: Path, part: Path) -> None:
    interrupted(site, lock, part)
    part.write_bytes(bytes(CUT))  # what a power cut can leave
    assert "wrong content" in failure(lock)
    download_model("pinned", lock=lock, options=FAST)
    assert_complete(target)


@pytest.mark.parametrize("content_type", ["text/html; charset=utf-8", "application/octet-stream"])
def test_web_page_in_place_of_the_file(site: Site, lock: Lock, part: Path, content_type: str) -> None:
    interrupted(site, lock, part)
    site.plan["/r1/w.bin"] = [page(content_type)]
    assert "sub/w.bin: wrong content: got a web page" in failure(lock)
    assert part.stat().st_size == CUT  # what had arrived before is not lost to a login page
    site.plan.clear()
    download_model("pinned", lock=lock, options=FAST)
    assert site.sent()[-1] == len(WEIGHTS) - CUT


@pytest.mark.parametrize(
    ("offered", "word"), [(WEIGHTS + b"more", "wrong content"), (WEIGHTS[:-1], "incomplete")], ids=["longer", "shorter"]
)
def test_other_length_than_the_lock_says_is_refused_before_the_transfer(site: Site, offered: bytes, word: str) -> None:
    site.content["/r1/w.bin"] = offered
    line = failure(parse_lock(lock_text(size_bytes=len(WEIGHTS))))
    assert f"{word}: the server offers {len(offered)} bytes, expected {len(WEIGHTS)}" in line


def test_compressed_answer_is_refused(site: Site, lock: Lock) -> None:
    site.plan["/r1/w.bin"] = [status(200, Content_Encoding="gzip")]
    assert "gzip-encoded" in failure(lock)


# --- files that the lock does not pin --------------------------------------------------------------------------------


def test_unpinned_needs_permission_before_any_request(site: Site, lock: Lock, tmp_path: Path) -> None:
    line = failure(lock, name="unpinned")
    assert "c.json" in line and "add allow_unpinned to trust" in line
    assert site.seen == []
    assert not (tmp_path / "cache").exists()


def test_unpinned_is_trusted_on_first_use_and_held_to_it(site: Site, lock: Lock) -> None:
    recorder = Recorder()
    folder = download_model("unpinned", lock=lock, options=FAST, allow_unpinned=True, progress=recorder)
    digest = hashlib.sha256(CONFIG).hexdigest()
    assert recorder.outcomes == [f"c.json: ok, recorded sha256 {digest}"]
    assert cache.find_model("unpinned", lock=lock) == folder

    site.content["/r1/c.json"] = b'{"d_model": 999}'
    (folder / "c.json").unlink()
    line = failure(lock, name="unpinned", allow_unpinned=True)
    assert f"expected {digest}" in line and "first use" in line
    assert not (folder / "c.json").exists()

    site.content["/r1/c.json"] = CONFIG
    download_model("unpinned", lock=lock, options=FAST)  # its hash is known by now: no permission needed
    assert cache.find_model("unpinned", lock=lock) == folder


def test_unpinned_file_put_there_by_hand_is_recorded_with_permission(site: Site, lock: Lock) -> None:
    folder = cache.model_folder(lock.model("unpinned"))
    folder.mkdir(parents=True)
    (folder / "c.json").write_bytes(CONFIG)
    failure(lock, name="unpinned")
    download_model("unpinned", lock=lock, allow_unpinned=True)
    assert site.seen == []
    assert cache.find_model("unpinned", lock=lock) == folder


@pytest.mark.parametrize("answer", [page(), ignoring_range(content=b'{"d_model": '), ignoring_range(content=b"")])
def test_error_page_is_never_recorded_as_the_truth(site: Site, lock: Lock, answer: Answer) -> None:
    site.plan["/r1/c.json"] = [answer]
    assert "c.json: wrong content" in failure(lock, name="unpinned", allow_unpinned=True)
    site.plan.clear()
    download_model("unpinned", lock=lock, options=FAST, allow_unpinned=True)
    assert cache.find_model("unpinned", lock=lock)


def test_unpinned_of_unknown_length_is_refused(site: Site, lock: Lock) -> None:
    def until_closed(handler: Handler, content: bytes) -> None:
        handler.head(200)
        handler.body(content)

    site.plan["/r1/c.json"] = [until_closed]
    assert "does not say how long" in failure(lock, name="unpinned", allow_unpinned=True)
