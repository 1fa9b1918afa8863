"""How threads wait for each other. Nothing here imports torch: it must run before torch is loaded.

OpenMP's threads wait at the end of each parallel loop by looking again and again for a while before they sleep. That is
quickest while every thread has a core of its own; beside any other busy process, the core that a late thread needs is
kept busy by those that wait for it, and everything takes ten times as long. ``benchmarks/neighbours.py`` measures it.
"""

import os
from collections.abc import MutableMapping

#: What each OpenMP library looks at. Either of the user's own choices holds for all.
CHOICES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")
#: GNU (PyTorch for Linux): looks before sleeping, some microseconds of them. LLVM and Intel (macOS, Windows, MKL): ms.
BRIEFLY = {"GOMP_SPINCOUNT": "1000", "KMP_BLOCKTIME": "0"}


def wait_briefly(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let threads sleep soon when they wait, unless the environment says how they shall wait."""
    if not any(name in environment for name in CHOICES):
        environment.update(BRIEFLY)
