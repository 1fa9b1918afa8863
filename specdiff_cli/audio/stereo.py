"""Stems to one sum, in mono or placed between two loudspeakers. Nothing here imports torch."""

import math
from collections import deque
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from specdiff_cli.audio.encoding import check_samples

_BLOCK_SAMPLES = 1 << 16
# Sums are kept as integers, in units of 2^-40: their order does not matter then, not even in the last bit.
_UNITS = float(1 << 40)
_LOUDEST = float(1 << 16)


def pan_gains(pan: float) -> tuple[float, float]:
    """Gains of the left and right channel for a pan from -1 (left) over 0 (centre) to 1 (right).

    Constant power: the squares of the two always add up to 2. The centre is (1, 1), so what is panned there sounds as
    in a mono file; what is all on one side is 3 dB stronger there.

    Raises ValueError for a pan beyond +-1.
    """
    if not -1.0 <= pan <= 1.0:
        raise ValueError(f"a pan lies between -1 and 1, not at {pan}")
    if pan == 0:
        return 1.0, 1.0
    angle = math.pi / 4 * (1.0 + pan)
    return math.sqrt(2.0) * math.cos(angle), math.sqrt(2.0) * math.sin(angle)


class StemMixer:
    """The sum of stems that arrive in chunks of any size and in any order.

    The sum does not depend on how and in which order the stems came, not even in the last bit. Memory holds only what
    some stems are ahead of the slowest.

    Args:
        n_stems: how many there are.
        pans: where each stem is placed, -1 to 1, for a stereo sum; None: mono.
    """

    def __init__(self, n_stems: int, pans: Sequence[float] | None = None) -> None:
        if pans is not None and len(pans) != n_stems:
            raise ValueError(f"{n_stems} stems and {len(pans)} pans")
        self.n_channels = 1 if pans is None else 2
        self._gains = None if pans is None else [np.array(pan_gains(pan)) for pan in pans]
        self._n_pushed = [0] * n_stems
        self._n_given = 0
        self._blocks: dict[int, npt.NDArray[np.int64]] = {}  # position in the song // block length -> sums

    @property
    def n_waiting(self) -> int:
        """Samples of the sum that wait for the slowest stem."""
        return max(self._n_pushed) - self._n_given

    def placed(self, index: int, chunk: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """A chunk (n,) of a stem as it goes into the sum: (n,) in mono, (n, 2) in stereo. Values that are not finite
        become silence."""
        audio = np.nan_to_num(check_samples(chunk, 1), nan=0.0, posinf=0.0, neginf=0.0)
        if self._gains is None:
            return audio
        placed: npt.NDArray[np.float32] = (audio[:, None] * self._gains[index]).astype(np.float32)
        return placed

    def push(self, index: int, chunk: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Take the next (n,) samples of a stem; return the sum as far as all stems have come, (m,) or (m, 2)."""
        audio = self.placed(index, chunk).reshape(-1, self.n_channels)
        units = np.rint(np.clip(audio, -_LOUDEST, _LOUDEST) * _UNITS).astype(np.int64)
        at = self._n_pushed[index]
        self._n_pushed[index] += len(units)
        while len(units):
            number, offset = divmod(at, _BLOCK_SAMPLES)
            if number not in self._blocks:
                self._blocks[number] = np.zeros((_BLOCK_SAMPLES, self.n_channels), np.int64)
            part = units[: _BLOCK_SAMPLES - offset]
            self._blocks[number][offset : offset + len(part)] += part
            at, units = at + len(part), units[len(part) :]
        return self._give(min(self._n_pushed))

    def finish(self) -> None:
        """Raises ValueError unless all stems were equally long."""
        if self.n_waiting:
            raise ValueError(f"stems of unequal lengths: {sorted(set(self._n_pushed))} samples")

    def _give(self, end: int) -> npt.NDArray[np.float32]:
        pieces = []
        while self._n_given < end:
            number, offset = divmod(self._n_given, _BLOCK_SAMPLES)
            until = min(_BLOCK_SAMPLES, offset + end - self._n_given)
            pieces.append(self._blocks[number][offset:until] / _UNITS)
            self._n_given += until - offset
            if until == _BLOCK_SAMPLES:
                del self._blocks[number]
        total = np.concatenate(pieces) if pieces else np.zeros((0, self.n_channels))
        return (total[:, 0] if self.n_channels == 1 else total).astype(np.float32)


class MelMixer:
    """The spectrogram of a sum of stems, from theirs: powers add, as those of unrelated sounds do.

    The stems' windows must have the same lengths; memory holds only what some are ahead of the slowest.
    """

    def __init__(self, n_stems: int) -> None:
        self._waiting: list[deque[npt.NDArray[np.float32]]] = [deque() for _ in range(n_stems)]

    def push(self, index: int, mel: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Take the next window (n, 128) of a stem's log-mel; return the sum's once all have come."""
        self._waiting[index].append(mel)
        if not all(self._waiting):
            return mel[:0]
        windows = np.stack([windows.popleft() for windows in self._waiting])
        total: npt.NDArray[np.float32] = (np.logaddexp.reduce(2.0 * windows.astype(np.float64)) / 2).astype(np.float32)
        return total
