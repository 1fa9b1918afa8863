"""Features of audio that arrives in pieces."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from specdiff_cli.audio.mel import log_mel
from specdiff_cli.audio.mel_stream import DECIBELS_PER_NEPER, MelDistance, StreamingLogMel


@settings(max_examples=20, deadline=None)
@given(length=st.integers(0, 5000), cuts=st.lists(st.integers(0, 5000), max_size=6))
def test_streamed_frames_equal_those_of_the_whole(length: int, cuts: list[int]) -> None:
    audio = torch.randn(length, generator=torch.Generator().manual_seed(0))
    edges = [0, *sorted(min(cut, length) for cut in cuts), length]
    stream = StreamingLogMel()
    pieces = [stream.push(audio[a:b]) for a, b in zip(edges[:-1], edges[1:], strict=True)]
    frames = torch.cat([*pieces, stream.flush()])
    torch.testing.assert_close(frames, log_mel(audio), atol=1e-4, rtol=1e-4)


def test_the_distance_is_the_mean_over_frames_that_both_have() -> None:
    distance = MelDistance()
    assert distance.nepers == 0
    distance.push(first=torch.zeros(3, 128))
    distance.push(second=torch.full((2, 128), 0.5))
    assert distance.nepers == pytest.approx(0.5)
    distance.push(torch.ones(5, 128), torch.full((4, 128), 2.0))  # third frames 0 and 2, then 1 and 2 three times
    assert distance.nepers == pytest.approx((2 * 0.5 + 2 + 3 * 1) / 6)


def test_a_factor_of_ten_is_twenty_decibels() -> None:
    assert math.log(10) * DECIBELS_PER_NEPER == pytest.approx(20)
