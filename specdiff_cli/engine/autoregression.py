"""Windows of an autoregressive voice: 256 frames, each predicted from those before it. Nothing is drawn at random."""

from collections.abc import Sequence
from threading import Event

import torch
from torch import Tensor

from specdiff_cli.constants import WINDOW_FRAMES
from specdiff_cli.engine.ahead import Stopped
from specdiff_cli.engine.songs import ActiveSong, Key
from specdiff_cli.model.autoregressive_compiled import CompiledAutoregressive

FRAMES_PER_REPORT = 16


class AutoregressiveSampler:
    """Decodes the next windows of several songs as one batch; see :class:`specdiff_cli.engine.songs.WindowSampler`."""

    def __init__(self, network: CompiledAutoregressive, stop: Event | None) -> None:
        self.device = network.device
        self._network = network
        self._stop = stop

    def sample(self, songs: Sequence[ActiveSong[Key]]) -> Tensor:
        """(B, 256, 128) float32 log-mel in feature range on the device.

        Raises Stopped: ``stop`` was set.
        """
        window = self._network.begin([torch.from_numpy(song.window.tokens) for song in songs])
        while window.n_done < WINDOW_FRAMES:
            if self._stop is not None and self._stop.is_set():
                raise Stopped
            self._network.advance(window, FRAMES_PER_REPORT)
            for song in songs:
                song.report(window.n_done, WINDOW_FRAMES)
        return window.frames
