"""What the processor is and can do, for every table of measurements: figures of one say nothing about another."""

import os
import platform
from pathlib import Path

#: What makes networks fast, as Linux names it; macOS's names have ``FEAT_`` before them.
TELLING_FLAGS = (
    *("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8"),
    *("asimddp", "i8mm", "bf16", "sve", "sme"),
)
#: Variables that make libraries use less than the processor has.
EMULATION = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS")


def describe_processor() -> str:
    """One line: model, cores that may be used, instructions that matter, and what holds libraries back."""
    from specdiff_cli.engine.devices import usable_cpus

    known = _cpu_info()
    name = known.get("model name") or platform.processor() or platform.machine() or "unknown processor"
    flags = set((known.get("flags") or known.get("Features") or "").split())
    n_cpus = usable_cpus()
    parts = [name, f"{n_cpus} core{'' if n_cpus == 1 else 's'}"]
    parts.append(" ".join(flag for flag in TELLING_FLAGS if flag in flags) or "instructions unknown")
    held = [f"{variable}={os.environ[variable]}" for variable in EMULATION if variable in os.environ]
    return " · ".join([*parts, *held])


def _cpu_info(path: Path = Path("/proc/cpuinfo")) -> dict[str, str]:
    """The first processor's entries; nothing where there is no such file."""
    try:
        first = path.read_text(encoding="utf-8", errors="replace").split("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}
