"""One gain for a whole file: the level is reached, nothing is left behind, and failures are told."""

import io
import math
import os
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from file_limits import largest_file

from specdiff_cli.audio.loudness import LoudnessMeter
from specdiff_cli.audio.normalise import NormalisingWriter, Target, parse_normalise
from specdiff_cli.audio.wav import AtomicWriter, ReaderGone, StreamWriter
from specdiff_cli.errors import OutputError, UsageError

RNG = np.random.default_rng(0)


def tune(peak: float, rate_hz: int = 16_000, n_channels: int = 1) -> np.ndarray:
    """Two seconds of a tone with a little noise, and of exactly this peak."""
    time_s = np.arange(2 * rate_hz) / rate_hz
    audio = np.sin(2 * np.pi * 440 * time_s)[:, None] + RNG.normal(0, 0.02, (len(time_s), n_channels))
    audio *= peak / np.abs(audio).max()
    return (audio if n_channels > 1 else audio[:, 0]).astype(np.float32)


def write(path: Path, text: str, *pieces: np.ndarray, **options: object) -> NormalisingWriter:
    inner = AtomicWriter(path, **options)  # type: ignore[arg-type]
    with NormalisingWriter(inner, parse_normalise(text), path.parent) as writer:
        for piece in pieces:
            writer.write(piece)
    return writer


def loudness_of(path: Path) -> float:
    audio, rate_hz = soundfile.read(path)
    meter = LoudnessMeter(rate_hz, 1 if audio.ndim == 1 else audio.shape[1])
    meter.push(audio)
    return meter.finish()


@pytest.mark.parametrize(
    ("text", "target", "shown"),
    [
        ("-1dBFS", Target(-1.0, "dBFS"), "-1dBFS"),
        ("-16LUFS", Target(-16.0, "LUFS"), "-16LUFS"),
        ("  -0.5 dbfs ", Target(-0.5, "dBFS"), "-0.5dBFS"),
        ("-23.0lufs", Target(-23.0, "LUFS"), "-23LUFS"),
        ("0dBFS", Target(0.0, "dBFS"), "0dBFS"),
        ("-0dBFS", Target(0.0, "dBFS"), "0dBFS"),
        ("LUFS", Target(-16.0, "LUFS"), "-16LUFS"),
        ("dBFS", Target(-1.0, "dBFS"), "-1dBFS"),
    ],
)
def test_levels_that_can_be_asked_for(text: str, target: Target, shown: str) -> None:
    assert parse_normalise(text) == target
    assert str(parse_normalise(text)) == shown
    assert parse_normalise(shown) == target


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is no level; give a peak such as -1dBFS or a loudness such as -16LUFS"),
        ("-3", "of what? -3LUFS is a loudness, -3dBFS the highest peak"),
        ("loud", "is no level"),
        ("-1dB", "is no level"),
        ("nanLUFS", "is no level"),
        ("1e9LUFS", "is no level"),
        ("٣LUFS", "is no level"),
        ("3dBFS", "must be between -60 and 0 dBFS"),
        ("-61dBFS", "must be between -60 and 0 dBFS"),
        ("-1LUFS", "must be between -60 and -5 LUFS"),
    ],
)
def test_levels_that_cannot(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=re.escape(words)) as caught:
        parse_normalise(text)
    assert str(caught.value).startswith(f"normalize {text or repr(text)}: ")


@pytest.mark.parametrize("peak", [0.01, 0.5, 3.0])
@pytest.mark.parametrize("n_channels", [1, 2])
def test_a_peak_is_reached(tmp_path: Path, peak: float, n_channels: int) -> None:
    audio = tune(peak, n_channels=n_channels)
    writer = write(
        tmp_path / "a.wav", "-1dBFS", audio[:7], audio[:0], audio[7:], subtype="float", n_channels=n_channels
    )
    read = soundfile.read(tmp_path / "a.wav")[0]
    gain = 10 ** (-1 / 20) / peak
    np.testing.assert_allclose(read, audio * gain, rtol=1e-5)
    assert np.abs(read).max() == pytest.approx(0.891251, abs=1e-5)
    assert (writer.levels.n_samples, writer.levels.n_clipped) == (len(audio), 0)
    assert writer.message == f"normalised to a peak of -1 dBFS ({20 * math.log10(gain):+.1f} dB)"
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


def test_full_scale_clips_nothing(tmp_path: Path) -> None:
    for seed in range(20):
        peak = float(np.random.default_rng(seed).uniform(0.1, 3))
        writer = write(tmp_path / f"{seed}.wav", "0dBFS", tune(peak)[:100])
        assert writer.levels.n_clipped == 0
        assert np.abs(soundfile.read(tmp_path / f"{seed}.wav", dtype="int16")[0]).max() == 32767


@pytest.mark.parametrize(("rate_hz", "n_channels"), [(16_000, 1), (44_100, 2)])
def test_a_loudness_is_reached(tmp_path: Path, rate_hz: int, n_channels: int) -> None:
    audio = tune(0.05, rate_hz, n_channels)
    options = {"sample_rate_hz": rate_hz, "n_channels": n_channels}
    writer = write(tmp_path / "a.flac", "-20LUFS", audio, file_format="flac", **options)
    assert loudness_of(tmp_path / "a.flac") == pytest.approx(-20, abs=0.05)
    assert writer.message is not None
    assert writer.message.startswith("normalised to -20 LUFS (+")


def drum(rate_hz: int, n_channels: int) -> np.ndarray:
    """Four seconds of a soft tone with two blows a second that reach 18 dB above it."""
    time_s = np.arange(4 * rate_hz) / rate_hz
    blows = 0.4 * np.exp(-(time_s % 0.5) / 0.02) * np.sin(2 * np.pi * 180 * time_s)
    audio = 0.05 * np.sin(2 * np.pi * 440 * time_s) + blows
    return (np.stack([audio, 0.5 * audio], axis=1) if n_channels == 2 else audio).astype(np.float32)


@pytest.mark.parametrize("level", [-14, -16, -23])
@pytest.mark.parametrize(("rate_hz", "n_channels"), [(16_000, 1), (44_100, 2)])
def test_a_loudness_is_reached_by_limiting_peaks(tmp_path: Path, level: int, rate_hz: int, n_channels: int) -> None:
    audio = drum(rate_hz, n_channels)
    options = {"sample_rate_hz": rate_hz, "n_channels": n_channels, "subtype": "float"}
    writer = write(tmp_path / "a.wav", f"{level}LUFS", *np.array_split(audio, 9), **options)
    read = soundfile.read(tmp_path / "a.wav")[0]
    assert loudness_of(tmp_path / "a.wav") == pytest.approx(level, abs=0.06)
    assert np.abs(read).max() <= 10 ** (-1 / 20) * (1 + 1e-6)
    assert len(read) == len(audio)
    assert writer.message is not None
    told = re.fullmatch(
        rf"normalised to {level} LUFS \(([+-][0-9.]+) dB(, its peaks limited by up to ([0-9.]+) dB in [0-9.]+ % of the "
        r"time)?\)",
        writer.message,
    )
    assert told is not None
    gain_db = 20 * math.log10(np.abs(read[-100:]).max() / np.abs(audio[-100:]).max())  # nothing is limited there
    assert gain_db == pytest.approx(float(told[1]), abs=0.06)
    if told[3]:
        most_db = 20 * math.log10(np.abs(audio).max()) + gain_db + 1
        assert most_db == pytest.approx(float(told[3]), abs=0.3)
    assert bool(told[3]) == (level > -20)


def test_a_click_does_not_decide_and_that_is_told(tmp_path: Path) -> None:
    audio = tune(0.002)
    audio[5_000] = 0.5
    writer = write(tmp_path / "a.wav", "-14LUFS", audio, subtype="float")
    assert np.abs(soundfile.read(tmp_path / "a.wav")[0]).max() == pytest.approx(10 ** (-1 / 20), abs=1e-4)
    reached = loudness_of(tmp_path / "a.wav")
    assert writer.message is not None
    assert writer.message.startswith(
        f"normalised to {reached:.1f} LUFS (+29.0 dB, its peaks limited by up to 24.0 dB in "
    )
    assert writer.message.endswith("% of the time): for -14 LUFS they would have to be limited by more than 24 dB")


def test_loops_are_not_limited_and_that_is_told(tmp_path: Path) -> None:
    audio = tune(0.02)
    audio[5_000] = 0.5
    inner = AtomicWriter(tmp_path / "a.wav", subtype="float")
    with NormalisingWriter(inner, parse_normalise("-14LUFS"), tmp_path, limits=False) as writer:
        writer.write(audio)
    read = soundfile.read(tmp_path / "a.wav")[0]
    np.testing.assert_allclose(read, audio * 10 ** (-1 / 20) / 0.5, atol=1e-6)
    reached = loudness_of(tmp_path / "a.wav")
    assert writer.message == (
        f"normalised to {reached:.1f} LUFS (+5.0 dB): at -14 LUFS its peaks would exceed -1 dBFS, and loops are not "
        "limited"
    )


@pytest.mark.parametrize("text", ["-1dBFS", "-16LUFS"])
def test_silence_is_left_as_it_is_and_that_is_told(tmp_path: Path, text: str) -> None:
    for number, audio in enumerate((np.zeros(0), np.zeros(20_000), np.full(20_000, 1e-6))):
        writer = write(tmp_path / f"{number}.wav", text, audio, subtype="float")
        np.testing.assert_array_equal(soundfile.read(tmp_path / f"{number}.wav")[0], audio.astype(np.float32))
        assert writer.message == "is silent: not normalised"


def test_a_murmur_has_no_loudness(tmp_path: Path) -> None:
    writer = write(tmp_path / "a.wav", "-16LUFS", np.full(20_000, 1e-4), subtype="float")  # a constant is not heard
    assert writer.message == "is quieter than -70 LUFS: not normalised"


def test_samples_that_are_no_numbers_do_not_decide(tmp_path: Path) -> None:
    audio = tune(0.25)
    audio[3:5] = np.nan, np.inf
    writer = write(tmp_path / "a.wav", "-1dBFS", audio)
    assert np.abs(soundfile.read(tmp_path / "a.wav")[0]).max() == pytest.approx(0.891, abs=1e-3)
    assert writer.levels.n_not_finite == 2


def test_the_record_vouches_for_what_was_written(tmp_path: Path) -> None:
    from specdiff_cli.audio.record import find_problem, read_record

    write(tmp_path / "a.wav", "-3dBFS", tune(0.1), record={"program": "specdiff"}, expected_samples=32_000)
    record = read_record(tmp_path / "a.wav")
    assert record is not None
    assert find_problem(tmp_path / "a.wav", record) is None


def test_a_pipe_gets_it_all_at_the_end(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with NormalisingWriter(StreamWriter(stream), parse_normalise("-1dBFS"), tmp_path) as writer:
        writer.write(tune(0.1))
        assert len(stream.getvalue()) == 44
        if os.name == "posix":
            assert list(tmp_path.iterdir()) == []  # the temporary file has no name
    assert np.abs(np.frombuffer(stream.getvalue()[44:], "<i2")).max() == round(32767 * 10 ** (-1 / 20))


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, OutputError])
def test_any_exception_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    inner = AtomicWriter(tmp_path / "a.wav")
    with pytest.raises(error), NormalisingWriter(inner, parse_normalise("-1dBFS"), tmp_path) as writer:
        writer.write(tune(0.1))
        raise error
    assert list(tmp_path.iterdir()) == []


def test_settling_completes_all_but_the_name(tmp_path: Path) -> None:
    with NormalisingWriter(AtomicWriter(tmp_path / "a.wav"), parse_normalise("-1dBFS"), tmp_path) as writer:
        writer.write(tune(0.1))
        writer.settle()
        assert writer.message is not None
        assert not (tmp_path / "a.wav").exists()
        with pytest.raises(ValueError, match="after settle"):
            writer.write(tune(0.1))
        writer.settle()
    assert soundfile.info(tmp_path / "a.wav").frames == 32_000


@pytest.mark.parametrize("limit", [0, 30, 5_000, 100_000, 127_999])  # 128 000 bytes wait, 64 044 are written
def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path, limit: int) -> None:
    with largest_file(limit), pytest.raises(OutputError, match="File too large"):
        write(tmp_path / "a.wav", "-1dBFS", *np.array_split(tune(0.1), 7))
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_for_the_waiting_audio_alone(tmp_path: Path) -> None:
    audio = tune(0.1)
    with largest_file(100_000), pytest.raises(OutputError, match="cannot keep the audio for normalize in .*: File"):
        with NormalisingWriter(StreamWriter(io.BytesIO()), parse_normalise("-1dBFS"), tmp_path) as writer:
            writer.write(audio)
    with pytest.raises(OutputError, match="cannot keep the audio for normalize in .*: No such file"):
        with NormalisingWriter(StreamWriter(io.BytesIO()), parse_normalise("-1dBFS"), tmp_path / "missing"):
            pass


def test_a_reader_that_goes_away_is_told_apart(tmp_path: Path) -> None:
    class Gone(io.BytesIO):
        def write(self, data: object) -> int:
            if self.tell():
                raise BrokenPipeError
            return super().write(data)  # type: ignore[arg-type]

    with pytest.raises(ReaderGone):
        with NormalisingWriter(StreamWriter(Gone()), parse_normalise("-1dBFS"), tmp_path) as writer:
            writer.write(tune(0.1))
