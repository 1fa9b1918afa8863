"""What every vocoder offers, and how any of them is streamed.

A vocoder turns log-mel frames into audio, 320 samples per frame. One that says how far it looks can be run on
overlapping pieces and still give the audio of the whole song: ``StreamingVocoder`` does that for all of them.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch

from specdiff_cli.constants import HOP_SAMPLES, LOG_MEL_MIN, N_MELS

if TYPE_CHECKING:
    from specdiff_cli.audio.partials.score import PlayedNote

# Silence that a song's first frame is given as its past. Without it a song that begins with a note begins with a click:
# to a vocoder the end of what it sees is a sound cut in two.
LEAD_FRAMES = 16

BLOCK_FRAMES = 128  # 2.56 s: long enough that the context is a modest overhead, short enough to start playing early

CPU = torch.device("cpu")

# Above what full-scale audio can give: a sine of amplitude 1 stays under 6.5. Beyond it a value is a fault, not sound.
LOUDEST_LOG_MEL = 8.0


def checked_mel(mel: torch.Tensor, device: torch.device = CPU) -> torch.Tensor:
    """What a vocoder may rely on: (n_frames, 128) float32 on the device, finite, from silence to beyond full scale.

    NaN counts as silence. Raises ValueError for another shape.
    """
    if mel.ndim != 2 or mel.shape[1] != N_MELS:
        raise ValueError(f"expected mel frames of shape (n_frames, {N_MELS}), not {tuple(mel.shape)}")
    mel = mel.detach().to(device, torch.float32)
    return mel.nan_to_num(nan=LOG_MEL_MIN).clamp(LOG_MEL_MIN, LOUDEST_LOG_MEL)


class Vocoder(Protocol):
    """Log-mel to audio."""

    name: str
    context_frames: int
    """Output frame i (samples 320 i to 320 i + 320) depends on mel frames i - context_frames to i + context_frames."""

    def invert(self, mel: torch.Tensor, first_frame: int) -> torch.Tensor:
        """Audio of a piece of the song.

        Args:
            mel: (n_frames, 128) float32 log-mel in feature range. Its two ends are taken as the ends of the song.
            first_frame: index in the song of the first of these frames (0 for a whole song). The same frame with the
                same neighbours gives the same audio in whichever piece it arrives. NaN, infinities and absurd values
                are replaced as ``checked_mel`` does.

        Returns:
            (n_frames * 320,) float32 on the CPU, nominally within +-1 (not clipped), always finite.
        """
        ...


@runtime_checkable
class ResidentVocoder(Vocoder, Protocol):
    """A vocoder that computes on a device of its own, where spectrograms may be already and sound may stay."""

    device: torch.device

    def invert_there(self, mel: torch.Tensor, first_frame: int) -> torch.Tensor:
        """As ``invert``, from a mel on the device that ``checked_mel`` has seen to sound on the device."""
        ...


class SoundStream(Protocol):
    """One song on its way from mel to sound."""

    def push(self, mel: torch.Tensor) -> torch.Tensor:
        """Take the next (k, 128) log-mel frames; return the sound that is now certain, (channels, n), often empty."""
        ...

    def flush(self) -> torch.Tensor:
        """The sound of all frames still held back, (channels, n). The song ends there."""
        ...


@runtime_checkable
class NoteVocoder(Protocol):
    """Log-mel and the notes behind it to audio, of any of its rates and in one or two channels."""

    name: str
    rate_hz: int
    n_channels: int

    def open(
        self,
        notes: "Sequence[PlayedNote]",
        seed: int = 0,
        expected: "Callable[[int, int], torch.Tensor] | None" = None,
        n_threads: int = 1,
    ) -> SoundStream:
        """Begin a song with all its notes; a seed means one sound.

        ``expected`` (first frame, number of frames) -> (n_frames, 128) is the log-mel that the notes' sounds add up to,
        where the wanted one comes from elsewhere. ``n_threads``: how many cores are free for it.
        """
        ...


class StreamingVocoder:
    """Runs a vocoder on a song that arrives in pieces of any size; memory does not grow with the song.

    The audio is computed in blocks at fixed places of the song, each with its context on both sides. So it does not
    depend on how the frames were cut into pushes, not even in the last bit, and it equals the inversion of the whole
    song up to rounding, with ``lead_frames`` of silence before it that are not heard.
    """

    def __init__(self, vocoder: Vocoder, block_frames: int = BLOCK_FRAMES, *, lead_frames: int = 0) -> None:
        if block_frames < 1:
            raise ValueError(f"block_frames must be at least 1, not {block_frames}")
        self._vocoder = vocoder
        self._device, self._invert = CPU, vocoder.invert
        if isinstance(vocoder, ResidentVocoder):
            self._device, self._invert = vocoder.device, vocoder.invert_there
        self._block_frames = block_frames
        self._lead_frames = min(lead_frames, vocoder.context_frames)  # what is farther off is not seen
        # Indices count from the first frame of the silence before the song.
        self._buffer = self._lead()
        self._buffer_start = 0  # of the first frame in the buffer
        self._next_frame = self._lead_frames  # of the next output frame

    @property
    def n_buffered_frames(self) -> int:
        """Frames held back for later pieces: at most one block and twice the context between calls."""
        return self._buffer.shape[0]

    def push(self, mel: torch.Tensor) -> torch.Tensor:
        """Take the next frames, (k, 128) log-mel; return the audio that is now certain, (n,) float32, often empty."""
        return self._join(self.push_blocks(mel))

    def push_blocks(self, mel: torch.Tensor) -> Iterator[torch.Tensor]:
        """As ``push``, but one block at a time, so that a long piece is not held in memory as audio too.

        The frames are taken when the iterator is consumed to its end.
        """
        mel = checked_mel(mel, self._device)
        # copying in slices keeps the buffer small however many frames arrive at once
        for piece in torch.split(mel, self._block_frames):
            self._buffer = torch.cat([self._buffer, piece])
            while self._buffer_end >= self._next_frame + self._block_frames + self._vocoder.context_frames:
                yield self._emit(self._next_frame + self._block_frames)

    def flush(self) -> torch.Tensor:
        """Audio of all frames still held back, (n,) float32. The next push starts a new song."""
        blocks = []
        while self._next_frame < self._buffer_end:
            blocks.append(self._emit(min(self._next_frame + self._block_frames, self._buffer_end)))
        self._buffer = self._lead()
        self._buffer_start, self._next_frame = 0, self._lead_frames
        return self._join(blocks)

    def _lead(self) -> torch.Tensor:
        return torch.full((self._lead_frames, N_MELS), LOG_MEL_MIN, device=self._device)

    def _join(self, blocks: Iterator[torch.Tensor] | list[torch.Tensor]) -> torch.Tensor:
        pieces = list(blocks)
        return torch.cat(pieces) if pieces else torch.empty(0, device=self._device)

    @property
    def _buffer_end(self) -> int:
        return self._buffer_start + self._buffer.shape[0]

    def _emit(self, end_frame: int) -> torch.Tensor:
        """Audio of output frames up to ``end_frame`` (song index), then drop the frames nobody needs any more."""
        context = self._vocoder.context_frames
        start = self._next_frame
        piece_end = min(end_frame + context, self._buffer_end)
        piece = self._buffer[: piece_end - self._buffer_start]
        audio = self._invert(piece, self._buffer_start)
        skipped = (start - self._buffer_start) * HOP_SAMPLES
        block = audio[skipped : skipped + (end_frame - start) * HOP_SAMPLES].clone()
        self._next_frame = end_frame
        new_start = max(self._buffer_start, end_frame - context)
        self._buffer = self._buffer[new_start - self._buffer_start :].clone()
        self._buffer_start = new_start
        return block


def vocode(vocoder: Vocoder, mel: torch.Tensor) -> torch.Tensor:
    """A whole song's (n_frames, 128) log-mel as sound, (320 n_frames,) float32 on the CPU, with silence as its past.

    Raises ValueError for another shape.
    """
    streaming = StreamingVocoder(vocoder, lead_frames=LEAD_FRAMES)
    with torch.inference_mode():
        return torch.cat([streaming.push(mel), streaming.flush()]).cpu()
