"""Checkpoints of TensorFlow, read from bytes laid out by hand after LevelDB's table format."""

from pathlib import Path

import numpy as np
import pytest

from specdiff_cli.errors import WeightsError
from specdiff_cli.evaluation.tensor_bundle import read_tensor_bundle

# fmt: off
INDEX = bytes.fromhex(
    # block of entries: shared, own, value length; key; value (BundleEntryProto)
    "00 00 06" "08 01 1a 02 08 01"                                  # "": the header
    "00 01 0e" "61" "08 01 12 08 12 02 08 02 12 02 08 01 28 08"     # "a": float32, (2, 1), 8 bytes at 0
    "01 02 0c" "2f 62" "08 01 12 04 12 02 08 01 20 08 28 04"        # "a/b": float32, (1,), 4 bytes at 8
    "00 01 0c" "6e" "08 09 12 04 12 02 08 01 20 0c 28 08"           # "n": int64, which is passed over
    "00 00 00 00 01 00 00 00"                                       # one restart, at 0
    "00 00 00 00 00"                                                # not compressed; checksum
    # block of blocks: key after all keys, then offset 0 and size 0x44
    "00 01 02" "6f" "00 44"
    "00 00 00 00 01 00 00 00"
    "00 00 00 00 00"
    # footer: the meta-index (unused), the block of blocks at 0x49 of size 0x0e, 36 bytes of padding, the magic number
    "00 00 49 0e"
) + bytes(36) + bytes.fromhex("57fb808b247547db")
# fmt: on
DATA = np.array([1.5, -2.0, 0.25], "<f4").tobytes() + bytes(8)


def write(folder: Path, index: bytes = INDEX, data: bytes = DATA) -> tuple[Path, Path]:
    """The two files of a checkpoint."""
    (folder / ".index").write_bytes(index)
    (folder / ".data").write_bytes(data)
    return folder / ".index", folder / ".data"


def test_tensors_have_their_names_shapes_and_values(tmp_path: Path) -> None:
    tensors = read_tensor_bundle(*write(tmp_path))
    assert sorted(tensors) == ["a", "a/b"]
    np.testing.assert_array_equal(tensors["a"], [[1.5], [-2.0]])
    np.testing.assert_array_equal(tensors["a/b"], [0.25])


@pytest.mark.parametrize(
    ("index", "data"),
    [
        (b"", DATA),
        (INDEX[:-1] + b"\x00", DATA),
        (INDEX[8:], DATA),  # offsets point elsewhere
        (INDEX, DATA[:8]),  # the data end too early
        (INDEX[:0x44] + b"\x01" + INDEX[0x45:], DATA),  # compressed
        (b"\xff" * 0x44 + INDEX[0x44:], DATA),
    ],
)
def test_what_is_no_checkpoint_is_refused_in_one_line(tmp_path: Path, index: bytes, data: bytes) -> None:
    with pytest.raises(WeightsError) as failure:
        read_tensor_bundle(*write(tmp_path, index, data))
    assert str(tmp_path) in str(failure.value) and "\n" not in str(failure.value)


def test_no_cut_of_the_index_crashes(tmp_path: Path) -> None:
    for length in range(len(INDEX)):
        with pytest.raises(WeightsError):
            read_tensor_bundle(*write(tmp_path, INDEX[:length]))
