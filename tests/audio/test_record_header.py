"""A WAV file of ours with a damaged header is not taken for a complete one; tags that others append are no damage."""

import random
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from specdiff_cli.audio.record import PROGRAM, AudioFileError, find_problem, inspect_audio, read_record
from specdiff_cli.audio.wav import AtomicWriter

RECORD = {"program": PROGRAM, "version": "1"}
TONE = np.sin(np.arange(400) / 5).astype(np.float32)


def write(path: Path, subtype: str, n_channels: int) -> bytes:
    samples = TONE if n_channels == 1 else np.stack([TONE, TONE], axis=1)
    with AtomicWriter(
        path, subtype=subtype, record=RECORD, sample_rate_hz=44_100, n_channels=n_channels, overwrite=True
    ) as writer:
        writer.write(samples)
    return path.read_bytes()


@pytest.mark.parametrize(("subtype", "n_channels"), [("pcm16", 1), ("pcm24", 1), ("float", 1), ("pcm16", 2)])
def test_a_flipped_bit_anywhere_in_the_header_is_seen(tmp_path: Path, subtype: str, n_channels: int) -> None:
    path = tmp_path / "a.wav"
    content = write(path, subtype, n_channels)
    record = read_record(path)
    assert record is not None
    assert find_problem(path, record) is None
    for place in range(content.index(b"data") + 8):
        if 4 <= place < 8:  # the size of the whole, which taggers change
            continue
        for bit in (0, 3, 7):
            damaged = bytearray(content)
            damaged[place] ^= 1 << bit
            path.write_bytes(damaged)
            found = read_record(path)
            assert found != record or find_problem(path, found) is not None, (place, bit)


def test_a_tag_behind_the_audio_is_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    content = bytearray(write(path, "pcm16", 1))
    tag = b"id3 " + struct.pack("<I", 4) + b"ID3\x03"
    content[4:8] = struct.pack("<I", len(content) + len(tag) - 8)
    path.write_bytes(content + tag)
    record = read_record(path)
    assert record is not None
    assert find_problem(path, record) is None


def test_a_rate_of_2_ghz_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    content = bytearray(write(path, "pcm16", 1))
    content[24:28] = struct.pack("<I", 0x7F00_3E80)
    path.write_bytes(content)
    tracemalloc.start()
    try:
        shown = inspect_audio(path)
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()
    assert shown.problem == "its header is not what was written"


def test_whatever_the_bytes_a_file_is_shown_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "a"
    rng = random.Random(3)
    seeds = [write(path, "pcm16", 1), write(path, "float", 2), write(path, "pcm24", 1)]
    with AtomicWriter(path, file_format="flac", record=RECORD, overwrite=True) as writer:
        writer.write(TONE)
    seeds.append(path.read_bytes())
    n_shown = 0
    for _ in range(400):
        content = bytearray(rng.choice(seeds))
        for _ in range(rng.choice((1, 2, 9))):
            place = int(rng.random() ** 3 * len(content))
            content[place : place + rng.choice((0, 1, 4, 100))] = rng.randbytes(rng.choice((0, 1, 4, 30)))
        path.write_bytes(content)
        try:
            inspect_audio(path)
            n_shown += 1
        except AudioFileError as error:
            assert "\n" not in str(error)
    assert 50 < n_shown < 350
