"""Log-mel features: the one representation that the network writes and every vocoder reads.

Source: the ``soundstream`` mel features of magenta/music-spectrogram-diffusion. A published checkpoint sounds right
only when framing, window, triangles and logarithm are exactly these.
"""

from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from specdiff_cli.constants import (
    FFT_SAMPLES,
    FRAME_SAMPLES,
    HOP_SAMPLES,
    LOG_MEL_MAX,
    LOG_MEL_MIN,
    MEL_CEILING,
    MEL_FLOOR,
    MEL_MAX_HZ,
    N_MELS,
    SAMPLE_RATE_HZ,
)

N_BINS = FFT_SAMPLES // 2 + 1

_MEL_SCALE = 1127.0
_MEL_CORNER_HZ = 700.0

Array = TypeVar("Array", torch.Tensor, npt.NDArray[Any])


def hz_to_mel(frequency_hz: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Map hertz to mel: ``1127 ln(1 + f / 700)``."""
    return np.asarray(_MEL_SCALE * np.log1p(np.asarray(frequency_hz, dtype=np.float64) / _MEL_CORNER_HZ))


def mel_matrix() -> npt.NDArray[np.float32]:
    """Weights from linear-frequency magnitudes to mel bands, shape (513 bins, 128 bands).

    The triangles are linear in mel (not in hertz), reach 1 at their centre and are not normalised by area; the row of
    bin 0 (DC) is zero. Computed in float64 and rounded once, as ``tf.signal.linear_to_mel_weight_matrix`` defines it.
    """
    nyquist_hz = SAMPLE_RATE_HZ / 2
    bins_mel = hz_to_mel(np.linspace(0.0, nyquist_hz, N_BINS))[:, None]  # (513, 1)
    edges_mel = np.linspace(0.0, float(hz_to_mel(MEL_MAX_HZ)), N_MELS + 2)
    lower, centre, upper = edges_mel[:-2], edges_mel[1:-1], edges_mel[2:]  # (128,) each
    rising = (bins_mel - lower) / (centre - lower)
    falling = (upper - bins_mel) / (upper - centre)
    weights = np.maximum(0.0, np.minimum(rising, falling))  # (513, 128)
    weights[0] = 0.0
    return weights.astype(np.float32)


def n_frames_of(n_samples: int) -> int:
    """Frames that ``n_samples`` of audio give: the last one may be partly padding."""
    return -(-n_samples // HOP_SAMPLES)


def hann_window(length_samples: int = FRAME_SAMPLES) -> torch.Tensor:
    """Periodic Hann window, shape (length_samples,), float32, rounded once from float64."""
    return torch.hann_window(length_samples, periodic=True, dtype=torch.float64).float()


@lru_cache(maxsize=8)
def _analysis_tensors(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Window (640,) and mel matrix (513, 128) on a device: built once, as losses ask for them at every step."""
    with torch.inference_mode(False):  # a loss may ask for them after a render has
        return hann_window().to(device), torch.from_numpy(mel_matrix()).to(device)


def magnitudes(audio: torch.Tensor) -> torch.Tensor:
    """Magnitude spectrum of the un-centred frames: (..., n_samples) to (..., ceil(n_samples / 320), 513), float32."""
    window, _ = _analysis_tensors(audio.device)
    n_samples = audio.shape[-1]
    n_frames = n_frames_of(n_samples)
    if n_frames == 0:
        return audio.new_zeros((*audio.shape[:-1], 0, N_BINS), dtype=torch.float32)
    # the last frame starts at the last hop, so it needs one frame's length from there
    n_padded = (n_frames - 1) * HOP_SAMPLES + FRAME_SAMPLES
    padded = functional.pad(audio.float(), (0, n_padded - n_samples))
    frames = padded.unfold(-1, FRAME_SAMPLES, HOP_SAMPLES)  # (..., n_frames, 640)
    # complex abs has gradient 0 at 0, where sqrt(re^2 + im^2) would have an infinite one
    spectrum: torch.Tensor = torch.fft.rfft(frames * window, n=FFT_SAMPLES)
    return spectrum.abs()


def log_mel(audio: torch.Tensor) -> torch.Tensor:
    """Log-mel features of audio, in feature range.

    Args:
        audio: (..., n_samples), 16 kHz, nominally within +-1, any float dtype, any device.

    Returns:
        (..., ceil(n_samples / 320), 128) float32. Frame i describes samples 320 i to 320 i + 640; the end is
        zero-padded. Differentiable everywhere with finite gradients, so that losses can use it.
    """
    # autocast would run the matrix product in half precision, which the floor of 1e-5 does not survive
    with torch.autocast(device_type=audio.device.type, enabled=False):
        _, weights = _analysis_tensors(audio.device)
        mel = magnitudes(audio) @ weights
        return mel.clamp(MEL_FLOOR, MEL_CEILING).log()


#: The log-mel values that -1 and +1 stand for in a network.
FEATURE_RANGE = (LOG_MEL_MIN, LOG_MEL_MAX)


def to_model_range(features: Array, feature_range: tuple[float, float] = FEATURE_RANGE) -> Array:
    """Map feature range to the network's range: ln(1e-5) to -1 and 4.0 to +1, clipped to [-1, 1]. Any shape."""
    low, high = feature_range
    unit = (features.clip(low, high) - low) / (high - low)
    return unit * 2.0 - 1.0


def from_model_range(values: Array, feature_range: tuple[float, float] = FEATURE_RANGE) -> Array:
    """Map the network's range back to feature range. Not clipped: values beyond +-1 stay beyond the feature range."""
    low, high = feature_range
    unit = (values + 1.0) / 2.0
    return unit * (high - low) + low
