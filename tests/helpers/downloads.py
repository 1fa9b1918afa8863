"""A server on loopback, a lock that names its files, and downloads that fail: fixtures (a plugin of the tests)."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from loopback_server import (
    Site,
    proper,
    serving,
)

from specdiff_cli.errors import WeightsError
from specdiff_cli.weights import cache
from specdiff_cli.weights.download import download_model
from specdiff_cli.weights.lock import Lock, parse_lock
from specdiff_cli.weights.transfer import TransferOptions

WEIGHTS = bytes(range(256)) * 2048  # 512 KiB: several chunks
CONFIG = b'{"d_model": 768}'
CUT = 200_000  # where misbehaving answers stop
FAST = TransferOptions(timeout_s=0.3, max_failures=3, backoff_s=0.001)
ONE_TRY = TransferOptions(timeout_s=0.3, max_attempts=1)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A server with the files, where this test's environment says that models are; the cache is empty."""
    site = Site({"/r1/w.bin": WEIGHTS, "/r1/c.json": CONFIG})
    with serving(site):
        monkeypatch.setenv("HF_ENDPOINT", site.url)
        monkeypatch.setenv("SPECDIFF_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("no_proxy", "127.0.0.1")  # the lower-case name wins over the other
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        yield site


def lock_text(sha256: str | None = None, size_bytes: int | None = None, revision: str = "r1") -> str:
    """The lock; the hash and the size of the large file may be others than its own."""
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
def lock(site: Site) -> Lock:
    """A model of one large file with a known hash, and one whose file has none."""
    return parse_lock(lock_text())


@pytest.fixture
def target(lock: Lock) -> Path:
    """Where the large file goes."""
    return cache.model_folder(lock.model("pinned")) / "sub" / "w.bin"


@pytest.fixture
def part(target: Path) -> Path:
    """What there is of it while it is under way."""
    return target.with_name("w.bin.part")


def failure(lock: Lock, options: TransferOptions = FAST, name: str = "pinned", *, allow_unpinned: bool = False) -> str:
    """The one line that a failing download ends with."""
    with pytest.raises(WeightsError) as caught:
        download_model(name, lock=lock, options=options, allow_unpinned=allow_unpinned)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def assert_complete(target: Path) -> None:
    """The file is whole, and alone."""
    assert target.read_bytes() == WEIGHTS
    assert [path.name for path in target.parent.iterdir()] == ["w.bin"]


def interrupted(site: Site, lock: Lock, part: Path) -> None:
    """Leave the part file of an earlier run that was cut off."""
    site.plan["/r1/w.bin"] = [proper(stop_after=CUT)]
    failure(lock, ONE_TRY)
    assert part.stat().st_size == CUT
    site.plan.clear()
    site.seen.clear()
