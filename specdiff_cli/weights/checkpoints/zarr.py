"""One array in the Zarr (version 2) layout, as TensorStore writes a parameter of a T5X checkpoint.

A folder of a ``.zarray`` (JSON) and one file per chunk, named ``0.0``, ``1.0`` …; a chunk always has its full shape,
also where it reaches beyond the array. What T5X writes is read here: row-major, gzip, without filters. No package is
needed for so little, and what a file claims is checked before memory is set aside for it.
"""

import itertools
import json
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from specdiff_cli.errors import WeightsError
from specdiff_cli.weights.checkpoints.arrays import Array, check_size, from_bfloat16
from specdiff_cli.weights.checkpoints.files import Files

DESCRIPTION = ".zarray"
_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS  # zlib tells the two apart by their headers
_DTYPES: dict[str, np.dtype[Any]] = {
    "<f4": np.dtype("<f4"),
    "<f2": np.dtype("<f2"),
    "<f8": np.dtype("<f8"),
    "bfloat16": np.dtype("<u2"),
}


@dataclass(frozen=True, slots=True)
class _Layout:
    """The content of a ``.zarray``, checked."""

    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: str
    is_compressed: bool
    separator: str
    fill_value: float | None

    @property
    def chunk_bytes(self) -> int:
        return math.prod(self.chunks) * _DTYPES[self.dtype].itemsize

    def places(self) -> Iterator[tuple[str, tuple[slice, ...], tuple[slice, ...]]]:
        """Per chunk: its file, where it goes in the array, and which part of it that is."""
        counts = [range(-(-length // chunk)) for length, chunk in zip(self.shape, self.chunks, strict=True)]
        for index in itertools.product(*counts):
            starts = [i * chunk for i, chunk in zip(index, self.chunks, strict=True)]
            ends = [min(a + c, n) for a, c, n in zip(starts, self.chunks, self.shape, strict=True)]
            target = tuple(slice(a, b) for a, b in zip(starts, ends, strict=True))
            part = tuple(slice(b - a) for a, b in zip(starts, ends, strict=True))
            yield self.separator.join(map(str, index)) or "0", target, part


def open_zarr(files: Files, folder: str) -> Array:
    """An array whose chunks are read when it is asked for. Raises WeightsError for what is missing or damaged."""
    where = f"{files.shown}: {folder}"
    try:
        layout = _parse(json.loads(files.read(f"{folder}/{DESCRIPTION}", 1 << 16)))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise WeightsError(f"{where}/{DESCRIPTION}: is not a Zarr array that specdiff reads ({error})") from None
    check_size(where, layout.shape)
    if layout.chunk_bytes > max(4 * math.prod(layout.shape), 1) * 8:
        raise WeightsError(f"{where}: its chunks are much larger than the array; it is damaged")
    return Array(layout.shape, lambda: _read(files, folder, layout))


def _parse(content: Any) -> _Layout:
    if content["zarr_format"] != 2 or content["order"] != "C" or content.get("filters"):
        raise ValueError("expected zarr_format 2, order C and no filters")
    compressor = content["compressor"]
    if compressor is not None and compressor["id"] not in ("gzip", "zlib"):
        raise ValueError(f"compressed with {compressor['id']!r}, expected gzip")
    if content["dtype"] not in _DTYPES:
        raise ValueError(f"dtype {content['dtype']!r}, expected one of {', '.join(_DTYPES)}")
    shape, chunks = tuple(content["shape"]), tuple(content["chunks"])
    if len(shape) != len(chunks) or not all(type(n) is int and n > 0 for n in (*shape, *chunks)):
        raise ValueError(f"shape {shape} in chunks of {chunks}")
    separator = content.get("dimension_separator", ".")
    if separator not in (".", "/"):
        raise ValueError(f"dimension_separator {separator!r}")
    fill_value = content.get("fill_value")
    return _Layout(
        shape,
        chunks,
        content["dtype"],
        compressor is not None,
        separator,
        None if fill_value is None else float(fill_value),
    )


def _read(files: Files, folder: str, layout: _Layout) -> npt.NDArray[Any]:
    dtype = _DTYPES[layout.dtype]
    array = np.empty(layout.shape, dtype)
    for name, target, part in layout.places():
        chunk_name = f"{folder}/{name}"
        if chunk_name in files.names:
            content = _chunk(files, chunk_name, layout)
            array[target] = np.frombuffer(content, dtype).reshape(layout.chunks)[part]
        elif layout.fill_value is None or layout.dtype == "bfloat16":
            raise WeightsError(f"{files.shown}: {chunk_name} is missing; copy the checkpoint again")
        else:
            array[target] = layout.fill_value
    return from_bfloat16(array) if layout.dtype == "bfloat16" else array


def _chunk(files: Files, name: str, layout: _Layout) -> bytes:
    """The content of a chunk. However much a file would unpack to, no more than a chunk is unpacked."""
    n_bytes = layout.chunk_bytes
    content = files.read(name, n_bytes + (1 << 20))
    if layout.is_compressed:
        unpacker = zlib.decompressobj(_GZIP_OR_ZLIB)
        try:
            content = unpacker.decompress(content, n_bytes + 1)
        except zlib.error as error:
            raise WeightsError(f"{files.shown}: {name} is damaged ({error}); copy it again") from None
        if not unpacker.eof:
            content = b""  # cut short, or more than a chunk
    if len(content) != n_bytes:
        raise WeightsError(f"{files.shown}: {name} is damaged (not {n_bytes} bytes); copy it again")
    return content
