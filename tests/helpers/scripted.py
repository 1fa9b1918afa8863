"""Scripted networks, kept for whoever renders with the same network in this process."""

import hashlib
from collections import OrderedDict
from itertools import chain
from typing import Any

import torch
from torch import nn

from specdiff_cli.model import compiled

N_KEPT = 16
_script = compiled.compiled
_kept: OrderedDict[bytes, Any] = OrderedDict()


def scripted_once(module: nn.Module, *methods: str, **how: Any) -> Any:
    """``model.compiled.compiled``, or what it made of a module of the same classes, attributes and weights."""
    key = _digest(module, methods, how)
    if key not in _kept:
        _kept[key] = _script(module, *methods, **how)
        if len(_kept) > N_KEPT:
            _kept.popitem(last=False)
    _kept.move_to_end(key)
    return _kept[key]


def _digest(module: nn.Module, *more: object) -> bytes:
    digest = hashlib.sha256(repr(more).encode())
    for name, inner in module.named_modules():
        plain = {key: value for key, value in vars(inner).items() if not key.startswith("_")}
        digest.update(repr((name, type(inner), plain)).encode())
    for name, tensor in chain(module.named_parameters(), module.named_buffers()):
        digest.update(repr((name, tensor.dtype, tensor.device, tensor.shape)).encode())
        digest.update(tensor.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().tobytes())
    return digest.digest()
