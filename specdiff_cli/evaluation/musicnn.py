"""Features of music by musicnn (Pons and Serra, "musicnn: Pre-trained convolutional neural networks for music audio
tagging", ISMIR 2019 late-breaking), run in PyTorch from the checkpoint in its package, without TensorFlow.

The network tags excerpts of three seconds; what its last hidden layer says of them (200 numbers) serves as features.
"""

import hashlib
import importlib.util
import os
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from specdiff_cli.errors import UsageError
from specdiff_cli.evaluation.tensor_bundle import read_tensor_bundle

PACKAGE = "musicnn"
FOLDER = "MSD_musicnn"  # trained on the Million Song Dataset
INDEX_FILE, DATA_FILE = ".index", ".data-00000-of-00001"
#: Of the files in musicnn 0.1.0.
SHA256 = {
    INDEX_FILE: "87f3e0f3550c8d3bafc840374003e5c8af5eeb5ecf6add61af09a7822d3282c8",
    DATA_FILE: "8579734ee6388f799ed0def4bbd0d1fdcbeaf213ef2a9dc860917bd76a303de6",
}
HOW_TO_GET_IT = "run 'pip install --no-deps musicnn' (its checkpoint is all that is used)"

RATE_HZ = 16_000
FFT_SAMPLES, HOP_SAMPLES, N_MELS = 512, 256, 96
PATCH_FRAMES = 187  # three seconds
# Patches overlap: more of them make the distribution's estimate steadier.
PATCH_STEP_FRAMES = 31  # half a second
N_FEATURES = 200
BATCH_PATCHES = 16
BATCH_NORM_EPSILON = 1e-3
TIMBRAL_LAYERS = ("conv2d", "conv2d_1")  # 7 frames × 38 or 67 bands
TEMPORAL_LAYERS = ("conv2d_2", "conv2d_3", "conv2d_4")  # 128, 64 and 32 frames × 1 band
MIDDLE_LAYERS = ("conv2d_5", "conv2d_6", "conv2d_7")  # 7 frames × all features


class MusicNN:
    """The network on the CPU. Raises UsageError when its package is missing or holds another checkpoint."""

    def __init__(self, folder: Path | None = None) -> None:
        folder = folder or _find_folder()
        for name, expected in SHA256.items():
            try:
                found = hashlib.sha256((folder / name).read_bytes()).hexdigest()
            except OSError as error:
                raise UsageError(f"{folder / name}: cannot be read ({error.strerror}); {HOW_TO_GET_IT}") from None
            if found != expected:
                raise UsageError(f"{folder / name}: is not the file of musicnn 0.1.0; {HOW_TO_GET_IT}")
        bundle = read_tensor_bundle(folder / INDEX_FILE, folder / DATA_FILE)
        self._weights = {name: torch.from_numpy(array) for name, array in bundle.items() if "/Adam" not in name}
        self._bands = torch.from_numpy(slaney_bands().astype(np.float32))

    @property
    def n_features(self) -> int:
        """Of one row."""
        return N_FEATURES

    def features(self, audio: NDArray[np.float32]) -> NDArray[np.float64]:
        """(n_samples,) mono at 16 kHz to (n_patches, 200): one row for each three seconds, every half second.

        Audio shorter than three seconds gives no rows.
        """
        with torch.inference_mode():
            spectrum = self._spectrum(torch.from_numpy(np.ascontiguousarray(audio, dtype=np.float32)))
            if len(spectrum) < PATCH_FRAMES:
                return np.empty((0, N_FEATURES))
            patches = spectrum.unfold(0, PATCH_FRAMES, PATCH_STEP_FRAMES).transpose(1, 2)  # (n_patches, 187, 96)
            rows = [self._penultimate(part) for part in torch.split(patches, BATCH_PATCHES)]
        return np.asarray(torch.cat(rows).double().numpy())

    def _spectrum(self, audio: Tensor) -> Tensor:
        """(n_samples,) to (n_frames, 96): logarithms of mel powers, frames centred on multiples of the hop."""
        window = torch.hann_window(FFT_SAMPLES)
        stft = torch.stft(audio, FFT_SAMPLES, HOP_SAMPLES, window=window, pad_mode="constant", return_complex=True)
        return torch.log10(1e4 * (stft.abs().square().T @ self._bands) + 1)

    def _penultimate(self, patches: Tensor) -> Tensor:
        """(n, 187, 96) to (n, 200)."""
        normalised = self._normalise(patches[:, None], 0)  # (n, 1, 187, 96)
        padded = functional.pad(normalised, (0, 0, 3, 3))
        front = [self._convolve(padded, name).amax(dim=3) for name in TIMBRAL_LAYERS]
        for name in TEMPORAL_LAYERS:
            n_taps = self._weights[f"{name}/kernel"].shape[0]
            before = (n_taps - 1) // 2
            front.append(
                self._convolve(functional.pad(normalised, (0, 0, before, n_taps - 1 - before)), name).amax(dim=3)
            )
        levels = [torch.cat(front, dim=1)]  # (n, 561, 187)
        for i, name in enumerate(MIDDLE_LAYERS):
            padded = functional.pad(levels[-1].transpose(1, 2)[:, None], (0, 0, 3, 3))  # (n, 1, 193, features)
            level = self._convolve(padded, name)[..., 0]
            levels.append(level if i == 0 else level + levels[-1])
        features = torch.cat(levels, dim=1)  # (n, 753, 187)
        pooled = torch.stack([features.amax(dim=2), features.mean(dim=2)], dim=2).flatten(1)  # max and mean in turn
        pooled = self._normalise(pooled, 9)
        dense = torch.relu(pooled @ self._weights["dense/kernel"] + self._weights["dense/bias"])
        return self._normalise(dense, 10)

    def _convolve(self, inputs: Tensor, name: str) -> Tensor:
        """A convolution, the rectifier and then the normalisation of the same layer."""
        kernel = self._weights[f"{name}/kernel"].permute(3, 2, 0, 1)  # (out, in, frames, bands)
        number = int(name.removeprefix("conv2d").removeprefix("_") or 0)
        return self._normalise(torch.relu(functional.conv2d(inputs, kernel, self._weights[f"{name}/bias"])), number + 1)

    def _normalise(self, inputs: Tensor, number: int) -> Tensor:
        """The batch normalisation of that number, as at inference."""
        name = f"batch_normalization_{number}" if number else "batch_normalization"
        mean, variance = self._weights[f"{name}/moving_mean"], self._weights[f"{name}/moving_variance"]
        gamma, beta = self._weights[f"{name}/gamma"], self._weights[f"{name}/beta"]
        return functional.batch_norm(inputs, mean, variance, gamma, beta, eps=BATCH_NORM_EPSILON)


def _find_folder() -> Path:
    """The checkpoint inside the installed package, which is not imported (it would ask for TensorFlow)."""
    spec = importlib.util.find_spec(PACKAGE)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if os.path.isdir(Path(folder) / FOLDER):
            return Path(folder) / FOLDER
    raise UsageError(f"musicnn is not installed: {HOW_TO_GET_IT}, or leave the distance out")


def slaney_bands() -> NDArray[np.float64]:
    """(257 bins, 96 bands): triangles on Slaney's mel scale (Auditory Toolbox: linear below 1 kHz, then 27 steps for
    a factor of 6.4), each of area one over hertz."""
    step_hz, log_step = 200 / 3, np.log(6.4) / 27
    highest_mel = 15 + np.log(RATE_HZ / 2 / 1000) / log_step
    mels = np.linspace(0, highest_mel, N_MELS + 2)
    edges_hz = np.where(mels < 15, mels * step_hz, 1000 * np.exp(log_step * (mels - 15)))
    bins_hz = np.linspace(0, RATE_HZ / 2, FFT_SAMPLES // 2 + 1)[:, None]
    low, middle, high = edges_hz[:-2], edges_hz[1:-1], edges_hz[2:]
    triangles = np.minimum((bins_hz - low) / (middle - low), (high - bins_hz) / (high - middle))
    return np.asarray(triangles.clip(0) * 2 / (high - low))
