"""T5X checkpoints: a MessagePack file whose large arrays may lie beside it in the Zarr layout.

A checkpoint is a folder ``checkpoint_500000`` with a file ``checkpoint`` in it, perhaps beside a ``config.gin``. The
file is flax's MessagePack of ``{"version", "optimizer": {"state", "target"}}``, and ``target`` is the tree of weights.
A leaf is an array, an array in pieces (above 1 GiB), or what TensorStore needs to find one folder of the Zarr layout.
Source: ``flax/serialization.py`` and ``t5x/checkpoints.py``.
"""

import re
from collections.abc import Iterator, Mapping
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from specdiff_cli.errors import WeightsError
from specdiff_cli.weights.checkpoints.arrays import MAX_ARRAY_BYTES, Array, check_size, from_bfloat16
from specdiff_cli.weights.checkpoints.files import Files
from specdiff_cli.weights.checkpoints.zarr import open_zarr

FILE = "checkpoint"
CONFIG = "config.gin"
MAX_DEPTH = 16
MAX_TREE_BYTES = 4 << 30  # base in float32 has 1.7 GB
_ARRAY, _SCALAR = 1, 3  # flax's MessagePack extension types; 2 is a complex number
_PIECES = "__msgpack_chunked_array__"
#: What the contents of a malformed file lead to.
_MALFORMED = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)
_FLOATS = {"float16", "float32", "float64"}


def find_checkpoint(files: Files) -> str | None:
    """The folder that holds a T5X checkpoint, ending in ``/`` unless it is the top; of several the latest."""
    folders = [name.removesuffix(FILE) for name in files.names if name.rpartition("/")[2] == FILE]
    return max(folders, key=lambda folder: (_step(folder), folder), default=None)


def _step(folder: str) -> int:
    found = re.search(r"checkpoint_(\d{1,15})/$", folder)
    return int(found[1]) if found else -1


def read_arrays(files: Files, folder: str) -> dict[str, Array]:
    """The arrays of a checkpoint's ``target`` tree, their keys joined by dots.

    Those in Zarr folders are read when they are asked for, the others at once. Raises WeightsError.
    """
    with files.open(folder + FILE) as file:
        target = _read_target(file, f"{files.shown}: {folder}{FILE}")
    return dict(_flatten(files, folder, target, ""))


def is_zarr(files: Files, folder: str) -> bool:
    """Whether a checkpoint keeps arrays outside its MessagePack file."""
    return any(name.startswith(folder) and name.endswith("/.zarray") for name in files.names)


def read_settings(files: Files, folder: str) -> dict[str, int]:
    """``head_dim`` and ``num_velocity_bins`` as config.gin says, where there is one: no array's shape tells them."""
    above = folder.rstrip("/").rpartition("/")[0]
    for place in (folder, f"{above}/" if above else ""):
        if place + CONFIG in files.names:
            text = files.read(place + CONFIG, 1 << 20).decode("utf-8", errors="replace")
            found = re.findall(r"^[^#\n]*?\b(head_dim|num_velocity_bins)\s*=\s*(\d{1,4})\b", text, re.M | re.I)
            return {key.lower(): int(value) for key, value in found}
    return {}


def _read_target(file: IO[bytes], where: str) -> Any:
    try:
        import msgpack
    except ModuleNotFoundError:
        raise WeightsError(
            f"{where}: reading T5X checkpoints needs msgpack: run \"pip install '.[convert]'\" in a copy of specdiff"
        ) from None
    unpacker = msgpack.Unpacker(
        file,
        strict_map_key=False,
        ext_hook=_Extensions(where),
        max_buffer_size=MAX_ARRAY_BYTES - 1,  # grows to what is there, not to what is claimed
        max_ext_len=MAX_ARRAY_BYTES - 1,
        max_bin_len=1 << 20,
        max_str_len=1 << 20,
        max_array_len=1 << 16,
        max_map_len=1 << 16,
    )
    try:
        # The optimiser's state, as large as the weights, is passed over without being kept.
        if _enter(unpacker, ("optimizer", "target")) == "optimizer":
            _enter(unpacker, ("target",))
        return unpacker.unpack()
    except (*_MALFORMED, msgpack.UnpackException) as error:
        detail = str(error) or "it ends too early"
        raise WeightsError(f"{where}: is damaged or no T5X checkpoint ({detail}); copy it again") from None


def _enter(unpacker: Any, keys: tuple[str, ...]) -> str:
    """Go to the first of ``keys`` in the table that comes next; what lies before it is skipped."""
    for _ in range(unpacker.read_map_header()):
        key = unpacker.unpack()
        if key in keys:
            return str(key)
        unpacker.skip()
    raise ValueError(f"it has no {keys[-1]!r}")


class _Extensions:
    """Turns flax's MessagePack extensions into arrays, within limits."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._n_bytes = 0

    def __call__(self, code: int, data: bytes) -> npt.NDArray[Any]:
        import msgpack

        self._n_bytes += len(data)
        if self._n_bytes > MAX_TREE_BYTES:
            raise WeightsError(f"{self._where}: holds more than any model; it is not read further")
        if code not in (_ARRAY, _SCALAR):
            raise ValueError(f"an entry of the unknown type {code}")
        shape, dtype, content = msgpack.unpackb(data, raw=True, max_bin_len=len(data))
        name = dtype.decode("ascii", errors="replace")
        if name == "bfloat16":
            return from_bfloat16(np.frombuffer(content, "<u2")).reshape(shape)
        if name not in _FLOATS:
            raise ValueError(f"an array of {name!r} where numbers with a fraction belong")
        return np.frombuffer(content, np.dtype(name).newbyteorder("<")).reshape(shape)


def _flatten(files: Files, folder: str, tree: Any, key: str) -> Iterator[tuple[str, Array]]:
    where = f"{files.shown}: {key or 'target'}"
    if isinstance(tree, np.ndarray):
        yield key, Array(tree.shape, lambda: tree)
    elif not isinstance(tree, Mapping) or key.count(".") > MAX_DEPTH:
        raise WeightsError(f"{where}: is no array and no table of arrays; this is no T5X checkpoint")
    elif _PIECES in tree:
        yield key, _from_pieces(where, tree)
    elif "driver" in tree:
        yield key, open_zarr(files, folder + _zarr_folder(where, tree))
    else:
        for name, branch in tree.items():
            yield from _flatten(files, folder, branch, f"{key}.{name}" if key else str(name))


def _from_pieces(where: str, table: Mapping[str, Any]) -> Array:
    try:
        shape = tuple(int(table["shape"][str(i)]) for i in range(len(table["shape"])))
        pieces = [table["chunks"][str(i)].reshape(-1) for i in range(len(table["chunks"]))]
        check_size(where, shape)
        whole = np.concatenate(pieces).reshape(shape)
    except _MALFORMED as error:
        raise WeightsError(f"{where}: its pieces do not make an array ({error}); copy the checkpoint again") from None
    return Array(shape, lambda: whole)


def _zarr_folder(where: str, spec: Mapping[str, Any]) -> str:
    """Where TensorStore would look, relative to the checkpoint's folder."""
    store = spec.get("kvstore")
    path = store.get("path") if isinstance(store, Mapping) else None
    path = path or spec.get("path")  # how older versions named a place in a bucket
    if spec["driver"] != "zarr" or not isinstance(path, str):
        raise WeightsError(f"{where}: is kept by TensorStore's driver {spec['driver']!r}; only zarr can be read")
    return path.strip("/")
