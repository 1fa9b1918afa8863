"""Which device and precision to run on. An explicit choice is obeyed or refused, never replaced."""

import math
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from specdiff_cli.choices import DEVICES_IN_WORDS, DTYPES, check_choice
from specdiff_cli.errors import DeviceError, Option, UsageError

if TYPE_CHECKING:
    import torch

_DEVICE_PATTERN = re.compile(r"auto|cpu|cuda(:\d+)?|mps")


def check_device_name(name: str) -> None:
    """Raises UsageError unless the name is one of auto, cpu, cuda, cuda:N, mps. No torch needed."""
    if not _DEVICE_PATTERN.fullmatch(name):
        raise UsageError.of("device", name, f"is not one of {', '.join(DEVICES_IN_WORDS)}")


def resolve_device(name: str) -> "torch.device":
    """The device to run on; ``auto`` takes CUDA, then MPS, then the CPU.

    Raises:
        UsageError: not the name of a device.
        DeviceError: the device is not there.
    """
    import torch

    check_device_name(name)
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", 0)
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    if name.startswith("cuda"):
        if not torch.cuda.is_available():
            reason = "this PyTorch is a CPU build" if torch.version.cuda is None else "no CUDA device is visible"
            raise DeviceError.of(
                "device", name, f"{reason}; use ", Option("device", "cpu"), ", or install a CUDA build of PyTorch"
            )
        index = int(name.partition(":")[2] or 0)
        if index >= torch.cuda.device_count():
            raise DeviceError.of("device", name, f"this machine has {torch.cuda.device_count()} CUDA device(s), from 0")
        return torch.device("cuda", index)
    if name == "mps" and not torch.backends.mps.is_available():
        raise DeviceError.of(
            "device", name, "Apple's Metal backend is not available here; use ", Option("device", "cpu")
        )
    return torch.device(name)


def resolve_dtype(
    name: str, device: "torch.device", *, prefers_bfloat16: bool, allows_int8: bool = False
) -> "torch.dtype":
    """The precision of the network's weights and activations; sampler state is always float32.

    ``auto`` is the fastest here, as a brief measurement shows, of those that the voice allows: float32 always, bfloat16
    where it was trained for it, int8 where it was found to bear it. ``int8`` is for CPUs:
    see :mod:`specdiff_cli.model.quantised`.

    Raises:
        UsageError: not the name of a precision.
        DeviceError: the device cannot compute in it.
    """
    import torch

    check_choice("dtype", name, DTYPES)
    if name == "auto":
        if not prefers_bfloat16:
            return torch.float32
        if allows_int8 and device.type == "cpu":
            from specdiff_cli.model.precision import fastest

            return fastest((torch.float32, torch.bfloat16, torch.int8))
        return torch.bfloat16 if _computes_in_bfloat16(device) else torch.float32
    if name == "float16" and device.type == "cpu":
        raise DeviceError.of("dtype", name, "is not supported on the CPU; use bfloat16 or float32")
    if name == "bfloat16" and device.type == "mps":
        raise DeviceError.of("dtype", name, "is not supported on MPS; use float16 or float32")
    if name == "int8":
        _check_int8(device)
    dtype: torch.dtype = getattr(torch, name)
    return dtype


def _check_int8(device: "torch.device") -> None:
    from specdiff_cli.model.precision import has_8_bit_products

    if device.type != "cpu":
        alternative = "float16" if device.type == "mps" else "bfloat16"
        raise DeviceError.of(
            "dtype", "int8", f"is for CPUs; use {alternative} on {device.type}, or ", Option("device", "cpu")
        )
    if not has_8_bit_products():
        raise DeviceError.of("dtype", "int8", "this processor has no fast 8-bit products; use float32")


def remark_on_precision(name: str, device: "torch.device") -> str | None:
    """What is worth telling about a precision that was asked for: it is obeyed, but another would be faster here."""
    if name == "bfloat16" and device.type == "cpu" and not _computes_in_bfloat16(device):
        return "this processor only emulates bfloat16, which takes several times as long as float32"
    return None


def _computes_in_bfloat16(device: "torch.device") -> bool:
    import torch

    from specdiff_cli.model.precision import is_faster_in_bfloat16

    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and is_faster_in_bfloat16()  # emulated bfloat16 is slower than float32


def set_threads(asked: int | None = None) -> int:
    """Set PyTorch's CPU threads: as asked, as OMP_NUM_THREADS says, or one per core that we may use; returns them."""
    import torch

    if asked is None and "OMP_NUM_THREADS" not in os.environ:
        asked = min(torch.get_num_threads(), usable_cpus())
    if asked is not None:
        torch.set_num_threads(asked)
    return torch.get_num_threads()


def usable_cpus(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """CPUs that this process may use: its affinity, and the quota of the container that it runs in (Linux)."""
    affinity = getattr(os, "sched_getaffinity", None)
    n_cpus = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
        n_cpus = min(n_cpus, max(1, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # no container, or no quota ("max")
        pass
    return n_cpus


def describe_default() -> str:
    """The device that ``auto`` takes here, and the precision for voices that were trained for bfloat16, in words."""
    import torch

    device = resolve_device("auto")
    dtype = str(resolve_dtype("auto", device, prefers_bfloat16=True)).removeprefix("torch.")
    name = f" ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else ""
    return f"device {device}{name}, {dtype} for voices made for bfloat16, {torch.get_num_threads()} CPU threads"
