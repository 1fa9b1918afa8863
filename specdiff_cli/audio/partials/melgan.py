"""The stage behind ``partials``: a generator adds what the notes do not say, in blocks that equal the whole.

The generator lives at 16 kHz. Sound of other rates is brought there, and what the generator adds is brought back and
added to it, so what lies above 8 kHz stays untouched, and a generator that adds nothing changes nothing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from specdiff_cli.audio.mel import log_mel
from specdiff_cli.audio.partials.score import PlayedNote, Timbres
from specdiff_cli.audio.partials.vocoder import BLOCK_FRAMES, Expected, PartialVocoder
from specdiff_cli.audio.vocoder import LOUDEST_LOG_MEL, SoundStream
from specdiff_cli.constants import FRAMES_PER_SECOND, LOG_MEL_MIN, N_MELS, SAMPLE_RATE_HZ

_EDGE_HZ = 7700.0  # half way down; the filters are flat below 7.3 kHz
_HALF_S = 0.004  # of the filters
_KAISER_BETA = 6.5
_PERIODS_PER_S = 100  # at which the weights of the filters come again, at every rate
_MEL_REACH_FRAMES = 1  # a frame of log-mel hears the next hop, too


@dataclass
class MelGanVocoder:
    """``partials``, and a generator of ``audio.melgan`` behind it. See ``audio.vocoder.NoteVocoder``.

    ``context_frames``: how far to each side the generator hears.
    """

    partials: PartialVocoder
    generator: nn.Module
    context_frames: int
    name: str = "melgan"
    rate_hz: int = field(init=False)
    n_channels: int = field(init=False)
    timbres: Timbres = field(init=False)

    def __post_init__(self) -> None:
        self.generator = self.generator.to(self.partials.device)
        self.rate_hz, self.n_channels = self.partials.rate_hz, self.partials.n_channels
        self.timbres = self.partials.timbres

    def open(
        self,
        notes: Sequence[PlayedNote],
        seed: int = 0,
        expected: Expected | None = None,
        n_threads: int = 1,
    ) -> "MelGanStream":
        """Begin a song; as ``PartialVocoder.open``."""
        return MelGanStream(self, self.partials.open(notes, seed, expected, n_threads))


class MelGanStream:
    """One song on its way from wanted mel to sound; memory does not grow with it.

    Blocks begin at fixed places of the song, so the sound does not depend on how the frames are cut into pushes.
    """

    def __init__(self, vocoder: MelGanVocoder, stream: SoundStream) -> None:
        self._vocoder, self._stream = vocoder, stream
        self._device = vocoder.partials.device
        self._hop = vocoder.rate_hz // FRAMES_PER_SECOND
        self._rates = bridge(vocoder.rate_hz, self._device)
        self._context = vocoder.context_frames + self._rates.reach_frames + _MEL_REACH_FRAMES
        # The song begins with silence, which is not heard: every block then sees as much on either side.
        self._mel = torch.full((self._context, N_MELS), LOG_MEL_MIN, device=self._device)
        self._sound = torch.zeros(vocoder.n_channels, self._context * self._hop, device=self._device)
        self._n_ready = 0  # frames whose sound is in the buffer, beside the context

    def push(self, mel: Tensor) -> Tensor:
        """Take the next (k, 128) log-mel frames; return the sound that is now certain, (C, n), often empty."""
        pieces = [self._sound[:, :0]]
        for piece in torch.split(mel, BLOCK_FRAMES):
            self._take(piece, self._stream.push(piece))
            while self._n_ready >= BLOCK_FRAMES + self._context:
                pieces.append(self._emit(BLOCK_FRAMES))
        return torch.cat(pieces, dim=1)

    def flush(self) -> Tensor:
        """The sound of all frames still held back, (C, n). The song ends there."""
        self._take(self._mel[:0], self._stream.flush())
        n_left = self._n_ready
        self._take(
            self._mel.new_full((self._context, N_MELS), LOG_MEL_MIN),
            self._sound.new_zeros(len(self._sound), self._context * self._hop),
        )
        pieces = [self._sound[:, :0]]
        while n_left > 0:
            n_frames = min(BLOCK_FRAMES, n_left)
            pieces.append(self._emit(n_frames))
            n_left -= n_frames
        return torch.cat(pieces, dim=1)

    def _take(self, mel: Tensor, sound: Tensor) -> None:
        mel = mel.detach().to(self._device, torch.float32)
        mel = mel.nan_to_num(nan=LOG_MEL_MIN).clamp(LOG_MEL_MIN, LOUDEST_LOG_MEL)
        self._mel = torch.cat([self._mel, mel])
        self._sound = torch.cat([self._sound, sound], dim=1)
        self._n_ready += sound.shape[1] // self._hop

    @torch.inference_mode()
    def _emit(self, n_frames: int) -> Tensor:
        """The next frames of the song; what nobody needs any more is dropped."""
        context, hop = self._context, self._hop
        n_seen = n_frames + 2 * context
        sound = self._sound[:, : n_seen * hop]
        low = self._rates.down(sound)
        added = self._rates.up(self._vocoder.generator(low, _mel_of_channels(self._mel[:n_seen], low)))
        heard = slice(context * hop, (context + n_frames) * hop)
        block = sound[:, heard] + added[:, heard]
        self._mel = self._mel[n_frames:].clone()
        self._sound = self._sound[:, n_frames * hop :].clone()
        self._n_ready -= n_frames
        return block


def _mel_of_channels(mel: Tensor, low: Tensor) -> Tensor:
    """What is wanted of each channel, (C, n, 128): the (n, 128) that are wanted of their mean, shared out as they are.

    ``low`` is (C, n * 320) at 16 kHz.
    """
    if len(low) == 1:
        return mel[None]
    shares = log_mel(low) - log_mel(low.mean(0))
    return (mel + shares).clamp(LOG_MEL_MIN, LOUDEST_LOG_MEL)


class Bridge:
    """Sound of a rate to 16 kHz and back, by filters of linear phase without delay, frame after frame.

    Every output sample is a weighted sum of the inputs around it. The weights come again every 10 ms, so two
    convolutions with that stride do it.
    """

    def __init__(self, rate_hz: int, device: torch.device) -> None:
        self._n_high, self._n_low = rate_hz // _PERIODS_PER_S, SAMPLE_RATE_HZ // _PERIODS_PER_S
        self.is_needed = rate_hz != SAMPLE_RATE_HZ
        self.reach_frames = math.ceil((2 * _HALF_S + 1 / _PERIODS_PER_S) * FRAMES_PER_SECOND) if self.is_needed else 0
        if self.is_needed:
            low, self._low_pad = _weights(self._n_low, self._n_high, SAMPLE_RATE_HZ, rate_hz)
            high, self._high_pad = _weights(self._n_high, self._n_low, rate_hz, SAMPLE_RATE_HZ)
            self._to_low, self._to_high = low.to(device), high.to(device)

    def down(self, sound: Tensor) -> Tensor:
        """(C, n frames) at the rate to (C, n * 320)."""
        if not self.is_needed:
            return sound
        return _converted(sound, self._to_low, self._n_high, self._low_pad)

    def up(self, low: Tensor) -> Tensor:
        """(C, n * 320) to (C, n frames) at the rate."""
        if not self.is_needed:
            return low
        return _converted(low, self._to_high, self._n_low, self._high_pad)


def _weights(n_out: int, n_in: int, out_hz: int, in_hz: int) -> tuple[Tensor, int]:
    """(n_out, 1, n_in + 2 * pad): each output sample of a period as a sum of inputs; and the pad."""
    pad = math.ceil(_HALF_S * in_hz)
    out_s = torch.arange(n_out, dtype=torch.float64)[:, None] / out_hz
    in_s = torch.arange(-pad, n_in + pad, dtype=torch.float64) / in_hz
    distance_s = in_s - out_s
    window = torch.special.i0(_KAISER_BETA * (1 - (distance_s / _HALF_S).square()).clamp(min=0).sqrt())
    window = window / torch.special.i0(torch.tensor(_KAISER_BETA, dtype=torch.float64)) * (distance_s.abs() < _HALF_S)
    weights = 2 * _EDGE_HZ / in_hz * torch.sinc(2 * _EDGE_HZ * distance_s) * window
    return weights.float()[:, None], pad


def _converted(sound: Tensor, weights: Tensor, stride: int, pad: int) -> Tensor:
    periods = functional.conv1d(functional.pad(sound, (pad, pad))[:, None], weights, stride=stride)
    return periods.transpose(1, 2).flatten(1)


@lru_cache(maxsize=4)
def bridge(rate_hz: int, device: torch.device) -> Bridge:
    """The filters of a rate, made once."""
    return Bridge(rate_hz, device)
