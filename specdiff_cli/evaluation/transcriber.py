"""Which notes are heard in audio, and how well their onsets agree with the score.

The transcriber is basic-pitch's network (Bittner et al., "A Lightweight Instrument-Agnostic Model for Polyphonic Note
Transcription and Multipitch Estimation", ICASSP 2022), run from its ONNX file by onnxruntime. What it reports, two
probabilities per pitch and frame, is turned into notes here after section 2 of the paper; none of the package's own
Python is needed.

An onset counts as heard when the transcriber reports the same pitch within the tolerance; each reported note serves
one written note at most. The pairing is the largest possible one (maximum bipartite matching), not a greedy one, so
the scores do not depend on the order of the notes.
"""

import hashlib
import importlib.util
import os
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from specdiff_cli.constants import SAMPLE_RATE_HZ
from specdiff_cli.errors import Option, UsageError

# Times come from quantised files and from frames: a pair exactly at the tolerance must not be lost to rounding.
ROUNDING_S = 1e-9
TOLERANCE_S = 0.05

LOWEST_PITCH = 21  # the transcriber hears the keys of a piano, A0 to C8
N_PITCHES = 88
MODEL_RATE_HZ = 22_050
MODEL_SAMPLES = 43_844  # two seconds less a hop: what the network takes at once
MODEL_FRAMES = 172  # and what it returns
MODEL_HOP_SAMPLES = 256
EDGE_FRAMES = 15  # at either end of a window, where the network sees too little: left to the neighbouring windows
WINDOW_STEP_SAMPLES = MODEL_SAMPLES - 2 * EDGE_FRAMES * MODEL_HOP_SAMPLES
BATCH_WINDOWS = 8

ONSET_THRESHOLD = 0.5
FRAME_THRESHOLD = 0.3
PATIENCE_FRAMES = 11  # a note ends when it was below the threshold for this long (128 ms)
SHORTEST_NOTE_FRAMES = 11  # and counts only when it is longer than this

PACKAGE = "basic_pitch"
MODEL_FILE = Path("saved_models") / "icassp_2022" / "nmp.onnx"
#: Of the file in the wheel of basic-pitch 0.4.0.
MODEL_SHA256 = "2c3c1d144bfa61ad236e92e169c13535c880469a12a047d4e73451f2c059a0ec"
HOW_TO_GET_IT = (
    "run 'pip install --no-deps basic-pitch' (its file is all that is used), or give the file with ",
    Option("transcriber", "PATH.onnx"),
    ", or leave the onset scores out with ",
    Option("no_transcriber"),
)

#: A note heard or written: (onset in seconds, MIDI pitch).
Onset = tuple[float, int]


class Transcriber(Protocol):
    """Hears notes in audio."""

    name: str

    def onsets(self, audio: NDArray[np.float32]) -> list[Onset]:
        """Notes in (n_samples,) mono audio at 16 kHz, in order of time."""
        ...


@dataclass(frozen=True)
class OnsetScores:
    """Shares from 0 to 1: of the reported notes that are written, of the written ones that are reported, and both."""

    precision: float
    recall: float
    f1: float


def onset_scores(
    reference_notes: Iterable[Onset],
    estimated_notes: Iterable[Onset],
    tolerance_s: float = TOLERANCE_S,
) -> OnsetScores:
    """Onset precision, recall and F1 of notes given as (onset in seconds, MIDI pitch).

    Pitches must be equal and onsets at most ``tolerance_s`` apart. Two empty lists agree perfectly; if only one is
    empty all scores are 0.
    """
    reference, estimated = list(reference_notes), list(estimated_notes)
    if not reference and not estimated:
        return OnsetScores(1.0, 1.0, 1.0)
    if not reference or not estimated:
        return OnsetScores(0.0, 0.0, 0.0)
    onsets_by_pitch: defaultdict[int, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    for onset_s, pitch in reference:
        onsets_by_pitch[pitch][0].append(onset_s)
    for onset_s, pitch in estimated:
        onsets_by_pitch[pitch][1].append(onset_s)
    matched = sum(_matched(*onsets, tolerance_s) for onsets in onsets_by_pitch.values())
    return OnsetScores(
        precision=matched / len(estimated),
        recall=matched / len(reference),
        f1=2 * matched / (len(estimated) + len(reference)),
    )


def _matched(reference_s: list[float], estimated_s: list[float], tolerance_s: float) -> int:
    """Size of the largest pairing of two lists of onsets of one pitch.

    All tolerances are equal intervals on a line, where taking the earliest possible partner in order of time is
    optimal: exchanging partners of a crossing pair never lengthens the longer of the two distances.
    """
    reference_s, estimated_s = sorted(reference_s), sorted(estimated_s)
    count = first = 0
    for onset_s in reference_s:
        while first < len(estimated_s) and estimated_s[first] < onset_s - tolerance_s - ROUNDING_S:
            first += 1
        if first < len(estimated_s) and estimated_s[first] <= onset_s + tolerance_s + ROUNDING_S:
            count += 1
            first += 1
    return count


def find_model() -> Path:
    """The transcriber's file inside an installed basic-pitch, which is not imported.

    Raises UsageError when there is none.
    """
    spec = importlib.util.find_spec(PACKAGE)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / MODEL_FILE
        if os.path.isfile(path):
            return path
    raise UsageError("the transcriber basic-pitch is not installed: ", *HOW_TO_GET_IT)


class OnnxTranscriber:
    """basic-pitch's network on the CPU.

    Raises UsageError when onnxruntime is not installed, or the file is missing or not that network.
    """

    def __init__(self, path: Path | None = None, n_threads: int = 1) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise UsageError(
                "the transcriber needs onnxruntime: run \"pip install '.[evaluate]'\" in a copy of specdiff"
            ) from None
        path = path or find_model()
        try:
            content = path.read_bytes()
        except OSError as error:
            what = f"cannot be read ({error.strerror}); "
            raise UsageError.of("transcriber", path, what, *HOW_TO_GET_IT) from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = n_threads
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
            self._input = self._session.get_inputs()[0].name
            # By name: the file lists its three outputs in another order than the network's own.
            self._outputs = ["StatefulPartitionedCall:1", "StatefulPartitionedCall:2"]
            self._run(np.zeros((1, MODEL_SAMPLES), dtype=np.float32))
        except Exception as error:  # onnxruntime's own exceptions have no common base
            detail = (str(error).splitlines() or [type(error).__name__])[0][:120]
            raise UsageError.of("transcriber", path, f"is not basic-pitch's ONNX file ({detail})") from None
        self.sha256 = hashlib.sha256(content).hexdigest()
        self.is_known = self.sha256 == MODEL_SHA256
        self.name = "basic-pitch (ICASSP 2022)" if self.is_known else f"{path.name} (not basic-pitch 0.4.0's file)"

    def onsets(self, audio: NDArray[np.float32]) -> list[Onset]:
        """Notes in (n_samples,) mono audio at 16 kHz, in order of time."""
        frames, strengths, times_s = self.posteriors(audio)
        return sorted((float(times_s[start]), pitch) for start, _, pitch in decode(frames, strengths))

    def posteriors(
        self, audio: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float64]]:
        """Probabilities that a pitch sounds and that it begins, both (n_frames, 88), and the frames' times in seconds.

        Windows overlap by 30 frames, of which the outer 15 at each side are dropped. A window's step is no multiple of
        its hop, so a frame's time is taken from its own window.
        """
        from scipy.signal import resample_poly

        factor = int(np.gcd(MODEL_RATE_HZ, SAMPLE_RATE_HZ))
        resampled = resample_poly(audio.astype(np.float32), MODEL_RATE_HZ // factor, SAMPLE_RATE_HZ // factor)
        lead_samples = EDGE_FRAMES * MODEL_HOP_SAMPLES
        n_windows = max(1, -(-(len(resampled) + lead_samples) // WINDOW_STEP_SAMPLES))
        padded = np.zeros((n_windows - 1) * WINDOW_STEP_SAMPLES + MODEL_SAMPLES, dtype=np.float32)
        padded[lead_samples : lead_samples + len(resampled)] = resampled[: len(padded) - lead_samples]
        windows = np.lib.stride_tricks.sliding_window_view(padded, MODEL_SAMPLES)[::WINDOW_STEP_SAMPLES]
        parts = [self._run(windows[i : i + BATCH_WINDOWS]) for i in range(0, n_windows, BATCH_WINDOWS)]
        kept = np.arange(EDGE_FRAMES, MODEL_FRAMES - EDGE_FRAMES)
        frames, strengths = (
            np.concatenate([part[side] for part in parts])[:, kept].reshape(-1, N_PITCHES) for side in (0, 1)
        )
        starts = np.arange(n_windows) * WINDOW_STEP_SAMPLES - lead_samples
        times_s = (starts[:, None] + kept * MODEL_HOP_SAMPLES).reshape(-1) / MODEL_RATE_HZ
        is_inside = times_s < len(audio) / SAMPLE_RATE_HZ
        return frames[is_inside], strengths[is_inside], times_s[is_inside]

    def _run(self, windows: NDArray[np.float32]) -> list[Any]:
        """(n, 43844) samples to two arrays (n, 172, 88)."""
        results: list[Any] = self._session.run(self._outputs, {self._input: np.ascontiguousarray(windows)[..., None]})
        if any(result.shape[1:] != (MODEL_FRAMES, N_PITCHES) for result in results):
            raise ValueError("its outputs have another shape")
        return results


def decode(frames: NDArray[np.float32], onsets: NDArray[np.float32]) -> list[tuple[int, int, int]]:
    """Notes in the probabilities that a pitch sounds and that it begins, both (n_frames, 88).

    First every peak of the onsets starts a note, later ones before earlier ones, so that a repeated note does not
    disappear in the one before; then what is left of the frames, the most certain first, gives the notes whose onset
    was not noticed. A note takes its frames from its own pitch and both neighbours. Returns (first frame, frame after
    the last, MIDI pitch).
    """
    left = frames.astype(np.float32)
    strengths = np.maximum(onsets, _rises(frames, peak=float(onsets.max(initial=0.0))))
    is_peak = np.zeros(strengths.shape, dtype=bool)
    is_peak[1:-1] = (strengths[1:-1] > strengths[:-2]) & (strengths[1:-1] > strengths[2:])
    notes = []
    for start, key in np.argwhere(is_peak & (strengths >= ONSET_THRESHOLD))[::-1].tolist():
        end = start + 1 + _reach(left[start + 1 :, key])
        if end - start > SHORTEST_NOTE_FRAMES:
            _take(left, start, end, key)
            notes.append((start, end, key + LOWEST_PITCH))
    certain = np.argwhere(left > FRAME_THRESHOLD)
    for middle, key in certain[np.argsort(-left[certain[:, 0], certain[:, 1]], kind="stable")].tolist():
        if left[middle, key] <= FRAME_THRESHOLD:
            continue  # taken by a more certain one since
        end = middle + 1 + _reach(left[middle + 1 :, key])
        start = middle - _reach(left[:middle, key][::-1])
        _take(left, start, end, key)
        if end - start > SHORTEST_NOTE_FRAMES + 1:  # basic-pitch's own count, whose numbers ours are compared with
            notes.append((start, end, key + LOWEST_PITCH))
    return sorted(notes)


def _rises(frames: NDArray[np.float32], peak: float) -> NDArray[np.float32]:
    """How much louder each frame is than both of the two before it, scaled so that the steepest rise is ``peak``."""
    rises = np.zeros_like(frames)
    rises[2:] = np.minimum(frames[2:] - frames[1:-1], frames[2:] - frames[:-2]).clip(0.0)
    steepest = float(rises.max(initial=0.0))
    return rises * np.float32(peak / steepest) if steepest > 0 else rises


def _reach(probabilities: NDArray[np.float32]) -> int:
    """How many of these frames still belong to a note that sounded before them."""
    sounding = np.flatnonzero(probabilities >= FRAME_THRESHOLD)
    pauses = np.diff(sounding, prepend=-1) - 1
    ends = np.flatnonzero(pauses >= PATIENCE_FRAMES)
    if ends.size:
        sounding = sounding[: ends[0]]
    return int(sounding[-1]) + 1 if sounding.size else 0


def _take(left: NDArray[np.float32], start: int, end: int, key: int) -> None:
    left[start:end, max(0, key - 1) : key + 2] = 0.0
