"""Streaming is checked with a vocoder whose reach is known and whose output shows every frame it saw."""

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from specdiff_cli.audio.mel import log_mel
from specdiff_cli.audio.vocoder import LEAD_FRAMES, StreamingVocoder, checked_mel
from specdiff_cli.constants import LOG_MEL_MIN


class MovingSum:
    """Each output frame is a weighted sum of its neighbours plus a function of its place in the song."""

    name = "moving-sum"

    def __init__(self, context_frames: int, declared: int | None = None) -> None:
        self.reach = context_frames
        self.context_frames = context_frames if declared is None else declared
        self.longest_piece = 0

    def invert(self, mel: torch.Tensor, first_frame: int) -> torch.Tensor:
        self.longest_piece = max(self.longest_piece, mel.shape[0])
        n = mel.shape[0]
        padded = torch.nn.functional.pad(mel[:, 0], (self.reach, self.reach))
        kernel = torch.arange(1.0, 2 * self.reach + 2)
        frames = padded.unfold(0, 2 * self.reach + 1, 1) @ kernel
        frames = frames + 1000.0 * torch.arange(first_frame, first_frame + n)
        return (frames[:, None] + torch.linspace(0, 0.5, 320)).reshape(-1)


def stream(vocoder: MovingSum, mel: torch.Tensor, cuts: Sequence[int], block_frames: int) -> torch.Tensor:
    streaming = StreamingVocoder(vocoder, block_frames)
    edges = [0, *sorted(min(c, len(mel)) for c in cuts), len(mel)]
    out = [streaming.push(mel[a:b]) for a, b in zip(edges[:-1], edges[1:], strict=True)]
    return torch.cat([*out, streaming.flush()])


@settings(max_examples=80, deadline=None)
@given(
    n_frames=st.integers(0, 150),
    context=st.integers(0, 12),
    block=st.integers(1, 40),
    cuts=st.lists(st.integers(0, 150), max_size=12),
)
def test_any_chunking_equals_the_whole_song(n_frames: int, context: int, block: int, cuts: list[int]) -> None:
    mel = torch.randn(n_frames, 128, generator=torch.Generator().manual_seed(n_frames))
    vocoder = MovingSum(context)
    whole = vocoder.invert(mel, 0) if n_frames else torch.empty(0)
    vocoder.longest_piece = 0
    streamed = stream(vocoder, mel, cuts, block)
    assert streamed.shape == (n_frames * 320,)
    torch.testing.assert_close(streamed, whole, rtol=1e-6, atol=1e-4)
    assert vocoder.longest_piece <= block + 2 * context
    assert torch.equal(streamed, stream(vocoder, mel, [], block)), "the cuts must not change a single bit"


def test_a_wrongly_declared_reach_would_be_seen() -> None:
    mel = torch.randn(60, 128, generator=torch.Generator().manual_seed(0))
    vocoder = MovingSum(5, declared=4)
    assert not torch.allclose(stream(vocoder, mel, [20], 10), vocoder.invert(mel, 0), rtol=1e-6, atol=1e-4)


def test_memory_does_not_grow_with_the_song() -> None:
    vocoder = MovingSum(3)
    streaming = StreamingVocoder(vocoder, block_frames=16)
    n_samples = 0
    for _ in range(300):
        n_samples += len(streaming.push(torch.zeros(7, 128)))
        assert streaming.n_buffered_frames <= 16 + 2 * 3
    for block in streaming.push_blocks(torch.zeros(5000, 128)):
        assert len(block) == 16 * 320
        n_samples += len(block)
        assert streaming.n_buffered_frames <= 2 * 16 + 2 * 3
    assert n_samples + len(streaming.flush()) == (300 * 7 + 5000) * 320


def test_audio_is_given_as_soon_as_it_is_certain() -> None:
    streaming = StreamingVocoder(MovingSum(3), block_frames=16)
    assert len(streaming.push(torch.zeros(18, 128))) == 0
    assert len(streaming.push(torch.zeros(1, 128))) == 16 * 320


def test_flush_starts_a_new_song() -> None:
    mel = torch.randn(40, 128, generator=torch.Generator().manual_seed(1))
    streaming = StreamingVocoder(MovingSum(2), block_frames=8)
    assert len(streaming.flush()) == 0
    first = torch.cat([streaming.push(mel), streaming.flush()])
    second = torch.cat([streaming.push(mel), streaming.flush()])
    assert torch.equal(first, second)


@pytest.mark.parametrize("shape", [(128,), (3, 127), (1, 3, 128)])
def test_wrong_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\(n_frames, 128\)"):
        StreamingVocoder(MovingSum(1)).push(torch.zeros(shape))
    with pytest.raises(ValueError, match="block_frames"):
        StreamingVocoder(MovingSum(1), block_frames=0)


def test_faulty_values_are_replaced_and_good_ones_kept() -> None:
    mel = torch.full((5, 128), -3.0, dtype=torch.float64)
    mel[0, 0], mel[0, 1], mel[0, 2] = float("nan"), float("inf"), float("-inf")
    mel[1, 0], mel[1, 1] = 1e30, -1e30
    checked = checked_mel(mel)
    silence = torch.tensor(1e-5).log().item()
    assert checked.dtype == torch.float32
    assert checked[0, :3].tolist() == pytest.approx([silence, 8.0, silence])
    assert checked[1, :2].tolist() == pytest.approx([8.0, silence])
    assert (checked[2:] == -3.0).all()


@pytest.mark.parametrize("name", ["spectral", "griffin-lim"])
def test_a_song_that_begins_with_a_note_begins_without_a_click(name: str) -> None:
    """The first 15 ms are no louder than the note itself; without silence before them they were three times as loud."""
    from specdiff_cli.engine.vocoders import load_vocoder
    from specdiff_cli.weights.load import load_voice

    vocoder = load_vocoder(load_voice("tiny"), name)
    time_s = torch.arange(2 * 16_000) / 16_000
    tone = sum(0.1 / k * torch.sin(2 * torch.pi * 220 * k * time_s) for k in range(1, 9))
    assert isinstance(tone, torch.Tensor)
    mel = log_mel(tone)
    streaming = StreamingVocoder(vocoder, lead_frames=LEAD_FRAMES)
    audio = torch.cat([streaming.push(mel), streaming.flush()])
    assert len(audio) == 320 * len(mel)
    assert audio[:240].abs().max() < audio[1600:].abs().max()


def test_silence_before_a_song_is_not_heard_and_depends_on_no_pushes() -> None:
    mel = torch.randn(100, 128)
    vocoder = MovingSum(3)
    whole = vocoder.invert(torch.cat([torch.full((3, 128), LOG_MEL_MIN), checked_mel(mel)]), 0)[3 * 320 :]
    for size in (1, 7, 100):
        streaming = StreamingVocoder(vocoder, block_frames=16, lead_frames=3)
        for _ in range(2):  # a second song, too, has silence before it
            pieces = [streaming.push(piece) for piece in torch.split(mel, size)]
            torch.testing.assert_close(torch.cat([*pieces, streaming.flush()]), whole)
