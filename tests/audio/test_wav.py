"""Files are read back by soundfile and the standard library's ``wave``; failures are made real where they can be."""

import hashlib
import io
import os
import struct
import subprocess
import sys
import wave
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from audio_files import listing, quiet_tone, write
from hypothesis import given, settings
from hypothesis import strategies as st

from specdiff_cli.audio import encoding
from specdiff_cli.audio.wav import AtomicWriter, ReaderGone, StreamWriter
from specdiff_cli.choices import Subtype
from specdiff_cli.errors import OutputError, UsageError

COMBINATIONS = [("wav", "pcm16"), ("wav", "pcm24"), ("wav", "float"), ("flac", "pcm16"), ("flac", "pcm24")]
STEP = {"pcm16": 1 / 32767, "pcm24": 1 / 8388607, "float": 0.0}
FULL_SCALE = {"pcm16": 32768, "pcm24": 8388608}


@pytest.mark.parametrize(("file_format", "subtype"), COMBINATIONS)
@pytest.mark.parametrize("n", [0, 1, 1001])
def test_reads_back(tmp_path: Path, file_format: str, subtype: str, n: int) -> None:
    audio = quiet_tone(n)
    path = tmp_path / f"out.{file_format}"
    if file_format == "flac" and n == 0:
        with pytest.raises(OutputError, match="no audio"):
            write(path, audio, file_format=file_format)
        return
    write(path, audio[: n // 3], audio[n // 3 :], file_format=file_format, subtype=subtype)
    assert listing(tmp_path) == [path.name]
    info = soundfile.info(path)
    assert (info.samplerate, info.channels, info.frames) == (16000, 1, n)
    assert info.format == file_format.upper()
    assert info.subtype == {"pcm16": "PCM_16", "pcm24": "PCM_24", "float": "FLOAT"}[subtype]
    read = soundfile.read(path, dtype="float64")[0]
    if subtype != "float":
        read = read * FULL_SCALE[subtype] * STEP[subtype]  # readers divide by 2^k, the symmetric scale is 2^k - 1
    np.testing.assert_allclose(read, audio, atol=STEP[subtype] * 0.501)


def test_exact_bytes_of_a_16_bit_file(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    write(path, np.array([0.0, 1.0, -1.0, 0.5, 1.6 / 32767, -1.6 / 32767]))
    assert path.read_bytes() == (
        b"RIFF" + struct.pack("<I", 36 + 12) + b"WAVE"
        b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, 16000, 32000, 2, 16) +
        b"data" + struct.pack("<I", 12) +
        struct.pack("<6h", 0, 32767, -32767, 16384, 2, -2)
    )  # fmt: skip


def test_standard_library_reads_it_and_odd_lengths_are_padded(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    write(path, quiet_tone(3), subtype="pcm24")
    data = path.read_bytes()
    assert len(data) % 2 == 0
    assert struct.unpack("<I", data[4:8])[0] == len(data) - 8
    with wave.open(str(path)) as file:
        assert (file.getnframes(), file.getsampwidth(), file.getframerate()) == (3, 3, 16000)


@pytest.mark.parametrize(("file_format", "subtype"), COMBINATIONS)
def test_equal_samples_give_equal_bytes(
    tmp_path: Path, file_format: str, subtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    audio = quiet_tone(5000)
    write(tmp_path / "a", audio, file_format=file_format, subtype=subtype)
    monkeypatch.setattr("time.time", lambda: 2e9)
    write(tmp_path / "b", *np.array_split(audio, 5), file_format=file_format, subtype=subtype)
    first, second = (hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in "ab")
    assert first == second
    assert b"PEAK" not in (tmp_path / "a").read_bytes()[:200]


@settings(max_examples=40, deadline=None)
@given(values=st.lists(st.floats(-3, 3, width=32), max_size=30), data=st.data())
def test_levels_and_clipping(
    values: list[float], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    audio = np.array(values, dtype=np.float32)
    cut = data.draw(st.integers(0, len(values)))
    path = tmp_path_factory.mktemp("w") / "a.wav"
    levels = write(path, audio[:cut], audio[cut:]).levels
    assert levels.n_samples == len(values)
    assert levels.n_clipped == sum(abs(v) > 1 for v in values)
    assert levels.peak == max((abs(v) for v in values), default=0.0)
    read = soundfile.read(path, dtype="int16")[0]
    assert read.tolist() == [round(float(np.clip(v, -1, 1)) * 32767) for v in audio.astype(np.float64)]
    assert write(path, audio, subtype="float", overwrite=True).levels.n_clipped == 0
    np.testing.assert_array_equal(soundfile.read(path, dtype="float32")[0], audio)


@pytest.mark.parametrize("subtype", ["pcm16", "pcm24", "float"])
def test_samples_that_are_no_numbers_become_silence(tmp_path: Path, subtype: str) -> None:
    path = tmp_path / "a.wav"
    levels = write(path, np.array([0.5, np.nan, np.inf, -np.inf, 0.25]), subtype=subtype).levels
    assert (levels.n_not_finite, levels.n_clipped, levels.peak) == (3, 0, 0.5)
    read = soundfile.read(path)[0]
    np.testing.assert_allclose(read, [0.5, 0, 0, 0, 0.25], atol=1e-4)


@pytest.mark.parametrize(("file_format", "subtype"), COMBINATIONS)
@pytest.mark.parametrize("rate_hz", [44_100, 48_000])
def test_stereo_at_other_rates_reads_back(tmp_path: Path, file_format: str, subtype: str, rate_hz: int) -> None:
    path = tmp_path / f"out.{file_format}"
    audio = np.stack([quiet_tone(), 0.5 * quiet_tone()[::-1]], axis=1)
    levels = write(
        path, audio[:10], audio[10:], file_format=file_format, subtype=subtype, sample_rate_hz=rate_hz, n_channels=2
    ).levels
    assert (levels.n_samples, levels.peak) == (1001, np.abs(audio).max())
    info = soundfile.info(path)
    assert (info.samplerate, info.channels, info.frames) == (rate_hz, 2, 1001)
    read = soundfile.read(path, dtype="float64")[0]
    if subtype != "float":
        read = read * FULL_SCALE[subtype] * STEP[subtype]
    np.testing.assert_allclose(read, audio, atol=STEP[subtype] * 0.501)


def test_exact_bytes_of_a_stereo_header(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    write(path, np.array([[0.0, 1.0], [-1.0, 0.5]]), sample_rate_hz=44_100, n_channels=2)
    assert path.read_bytes() == (
        b"RIFF" + struct.pack("<I", 36 + 8) + b"WAVE"
        b"fmt " + struct.pack("<IHHIIHH", 16, 1, 2, 44100, 4 * 44100, 4, 16) +
        b"data" + struct.pack("<I", 8) +
        struct.pack("<4h", 0, 32767, -32767, 16384)
    )  # fmt: skip
    stream = io.BytesIO()
    with StreamWriter(stream, sample_rate_hz=44_100, n_channels=2) as writer:
        writer.write(np.array([[0.0, 1.0], [-1.0, 0.5]]))
        writer.settle()
    assert stream.getvalue()[8:40] == path.read_bytes()[8:40]
    assert stream.getvalue()[44:] == path.read_bytes()[44:]


def test_takes_torch_tensors_and_refuses_other_shapes(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    write(tmp_path / "a.wav", torch.zeros(10))
    with pytest.raises(ValueError, match="mono"):
        write(tmp_path / "b.wav", np.zeros((10, 2)))
    for wrong in (np.zeros(10), np.zeros((10, 3))):
        with pytest.raises(ValueError, match=r"\(n, 2\)"):
            write(tmp_path / "b.wav", wrong, n_channels=2)
    assert listing(tmp_path) == ["a.wav"]


def test_more_than_4_gb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = encoding.Layout(Subtype.PCM16)
    longest = encoding.max_wav_samples(layout)
    assert encoding.max_wav_samples(replace(layout, n_channels=2)) == longest // 2
    assert 2**32 - 8 < 8 + 36 + 2 * longest < 2**32 + 6  # sizes in a RIFF header leave out its first 8 bytes
    with pytest.raises(OutputError, match="4 GB.*flac"):
        AtomicWriter(tmp_path / "a.wav", expected_samples=2**31)
    AtomicWriter(tmp_path / "a.flac", file_format="flac", expected_samples=2**31)
    monkeypatch.setattr(encoding, "MAX_RIFF_BYTES", 5000)
    with pytest.raises(OutputError, match="4 GB"):
        write(tmp_path / "a.wav", *[quiet_tone()] * 5)
    assert listing(tmp_path) == []


def test_formats_that_do_not_exist(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="FLAC cannot hold float"):
        AtomicWriter(tmp_path / "a", file_format="flac", subtype="float")
    with pytest.raises(UsageError, match="format aac: is not one of wav, flac"):
        AtomicWriter(tmp_path / "a", file_format="aac")
    with pytest.raises(UsageError, match="subtype pcm8: is not one of pcm16"):
        StreamWriter(io.BytesIO(), subtype="pcm8")
    with pytest.raises(UsageError, match="mp3 has no sample format"):
        StreamWriter(io.BytesIO(), file_format="mp3", subtype="pcm24")


def test_write_needs_the_block(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="outside"):
        AtomicWriter(tmp_path / "a").write(quiet_tone())


@pytest.mark.parametrize("subtype", ["pcm16", "pcm24", "float"])
def test_stream_can_be_read(subtype: str, tmp_path: Path) -> None:
    stream = io.BytesIO()
    with StreamWriter(stream, subtype=subtype) as writer:
        header = stream.getvalue()
        assert header[:8] == b"RIFF\xff\xff\xff\xff"
        assert header[-8:] == b"data\xff\xff\xff\xff"
        writer.write(quiet_tone())
        writer.write(quiet_tone()[:0])
    assert writer.levels.n_samples == 1001
    write(tmp_path / "a.wav", quiet_tone(), subtype=subtype)
    with soundfile.SoundFile(io.BytesIO(stream.getvalue())) as file:
        np.testing.assert_array_equal(file.read(1001), soundfile.read(tmp_path / "a.wav")[0])


def test_reader_that_goes_away_is_told_apart() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "wb", buffering=0) as stream:
        with pytest.raises(ReaderGone), StreamWriter(stream) as writer:
            writer.write(quiet_tone())
    assert issubclass(ReaderGone, BrokenPipeError)
    assert not issubclass(ReaderGone, OutputError)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_stream_to_a_full_disk() -> None:
    with open("/dev/full", "wb", buffering=0) as stream, pytest.raises(OutputError, match="No space left"):
        with StreamWriter(stream) as writer:
            writer.write(quiet_tone())


def test_terminal_is_refused() -> None:
    class Terminal(io.BytesIO):
        def isatty(self) -> bool:
            return True

    with pytest.raises(UsageError, match="terminal"):
        StreamWriter(Terminal())


def test_writer_needs_no_torch() -> None:
    code = "import sys, specdiff_cli.audio.wav; sys.exit('torch' in sys.modules or 'soundfile' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
