"""The record inside audio files, and full disks at any byte. What the formats hold otherwise is in test_wav.py."""

import json
import struct
import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile
from file_limits import largest_file

from specdiff_cli.audio import encoding
from specdiff_cli.audio.encoding import Layout, max_wav_samples, wav_header
from specdiff_cli.audio.record import find_problem, read_record
from specdiff_cli.audio.wav import AtomicWriter
from specdiff_cli.choices import Subtype
from specdiff_cli.errors import OutputError

RECORD = {"program": "specdiff", "input": {"name": "bad \udcff byte é.mid"}}
NOISE = np.random.default_rng(0).uniform(-1, 1, 3001)


def write(path: Path, file_format: str, subtype: str = "pcm16", audio: np.ndarray = NOISE) -> None:
    with AtomicWriter(
        path, file_format=file_format, subtype=subtype, record=RECORD, expected_samples=len(audio)
    ) as writer:
        writer.write(audio)


def test_a_comment_stands_before_the_samples_and_the_sizes_are_right() -> None:
    header = wav_header(Layout(Subtype.PCM16), 5, "odd")
    info = b"LIST" + struct.pack("<I", 4 + 8 + 4) + b"INFO" + b"ICMT" + struct.pack("<I", 4) + b"odd\0"
    assert header[36 : 36 + len(info)] == info
    assert header[-8:] == b"data" + struct.pack("<I", 10)
    assert struct.unpack("<I", header[4:8])[0] == len(header) - 8 + 10
    even = wav_header(Layout(Subtype.PCM16), 5, "even")  # five bytes with its end, and a byte of padding
    assert len(even) == len(header) + 2


@pytest.mark.parametrize(
    ("file_format", "subtype"),
    [("wav", "pcm16"), ("wav", "pcm24"), ("wav", "float"), ("flac", "pcm16"), ("flac", "pcm24")],
)
def test_records_are_read_by_others_and_by_us(tmp_path: Path, file_format: str, subtype: str) -> None:
    path = tmp_path / "a"
    write(path, file_format, subtype)
    with soundfile.SoundFile(path) as file:
        assert file.frames == len(NOISE)
        theirs = json.loads(file.comment)
    record = read_record(path)
    assert record == theirs
    assert record is not None
    assert record["samples"] == len(NOISE)
    assert record["input"] == RECORD["input"]
    assert find_problem(path, record) is None
    if subtype.startswith("pcm") and file_format == "wav":
        with wave.open(str(path)) as standard:
            assert standard.getnframes() == len(NOISE)


@pytest.mark.parametrize("file_format", ["wav", "flac"])
@pytest.mark.parametrize("subtype", ["pcm16", "pcm24"])
def test_records_of_stereo_files_vouch_for_their_audio(tmp_path: Path, file_format: str, subtype: str) -> None:
    path = tmp_path / "a"
    stereo = NOISE[:3000].reshape(-1, 2)
    with AtomicWriter(
        path, file_format=file_format, subtype=subtype, record=RECORD, expected_samples=1500, n_channels=2
    ) as writer:
        writer.write(stereo)
    record = read_record(path)
    assert record is not None
    assert record["samples"] == 1500
    assert find_problem(path, record) is None
    data = bytearray(path.read_bytes())
    data[-1001] ^= 1
    path.write_bytes(data)
    assert find_problem(path, record) is not None


def test_equal_audio_and_record_give_equal_bytes(tmp_path: Path) -> None:
    for file_format in ("wav", "flac"):
        write(tmp_path / "a", file_format)
        write(tmp_path / "b", file_format)
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
        (tmp_path / "a").unlink()
        (tmp_path / "b").unlink()


def test_no_record_is_no_error(tmp_path: Path) -> None:
    for content in (b"", b"RIFF", b"RIFF\0\0\0\0WAVELIST\xff\xff\xff\xff", b"fLaC" + b"\0" * 50, b"text" * 20):
        (tmp_path / "a").write_bytes(content)
        assert read_record(tmp_path / "a") is None
    assert read_record(tmp_path / "missing") is None


@pytest.mark.parametrize("file_format", ["wav", "flac"])
def test_a_disk_that_is_full_at_any_byte_leaves_nothing(tmp_path: Path, file_format: str) -> None:
    path = tmp_path / "a"
    write(path, file_format)
    whole = path.read_bytes()
    path.unlink()
    for limit in [*range(0, len(whole), 97), len(whole) - 1]:
        with largest_file(limit), pytest.raises(OutputError, match="File too large"):
            write(path, file_format)
        assert list(tmp_path.iterdir()) == []
    with largest_file(len(whole)):
        write(path, file_format)
    assert path.read_bytes() == whole


def test_the_record_counts_towards_the_largest_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(encoding, "MAX_RIFF_BYTES", 5000)
    longest = max_wav_samples(Layout(Subtype.PCM16), RECORD)
    assert longest < max_wav_samples(Layout(Subtype.PCM16))
    write(tmp_path / "a.wav", "wav", audio=NOISE[:longest])
    assert 4990 < (tmp_path / "a.wav").stat().st_size <= 5008
    with pytest.raises(OutputError, match="4 GB"):
        write(tmp_path / "b.wav", "wav", audio=NOISE[: longest + 1])
