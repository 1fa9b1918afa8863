"""Arrays out of a TensorFlow checkpoint ("tensor bundle": ``.index`` and ``.data-00000-of-00001``), without TensorFlow.

The index is a sorted table of blocks as LevelDB writes it (``tensorflow/core/lib/io/format.cc``): a footer of 48 bytes
points to the block of blocks, each block lists keys that share prefixes, and each value is a ``BundleEntryProto``
(``tensorflow/core/protobuf/tensor_bundle.proto``). Only what such files hold in practice is read: uncompressed blocks,
one data file, float32.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from specdiff_cli.errors import WeightsError

FOOTER_BYTES = 48
MAGIC = bytes.fromhex("57fb808b247547db")
DT_FLOAT = 1


def read_tensor_bundle(index_path: Path, data_path: Path) -> dict[str, NDArray[np.float32]]:
    """Every float32 tensor by its name. Raises WeightsError when the files are not such a checkpoint."""
    try:
        return _read(index_path.read_bytes(), data_path.read_bytes())
    except OSError as error:
        raise WeightsError(f"{index_path.parent}: the checkpoint cannot be read ({error.strerror})") from None
    except (ValueError, IndexError) as error:
        raise WeightsError(f"{index_path.parent}: is not a TensorFlow checkpoint that can be read ({error})") from None


def _read(index: bytes, data: bytes) -> dict[str, NDArray[np.float32]]:
    footer = index[-FOOTER_BYTES:]
    if len(index) < FOOTER_BYTES or not footer.endswith(MAGIC):
        raise ValueError("its index does not end as one")
    _, position = _varint(footer, 0)  # the meta-index, which nothing is read from
    _, position = _varint(footer, position)
    tensors = {}
    for _, handle in _block(index, *_handle(footer, position)):
        for key, value in _block(index, *_handle(handle, 0)):
            if key:  # the empty one is the bundle's own header
                entry = _entry(value)
                if entry is not None:
                    tensors[key.decode("utf-8")] = _tensor(data, *entry)
    return tensors


def _tensor(data: bytes, shape: tuple[int, ...], offset: int, size: int) -> NDArray[np.float32]:
    if offset + size > len(data):
        raise ValueError("its data file is too short")
    # The elements are little-endian wherever the file was written.
    return np.frombuffer(data, "<f4", size // 4, offset).reshape(shape).astype(np.float32)


def _varint(content: bytes, position: int) -> tuple[int, int]:
    """A number of seven bits a byte, and the position behind it."""
    number = shift = 0
    while True:
        byte = content[position]
        position += 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return number, position
        if shift > 63:
            raise ValueError("a number is too long")


def _handle(content: bytes, position: int) -> tuple[int, int]:
    """Offset and size of a block."""
    offset, position = _varint(content, position)
    size, _ = _varint(content, position)
    return offset, size


def _block(index: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a block, which is followed by its kind of compression (0: none) and a checksum."""
    if offset + size + 5 > len(index) or size < 4:
        raise ValueError("a block lies outside of its index")
    if index[offset + size] != 0:
        raise ValueError("its index is compressed")
    block = index[offset : offset + size]
    n_restarts = int.from_bytes(block[-4:], "little")
    end = size - 4 - 4 * n_restarts
    if end < 0:
        raise ValueError("a block is too short")
    position = 0
    key = b""
    while position < end:
        n_shared, position = _varint(block, position)
        n_own, position = _varint(block, position)
        n_value, position = _varint(block, position)
        if position + n_own + n_value > end:
            raise ValueError("an entry is longer than its block")
        key = key[:n_shared] + block[position : position + n_own]
        position += n_own
        yield key, block[position : position + n_value]
        position += n_value


def _entry(message: bytes) -> tuple[tuple[int, ...], int, int] | None:
    """Shape, offset and size of a tensor in the data file; None when it is not float32."""
    fields = dict(_fields(message))
    shape = tuple(
        _number(dict(_fields(dimension)).get(1, 0))
        for number, dimension in _fields(_bytes(fields.get(2, b"")))
        if number == 2 and isinstance(dimension, bytes)
    )
    if fields.get(1) != DT_FLOAT:
        return None
    return shape, _number(fields.get(4, 0)), _number(fields.get(5, 0))


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Field numbers and values of a protocol buffer."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, position = _varint(message, position)
            yield number, value
        elif kind == 2:
            length, position = _varint(message, position)
            yield number, message[position : position + length]
            position += length
        elif kind in (1, 5):
            position += 8 if kind == 1 else 4  # the checksum; the files are known by their hashes
        else:
            raise ValueError(f"a field of kind {kind}")


def _number(value: int | bytes) -> int:
    if isinstance(value, bytes):
        raise ValueError("a number was expected")
    return value


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a message was expected")
    return value
