"""Log-mel features of audio that arrives in pieces, and how far two such streams are apart."""

import math

import torch

from specdiff_cli.audio.mel import log_mel
from specdiff_cli.constants import FRAME_SAMPLES, HOP_SAMPLES, N_MELS

DECIBELS_PER_NEPER = 20 / math.log(10)


class StreamingLogMel:
    """``log_mel`` of a whole signal, frame by frame as its samples arrive; holds back less than two hops."""

    def __init__(self) -> None:
        self._waiting = torch.empty(0)

    def push(self, audio: torch.Tensor) -> torch.Tensor:
        """Take the next (n,) samples; return the frames that are now certain, (k, 128) float32."""
        audio = torch.cat([self._waiting, audio.float()])
        n_frames = max(0, (len(audio) - FRAME_SAMPLES) // HOP_SAMPLES + 1)
        self._waiting = audio[n_frames * HOP_SAMPLES :].clone()
        if n_frames == 0:
            return torch.empty(0, N_MELS)
        # of the samples that these frames cover, the second half of the last would begin one more
        return log_mel(audio[: (n_frames - 1) * HOP_SAMPLES + FRAME_SAMPLES])[:n_frames]

    def flush(self) -> torch.Tensor:
        """The frames that reach beyond the end, (k, 128) float32. The next push starts a new signal."""
        rest, self._waiting = log_mel(self._waiting), torch.empty(0)
        return rest


class MelDistance:
    """Mean absolute difference of two log-mel streams whose frames arrive at different times, in nepers.

    A neper is a factor of e in amplitude, 8.7 dB.
    """

    def __init__(self) -> None:
        self._ahead = [torch.empty(0, N_MELS), torch.empty(0, N_MELS)]
        self._total = 0.0
        self._n_values = 0

    def push(self, first: torch.Tensor | None = None, second: torch.Tensor | None = None) -> None:
        """Take the next frames (n, 128) of either stream; frames wait until the other's have come, too."""
        for side, mel in enumerate((first, second)):
            if mel is not None:
                self._ahead[side] = torch.cat([self._ahead[side], mel])
        n_frames = min(map(len, self._ahead))
        one, other = (frames[:n_frames] for frames in self._ahead)
        self._total += float((one - other).abs().double().sum())
        self._n_values += one.numel()
        self._ahead = [frames[n_frames:].clone() for frames in self._ahead]

    @property
    def nepers(self) -> float:
        """The distance over all frames that both have; 0 before there are any."""
        return self._total / max(1, self._n_values)
