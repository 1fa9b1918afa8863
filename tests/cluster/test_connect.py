"""Who works, and where: options, addresses, and how many workers a cluster has room for."""

import builtins
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from specdiff_cli.cluster.connect import (
    ClusterOptions,
    Node,
    check_address,
    connected,
    fitting,
    import_ray,
    threads_for,
)
from specdiff_cli.errors import DeviceError, UsageError

GIB = 2**30


@pytest.mark.parametrize("address", ["", "10.0.0.1", "http://a:1", "a:b", "a:0", "a:70000", "ray://a:10001", "a b:1"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(UsageError):
        check_address(address)


@pytest.mark.parametrize("address", ["auto", "10.0.0.1:6379", "head.local:6379", "[::1]:6379"])
def test_addresses(address: str) -> None:
    check_address(address)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, "workers 0: must be between 1 and"),
        ({"workers": 2, "file_timeout_s": 0.0}, "file_timeout 0: must be above 0"),
        ({"file_timeout_s": 5.0}, "file_timeout: is for workers and ray"),
        ({"ship": True}, "ship: is for workers and ray"),
    ],
)
def test_impossible_options_are_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ClusterOptions(**options)


def test_threads_share_the_cores_of_each_machine() -> None:
    assert threads_for(2, [2]) == 1
    assert threads_for(1, [2]) == 2
    assert threads_for(4, [2]) == 1  # more workers than cores
    assert threads_for(4, [16, 16]) == 8
    assert threads_for(3, [16, 16]) == 8  # two on one machine, one on the other
    assert threads_for(3, [16, 4]) == 5


def test_where_nothing_is_said_each_core_has_a_worker_as_far_as_memory_goes() -> None:
    roomy = [Node(16, 0, 64 * GIB), Node(4, 0, 16 * GIB)]
    assert fitting(roomy, 100 * 2**20, None) == (20, 1)
    assert fitting(roomy, 100 * 2**20, 2) == (10, 2)
    tight = [Node(16, 0, 12 * GIB)]
    assert fitting(tight, GIB, None) == (3, 5)  # 3.7 GiB each
    assert fitting([Node(2, 0, 0.1 * GIB)], GIB, None) == (1, 2)  # one in any case


def test_without_ray_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_ray(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "ray":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_ray)
    with pytest.raises(UsageError, match=r"needs Ray: run .pip install 'specdiff\[cluster\]'"):
        import_ray()


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that takes connections, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_an_address_where_nothing_listens_is_one_line() -> None:
    pytest.importorskip("ray")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(DeviceError, match=f"ray 127.0.0.1:{port}: nothing answers there"):
        with connected(ClusterOptions(address=f"127.0.0.1:{port}")):
            pass


@pytest.mark.slow
def test_an_address_where_something_else_listens_is_one_line(silent_port: int) -> None:
    pytest.importorskip("ray")
    with pytest.raises(DeviceError, match=f"ray 127.0.0.1:{silent_port}: "):
        with connected(ClusterOptions(address=f"127.0.0.1:{silent_port}")):
            pass


def test_ray_does_not_phone_home() -> None:
    usage_lib = pytest.importorskip("ray._common.usage.usage_lib")
    import_ray()
    assert not usage_lib.usage_stats_enabled()
