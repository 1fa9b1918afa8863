"""Training in several processes: who we are, as torchrun says in the environment, and what we agree on."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from specdiff_cli.errors import DeviceError, UsageError


@dataclass(frozen=True)
class Processes:
    """This process (``rank``, from 0) among ``count``; ``local_rank`` is its number on this machine."""

    rank: int = 0
    count: int = 1
    local_rank: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes and reports."""
        return self.rank == 0


def processes_of_environment() -> Processes:
    """What torchrun set for us; one process where it did not start us. Raises UsageError for half of it."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    if "WORLD_SIZE" not in os.environ:
        return Processes()
    try:
        return Processes(*(int(os.environ[name]) for name in names))
    except (KeyError, ValueError):
        raise UsageError(f"{', '.join(names)}: must be numbers, all or none of them; use torchrun") from None


def device_of(processes: Processes, device: torch.device) -> torch.device:
    """The device of this process: with several on CUDA each takes its own. Raises DeviceError when there is none."""
    if processes.count == 1 or device.type != "cuda":
        return device
    if processes.local_rank >= torch.cuda.device_count():
        raise DeviceError(
            f"process {processes.local_rank} has no GPU: this machine has {torch.cuda.device_count()}; "
            "start fewer processes"
        )
    torch.cuda.set_device(processes.local_rank)
    return torch.device("cuda", processes.local_rank)


@contextmanager
def joined(processes: Processes, device: torch.device) -> Iterator[None]:
    """Meet the other processes, and part at the end; nothing with one process."""
    if processes.count == 1:
        yield
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def in_parallel(network: nn.Module, processes: Processes, device: torch.device) -> nn.Module:
    """The network with gradients averaged over all processes; itself with one process."""
    if processes.count == 1:
        return network
    ids = [device.index] if device.type == "cuda" else None
    return nn.parallel.DistributedDataParallel(network, device_ids=ids)


def averaged(values: Tensor, processes: Processes) -> Tensor:
    """The mean of ``values`` over all processes."""
    if processes.count > 1:
        dist.all_reduce(values)
        values /= processes.count
    return values


def any_of(flag: bool, processes: Processes, device: torch.device) -> bool:
    """Whether the flag is up in any process, so that all stop at the same step."""
    if processes.count == 1:
        return flag
    flags = torch.tensor(float(flag), device=device)
    dist.all_reduce(flags)
    return bool(flags.item() > 0)


def training_device(name: str) -> torch.device:
    """The device to train on, made ready; ``auto``: CUDA or the CPU. Raises UsageError, DeviceError."""
    if name == "mps":
        raise UsageError.of("device", name, "training runs on cpu or cuda")
    from specdiff_cli.engine.devices import resolve_device, set_threads

    set_threads()
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = resolve_device(name)
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    return device
