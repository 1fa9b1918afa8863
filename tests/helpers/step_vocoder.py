"""A vocoder whose audio shows the spectrogram itself."""

import torch

from specdiff_cli.constants import HOP_SAMPLES


class StepVocoder:
    """Audio that repeats each frame's first band: shows which frames arrived, in which order."""

    name = "step"
    context_frames = 2

    def invert(self, mel: torch.Tensor, first_frame: int) -> torch.Tensor:
        """(n_frames, 128) to (320 n_frames,)."""
        return mel[:, 0].repeat_interleave(HOP_SAMPLES)
