"""The beats of held notes, which the filter leaves to them.

The wanted mel adds up powers, so it knows nothing of partials that cancel and swell, and the sound does both. A filter
that brings up the moment in which two partials cancel brings up what little is left of them, while their phase turns
over: that is heard as a new stroke. Where what is wanted stands still, the sound therefore keeps its own ups and downs
around the wanted level. Only low bands do: there single notes' partials meet slowly enough, and stand alone.
"""

import torch
from torch import Tensor
from torch.nn import functional

from specdiff_cli.audio.partials.correction import MelCorrection
from specdiff_cli.audio.partials.responses import band_centres_hz
from specdiff_cli.constants import LOG_MEL_MIN, N_MELS

#: Frames to each side whose mean, by a Hann window, is a level: a sixth of a second in effect.
N_AROUND = 8
REACH_FRAMES = 2 * N_AROUND
# What is wanted stands still where it leaves the mean around it by so many nepers, and moves from twice that on.
STILL = 0.05
ALL_BELOW_HZ, NONE_ABOVE_HZ = 300.0, 450.0
FAINTEST_LOG_MEL = LOG_MEL_MIN + 2.0


def with_beats(wanted: Tensor, has: Tensor) -> Tensor:
    """The log-mel that is wanted of a sound, with its own beats where it is still.

    Args:
        wanted: (n_frames, 128).
        has: (n_frames, 128), the sound's own before the filter.
    """
    beats = (wanted - has) - (_level(wanted) - _level(has))
    leaves = _mean_around((wanted - _mean_around(wanted)).abs())
    share = (2.0 - leaves / STILL).clamp(0.0, 1.0) * _low_bands(wanted.device) * (has > FAINTEST_LOG_MEL)
    return wanted - share * beats


class BeatingMel:
    """:func:`with_beats` of a song on its way; how its frames are cut into pushes changes nothing."""

    def __init__(self, correction: MelCorrection, n_channels: int, device: torch.device) -> None:
        self._correction = correction
        self._wanted, self._has = (torch.empty(0, N_MELS, device=device) for _ in range(2))
        self._audio = torch.empty(n_channels, 0, device=device)  # behind the last frame whose log-mel is known
        self._n_given = 0  # of the frames that are kept

    @torch.inference_mode()
    def push(self, wanted: Tensor, audio: Tensor) -> Tensor:
        """The next frames (k, 128) and their unfiltered sound (C, k * hop); frames (n, 128) that are certain now."""
        hop = self._correction.hop_samples
        self._wanted = torch.cat([self._wanted, wanted])
        self._audio = torch.cat([self._audio, audio], dim=1)
        n_known = self._audio.shape[1] // hop - 1  # a frame hears the next hop, too
        if n_known > 0:
            self._measure(n_known)
        return self._give(len(self._has) - REACH_FRAMES)

    @torch.inference_mode()
    def flush(self) -> Tensor:
        """The frames that are left. The song ends there."""
        if self._audio.shape[1]:
            self._measure(self._audio.shape[1] // self._correction.hop_samples)
        return self._give(len(self._has))

    def _measure(self, n_frames: int) -> None:
        self._has = torch.cat([self._has, self._correction.log_mel(self._audio)[:n_frames]])
        self._audio = self._audio[:, n_frames * self._correction.hop_samples :].clone()

    def _give(self, end: int) -> Tensor:
        """Frames up to a place among those that are kept; what nobody needs any more is dropped."""
        if end <= self._n_given:
            return self._wanted[:0]
        ready = with_beats(self._wanted[: len(self._has)], self._has)[self._n_given : end]
        n_dropped = max(0, end - REACH_FRAMES)
        self._wanted, self._has = self._wanted[n_dropped:].clone(), self._has[n_dropped:].clone()
        self._n_given = end - n_dropped
        return ready


def _level(log_mel: Tensor) -> Tensor:
    """Of the mean power around each frame."""
    power: Tensor = _mean_around((2.0 * log_mel).exp())
    return 0.5 * power.log()


def _mean_around(values: Tensor) -> Tensor:
    """(n, 128) to the same, by a Hann window."""
    window = torch.hann_window(2 * N_AROUND + 3, periodic=False, device=values.device)[1:-1]
    padded = functional.pad(values.T[:, None], (N_AROUND, N_AROUND), mode="replicate")
    means: Tensor = functional.conv1d(padded, (window / window.sum())[None, None])
    return means[:, 0].T


def _low_bands(device: torch.device) -> Tensor:
    """(128,): the share that each band takes part."""
    place = (NONE_ABOVE_HZ - band_centres_hz()[:N_MELS]) / (NONE_ABOVE_HZ - ALL_BELOW_HZ)
    return place.clamp(0.0, 1.0).float().to(device)
