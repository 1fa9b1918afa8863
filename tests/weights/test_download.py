"""Downloading from a real HTTP server on loopback that misbehaves in every way servers do."""

import errno
import hashlib
import http.client
import io
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from urllib.request import Request

import pytest
from loopback_server import (
    Answer,
    Handler,
    Recorder,
    Site,
    chunked,
    etag_of,
    ignoring_range,
    page,
    proper,
    serving,
    status,
)

from specdiff_cli.errors import UsageError, WeightsError
from specdiff_cli.weights import cache, transfer
from specdiff_cli.weights.download import download_model
from specdiff_cli.weights.lock import Lock, parse_lock
from specdiff_cli.weights.progress import Action, SilentProgress
from specdiff_cli.weights.transfer import Source, TransferOptions

WEIGHTS = bytes(range(256)) * 2048  # 512 KiB: several chunks
CONFIG = b'{"d_model": 768}'
CUT = 200_000  # where misbehaving answers stop
FAST = TransferOptions(timeout_s=0.3, max_failures=3, backoff_s=0.001)
ONE_TRY = TransferOptions(timeout_s=0.3, max_attempts=1)


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site({"/r1/w.bin": WEIGHTS, "/r1/c.json": CONFIG})
    with serving(site):
        yield site


@pytest.fixture(autouse=True)
def environment(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", site.url)
    monkeypatch.setenv("SPECDIFF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")  # the lower-case name wins over the other
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)


def lock_text(sha256: str | None = None, size_bytes: int | None = None, revision: str = "r1") -> str:
    sha256 = hashlib.sha256(WEIGHTS).hexdigest() if sha256 is None else sha256
    size = "" if size_bytes is None else f"size_bytes = {size_bytes}"
    return f"""
lock_version = 1
[models.pinned]
description = "d"
license = "l"
revision = "{revision}"
[[models.pinned.files]]
path = "sub/w.bin"
url = "{{endpoint}}/r1/w.bin"
sha256 = "{sha256}"
{size}
[models.unpinned]
description = "d"
license = "l"
revision = "r1"
[[models.unpinned.files]]
path = "c.json"
url = "{{endpoint}}/{{revision}}/c.json"
"""


@pytest.fixture
def lock() -> Lock:
    return parse_lock(lock_text())


@pytest.fixture
def target(lock: Lock) -> Path:
    return cache.model_folder(lock.model("pinned")) / "sub" / "w.bin"


@pytest.fixture
def part(target: Path) -> Path:
    return target.with_name("w.bin.part")


def failure(lock: Lock, options: TransferOptions = FAST, name: str = "pinned", *, allow_unpinned: bool = False) -> str:
    """The one line that a failing download ends with."""
    with pytest.raises(WeightsError) as caught:
        download_model(name, lock=lock, options=options, allow_unpinned=allow_unpinned)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def assert_complete(target: Path) -> None:
    assert target.read_bytes() == WEIGHTS
    assert [path.name for path in target.parent.iterdir()] == ["w.bin"]


def interrupted(site: Site, lock: Lock, part: Path) -> None:
    """Leave the part file of an earlier run that was cut off."""
    site.plan["/r1/w.bin"] = [proper(stop_after=CUT)]
    failure(lock, ONE_TRY)
    assert part.stat().st_size == CUT
    site.plan.clear()
    site.seen.clear()


# --- the good path ---------------------------------------------------------------------------------------------------


def test_download_then_nothing_left_to_do(site: Site, lock: Lock, target: Path) -> None:
    folder = download_model("pinned", lock=lock, options=FAST)
    assert folder == cache.find_model("pinned", lock=lock) == target.parents[1]
    assert_complete(target)
    recorder = Recorder()
    download_model("pinned", lock=lock, options=FAST, progress=recorder)
    assert recorder.outcomes == ["sub/w.bin: ok"]
    assert len(site.seen) == 1


def test_endpoint_below_a_path(site: Site, lock: Lock, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.content["/hub/r1/w.bin"] = WEIGHTS
    monkeypatch.setenv("HF_ENDPOINT", site.url + "/hub/")
    download_model("pinned", lock=lock, options=FAST)
    assert_complete(target)


def test_proxy_is_respected(site: Site, lock: Lock, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://weights.invalid")
    monkeypatch.setenv("http_proxy", site.url)
    site.content["http://weights.invalid/r1/w.bin"] = WEIGHTS
    download_model("pinned", lock=lock, options=FAST)
    assert_complete(target)


def test_force_fetches_again(site: Site, lock: Lock, target: Path) -> None:
    download_model("pinned", lock=lock, options=FAST)
    download_model("pinned", lock=lock, options=FAST, force=True)
    assert site.ranges() == [None, None]
    assert_complete(target)


def test_damaged_file_is_fetched_again(site: Site, lock: Lock, target: Path) -> None:
    target.parent.mkdir(parents=True)
    target.write_bytes(WEIGHTS[:-1] + b"?")
    recorder = Recorder()
    download_model("pinned", lock=lock, options=FAST, progress=recorder)
    assert "wrong content" in recorder.notes[0]
    assert_complete(target)


def test_right_file_put_there_by_hand_is_adopted(site: Site, lock: Lock, target: Path) -> None:
    target.parent.mkdir(parents=True)
    target.write_bytes(WEIGHTS)
    download_model("pinned", lock=lock, options=FAST)
    assert site.seen == []
    assert cache.find_model("pinned", lock=lock)


# --- interruption and resumption -------------------------------------------------------------------------------------


def test_truncated_answer_is_continued_in_the_same_run(site: Site, lock: Lock, target: Path) -> None:
    site.plan["/r1/w.bin"] = [proper(stop_after=CUT), proper()]
    recorder = Recorder()
    download_model("pinned", lock=lock, options=FAST, progress=recorder)
    assert_complete(target)
    assert site.ranges() == [None, f"bytes={CUT}-"]
    assert site.sent() == [CUT, len(WEIGHTS) - CUT]
    assert recorder.starts[:2] == [(Action.DOWNLOADING, 0, len(WEIGHTS)), (Action.RESUMING, CUT, len(WEIGHTS))]


def test_later_run_fetches_only_the_remainder(site: Site, lock: Lock, target: Path, part: Path) -> None:
    site.plan["/r1/w.bin"] = [proper(stop_after=CUT)]
    line = failure(lock, ONE_TRY)
    assert f"sub/w.bin: incomplete: got {CUT} of {len(WEIGHTS)} bytes" in line
    assert "same command again" in line
    assert part.stat().st_size == CUT
    assert not target.exists()
    site.plan.clear()
    download_model("pinned", lock=lock, options=FAST)
    assert site.sent() == [CUT, len(WEIGHTS) - CUT]
    assert site.seen[1].if_range == etag_of(WEIGHTS)
    assert_complete(target)


def test_truncation_for_ever_is_incomplete_after_bounded_attempts(site: Site, lock: Lock) -> None:
    site.plan["/r1/w.bin"] = [ignoring_range(stop_after=CUT)]
    assert f"incomplete: got {CUT} of {len(WEIGHTS)} bytes" in failure(lock)
    assert len(site.seen) == 1 + FAST.max_failures  # the first brought something new


def test_trickle_is_bounded_too(site: Site, lock: Lock) -> None:
    site.plan["/r1/w.bin"] = [proper(stop_after=1)]
    options = TransferOptions(max_attempts=7, backoff_s=0)
    assert f"incomplete: got 7 of {len(WEIGHTS)} bytes" in failure(lock, options)


def test_stall_is_given_up_and_resumed(site: Site, lock: Lock, target: Path) -> None:
    site.plan["/r1/w.bin"] = [proper(stop_after=CUT, stall_s=1.0), proper()]
    recorder = Recorder()
    started_s = time.monotonic()
    download_model("pinned", lock=lock, options=FAST, progress=recorder)
    assert time.monotonic() - started_s < 0.9
    assert "nothing received for 0.3 s" in recorder.notes[0]
    assert site.sent()[1] == len(WEIGHTS) - CUT
    assert_complete(target)


def test_server_that_never_answers(site: Site, lock: Lock) -> None:
    def silence(*_: object) -> None:
        time.sleep(0.5)

    site.plan["/r1/w.bin"] = [silence]
    assert "no answer for 0.2 s" in failure(lock, TransferOptions(timeout_s=0.2, max_failures=2, backoff_s=0))


def test_server_that_ignores_range_starts_over(site: Site, lock: Lock, target: Path, part: Path) -> None:
    interrupted(site, lock, part)
    site.plan["/r1/w.bin"] = [ignoring_range()]
    download_model("pinned", lock=lock, options=FAST)
    assert site.sent() == [len(WEIGHTS)]
    assert_complete(target)


@pytest.mark.parametrize("heeds_if_range", [True, False])
def test_content_changed_since_the_part_was_begun(
    site: Site, lock: Lock, part: Path, target: Path, heeds_if_range: bool
) -> None:
    def without_if_range(handler: Handler, content: bytes) -> None:
        handler.seen.if_range = None  # as a server does that does not know this header: 206, with the new tag
        proper()(handler, content)

    site.content["/r1/w.bin"] = WEIGHTS[::-1]
    interrupted(site, lock, part)
    site.content["/r1/w.bin"] = WEIGHTS
    site.plan["/r1/w.bin"] = [proper() if heeds_if_range else without_if_range]
    download_model("pinned", lock=lock, options=FAST)
    assert site.ranges() == ([f"bytes={CUT}-"] if heeds_if_range else [f"bytes={CUT}-", None])
    assert site.sent()[-1] == len(WEIGHTS)
    assert_complete(target)


def test_part_of_other_content_is_not_continued(site: Site, lock: Lock, part: Path, target: Path) -> None:
    interrupted(site, lock, part)
    changed = site.content["/r1/w.bin"] = WEIGHTS[::-1]
    download_model("pinned", lock=parse_lock(lock_text(hashlib.sha256(changed).hexdigest())), options=FAST)
    assert site.ranges() == [None]
    assert target.read_bytes() == changed


@pytest.mark.parametrize("content_range", ["bytes 5-9/524288", "bytes 200000-524287/999999", "nonsense", ""])
def test_206_that_does_not_continue_the_part_is_not_appended(
    site: Site, lock: Lock, part: Path, target: Path, content_range: str
) -> None:
    interrupted(site, lock, part)

    def wrong_piece(handler: Handler, content: bytes) -> None:
        handler.head(206, Content_Length=5, Content_Range=content_range)
        handler.body(b"wrong")

    site.plan["/r1/w.bin"] = [wrong_piece, proper()]
    download_model("pinned", lock=lock, options=FAST)
    assert site.ranges() == [f"bytes={CUT}-", None]
    assert_complete(target)


def test_part_of_another_revision_is_not_continued(site: Site, lock: Lock, part: Path) -> None:
    interrupted(site, lock, part)
    newer = parse_lock(lock_text(revision="r2"))
    moved = cache.model_folder(newer.model("pinned")) / "sub"
    moved.parent.mkdir()
    part.parent.rename(moved)
    download_model("pinned", lock=newer, options=FAST)
    assert site.ranges() == [None]
    assert_complete(moved / "w.bin")


def test_part_without_a_note_is_not_continued(site: Site, lock: Lock, target: Path, part: Path) -> None:
    interrupted(site, lock, part)
    part.with_name("w.bin.part.json").write_text("{")
    download_model("pinned", lock=lock, options=FAST)
    assert site.ranges() == [None]
    assert_complete(target)


def test_complete_part_needs_no_request(site: Site, lock: Lock, target: Path, part: Path) -> None:
    interrupted(site, lock, part)
    part.write_bytes(WEIGHTS)
    download_model("pinned", lock=lock, options=FAST)
    assert site.seen == []
    assert_complete(target)


def test_part_longer_than_the_file_is_dropped(site: Site, lock: Lock, target: Path, part: Path) -> None:
    interrupted(site, lock, part)
    part.write_bytes(WEIGHTS + b"more")
    download_model("pinned", lock=lock, options=FAST)
    assert site.ranges() == [None]
    assert_complete(target)


def test_416_for_a_part_that_is_complete_after_all(site: Site, lock: Lock, target: Path, part: Path) -> None:
    site.plan["/r1/w.bin"] = [chunked(stop_after=CUT)]  # an answer that never said how long it would be
    assert "incomplete: got 300000 of an unknown number of bytes" in failure(lock, ONE_TRY)
    part.write_bytes(WEIGHTS)
    site.plan.clear()
    download_model("pinned", lock=lock, options=FAST)
    assert site.ranges()[-1] == f"bytes={len(WEIGHTS)}-"
    assert site.sent()[-1] == 0
    assert_complete(target)


def test_416_for_a_part_of_something_else_starts_over(site: Site, lock: Lock, target: Path, part: Path) -> None:
    interrupted(site, lock, part)
    site.plan["/r1/w.bin"] = [status(416, Content_Range="bytes */7"), proper()]
    download_model("pinned", lock=lock, options=FAST)
    assert site.ranges() == [f"bytes={CUT}-", None]
    assert_complete(target)


def test_chunked_answer(site: Site, lock: Lock, target: Path) -> None:
    site.plan["/r1/w.bin"] = [chunked(stop_after=CUT), chunked()]
    download_model("pinned", lock=lock, options=FAST)
    assert_complete(target)


def test_keyboard_interrupt_keeps_the_part_and_frees_the_lock(site: Site, lock: Lock, target: Path, part: Path) -> None:
    class Impatient(SilentProgress):
        def advance(self, done_bytes: int) -> None:
            if done_bytes >= CUT:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download_model("pinned", lock=lock, options=FAST, progress=Impatient())
    kept_bytes = part.stat().st_size
    assert CUT <= kept_bytes < len(WEIGHTS)
    recorder = Recorder()
    download_model("pinned", lock=lock, options=FAST, progress=recorder)
    assert recorder.notes == []
    assert site.ranges() == [None, f"bytes={kept_bytes}-"]
    assert site.sent()[1] == len(WEIGHTS) - kept_bytes
    assert_complete(target)


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


# --- environment, disk, other processes ------------------------------------------------------------------------------


def test_offline(site: Site, lock: Lock, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    line = failure(lock)
    assert "HF_HUB_OFFLINE is set" in line and "sub/w.bin" in line
    assert not (tmp_path / "cache").exists()
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    download_model("pinned", lock=lock, options=FAST)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    download_model("pinned", lock=lock, options=FAST)
    target.write_bytes(b"damaged")
    assert "HF_HUB_OFFLINE is set" in failure(lock)
    assert len(site.seen) == 1


def test_bad_endpoint(lock: Lock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "huggingface.co")
    with pytest.raises(UsageError, match="HF_ENDPOINT"):
        download_model("pinned", lock=lock)


def test_unwritable_cache(lock: Lock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SPECDIFF_CACHE", str(tmp_path / "file"))
    assert "cannot write to the cache" in failure(lock)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk_found_while_writing(site: Site, lock: Lock, part: Path) -> None:
    site.plan["/r1/w.bin"] = [proper(stop_after=0)]
    failure(lock, ONE_TRY)  # leaves the note of an empty part
    part.unlink(missing_ok=True)
    part.symlink_to("/dev/full")
    site.plan.clear()
    assert f"cannot write to the cache ({os.strerror(errno.ENOSPC)})" in failure(lock)
    assert len(site.seen) == 2  # no use in trying again


@pytest.mark.parametrize("stage", ["folder", "lock", "note", "flush", "rename", "record"])
def test_no_space_left_at_any_other_stage(
    site: Site, lock: Lock, target: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    """Writing itself is in the test above."""
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def only_if(condition: Callable[..., bool], real: Callable[..., object]) -> Callable[..., object]:
        def act(*args: object, **more: object) -> object:
            if condition(*args):
                raise full
            return real(*args, **more)

        return act

    with monkeypatch.context() as disk:
        if stage == "folder":
            disk.setattr(Path, "mkdir", only_if(lambda path, *_: path.name == "sub", Path.mkdir))
        elif stage == "lock":
            disk.setattr(Path, "open", only_if(lambda path, *_: path.name == ".lock", Path.open))
        elif stage == "note":
            disk.setattr(
                Path, "write_text", only_if(lambda path, *_: path.name.endswith(".part.json"), Path.write_text)
            )
        elif stage == "flush":
            disk.setattr(os, "fsync", only_if(lambda _: True, os.fsync))
        elif stage == "rename":
            disk.setattr(os, "replace", only_if(lambda _, to: to == target, os.replace))
        else:
            disk.setattr(os, "replace", only_if(lambda _, to: to != target, os.replace))
        line = failure(lock)
    assert f"cannot write to the cache ({os.strerror(errno.ENOSPC)}): free some space, or set SPECDIFF_CACHE" in line
    n_requests = len(site.seen)
    download_model("pinned", lock=lock, options=FAST)
    assert_complete(target)
    if stage in ("flush", "rename", "record"):
        assert len(site.seen) == n_requests  # what had arrived is not fetched again


def test_disk_plainly_too_small(site: Site, lock: Lock, monkeypatch: pytest.MonkeyPatch) -> None:
    small = type("Usage", (), {"free": 1000})()
    monkeypatch.setattr("shutil.disk_usage", lambda _: small)
    assert "not enough space (524 kB needed, 1 kB free" in failure(lock)


PROCESS = """
import sys
from specdiff_cli.weights.download import download_model
from specdiff_cli.weights.lock import parse_lock
print("ready", flush=True)
sys.stdin.readline()
download_model("pinned", lock=parse_lock(sys.argv[1]))
"""


def start_process() -> "subprocess.Popen[str]":
    """Another process that downloads when told to."""
    command = [sys.executable, "-c", PROCESS, lock_text()]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def go(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def slowly(handler: Handler, content: bytes) -> None:
    handler.head(200, Content_Length=len(content))
    for start in range(0, len(content), 65536):
        handler.body(content[start : start + 65536])
        time.sleep(0.03)


def test_two_processes_at_once(site: Site, lock: Lock, target: Path) -> None:
    site.plan["/r1/w.bin"] = [slowly]
    processes = [start_process(), start_process()]
    for process in processes:
        go(process)
    for process in processes:
        process.communicate(timeout=20)
        assert process.returncode == 0
    assert len(site.seen) == 1  # the second waited, then found the work done
    assert_complete(target)


def test_killed_process_leaves_neither_a_lock_nor_a_lost_part(site: Site, lock: Lock, target: Path, part: Path) -> None:
    site.plan["/r1/w.bin"] = [proper(stop_after=CUT, stall_s=1.0), proper()]
    process = start_process()
    go(process)
    deadline_s = time.monotonic() + 10
    while not (part.exists() and part.stat().st_size == CUT) and time.monotonic() < deadline_s:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
    process.communicate(timeout=10)
    recorder = Recorder()
    download_model("pinned", lock=lock, options=FAST, progress=recorder)
    assert recorder.notes == []
    assert site.ranges() == [None, f"bytes={CUT}-"]
    assert_complete(target)
