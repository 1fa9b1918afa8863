"""Arrays of a checkpoint that are read one at a time."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from specdiff_cli.errors import WeightsError

#: The largest array of a published model has 9.4 million numbers.
MAX_ARRAY_BYTES = 2 << 30


@dataclass(frozen=True, slots=True)
class Array:
    """An array that is read when it is asked for; until then only its shape is known."""

    shape: tuple[int, ...]
    read: Callable[[], npt.NDArray[Any]]


def check_size(where: str, shape: tuple[int, ...]) -> None:
    """Refuse an array that no model has before memory is set aside for it. Raises WeightsError."""
    if 4 * math.prod(shape) > MAX_ARRAY_BYTES or len(shape) > 8:
        raise WeightsError(f"{where}: claims the shape {shape}, larger than that of any model; it is not read")


def from_bfloat16(bits: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    """The bits of bfloat16 numbers -> the same numbers in float32, of which they are the upper half."""
    return (bits.astype("<u4") << 16).view("<f4")
