"""Any audio file as 16 kHz mono."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from specdiff_cli.audio.record import AudioFileError
from specdiff_cli.audio.source import AudioSource


def tone(frequency_hz: float, rate_hz: int, duration_s: float = 2.5) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * frequency_hz * np.arange(round(duration_s * rate_hz)) / rate_hz)


def read(path: Path, max_duration_s: float = 1e9) -> np.ndarray:
    with AudioSource(path, max_duration_s) as source:
        audio = np.concatenate(list(source.blocks()))
        assert source.n_samples == len(audio)
    assert audio.dtype == np.float32
    return audio


@pytest.mark.parametrize("rate_hz", [8000, 16000, 22050, 44100, 48000, 96000])
def test_a_tone_stays_the_same_tone_at_any_rate(tmp_path: Path, rate_hz: int) -> None:
    soundfile.write(tmp_path / "in.wav", tone(1000, rate_hz), rate_hz, subtype="FLOAT")
    audio = read(tmp_path / "in.wav")
    assert audio.shape == (40000,)
    np.testing.assert_allclose(audio[2000:-2000], tone(1000, 16000)[2000:-2000], atol=2e-4)


def test_what_lies_above_8_khz_is_filtered_not_folded(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "in.wav", tone(10_000, 44100), 44100)  # would fold to 6 kHz
    assert np.abs(read(tmp_path / "in.wav")[2000:-2000]).max() < 1e-3


@pytest.mark.parametrize("rate_hz", [16000, 44100])
def test_channels_are_averaged(tmp_path: Path, rate_hz: int) -> None:
    left = tone(500, rate_hz)
    soundfile.write(tmp_path / "in.flac", np.stack([left, 0.5 * left, 0 * left], axis=1), rate_hz)
    np.testing.assert_allclose(read(tmp_path / "in.flac")[2000:-2000], 0.5 * tone(500, 16000)[2000:-2000], atol=3e-4)


@pytest.mark.parametrize(("rate_hz", "n_in", "n_out"), [(44100, 1, 0), (44100, 3, 1), (48000, 100, 33), (16000, 7, 7)])
def test_lengths_of_a_few_samples(tmp_path: Path, rate_hz: int, n_in: int, n_out: int) -> None:
    soundfile.write(tmp_path / "in.wav", np.full(n_in, 0.5), rate_hz)
    if n_out == 0:
        with pytest.raises(AudioFileError, match="holds no audio"):
            read(tmp_path / "in.wav")
    else:
        assert len(read(tmp_path / "in.wav")) == n_out


def write_bad(folder: Path, kind: str) -> Path:
    path = folder / f"{kind}.wav"
    samples = tone(100, 16000)
    if kind == "nan":
        samples[32000] = np.nan
    if kind == "empty":
        samples = samples[:0]
    soundfile.write(path, samples, 16000, subtype="FLOAT")
    if kind == "text":
        path.write_text("not audio")
    if kind == "missing":
        path.unlink()
    if kind == "folder":
        path.unlink()
        path.mkdir()
    if kind == "slow":
        soundfile.write(path, samples, 10)
    return path


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("nan", r"holds samples that are not numbers, the first at 2.000 s"),
        ("empty", "holds no audio"),
        ("text", r"is not an audio file that can be read \(Format not recognised\)"),
        ("missing", "does not exist"),
        ("folder", "cannot be read"),
        ("slow", "sample rate of 10 Hz"),
        ("long", "is longer than 2 seconds; raise max_duration"),
    ],
)
def test_bad_files_are_told_in_one_line(tmp_path: Path, kind: str, words: str) -> None:
    path = write_bad(tmp_path, kind)
    with pytest.raises(AudioFileError, match=words) as caught:
        read(path, 2 if kind == "long" else 10)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
