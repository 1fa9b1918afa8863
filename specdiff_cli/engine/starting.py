"""A quick start and a quick end of the program. Importing this imports nothing heavy.

The collector of reference cycles looks through all objects again and again while modules are imported, and once more at
the end. The hundreds of thousands of objects that PyTorch makes are not garbage: half a second of a short render.
"""

import atexit
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


def end_quickly() -> None:
    """At the end of the program nothing is searched for garbage; files are closed and threads ended as always."""
    atexit.register(gc.freeze)


@contextmanager
def importing() -> Iterator[None]:
    """The collector rests inside; whatever there is afterwards counts as what stays."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_on:
            gc.enable()


def load_torch() -> None:
    """Import torch while the collector rests. For a program of its own, not for somebody's Python session."""
    if "torch" not in sys.modules:
        with importing():
            import torch  # noqa: F401 - for those that come after
