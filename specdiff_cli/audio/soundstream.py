"""The published vocoder: the SoundStream mel decoder, an ONNX file run by onnxruntime (optional extra ``onnx``).

How far its output looks is not documented, so it is measured when the file is loaded: change random features from
some frame on and see where the audio begins to differ; change them up to that frame and see where it ends to.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from specdiff_cli.audio.vocoder import checked_mel
from specdiff_cli.constants import HOP_SAMPLES, LOG_MEL_MAX, LOG_MEL_MIN, N_MELS
from specdiff_cli.errors import UsageError, WeightsError

INPUT_NAME = "input_features"
PROBE_FRAMES = (128, 256, 512)  # the shortest that shows both ends of the reach is enough
N_PLACES = 2  # neighbouring ones, for networks that do not treat all frames alike
SMALLEST_CHANGE = 1e-6  # of the loudest sample: far under the 1e-4 that streaming may differ
# Networks that halve their rate inside treat frames 0, 2, 4 … differently from 1, 3, 5 …: with a context of whole
# eights, pieces start where the song's own grid of up to eight frames has a line.
CONTEXT_STEP_FRAMES = 8


class SoundStream:
    """Vocoder that runs an ONNX decoder. See ``audio.vocoder.Vocoder`` for the contract.

    Args:
        path: the ``.onnx`` file; input ``input_features`` (1, n_frames, 128), one output of 320 samples per frame.
        n_threads: threads for one inversion; None leaves the choice to onnxruntime.

    Raises:
        UsageError: onnxruntime is not installed.
        WeightsError: the file is missing, damaged, or not such a decoder.
    """

    name = "soundstream"

    def __init__(self, path: str | os.PathLike[str], n_threads: int | None = None) -> None:
        self._path = Path(path)
        self._session = _open_session(self._path, n_threads)
        _check_signature(self._session, self._path)
        self.reach_frames, self.streams_exactly = self._measure_reach()
        """Frames to each side that one output frame was seen to depend on, and whether that is all of them."""
        self.context_frames = -(-self.reach_frames // CONTEXT_STEP_FRAMES) * CONTEXT_STEP_FRAMES

    def invert(self, mel: torch.Tensor, first_frame: int = 0) -> torch.Tensor:
        """(n_frames, 128) log-mel in feature range to (n_frames * 320,) audio, float32."""
        mel = checked_mel(mel)
        if mel.shape[0] == 0:
            return torch.empty(0)
        return torch.from_numpy(self._run(mel.numpy())).nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)

    def _run(self, mel: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(n_frames, 128) to (n_frames * 320,) samples. Raises WeightsError when the decoder fails or gives less."""
        try:
            output = self._session.run(None, {INPUT_NAME: np.ascontiguousarray(mel[None])})[0]
        except Exception as error:  # onnxruntime's errors have no common base of their own
            raise WeightsError(f"{self._path}: the decoder failed on {len(mel)} frames ({_line(error)})") from error
        audio = np.array(output, dtype=np.float32).reshape(-1)
        if audio.size != len(mel) * HOP_SAMPLES:
            found = f"{audio.size} samples for {len(mel)} frames, not {HOP_SAMPLES} each"
            raise WeightsError(f"{self._path}: is not a decoder of these features: it gives {found}")
        return audio

    def _measure_reach(self) -> tuple[int, bool]:
        """Distance in frames to the furthest output that a change reaches; False if no end of it was seen."""
        generator = np.random.default_rng(0)
        reach = 0
        for n_frames in PROBE_FRAMES:
            probe, other = generator.uniform(LOG_MEL_MIN, LOG_MEL_MAX, (2, n_frames, N_MELS)).astype(np.float32)
            before = self._run(probe)
            places = range(n_frames // 2, n_frames // 2 + N_PLACES)
            reach = max(self._reach_across(place, probe, other, before) for place in places)
            # an end that lies clear of the probe's own ends is a true one
            if reach < n_frames // 2 - N_PLACES:
                return reach, True
        return reach, False

    def _reach_across(
        self,
        place: int,
        probe: npt.NDArray[np.float32],
        other: npt.NDArray[np.float32],
        before: npt.NDArray[np.float32],
    ) -> int:
        """How far, in frames, changes of all frames from ``place`` on reach back, and of all before it reach forward.

        Whole halves are changed, not one frame: dilated convolutions may look far away and not in between.
        """
        smallest = SMALLEST_CHANGE * max(float(np.abs(before).max()), 1e-3)
        is_late = (np.arange(len(probe)) >= place)[:, None]

        def touched(changed: npt.NDArray[np.float32]) -> npt.NDArray[np.intp]:
            change = np.abs(self._run(changed) - before).reshape(len(probe), HOP_SAMPLES).max(axis=1)
            return np.flatnonzero(change > smallest)

        back = touched(np.where(is_late, other, probe))
        forward = touched(np.where(is_late, probe, other))
        return max(place - int(back.min(initial=place)), int(forward.max(initial=place - 1)) - (place - 1))


def _open_session(path: Path, n_threads: int | None) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise UsageError(
            "the soundstream vocoder needs onnxruntime: run \"pip install '.[onnx]'\" in a copy of specdiff"
        ) from error
    if not os.path.isfile(path):
        raise WeightsError(f"{path}: the SoundStream decoder is missing; run specdiff download-weights")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # failures are reported by our own line
    options.inter_op_num_threads = 1
    if n_threads is not None:
        options.intra_op_num_threads = n_threads
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # as above
        raise WeightsError(f"{path}: is damaged or not an ONNX model ({_line(error)}); download it again") from error


def _check_signature(session: Any, path: Path) -> None:
    """Raise WeightsError unless the model takes ``input_features`` of shape (1, any, 128), float32."""
    inputs = session.get_inputs()
    described = ", ".join(f"{i.name} {i.type} {i.shape}" for i in inputs)
    wrong = f"{path}: is not a mel decoder: it takes {described}, not {INPUT_NAME} tensor(float) [1, frames, {N_MELS}]"
    if len(inputs) != 1 or inputs[0].name != INPUT_NAME or inputs[0].type != "tensor(float)":
        raise WeightsError(wrong)
    shape = inputs[0].shape
    if len(shape) != 3 or shape[0] not in (1, None) and not isinstance(shape[0], str):
        raise WeightsError(wrong)
    if isinstance(shape[1], int) or (isinstance(shape[2], int) and shape[2] != N_MELS):
        raise WeightsError(wrong)


def _line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:160] if text else type(error).__name__
