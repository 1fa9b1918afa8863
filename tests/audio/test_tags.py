"""Loop points and comments as they lie in files, from bytes written out by hand."""

import io
import struct
import wave
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import soundfile

from specdiff_cli.audio.record import find_problem, inspect_audio, read_loop, read_record
from specdiff_cli.audio.tags import (
    Loop,
    ogg_checksum,
    pack_comments,
    parse_loop_comments,
    parse_smpl,
    smpl_chunk,
    unpack_comments,
)
from specdiff_cli.audio.wav import AtomicWriter, StreamWriter
from specdiff_cli.errors import UsageError

RECORD = {"program": "specdiff", "input": {"name": "a.mid"}}
LOOP = Loop(1_600, 12_345)

# One loop from sample 0x10 to 0x1f, both played, at 16 kHz (62 500 ns a sample), middle C.
SMPL = bytes.fromhex(
    "00000000 00000000 24f40000 3c000000 00000000 00000000 00000000 01000000 00000000"  # … one loop, no more
    "00000000 00000000 10000000 1f000000 00000000 00000000"  # its name, forward, from, to, no fraction, endless
)


def write(path: Path, file_format: str, record: Mapping[str, object] | None, loop: Loop | None = LOOP) -> np.ndarray:
    audio = (0.3 * np.sin(np.arange(20_000) / 9)).astype(np.float32)
    rate_hz = 48_000 if file_format == "opus" else 16_000
    with AtomicWriter(path, file_format=file_format, record=record, loop=loop, sample_rate_hz=rate_hz) as writer:
        writer.write(audio)
    return audio


def test_smpl_chunks_have_the_last_sample_where_loops_have_the_one_after() -> None:
    assert smpl_chunk(Loop(0x10, 0x20), 16_000) == SMPL
    assert parse_smpl(SMPL) == Loop(0x10, 0x20)
    assert parse_smpl(SMPL[:40]) is None
    assert parse_smpl(SMPL[:28] + bytes(4) + SMPL[32:]) is None  # says that it has no loops


def test_comments_are_padded_to_their_place() -> None:
    packed = pack_comments(b"me", ["a=é", "b="], 40)
    assert packed == struct.pack("<I", 2) + b"me" + struct.pack("<II", 2, 20) + "a=é".encode() + b" " * 16 + (
        struct.pack("<I", 2) + b"b="
    )
    assert len(packed) == 40
    assert unpack_comments(packed + b"rest") == (b"me", ["a=é" + " " * 16, "b="], 40)
    with pytest.raises(ValueError, match="cut off"):
        unpack_comments(packed[:-1])
    with pytest.raises(ValueError, match="more than there are"):
        pack_comments(b"me", ["a=é", "b="], 21)


def test_loops_in_comments() -> None:
    assert parse_loop_comments(["TITLE=x", "LoopStart=5", "LOOPLENGTH=7"]) == Loop(5, 12)
    assert parse_loop_comments(["LOOPSTART=5", "LOOPEND=7"]) == Loop(5, 7)
    for comments in (["LOOPSTART=5"], ["LOOPSTART=x", "LOOPEND=7"], ["LOOPSTART=7", "LOOPEND=7"], []):
        assert parse_loop_comments(comments) is None


def test_the_checksum_of_ogg_is_the_polynomial_division_bit_by_bit() -> None:
    data = bytes(range(256)) + b"OggS"
    remainder = 0
    for byte in data:
        remainder ^= byte << 24
        for _ in range(8):
            remainder = (remainder << 1 ^ 0x04C11DB7 if remainder & 0x80000000 else remainder << 1) & 0xFFFFFFFF
    assert ogg_checksum(data) == remainder


@pytest.mark.parametrize("file_format", ["wav", "flac", "ogg", "opus"])
@pytest.mark.parametrize("record", [RECORD, None])
def test_loop_points_are_in_the_file_beside_the_record(
    tmp_path: Path, file_format: str, record: dict[str, object] | None
) -> None:
    path = tmp_path / "a"
    audio = write(path, file_format, record)
    assert read_loop(path) == LOOP
    assert inspect_audio(path).loop == LOOP
    data = path.read_bytes()
    if file_format == "wav":
        at = data.index(b"smpl")
        assert struct.unpack_from("<2I", data, at + 8 + 36 + 8) == (1_600, 12_344)
        with wave.open(str(path)) as standard:
            assert standard.getnframes() == len(audio)
    else:
        for comment in (b"LOOPSTART=1600", b"LOOPLENGTH=10745"):
            assert struct.pack("<I", len(comment)) + comment in data
    decoded = soundfile.read(path)[0]
    assert len(decoded) == len(audio)
    assert np.corrcoef(decoded, audio)[0, 1] > 0.99
    found = read_record(path)
    if record is None:
        assert found is None
    else:
        assert found is not None
        assert found["input"] == RECORD["input"]
        assert find_problem(path, found) is None


def test_files_without_loops_have_none(tmp_path: Path) -> None:
    for file_format in ("wav", "flac", "ogg", "opus", "mp3"):
        write(tmp_path / file_format, file_format, RECORD, loop=None)
        assert read_loop(tmp_path / file_format) is None


def test_where_loop_points_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="MP3 files have no loop points"):
        AtomicWriter(tmp_path / "a", file_format="mp3", loop=LOOP)
    with pytest.raises(UsageError, match="Opus at 48 kHz"):
        AtomicWriter(tmp_path / "a", file_format="opus", loop=LOOP)
    with pytest.raises(UsageError, match="as WAV only"):
        StreamWriter(io.BytesIO(), file_format="ogg", loop=LOOP)
    stream = io.BytesIO()
    with StreamWriter(stream, loop=LOOP) as writer:
        writer.write(np.zeros(100, np.float32))
    assert smpl_chunk(LOOP, 16_000) in stream.getvalue()
    for start, end in ((5, 5), (-1, 5)):
        with pytest.raises(ValueError, match="holds nothing"):
            Loop(start, end)
