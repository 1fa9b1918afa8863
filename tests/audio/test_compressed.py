"""Ogg Vorbis, Opus and MP3: what is read back, what their tags say, and that damage is seen."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from file_limits import largest_file

from specdiff_cli.audio.compression import Compression
from specdiff_cli.audio.record import AudioFileError, find_problem, inspect_audio, read_record
from specdiff_cli.audio.wav import AtomicWriter, ReaderGone, StreamWriter
from specdiff_cli.errors import OutputError, UsageError

LOSSY = ["ogg", "opus", "mp3"]
SUBTYPES = {"ogg": "VORBIS", "opus": "OPUS", "mp3": "MPEG_LAYER_III"}
RECORD = {"program": "specdiff", "input": {"name": "bad \udcff byte é.mid"}, "note": "x" * 300}


def chord(n_samples: int = 24_123, rate_hz: int = 16_000) -> np.ndarray:
    t = np.arange(n_samples) / rate_hz
    partials = [np.sin(2 * np.pi * hz * t) for hz in (220.0, 277.2, 329.6)]
    chord: np.ndarray = (0.2 * np.sum(partials, axis=0)).astype(np.float32)
    return chord


def write(path: Path, file_format: str, audio: np.ndarray | None = None, **options: object) -> None:
    samples = chord() if audio is None else audio
    with AtomicWriter(path, file_format=file_format, **{"record": RECORD, **options}) as writer:  # type: ignore[arg-type]
        writer.write(samples[: len(samples) // 3])
        writer.write(samples[len(samples) // 3 :])


@pytest.mark.parametrize("file_format", LOSSY)
def test_what_is_read_back_is_close_and_as_long(tmp_path: Path, file_format: str) -> None:
    path = tmp_path / "a"
    write(path, file_format)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]
    with soundfile.SoundFile(path) as file:
        assert (file.samplerate, file.channels, file.frames) == (16_000, 1, len(chord()))
        assert file.subtype == SUBTYPES[file_format]
        decoded = file.read(dtype="float32")
    assert len(decoded) == len(chord())
    error = decoded - chord()
    signal_to_noise_db = 10 * np.log10(np.mean(chord() ** 2) / np.mean(error**2))
    assert signal_to_noise_db > 12  # in step to the sample: one sample of delay would leave 14 dB less
    assert path.stat().st_size < 2 * len(chord()) / 2


@pytest.mark.parametrize("file_format", LOSSY)
def test_stereo_at_48_khz(tmp_path: Path, file_format: str) -> None:
    left = chord(48_000, 48_000)
    audio = np.stack([left, -0.1 * left], axis=1)
    write(tmp_path / "a", file_format, audio, n_channels=2, sample_rate_hz=48_000)
    decoded, rate_hz = soundfile.read(tmp_path / "a")
    assert rate_hz == 48_000
    assert decoded.shape == audio.shape
    assert np.std(decoded[:, 1]) == pytest.approx(0.1 * np.std(left), rel=0.1)
    assert np.corrcoef(decoded[:, 0], left)[0, 1] > 0.95


@pytest.mark.parametrize("file_format", LOSSY)
def test_the_record_is_read_by_others_and_vouches_for_the_audio(tmp_path: Path, file_format: str) -> None:
    path = tmp_path / "a"
    write(path, file_format)
    with soundfile.SoundFile(path) as file:
        theirs = json.loads(file.comment)
    record = read_record(path)
    assert record is not None
    assert record == theirs
    assert record["samples"] == len(chord())
    assert record["input"] == RECORD["input"]
    assert find_problem(path, record) is None
    shown = inspect_audio(path)
    assert (shown.n_samples, shown.problem) == (len(chord()), None)


@pytest.mark.parametrize("file_format", LOSSY)
def test_damage_is_seen(tmp_path: Path, file_format: str) -> None:
    path = tmp_path / "a"
    write(path, file_format)
    record = read_record(path)
    assert record is not None
    whole = path.read_bytes()
    audio_at = len(whole) - record["audio_bytes"]
    for at in (audio_at, (audio_at + len(whole)) // 2, len(whole) - 1):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        assert find_problem(path, record) == "its audio is not what was written"
    for n_bytes in (audio_at + 1, len(whole) - 1):
        path.write_bytes(whole[:n_bytes])
        assert str(find_problem(path, record)).startswith("it is cut off")
    path.write_bytes(whole + b"TAG" + bytes(125))  # a tag that another program appended
    assert find_problem(path, record) is None


@pytest.mark.parametrize("file_format", ["ogg", "opus"])
def test_a_flipped_bit_in_the_header_of_an_ogg_file_is_seen(tmp_path: Path, file_format: str) -> None:
    path = tmp_path / "a"
    write(path, file_format)
    record = read_record(path)
    assert record is not None
    whole = path.read_bytes()
    for at in range(0, len(whole) - record["audio_bytes"], 41):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert find_problem(path, record) is not None, at


@pytest.mark.parametrize("file_format", LOSSY)
def test_equal_audio_and_record_give_equal_bytes(tmp_path: Path, file_format: str) -> None:
    for name in ("a", "b"):
        write(tmp_path / name, file_format)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("file_format", LOSSY)
def test_a_disk_that_is_full_at_any_byte_leaves_nothing(tmp_path: Path, file_format: str) -> None:
    path = tmp_path / "a"
    write(path, file_format)
    n_bytes = path.stat().st_size
    path.unlink()
    for limit in [*range(0, n_bytes, n_bytes // 12), n_bytes - 1]:
        with largest_file(limit), pytest.raises(OutputError, match="File too large"):
            write(path, file_format)
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("file_format", LOSSY)
def test_an_abandoned_or_empty_file_leaves_nothing(tmp_path: Path, file_format: str) -> None:
    with pytest.raises(KeyboardInterrupt), AtomicWriter(tmp_path / "a", file_format=file_format) as writer:
        writer.write(chord())
        raise KeyboardInterrupt
    with pytest.raises(OutputError, match="no audio"):
        write(tmp_path / "a", file_format, chord(0))
    assert list(tmp_path.iterdir()) == []


def test_long_records(tmp_path: Path) -> None:
    record = {**RECORD, "note": "y" * 40_000}
    for file_format in LOSSY:
        path = tmp_path / file_format
        write(path, file_format, record=record)
        found = read_record(path)
        assert found is not None
        assert found["note"] == record["note"]
        assert find_problem(path, found) is None
        assert len(soundfile.read(path)[0]) == len(chord())
    with pytest.raises(OutputError, match="too many for an Ogg file"):
        write(tmp_path / "b", "ogg", record={**RECORD, "note": "y" * 70_000})
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("file_format", ["flac", *LOSSY])
def test_pipes_get_the_same_audio(tmp_path: Path, file_format: str) -> None:
    read_end, write_end = os.pipe()
    # a reader of its own: what is written does not fit into the pipe
    with subprocess.Popen(["cat"], stdin=read_end, stdout=subprocess.PIPE) as cat:
        os.close(read_end)
        with os.fdopen(write_end, "wb") as pipe, StreamWriter(pipe, file_format=file_format) as writer:
            writer.write(chord()[: len(chord()) // 3])  # as write() below: Vorbis looks ahead in what it has
            writer.write(chord()[len(chord()) // 3 :])
        assert cat.stdout is not None
        received = cat.stdout.read()
    write(tmp_path / "a", file_format)
    expected = soundfile.read(tmp_path / "a")[0]
    if file_format == "flac":  # libsndfile does not read FLAC of unknown length; others do
        length = bytearray(received)
        length[22:26] = len(chord()).to_bytes(4, "big")
        received = bytes(length)
    (tmp_path / "b").write_bytes(received)
    with soundfile.SoundFile(tmp_path / "b") as file:
        decoded = file.read(len(chord()))
    if file_format == "mp3":  # only the note in front, which a pipe cannot get, says how much silence the encoder added
        start = int(np.argmax(np.correlate(decoded, expected[:4000], "valid")))
        assert 0 < start < 3000
        decoded, expected = decoded[start:], expected[: len(decoded) - start]
    np.testing.assert_allclose(decoded, expected, atol=2e-4)


def test_audio_reaches_the_pipe_before_it_is_complete() -> None:
    for file_format in LOSSY:
        stream = io.BytesIO()
        with StreamWriter(stream, file_format=file_format) as writer:
            writer.write(chord(80_000))
            n_early = len(stream.getvalue())
            writer.write(chord(8_000))
        assert n_early > 0.6 * len(stream.getvalue())


@pytest.mark.parametrize("file_format", LOSSY)
def test_a_reader_that_goes_away_is_told_apart(file_format: str) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "wb", buffering=0) as pipe:
        with pytest.raises(ReaderGone), StreamWriter(pipe, file_format=file_format) as writer:
            writer.write(chord(200_000))


@pytest.mark.parametrize("file_format", LOSSY)
def test_higher_quality_takes_more_bytes_and_is_closer(tmp_path: Path, file_format: str) -> None:
    noise = (0.1 * np.random.default_rng(1).standard_normal(32_000)).astype(np.float32)
    sizes, errors = [], []
    for quality in (0.0, 5.0, 10.0):
        path = tmp_path / f"{quality}"
        write(path, file_format, noise, compression=Compression(quality=quality))
        sizes.append(path.stat().st_size)
        errors.append(float(np.mean((soundfile.read(path)[0] - noise) ** 2)))
    assert sizes == sorted(sizes)
    assert sizes[2] > 1.5 * sizes[0]
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize(
    ("file_format", "rate_hz", "kbps"),
    [("mp3", 16_000, 64), ("mp3", 44_100, 192), ("mp3", 16_000, 8), ("opus", 16_000, 64), ("opus", 48_000, 96)],
)
def test_bit_rates_are_kept(tmp_path: Path, file_format: str, rate_hz: int, kbps: int) -> None:
    noise = (0.1 * np.random.default_rng(1).standard_normal(6 * rate_hz)).astype(np.float32)
    compression = Compression(bit_rate_kbps=kbps)
    options = {"sample_rate_hz": rate_hz, "compression": compression}
    write(tmp_path / "a", file_format, noise[: 2 * rate_hz], **options)
    write(tmp_path / "b", file_format, noise, **options)
    n_bytes = (tmp_path / "b").stat().st_size - (tmp_path / "a").stat().st_size  # without headers
    assert n_bytes * 8 / 4 / 1000 == pytest.approx(kbps, rel=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"file_format": "ogg", "compression": Compression(bit_rate_kbps=96)}, "Vorbis has no fixed bit rate"),
        ({"file_format": "opus", "sample_rate_hz": 44_100}, "Opus has no sample rate of 44100 Hz"),
        ({"file_format": "opus", "compression": Compression(bit_rate_kbps=300)}, "6 to 256 kbit/s"),
        ({"file_format": "mp3", "sample_rate_hz": 96_000}, "MP3 has no sample rate of 96000 Hz"),
        ({"file_format": "mp3", "compression": Compression(bit_rate_kbps=320)}, "bit rates of 8, 16, .* not 320"),
        ({"file_format": "flac", "compression": Compression(quality=5)}, "flac loses nothing"),
        ({"file_format": "wav", "compression": Compression(bit_rate_kbps=5)}, "wav loses nothing"),
        ({"file_format": "ogg", "subtype": "float"}, "ogg has no sample format"),
    ],
)
def test_what_a_format_does_not_have_is_refused_before_any_work(
    tmp_path: Path, options: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        AtomicWriter(tmp_path / "a", **options)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=message):
        StreamWriter(io.BytesIO(), **options)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_qualities_out_of_range_are_refused() -> None:
    for quality in (-0.1, 10.1, float("nan")):
        with pytest.raises(UsageError, match="^quality "):
            Compression(quality=quality)
    with pytest.raises(UsageError, match="give one of them"):
        Compression(quality=5, bit_rate_kbps=64)


def test_whatever_the_bytes_a_file_is_shown_or_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    for file_format in LOSSY:
        path = tmp_path / file_format
        write(path, file_format, chord(4000))
        whole = path.read_bytes()
        for _ in range(60):
            damaged = bytearray(whole[: int(rng.integers(1, len(whole)))] if rng.random() < 0.3 else whole)
            for at in rng.integers(0, len(damaged), 3):
                damaged[at] = rng.integers(256)
            path.write_bytes(bytes(damaged))
            try:
                inspect_audio(path)
            except AudioFileError:
                continue


def test_writers_need_no_libsndfile_until_they_write() -> None:
    code = "import sys, specdiff_cli.audio.compressed; sys.exit('soundfile' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
