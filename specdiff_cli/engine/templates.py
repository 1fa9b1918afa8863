"""Windows of a voice of note templates: what its notes' own spectra add up to. Nothing is drawn at random."""

from collections.abc import Sequence
from threading import Event

import torch
from torch import Tensor

from specdiff_cli.constants import WINDOW_FRAMES
from specdiff_cli.engine.ahead import Stopped
from specdiff_cli.engine.songs import ActiveSong, Key


class TemplateSampler:
    """Adds up the next windows of several songs; see :class:`specdiff_cli.engine.songs.WindowSampler`."""

    def __init__(self, device: torch.device, stop: Event | None) -> None:
        self.device = device
        self._stop = stop

    def sample(self, songs: Sequence[ActiveSong[Key]]) -> Tensor:
        """(B, 256, 128) float32 log-mel in feature range on the device.

        Raises Stopped: ``stop`` was set.
        """
        windows = []
        for song in songs:
            if self._stop is not None and self._stop.is_set():
                raise Stopped
            if song.score is None:
                raise ValueError("the song has no score")
            windows.append(song.score.log_mel(song.window.index * song.window.hop_frames, WINDOW_FRAMES))
            song.report(1, 1)
        return torch.stack(windows)
