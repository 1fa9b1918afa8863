"""Work for the pool's tests: what an item says is what happens to the worker. Imported in the workers, too."""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


class Orders:
    """``die`` ends the process, ``hang`` never ends, ``once:FILE`` dies the first time; all else comes back louder."""

    description = "a loud voice"
    messages: tuple[str, ...] = ()

    def do(self, items: Sequence[tuple[Any, int]], stopped: Callable[[], bool]) -> list[Any]:
        """One result for each item."""
        return [self._one(item, stopped) for item, _ in items]

    def _one(self, item: str, stopped: Callable[[], bool]) -> str:
        if item == "die":
            os._exit(1)
        while item == "hang" and not stopped():
            time.sleep(0.05)
        kind, _, name = item.partition(":")
        if kind == "once" and not Path(name).exists():
            Path(name).touch()
            os._exit(1)
        return kind.upper()


def make_orders() -> Orders:
    """Runs in the worker."""
    return Orders()


class SeesGpus(Orders):
    """Says which GPUs it was given."""

    def __init__(self) -> None:
        self.description = os.environ.get("CUDA_VISIBLE_DEVICES", "none")
