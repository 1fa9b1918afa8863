"""Onset scores, worked out by hand and against brute force; notes in synthetic probabilities."""

import math
from pathlib import Path

import numpy as np
import pytest

from specdiff_cli.errors import UsageError
from specdiff_cli.evaluation.transcriber import MODEL_SAMPLES, OnnxTranscriber, decode, find_model, onset_scores


def test_onsets_hand_worked() -> None:
    reference = [(1.0, 60), (2.0, 60), (3.0, 64)]
    estimated = [(1.04, 60), (2.06, 60), (3.0, 65), (3.02, 64)]
    scores = onset_scores(reference, estimated)
    assert (scores.precision, scores.recall) == (2 / 4, 2 / 3)
    assert scores.f1 == pytest.approx(4 / 7)


def test_onsets_need_the_largest_matching() -> None:
    # The nearest partner of the first note is the only one of the second: a greedy pairing finds one pair, not two.
    scores = onset_scores([(1.04, 60), (1.08, 60)], [(1.0, 60), (1.05, 60)])
    assert scores.f1 == 1.0


def test_one_report_serves_one_note() -> None:
    scores = onset_scores([(1.0, 60), (1.01, 60)], [(1.0, 60)])
    assert (scores.precision, scores.recall) == (1.0, 0.5)


def test_onset_exactly_at_the_tolerance_counts() -> None:
    assert onset_scores([(0.1, 60)], [(0.15, 60)]).f1 == 1.0
    assert onset_scores([(0.1, 60)], [(0.1502, 60)]).f1 == 0.0


def test_empty_lists() -> None:
    assert onset_scores([], []).f1 == 1.0
    assert onset_scores([(0.0, 60)], []).f1 == 0.0
    assert onset_scores([], [(0.0, 60)]).f1 == 0.0


def test_matching_equals_brute_force() -> None:
    rng = np.random.default_rng(1)
    for _ in range(200):
        reference = [(float(t), 60) for t in rng.uniform(0, 0.4, rng.integers(1, 6))]
        estimated = [(float(t), 60) for t in rng.uniform(0, 0.4, rng.integers(1, 6))]
        recall = onset_scores(reference, estimated).recall
        assert math.isclose(recall * len(reference), _largest([r[0] for r in reference], [e[0] for e in estimated]))


def _largest(reference_s: list[float], estimated_s: list[float]) -> int:
    if not reference_s:
        return 0
    best = _largest(reference_s[1:], estimated_s)
    for k, onset_s in enumerate(estimated_s):
        if abs(onset_s - reference_s[0]) <= 0.05:
            best = max(best, 1 + _largest(reference_s[1:], estimated_s[:k] + estimated_s[k + 1 :]))
    return best


def silence(n_frames: int = 100) -> tuple[np.ndarray, np.ndarray]:
    """Frame and onset probabilities of nothing."""
    return np.zeros((n_frames, 88), np.float32), np.zeros((n_frames, 88), np.float32)


def strike(frames: np.ndarray, onsets: np.ndarray, start: int, end: int, pitch: int, sureness: float = 0.8) -> None:
    """A note as the network would report it."""
    frames[start:end, pitch - 21] = sureness
    onsets[start, pitch - 21] = sureness


def test_silence_holds_no_notes() -> None:
    assert decode(*silence()) == []


def test_notes_are_found_where_they_were_struck() -> None:
    frames, onsets = silence()
    strike(frames, onsets, 10, 30, 60)
    strike(frames, onsets, 10, 45, 67)
    strike(frames, onsets, 50, 80, 21)
    strike(frames, onsets, 50, 80, 108)
    assert decode(frames, onsets) == [(10, 30, 60), (10, 45, 67), (50, 80, 21), (50, 80, 108)]


def test_a_repeated_note_is_two_notes() -> None:
    frames, onsets = silence()
    strike(frames, onsets, 10, 40, 60)
    strike(frames, onsets, 40, 70, 60)
    assert [start for start, _, _ in decode(frames, onsets)] == [10, 40]


def test_short_noises_are_no_notes() -> None:
    frames, onsets = silence()
    strike(frames, onsets, 10, 21, 60)  # 11 frames
    strike(frames, onsets, 50, 62, 60)  # 12 frames
    assert decode(frames, onsets) == [(50, 62, 60)]


def test_a_note_survives_a_short_dropout_and_ends_at_a_long_one() -> None:
    frames, onsets = silence()
    strike(frames, onsets, 10, 70, 60)
    frames[40:70, 60 - 21] = np.linspace(0.31, 0.8, 30)  # comes back softly: a step would be a new onset
    frames[30:40, 60 - 21] = 0.1  # 10 frames below the threshold
    assert decode(frames, onsets) == [(10, 70, 60)]
    frames[30:41, 60 - 21] = 0.1  # one frame more
    assert (10, 30, 60) in decode(frames, onsets)


def test_an_unnoticed_onset_is_found_from_the_frames() -> None:
    frames, onsets = silence()
    frames[10:40, 60 - 21] = np.hanning(32)[1:-1] + 0.3  # swells and fades: no onset at all
    found = decode(frames, onsets)
    assert [(start, pitch) for start, _, pitch in found] == [(10, 60)]


def test_a_neighbouring_semitone_does_not_count_again() -> None:
    frames, onsets = silence()
    strike(frames, onsets, 10, 40, 60)
    frames[11:39, 61 - 21] = 0.4  # the same sound, spilling over
    assert decode(frames, onsets) == [(10, 40, 60)]


def test_a_missing_package_is_one_line_that_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="pip install --no-deps basic-pitch") as error:
        find_model()
    assert "\n" not in str(error.value)


def test_the_file_is_found_in_the_package_without_importing_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "basic_pitch" / "saved_models" / "icassp_2022" / "nmp.onnx"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"")
    (tmp_path / "basic_pitch" / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert find_model() == path


@pytest.mark.parametrize("content", [b"not a network", None])
def test_a_bad_model_file_is_one_line(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "model.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=r"model\.onnx") as error:
        OnnxTranscriber(path)
    assert "\n" not in str(error.value)


class CountingSession:
    """In the network's place: reports, for each frame, the sample in its middle of a window of sample numbers."""

    def run(self, outputs: list[str], inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        (windows,) = inputs.values()
        assert windows.shape[1:] == (MODEL_SAMPLES, 1)
        at = np.arange(172) * 256
        frames = np.repeat(windows[:, np.minimum(at, MODEL_SAMPLES - 1)], 88, axis=2)
        return [frames, frames]


def test_a_frames_time_is_that_of_its_samples() -> None:
    ear = object.__new__(OnnxTranscriber)
    ear._session, ear._input, ear._outputs = CountingSession(), "x", ["frames", "onsets"]
    audio = np.linspace(-5.0, 5.0, 160_000, endpoint=False, dtype=np.float32)  # the value is the time less 5 s
    frames, _, times_s = ear.posteriors(audio)
    inner = (times_s > 0.1) & (times_s < 9.9)  # resampling rings at the two ends
    assert np.abs(frames[inner, 0] + 5.0 - times_s[inner]).max() < 5e-3  # a frame is 11.6 ms
    assert times_s[0] == 0.0
    assert 9.98 < times_s[-1] < 10.0
    assert np.diff(times_s).max() < 0.012  # no gap between windows
