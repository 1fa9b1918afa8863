"""Downloading from a real HTTP server on loopback: the good path, and what is interrupted and goes on."""

import hashlib
import time
from pathlib import Path

import pytest
from downloads import CUT, FAST, ONE_TRY, WEIGHTS, assert_complete, failure, interrupted, lock_text
from loopback_server import (
    Handler,
    Recorder,
    Site,
    chunked,
    etag_of,
    ignoring_range,
    proper,
    status,
)

from specdiff_cli.weights import cache
from specdiff_cli.weights.download import download_model
from specdiff_cli.weights.lock import Lock, parse_lock
from specdiff_cli.weights.progress import Action, SilentProgress
from specdiff_cli.weights.transfer import TransferOptions

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
