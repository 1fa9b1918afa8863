from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from command_line import only_line, specdiff
from random_voices import write_voice_folder
from safetensors.torch import save_file
from typer.testing import Result

from specdiff_cli.audio.mel import log_mel
from specdiff_cli.audio.resample import Resampler
from specdiff_cli.audio.spectral import SpectralConfig, SpectralNetwork
from specdiff_cli.constants import LOG_MEL_MIN
from specdiff_cli.rendering.vocode import pass_through


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def chord(duration_s: float, rate_hz: int = 16000) -> np.ndarray:
    t = np.arange(round(duration_s * rate_hz)) / rate_hz
    return sum(0.1 * np.sin(2 * np.pi * f * t) for f in (220, 277.2, 329.6, 440)) * np.exp(-t)


def run(*arguments: str | Path) -> Result:
    return specdiff("vocode", *arguments)


def log_mel_distance(one: np.ndarray, other: np.ndarray, quietest: float = -20.0) -> float:
    """Mean difference where the first is louder than ``quietest``."""
    mels = [log_mel(torch.from_numpy(np.ascontiguousarray(audio)).float()) for audio in (one, other)]
    return float((mels[0] - mels[1])[mels[0] > quietest].abs().mean())


def test_audio_comes_back_as_long_and_alike_and_the_summary_says_how_much(folder: Path) -> None:
    recording = chord(1.013) + 0.01 * np.random.default_rng(0).standard_normal(16208)
    soundfile.write("in.wav", recording, 16000, subtype="FLOAT")
    result = run("in.wav", "-o", "out.wav", "--subtype", "float")
    assert result.exit_code == 0, result.stderr
    made, rate_hz = soundfile.read("out.wav")
    assert (rate_hz, made.shape) == (16000, recording.shape)
    summary = only_line(result)
    for part in ("out.wav: 0:01 of audio in", "× realtime · tiny + spectral · log-mel L1 to the input"):
        assert part in summary
    nepers = float(summary.split("input ")[1].split(" nepers")[0])
    assert nepers == pytest.approx(log_mel_distance(recording, made), abs=2e-3)
    decibels = float(summary.split("(")[1].split(" dB)")[0])
    assert decibels == pytest.approx(8.6859 * nepers, abs=0.01)
    assert nepers < 0.2
    assert result.stdout == ""


def test_any_rate_and_channels_become_16_khz_mono(folder: Path, voice: str) -> None:
    stereo = np.stack([chord(0.5, 44100), 0 * chord(0.5, 44100)], axis=1)
    soundfile.write("in.flac", stereo, 44100)
    result = run("in.flac", "-o", "out.flac", "-m", voice)
    assert result.exit_code == 0, result.stderr
    info = soundfile.info("out.flac")
    assert (info.format, info.samplerate, info.channels, info.frames) == ("FLAC", 16000, 1, 8000)
    assert "random + griffin-lim" in only_line(result)
    made = soundfile.read("out.flac")[0]
    assert log_mel_distance(0.5 * chord(0.5), made, quietest=-2.0) < 0.2
    assert log_mel_distance(chord(0.5), made, quietest=-2.0) > 0.5  # half as loud: ln 2


def test_a_saved_spectrogram_goes_through_the_vocoder_alone(folder: Path, voice: str) -> None:
    audio = torch.from_numpy(chord(0.4)).float()
    np.save("mel.npy", log_mel(audio).numpy())
    soundfile.write("in.wav", audio.numpy(), 16000, subtype="FLOAT")
    for source in ("mel.npy", "in.wav"):
        assert run(source, "-o", f"{source}.out.wav", "-m", voice, "-q").exit_code == 0
    one, other = (soundfile.read(f"{source}.out.wav")[0] for source in ("mel.npy", "in.wav"))
    assert one.shape == other.shape == (6400,)
    np.testing.assert_allclose(one, other, atol=1e-3)


def test_stereo_of_our_own_making_goes_through_at_the_rate_asked_for(folder: Path, voice: str) -> None:
    both = np.stack([chord(0.5, 48000), chord(0.5, 48000)], axis=1)
    soundfile.write("in.wav", both, 48000)
    assert run("in.wav", "-o", "low.wav", "-m", voice, "--subtype", "float").exit_code == 0
    result = run("in.wav", "-o", "high.wav", "-m", voice, "--subtype", "float", "--sample-rate", "48000")
    assert result.exit_code == 0, result.stderr
    assert "0:01 of audio" in only_line(result)  # rounded up from half a second
    low, high = soundfile.read("low.wav")[0], soundfile.read("high.wav")[0]
    assert (low.shape, high.shape) == ((8000,), (24000,))
    assert soundfile.info("high.wav").samplerate == 48000
    np.testing.assert_allclose(high[600:-600:3], low[200:-200], atol=2e-3)


def test_other_vocoders_and_standard_output(folder: Path) -> None:
    soundfile.write("in.wav", chord(0.2), 16000)
    result = run("in.wav", "-o", "-", "--vocoder", "griffin-lim", "--quiet")
    assert result.exit_code == 0
    assert result.stderr == ""
    assert result.stdout_bytes[:4] == b"RIFF"
    assert len(result.stdout_bytes) == 44 + 2 * 3200


class Recorder:
    """A vocoder that returns the loudness of each frame, and how many frames it is ever given at once."""

    name = "recorder"
    context_frames = 3
    most_frames = 0

    def invert(self, mel: torch.Tensor, first_frame: int) -> torch.Tensor:
        self.most_frames = max(self.most_frames, len(mel))
        return mel.mean(1).repeat_interleave(320)


class Counter:
    n_samples = 0
    most_samples = 0

    def write(self, samples: np.ndarray) -> None:
        self.n_samples += len(samples)
        self.most_samples = max(self.most_samples, len(samples))


class LongSource:
    """A minute in blocks of a second, and 7 samples."""

    n_samples = 60 * 16000 + 7

    def blocks(self):  # type: ignore[no-untyped-def]
        for _ in range(60):
            yield np.zeros(16000, np.float32)
        yield np.zeros(7, np.float32)


def test_memory_does_not_grow_with_the_length() -> None:
    vocoder, writer = Recorder(), Counter()
    pass_through(LongSource(), vocoder, Resampler(16_000), writer, lambda n_done: None)  # type: ignore[arg-type]
    assert writer.n_samples == LongSource.n_samples
    assert vocoder.most_frames <= 128 + 2 * 3
    assert writer.most_samples <= 2 * 128 * 320


def write_input(kind: str) -> str:
    name = f"{kind}.npy" if kind.startswith("mel") else f"{kind}.wav"
    audio = chord(0.2)
    if kind == "nan":
        audio[100] = np.nan
    if kind.startswith("mel"):
        mel = np.full((5, 128), LOG_MEL_MIN, np.float32)
        if kind == "mel-nan":
            mel[3, 2] = np.nan
        np.save(
            name, {"mel-shape": mel[:, :80], "mel-type": np.zeros((5, 128), int), "mel-empty": mel[:0]}.get(kind, mel)
        )
        if kind == "mel-header":  # whose shape has no end
            Path(name).write_bytes(Path(name).read_bytes().replace(b"128)", b"128,"))
    elif kind == "text":
        Path(name).write_text("words")
    elif kind != "missing":
        soundfile.write(name, audio[: 0 if kind == "empty" else None], 16000, subtype="FLOAT")
    return name


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing", "does not exist"),
        ("text", "is not an audio file that can be read"),
        ("empty", "holds no audio"),
        ("nan", "holds samples that are not numbers"),
        ("long", "is longer than 0.1 seconds; raise --max-duration"),
        ("mel-header", "cannot be read (no NumPy array of numbers)"),
        ("mel-shape", r"is (5, 80), not (frames, 128)"),
        ("mel-type", "holds int64, not float32"),
        ("mel-empty", "holds no frames"),
        ("mel-nan", "holds values that are not numbers, the first in frame 3"),
    ],
)
def test_bad_input_is_told_in_one_line(folder: Path, voice: str, kind: str, words: str) -> None:
    name = write_input(kind)
    before = sorted(folder.iterdir())
    limit = ["--max-duration", "0.1"] if kind == "long" else []
    result = run(name, "-o", "out.wav", "-m", voice, *limit)
    assert result.exit_code == 3
    line = only_line(result)
    assert line.startswith(f"error: {name}: ")
    assert words in line
    assert sorted(folder.iterdir()) == before  # nothing half-written


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["-o", "in.wav", "-f"], 2, "in.wav: is the input, too"),
        (["-o", "there.wav"], 5, "there.wav exists already: use --overwrite"),
        (["-o", "nowhere/out.wav"], 5, "does not exist"),
        (["-o", "out.wav", "--format", "aac"], 2, "is not one of"),
        (["-o", "out.aac"], 2, ".aac cannot be written; use .wav, .flac"),
        (["-o", "out.wav", "--sample-rate", "22050"], 2, "--sample-rate 22050: is not one of 16000, 44100, 48000"),
        (["-o", "out.flac", "--subtype", "float"], 2, "FLAC cannot hold float"),
        (["-o", "out.wav", "--max-duration", "0"], 2, "must be above 0"),
        (["-o", "out.wav", "--threads", "0"], 2, "must be between 1 and 1024"),
        (["-o", "out.wav", "-m", "nobody"], 4, "nobody"),
        (["-o", "out.wav", "--vocoder", "nothing"], 2, "--vocoder nothing: is not one of"),
        (["-o", ""], 2, "the name is empty"),
    ],
)
def test_usage(folder: Path, arguments: list[str], code: int, words: str) -> None:
    for name in ("in.wav", "there.wav"):
        soundfile.write(name, chord(0.1), 16000)
    before = Path("in.wav").read_bytes()
    result = run("in.wav", *arguments)
    assert result.exit_code == code, result.stderr
    assert words in only_line(result)
    assert Path("in.wav").read_bytes() == before
    assert not Path("out.wav").exists()


def test_overwrite(folder: Path, voice: str) -> None:
    soundfile.write("in.wav", chord(0.1), 16000)
    Path("out.wav").write_text("old")
    assert run("in.wav", "-o", "out.wav", "-m", voice, "--overwrite").exit_code == 0
    assert soundfile.info("out.wav").frames == 1600


@pytest.mark.parametrize("head", ["advance", "istft", "wave"])
def test_the_voice_file_says_which_head_its_vocoder_has(folder: Path, head: str) -> None:
    sizes: dict[str, Any] = {"dim": 8, "n_blocks": 1, "kernel": 3, "expansion": 1, "n_iterations": 1}
    own = write_voice_folder(folder / "voice")
    network = SpectralNetwork(SpectralConfig(**sizes))
    save_file(network.state_dict(), own / "vocoder.safetensors")
    table = "".join(f"{key} = {size}\n" for key, size in sizes.items())
    text = (own / "voice.toml").read_text()
    (own / "voice.toml").write_text(
        text.replace('name = "griffin-lim"\n', f'name = "spectral"\nhead = "{head}"\n{table}')
    )
    soundfile.write("in.wav", chord(0.2), 16000)
    result = run("in.wav", "-o", "out.wav", "-m", str(own))
    if head == "advance":
        assert result.exit_code == 0, result.stderr
        assert "random + spectral" in only_line(result)
        return
    assert result.exit_code == 4
    line = " ".join(only_line(result).split())
    assert f'voice.toml: [vocoder] head = "{head}": is no' in line
    assert line.endswith('train one with head = "advance", or use --vocoder griffin-lim')
