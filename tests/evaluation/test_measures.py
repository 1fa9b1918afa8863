"""What is measured, on recordings and spectrograms made by hand."""

import math
import struct
import zlib

import numpy as np
import pytest
import torch

from specdiff_cli.audio.mel import log_mel
from specdiff_cli.constants import LOG_MEL_MAX, LOG_MEL_MIN
from specdiff_cli.evaluation.images import png, spectrogram_png
from specdiff_cli.evaluation.measures import (
    Jump,
    Likeness,
    Measured,
    Recording,
    as_pcm16,
    boundary_jump,
    compare,
    pooled_ratio,
    row,
    written_onsets,
)
from specdiff_cli.evaluation.transcriber import OnsetScores
from specdiff_cli.midi.notes import Note

RANGE = LOG_MEL_MAX - LOG_MEL_MIN


def recording(audio: np.ndarray) -> Recording:
    return Recording(audio, log_mel(torch.from_numpy(audio)), None)


def tone(amplitude: float, n_samples: int = 16_000) -> np.ndarray:
    return np.asarray(amplitude * np.sin(2 * np.pi * 440 / 16_000 * np.arange(n_samples)), dtype=np.float32)


def measured(l1: float, f1: float | None = None, jump: Jump | None = None, elapsed_s: float | None = None) -> Measured:
    scores = None if f1 is None else OnsetScores(f1, f1, f1)
    return Measured(Likeness(l1, l1 / 8, l1, l1, 0.0, l1), scores, jump, 10.0, elapsed_s)


def test_a_perfect_copy_is_perfect() -> None:
    assert compare(recording(tone(0.5)), recording(tone(0.5))) == Likeness(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


def test_silence_is_not() -> None:
    likeness = compare(recording(tone(0.5)), recording(np.zeros(16_000, np.float32)))
    assert likeness.log_mel_l1 > 1.0
    assert likeness.log_mel_l1_model_range > 0.1
    assert likeness.spectral_convergence == pytest.approx(1.0)  # all that was there is missing
    assert likeness.log_spectrum > 0.5
    assert likeness.level_db < -70
    assert likeness.loudness_db < -50  # gated at -70 LUFS


def test_half_the_amplitude_is_one_logarithm_away() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)  # every band well above the floor
    likeness = compare(recording(noise), recording(noise / 2))
    assert likeness.log_mel_l1 == pytest.approx(math.log(2), rel=1e-4)
    assert likeness.log_mel_l1_model_range == pytest.approx(math.log(2) * 2 / RANGE, rel=1e-3)
    assert likeness.spectral_convergence == pytest.approx(0.5, rel=1e-4)
    assert likeness.level_db == pytest.approx(-6.02, abs=0.01)
    assert likeness.loudness_db == pytest.approx(-6.02, abs=0.05)


def test_recordings_are_measured_as_16_bit_files() -> None:
    audio = as_pcm16(np.array([0.0, 0.4 / 32768, 0.6 / 32768, 2.0, -2.0, np.nan], np.float32), 8)
    assert (audio * 32768).tolist() == [0, 0, 1, 32767, -32768, 0, 0, 0]
    assert len(as_pcm16(np.ones(9, np.float32), 4)) == 4


def test_jump_where_windows_meet() -> None:
    """Frames alternate by 1 % of the range; the seams at 256 and 512 move by 3 %."""
    steps = np.where(np.arange(1, 600) % 2, 0.01, -0.01)
    steps[[255, 511]] = 0.03
    mel = LOG_MEL_MIN + RANGE * (0.4 + np.concatenate([[0.0], np.cumsum(steps)]))
    jump = boundary_jump(torch.from_numpy(mel).float()[:, None].expand(-1, 128))
    assert (jump.n_boundaries, jump.n_elsewhere) == (2, 597)
    assert jump.ratio == pytest.approx(3.0, rel=1e-3)


def test_no_jump_where_nothing_differs() -> None:
    ramp = torch.linspace(LOG_MEL_MIN, LOG_MEL_MAX, 700)[:, None].expand(-1, 128)
    assert boundary_jump(ramp).ratio == pytest.approx(1.0, rel=1e-3)


def test_one_window_has_no_boundary() -> None:
    assert boundary_jump(torch.randn(256, 128)).ratio is None
    assert boundary_jump(torch.full((600, 128), LOG_MEL_MIN)).ratio is None


def test_jumps_are_pooled_by_boundaries() -> None:
    assert pooled_ratio([Jump(9.0, 3, 10.0, 10), None, Jump(1.0, 1, 30.0, 30)]) == pytest.approx(2.5)


def test_means_and_ratios_of_means() -> None:
    reference = [measured(0.0, 0.9), measured(0.0, 0.5)]
    ceiling = [measured(0.1), measured(0.3)]
    result = row([measured(0.4, 0.6, elapsed_s=1.0), measured(0.8, 0.1, elapsed_s=4.0)], reference, ceiling)
    assert result.log_mel_l1 == pytest.approx(0.6)
    assert result.log_mel_l1_of_ceiling == pytest.approx(3.0)
    assert result.onset_f1 == pytest.approx(0.35)
    assert result.onset_f1_of_reference == pytest.approx(0.5)
    assert result.x_realtime == pytest.approx(4.0)  # 20 s of audio in 5 s


def test_what_was_not_measured_stays_out() -> None:
    result = row([measured(0.4)], [measured(0.0)], None)
    assert result.onset_f1 is None
    assert result.onset_f1_of_reference is None
    assert result.log_mel_l1_of_ceiling is None
    assert result.boundary_jump is None
    assert result.x_realtime is None


def test_written_onsets_are_those_that_can_be_heard() -> None:
    def note(start_s: float, pitch: int, is_drum: bool = False) -> Note:
        return Note(start_s, start_s + 0.5, pitch, 80, 0, is_drum)

    notes = [note(0.0, 60), note(0.04, 60), note(0.1, 60), note(1.0, 38, True), note(1.0, 20), note(1.0, 109)]
    notes += [note(2.0, 108), note(5.0, 60)]
    assert written_onsets(notes, duration_s=5.0) == [(0.0, 60), (0.1, 60), (2.0, 108)]


def test_png_can_be_read_back() -> None:
    indices = np.arange(12, dtype=np.uint8).reshape(3, 4)
    data = png(indices, np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1))
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = {}, 8
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + 8 + length]
        assert struct.unpack(">I", data[at + 8 + length : at + 12 + length])[0] == zlib.crc32(kind + body)
        chunks[kind] = body
        at += 12 + length
    assert list(chunks) == [b"IHDR", b"PLTE", b"IDAT", b"IEND"]
    assert struct.unpack(">II", chunks[b"IHDR"][:8]) == (4, 3)
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(3, 5)
    assert (rows[:, 1:] == indices).all()


def test_pictures_have_high_bands_above_and_one_pixel_per_frame() -> None:
    mel = torch.full((50, 128), LOG_MEL_MIN)
    mel[:, 127] = LOG_MEL_MAX
    data = spectrogram_png(mel)
    assert struct.unpack(">II", data[16:24]) == (50, 256)
    start = data.index(b"IDAT") + 4
    rows = np.frombuffer(zlib.decompress(data[start:]), np.uint8).reshape(256, 51)
    assert (rows[:2, 1:] == 255).all()
    assert (rows[2:] == 0).all()
