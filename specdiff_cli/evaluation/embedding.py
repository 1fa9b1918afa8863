"""Any network as a measure of sound: an ONNX file of the user's (VGGish, TRILL …) whose features are compared.

The file is run by onnxruntime on the CPU. It takes mono audio at 16 kHz, float32, as (n,) or (1, n); a fixed n is
filled piece by piece. Of its first output the last axis is the features, and everything before it rows.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from specdiff_cli.errors import Option, UsageError


class Embedding(Protocol):
    """What turns audio into rows of features."""

    @property
    def n_features(self) -> int:
        """Of one row."""
        ...

    def features(self, audio: NDArray[np.float32]) -> NDArray[np.float64]:
        """(n_samples,) mono at 16 kHz to (n_rows, n_features); no rows for audio that is too short."""
        ...


class OnnxEmbedding:
    """An ONNX file. Raises UsageError when it cannot be read, or is no network of one piece of audio."""

    def __init__(self, path: Path) -> None:
        try:
            import onnxruntime
        except ModuleNotFoundError:
            raise UsageError(Option("embedding"), " needs onnxruntime: run \"pip install '.[evaluate]'\"") from None
        try:
            content = path.read_bytes()
        except OSError as error:
            raise UsageError.of("embedding", path, f"cannot be read ({error.strerror})") from None
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own exceptions have no common base
            detail = (str(error).splitlines() or [type(error).__name__])[0][:120]
            raise UsageError.of("embedding", path, f"is not an ONNX file that can be run ({detail})") from None
        inputs = self._session.get_inputs()
        shape = inputs[0].shape if len(inputs) == 1 else []
        if len(shape) not in (1, 2) or inputs[0].type != "tensor(float)" or (len(shape) == 2 and shape[0] == 0):
            raise UsageError.of("embedding", path, "must have one input of float samples, (n,) or (1, n)")
        self.path = path
        self.sha256 = hashlib.sha256(content).hexdigest()
        self._input = inputs[0].name
        self._has_batch = len(shape) == 2
        self._n_samples = shape[-1] if isinstance(shape[-1], int) and shape[-1] > 0 else None
        self._n_features: int = self._run(np.zeros(self._n_samples or 16_000 * 4, np.float32)).shape[1]

    @property
    def n_features(self) -> int:
        """Of one row."""
        return self._n_features

    def features(self, audio: NDArray[np.float32]) -> NDArray[np.float64]:
        """(n_samples,) mono at 16 kHz to (n_rows, n_features). What does not fill a fixed input is left out."""
        rows = [self._run(piece) for piece in self._pieces(audio)]
        return np.concatenate(rows) if rows else np.empty((0, self._n_features))

    def _pieces(self, audio: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
        if self._n_samples is None:
            yield audio
            return
        for start in range(0, len(audio) - self._n_samples + 1, self._n_samples):
            yield audio[start : start + self._n_samples]

    def _run(self, audio: NDArray[np.float32]) -> NDArray[np.float64]:
        samples = np.ascontiguousarray(audio, np.float32)
        try:
            (output, *_) = self._session.run(None, {self._input: samples[None] if self._has_batch else samples})
        except Exception as error:  # as above
            detail = (str(error).splitlines() or [type(error).__name__])[0][:120]
            raise UsageError.of("embedding", self.path, f"fails on {len(samples)} samples ({detail})") from None
        rows = np.asarray(output, np.float64)
        if rows.ndim == 0 or not rows.size:
            raise UsageError.of("embedding", self.path, "gives no features")
        return rows.reshape(-1, rows.shape[-1])
