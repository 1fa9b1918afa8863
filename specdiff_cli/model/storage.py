"""Networks that are only described until their weights are put in."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


@contextmanager
def without_storage() -> Iterator[None]:
    """Modules made inside have parameters of a shape and a type, on the ``meta`` device, and nothing to fill them with.

    Drawing random weights only to replace them takes seconds at full size. Even on the meta device, where nothing is
    drawn, PyTorch imports its compiler for it (``torch._dynamo``), which takes longer than reading a small voice.
    """
    with torch.device("meta"), _NothingIsDrawn():
        yield


class _NothingIsDrawn(TorchFunctionMode):
    """``torch.nn.init`` leaves what it is given as it is."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)
