"""A Ray of our own for one machine, or somebody's for many: found, checked, left as it was."""

import contextlib
import logging
import os
import re
import secrets
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from specdiff_cli.choices import check_range
from specdiff_cli.cluster.folders import temporary_folder
from specdiff_cli.errors import DeviceError, Option, UsageError
from specdiff_cli.signals import StopSignals, leave_at_once

MAX_WORKERS = 10_000
AUTO = "auto"
#: An address that is silent for so long is not answered for.
PROBE_TIMEOUT_S = 5.0
CONNECT_TIMEOUT_S = 30.0
#: For one machine: results are small, or go straight to files. Ray's own choice would be a third of the memory.
OBJECT_STORE_BYTES = 256 * 2**20
#: A worker's own memory besides the weights, and how often it holds those while it loads them.
WORKER_BYTES = 700 * 2**20
COPIES_OF_WEIGHTS = 3
_ADDRESS = re.compile(r"(?P<host>[^\s:/]+|\[[0-9a-fA-F:]+\]):(?P<port>\d{1,5})")
#: Ray reads these when it is imported. It must not phone home, nor remind anybody of its own options.
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_enable_metrics_collection": "0",
}
_PROBE = """
import logging, sys, ray
ray.init(address=sys.argv[1], log_to_driver=False, logging_level=logging.CRITICAL)
ray.shutdown()
"""


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """Who does the work. Raises UsageError: a number out of range, no address.

    ``workers``: how many; None: as many as the cluster has room for. ``address``: of a running Ray, ``HOST:PORT`` or
    ``auto``; None: one is started here for as long as it is needed. ``file_timeout_s``: a file that takes longer is
    tried elsewhere, and given up in the end. ``ship``: inputs and outputs travel through Ray, and are read and written
    here.
    """

    workers: int | None = None
    address: str | None = None
    file_timeout_s: float | None = None
    ship: bool = False

    def __post_init__(self) -> None:
        check_range("workers", self.workers, 1, MAX_WORKERS)
        if self.file_timeout_s is not None and not self.file_timeout_s > 0:
            raise UsageError.of("file_timeout", float(self.file_timeout_s), "must be above 0 seconds")
        if self.address is not None:
            check_address(self.address)
        for option, value in (("file_timeout", self.file_timeout_s), ("ship", self.ship or None)):
            if value is not None and not self.is_wanted:
                raise UsageError(
                    Option(option),
                    ": is for ",
                    Option("workers"),
                    " and ",
                    Option("ray"),
                    "; give one of them",
                    option=option,
                )

    @property
    def is_wanted(self) -> bool:
        """Whether others than this process are to work."""
        return self.workers is not None or self.address is not None


def check_address(address: str) -> None:
    """Raises UsageError for what is neither ``auto`` nor ``HOST:PORT``. No Ray needed."""
    if address.startswith("ray://"):
        raise UsageError.of("ray", address, "Ray's client protocol is not used; run this on a machine of the cluster")
    match = _ADDRESS.fullmatch(address)
    if address != AUTO and (match is None or not 0 < int(match["port"]) < 65536):
        raise UsageError.of("ray", address, "is neither auto nor HOST:PORT, such as 10.0.0.1:6379")


@dataclass(frozen=True, slots=True)
class Node:
    """What a machine of the cluster has."""

    cpus: int
    gpus: int
    memory_bytes: float


def import_ray() -> Any:
    """Ray, told to be quiet. Raises UsageError where it is not installed."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError:
        raise UsageError("this needs Ray: run \"pip install 'specdiff[cluster]'\" on every machine") from None
    return ray


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running Ray: the machines that it has, and what to call between its answers.

    ``check`` raises KeyboardInterrupt or Terminated once a signal has come.
    """

    nodes: list[Node]
    check: Callable[[], None]


@contextmanager
def connected(options: ClusterOptions) -> Iterator[Cluster]:
    """A running Ray within the block.

    Signals are noted meanwhile, and are heeded where ``Cluster.check`` is called: an exception out of the middle of
    Ray's own code would end the process before anything is cleaned up. A second Ctrl-C does not wait for that.

    One that was started here has ended when the block has, with all its processes and files; no dashboard, no
    statistics.

    Raises:
        UsageError: Ray is not installed.
        DeviceError: nothing answers at the address, or another version of Ray; or none can be started here.
    """
    with contextlib.ExitStack() as stack:
        if options.address is None:
            stack.enter_context(_own_token())
        ray = import_ray()
        _keep_stdout_clean(ray)
        # a cluster that the environment names is not what was asked for
        address = "local" if options.address is None else _probed(options.address)
        signals = stack.enter_context(StopSignals(on_second=leave_at_once))
        how: dict[str, Any] = {}
        if options.address is None:
            how = {
                "num_cpus": max(_usable_cpus(), options.workers or 1),
                "include_dashboard": False,
                "object_store_memory": OBJECT_STORE_BYTES,
                "_temp_dir": str(stack.enter_context(_short_temporary_folder())),
                "_node_ip_address": "127.0.0.1",
            }
        stack.callback(ray.shutdown)
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL, **how)
        except Exception as error:
            raise DeviceError(f"Ray could not be started: {_last_line(str(error))}") from None
        finally:
            signals.listen_again()  # Ray takes SIGTERM for itself

        def check() -> None:
            if signals():
                raise signals.error()

        check()
        yield Cluster([_node(found["Resources"]) for found in ray.nodes() if found["Alive"]], check)


def _node(resources: Mapping[str, float]) -> Node:
    get = resources.get
    return Node(int(get("CPU", 0)), int(get("GPU", 0)), get("memory", 0.0))


def _usable_cpus() -> int:
    from specdiff_cli.engine.devices import usable_cpus

    return usable_cpus()


def _short_temporary_folder() -> AbstractContextManager[Path]:
    """A folder for Ray's sockets, whose names may have 107 bytes in all: macOS's own would be too long."""
    parent = "/tmp" if sys.platform != "win32" and os.access("/tmp", os.W_OK) else None  # noqa: S108 - mkdtemp makes it safe
    return temporary_folder("sd-ray-", parent)


def _keep_stdout_clean(ray: Any) -> None:
    """Ray prints notices about dead workers to standard output, where only our data belongs; we tell of them anyway."""
    worker: Any = getattr(getattr(ray, "_private", None), "worker", None)
    if hasattr(worker, "print_to_stdstream"):
        worker.print_to_stdstream = lambda *_given, **_named: None


@contextmanager
def _own_token() -> Iterator[None]:
    """For a Ray of our own, a token of its own: nobody else on this machine may use it.

    Otherwise Ray 2.60 writes one to the home folder, which may be read-only, and from then on every
    ``ray start --head`` of this user asks for it. A Ray that is loaded already has read its settings.
    """
    own = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    if "ray" in sys.modules or any(name in os.environ for name in own):
        yield
        return
    os.environ.update(own)
    try:
        yield
    finally:
        for name in own:
            os.environ.pop(name, None)


def _probed(address: str) -> str:
    """The address, if a Ray of our version answers there.

    Looking is left to another process: where nothing answers, Ray ends the process that asked.
    """
    shown = Option("ray", address)
    if match := _ADDRESS.fullmatch(address):
        try:
            with socket.create_connection((match["host"].strip("[]"), int(match["port"])), PROBE_TIMEOUT_S):
                pass
        except OSError as error:
            why = "no answer" if isinstance(error, TimeoutError) else (error.strerror or str(error)).lower()
            raise DeviceError(
                shown,
                f': nothing answers there ({why}); start one with "ray start --head"',
                option="ray",
                value=address,
            ) from None
    try:
        found = subprocess.run(  # noqa: S603 - our own interpreter
            [sys.executable, "-c", _PROBE, address],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=CONNECT_TIMEOUT_S,
            check=False,
            env={**os.environ, "RAY_gcs_rpc_server_connect_timeout_s": str(int(PROBE_TIMEOUT_S))},
        )
    except subprocess.TimeoutExpired as error:
        said, default = error.stderr or b"", f": no Ray answers there within {CONNECT_TIMEOUT_S:g} s"
    else:
        if found.returncode == 0:
            return address
        said, default = found.stderr, ": what answers there is no Ray, or a broken one"
        if address == AUTO:
            default = ': no Ray runs on this machine; start one with "ray start --head", or give HOST:PORT'
    raise DeviceError(shown, _known_rule(said.decode(errors="replace")) or default, option="ray", value=address)


def _known_rule(said: str) -> str | None:
    """What is wrong with the Ray that was asked, where that can be told from what came out."""
    if "ersion mismatch" in said:
        versions = re.findall(r"(?:Ray|Python): [\w.]+", said)
        return f": another version runs there ({', '.join(versions) or _last_line(said)}); install the same everywhere"
    if "InvalidAuthToken" in said or "AuthenticationError" in said:
        return ": the Ray there asks for its token; set RAY_AUTH_MODE=token, and copy its file ~/.ray/auth_token here"
    return None


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it does not say why"


def threads_for(n_workers: int, cpus: list[int]) -> int:
    """The most threads that each of so many workers can have on machines with so many cores; at least 1."""
    for threads in range(max(cpus, default=1), 1, -1):
        if sum(n // threads for n in cpus) >= n_workers:
            return threads
    return 1


def fitting(nodes: list[Node], weights_bytes: int, threads: int | None) -> tuple[int, int]:
    """Workers and threads of each, where nothing is said: a worker for each core, or fewer where memory is short.

    One thread each is the most efficient: threads of one worker wait for each other.
    """
    need = WORKER_BYTES + COPIES_OF_WEIGHTS * weights_bytes
    per_node = [max(1, min(node.cpus, int(node.memory_bytes // need))) for node in nodes if node.cpus]
    cpus = [node.cpus for node in nodes if node.cpus]
    if threads is not None:
        return max(1, sum(min(n_cpus // threads, n) for n_cpus, n in zip(cpus, per_node, strict=True))), threads
    return max(1, sum(per_node)), max(1, min((n // k for n, k in zip(cpus, per_node, strict=True)), default=1))
