"""The vocoder that knows the notes: harmonic-plus-noise synthesis, a filter to the wanted mel, and a network's gains.

A 40 ms window parts partials 50 Hz apart at best, so the pitch of most notes is not in the mel, and no vocoder can find
it there. The score has it: pitch, phase and onsets are given here, and only loudness and colour are read off spectra.

Sources: Serra and Smith, "Spectral Modeling Synthesis" (Computer Music Journal 14, 1990) for partials plus noise.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from specdiff_cli.audio.gains import GainNetwork
from specdiff_cli.audio.partials.beats import BeatingMel
from specdiff_cli.audio.partials.correction import MARGIN_FRAMES, mel_correction
from specdiff_cli.audio.partials.noise import noise_centres_hz, noise_shares
from specdiff_cli.audio.partials.notes_to_sound import HOPS, NotesToSound
from specdiff_cli.audio.partials.responses import TOP_HZ, band_centres_hz, noise_response
from specdiff_cli.audio.partials.score import PlayedNote, Timbres
from specdiff_cli.audio.vocoder import LOUDEST_LOG_MEL
from specdiff_cli.constants import FRAMES_PER_SECOND, LOG_MEL_MIN, MEL_MAX_HZ, N_MELS, SAMPLE_RATE_HZ

BLOCK_FRAMES = 128  # 2.56 s
OPENING_S = 0.001  # the filter's windows reach ahead of a first note at time 0: what is cut there would click
MISSING_FROM = 1.3  # times what the notes explain, noise makes up for the rest

#: (first frame, number of frames) -> (n_frames, 128) log-mel that the notes' timbres add up to.
Expected = Callable[[int, int], Tensor]


@dataclass
class PartialVocoder:
    """Log-mel and notes to sound. See ``audio.vocoder.NoteVocoder``.

    ``gains``: on top of the filter; without them it is the last stage.
    """

    timbres: Timbres
    rate_hz: int = SAMPLE_RATE_HZ
    n_channels: int = 1
    device: torch.device = torch.device("cpu")
    gains: GainNetwork | None = None
    name: str = "partials"

    def __post_init__(self) -> None:
        if self.rate_hz not in HOPS or self.n_channels not in (1, 2):
            rates = ", ".join(map(str, HOPS))
            raise ValueError(
                f"{self.rate_hz} Hz, {self.n_channels} channels: is not one of {rates} Hz, 1 or 2 channels"
            )

    def open(
        self,
        notes: Sequence[PlayedNote],
        seed: int = 0,
        expected: Expected | None = None,
        n_threads: int = 1,
    ) -> "PartialStream":
        """Begin a song.

        Args:
            notes: all of them, in any order.
            seed: of the partials' first phases and of the noise.
            expected: what the timbres add up to, where the wanted mel is something else: noise then makes up for what
                the notes do not explain.
            n_threads: with more than one, and on the CPU, a block is filtered on a thread of its own while the next one
                is synthesised, and is given out with that.
        """
        return PartialStream(self, notes, seed, expected, n_threads if self.device.type == "cpu" else 1)


class PartialStream:
    """One song on its way from wanted mel to sound; memory does not grow with it.

    The sound does not depend on how the frames are cut into pushes, and blocks equal the whole: phases, noise and gains
    are functions of the song's time and the seed.
    """

    def __init__(
        self,
        vocoder: PartialVocoder,
        notes: Sequence[PlayedNote],
        seed: int,
        expected: Expected | None,
        n_threads: int,
    ) -> None:
        self._vocoder = vocoder
        rate_hz, device = vocoder.rate_hz, vocoder.device
        self._hop = rate_hz // FRAMES_PER_SECOND
        self._knots = self._hop // HOPS[rate_hz]  # per frame
        self._synthesis = NotesToSound(
            notes,
            vocoder.timbres,
            rate_hz=rate_hz,
            n_channels=vocoder.n_channels,
            seed=seed,
            device=device,
        )
        self._correction = mel_correction(rate_hz, device)
        self._gains = vocoder.gains
        self._margin_frames = MARGIN_FRAMES + (0 if self._gains is None else self._gains.reach_frames)
        self._missing = None if expected is None else _Missing(expected, min(TOP_HZ, rate_hz / 2), self._knots, device)
        self._beating = BeatingMel(self._correction, vocoder.n_channels, device)
        self._wanted = torch.empty(0, N_MELS, device=device)
        # the sum of all, or partials and noise
        self._raw = torch.empty(1 if self._gains is None else 2, vocoder.n_channels, 0, device=device)
        self._buffer_start = 0  # song frame of the first of both buffers; there may be sound beyond what is wanted
        self._next_frame = 0  # the next to be filtered
        self._filtering = ThreadPoolExecutor(1, "filtering") if n_threads > 1 else None
        self._filtered: deque[Future[Tensor]] = deque()

    def push(self, mel: Tensor) -> Tensor:
        """Take the next (k, 128) log-mel frames; return sound that is now certain, (C, n), often empty."""
        return self._join(self.push_blocks(mel))

    def push_blocks(self, mel: Tensor) -> Iterator[Tensor]:
        """As ``push``, but one block at a time. The frames are taken when the iterator is consumed to its end."""
        mel = mel.detach().to(self._vocoder.device, torch.float32)
        mel = mel.nan_to_num(nan=LOG_MEL_MIN).clamp(LOG_MEL_MIN, LOUDEST_LOG_MEL)
        for piece in torch.split(mel, BLOCK_FRAMES):
            self._take(piece)
            while self._end >= self._next_frame + BLOCK_FRAMES + self._margin_frames:
                self._filter(self._next_frame + BLOCK_FRAMES)
            while len(self._filtered) > (self._filtering is not None):
                yield self._filtered.popleft().result()

    def flush(self) -> Tensor:
        """The sound of all frames still held back, (C, n). The song ends there."""
        self._wanted = torch.cat([self._wanted, self._beating.flush()])
        while self._next_frame < self._end:
            self._filter(min(self._next_frame + BLOCK_FRAMES, self._end))
        blocks = [block.result() for block in self._filtered]
        self._filtered.clear()
        return self._join(blocks)

    @property
    def _end(self) -> int:
        return self._buffer_start + len(self._wanted)

    def _take(self, wanted: Tensor) -> None:
        if not len(wanted):
            return
        more = None if self._missing is None else self._missing.noise(wanted)
        raw = self._synthesis.render(len(wanted) * self._knots, more)
        whole = raw.sum(0)
        if self._gains is None:
            raw = whole[None]
        self._wanted = torch.cat([self._wanted, self._beating.push(wanted, whole)])
        self._raw = torch.cat([self._raw, raw], dim=2)

    def _filter(self, end_frame: int) -> None:
        """Begin with the sound up to a frame of the song; what nobody needs any more is dropped."""
        first, hop = self._buffer_start, self._hop
        piece_end = min(end_frame + self._margin_frames, self._end)
        raw, wanted = self._raw[..., : (piece_end - first) * hop], self._wanted[: piece_end - first]
        heard = slice((self._next_frame - first) * hop, (end_frame - first) * hop)
        n_opening = 0 if self._next_frame else round(OPENING_S * self._vocoder.rate_hz)

        @torch.inference_mode()
        def filtered() -> Tensor:
            block = self._correction.apply(raw, wanted, self._gains)[:, heard].clone()
            block[:, :n_opening] *= torch.arange(n_opening, device=block.device) / max(n_opening, 1)
            return block

        if self._filtering is None:
            block: Future[Tensor] = Future()
            block.set_result(filtered())
        else:
            block = self._filtering.submit(filtered)
        self._filtered.append(block)
        self._next_frame = end_frame
        kept = max(first, end_frame - self._margin_frames)
        self._wanted = self._wanted[kept - first :].clone()
        self._raw = self._raw[..., (kept - first) * hop :].clone()
        self._buffer_start = kept

    def _join(self, blocks: Iterator[Tensor] | list[Tensor]) -> Tensor:
        pieces = list(blocks)
        return torch.cat(pieces, dim=1) if pieces else self._raw[0, :, :0]


class _Missing:
    """Noise for what is wanted and no note explains."""

    def __init__(self, expected: Expected, top_hz: float, n_knots: int, device: torch.device) -> None:
        self._expected, self._n_knots, self._device = expected, n_knots, device
        self._next_frame = 0
        shares = noise_shares(band_centres_hz()[:N_MELS], top_hz)
        shares *= (noise_response() > 1.0)[:, None]
        shares = shares / shares.sum(0).clamp(min=1e-9)
        shares *= noise_centres_hz(top_hz) <= MEL_MAX_HZ
        self._shares = shares.to(device)
        self._response = noise_response().clamp(min=1e-9).to(device)
        self._last = torch.zeros(1, shares.shape[1], device=device)

    def noise(self, wanted: Tensor) -> Tensor:
        """Variance per noise band (n_frames * knots + 1, B) at the knots of the next frames."""
        explained = self._expected(self._next_frame, len(wanted)).to(self._device)
        self._next_frame += len(wanted)
        power = (wanted.exp().square() - (MISSING_FROM * explained.exp()).square()).clamp(min=0.0)
        power = power * (wanted > LOG_MEL_MIN + 0.1)
        variance = torch.cat([self._last, power / self._response.square() @ self._shares])
        self._last = variance[-1:]
        # frame i is valid in its middle, where the next one begins
        knots = functional.interpolate(
            variance.T[None], size=len(wanted) * self._n_knots + 1, mode="linear", align_corners=True
        )
        return knots[0].T
