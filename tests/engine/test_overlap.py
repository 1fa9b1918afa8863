"""Overlapped windows: each begins with the last frames of the one before, which stay as they are."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from random_voices import write_diffusers_folder, write_voice_folder
from step_vocoder import StepVocoder

from specdiff_cli.audio.mel import from_model_range, to_model_range
from specdiff_cli.constants import HOP_SAMPLES, LOG_MEL_MIN
from specdiff_cli.engine.denoising import _as_sampled
from specdiff_cli.engine.synthesizer import FinishedWindow, Progress, Sampling, Song, Synthesizer
from specdiff_cli.errors import UsageError
from specdiff_cli.midi.notes import Note
from specdiff_cli.model.compiled import CompiledNetwork, Memory
from specdiff_cli.weights.load import load_voice

OVERLAP = 40
SAMPLING = Sampling(3, "ddpm", "magenta", seed=2, overlap_frames=OVERLAP)
DURATION_S = 14.0  # 700 frames: windows begin at 0, 216, 432 and 648; three would do without overlap


@pytest.fixture(scope="module", params=["ours", "reference"])
def synthesizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Synthesizer:
    folder = tmp_path_factory.mktemp("voices") / request.param
    folder = write_voice_folder(folder) if request.param == "ours" else write_diffusers_folder(folder, gain=0.1)
    return Synthesizer(load_voice(str(folder)), StepVocoder(), "cpu", "float32")


def scale(duration_s: float) -> list[Note]:
    return [Note(i / 3, i / 3 + 0.5, 40 + i * 5 % 40, 80, 0, False) for i in range(int(duration_s * 3))]


NOTES = scale(DURATION_S)


def windows_of(
    synthesizer: Synthesizer, sampling: Sampling, finished: Sequence[FinishedWindow] = ()
) -> tuple[list[FinishedWindow], list[np.ndarray], np.ndarray]:
    """The windows that were sampled, the spectrograms that were handed over, and the audio."""
    windows: list[FinishedWindow] = []
    mels: list[np.ndarray] = []
    audio = synthesizer.stream(
        NOTES, DURATION_S, sampling, finished=finished, on_window=windows.append, on_mel=mels.append
    )
    return windows, mels, np.concatenate(list(audio))


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpm++2m"])
def test_a_window_begins_with_the_end_of_the_one_before(synthesizer: Synthesizer, sampler: str) -> None:
    windows, mels, audio = windows_of(synthesizer, replace(SAMPLING, sampler=sampler))
    assert len(windows) == 4 == synthesizer.count_windows(DURATION_S, OVERLAP)
    assert synthesizer.count_windows(DURATION_S) == 3
    for before, after in zip(windows, windows[1:], strict=False):
        assert after.mel.shape == (256, 128)
        assert np.array_equal(after.mel[:OVERLAP], before.mel[-OVERLAP:])
    # Each frame leaves once: all of the first window, then what is new, cut to the song.
    assert [len(mel) for mel in mels] == [256, 216, 216, 12]
    whole = np.concatenate([windows[0].mel, *(window.mel[OVERLAP:] for window in windows[1:])])[:700]
    assert np.array_equal(np.concatenate(mels), whole)
    assert np.array_equal(synthesizer.spectrogram(NOTES, DURATION_S, replace(SAMPLING, sampler=sampler)), whole)
    assert len(audio) == 700 * HOP_SAMPLES
    np.testing.assert_allclose(audio[::HOP_SAMPLES], np.maximum(whole[:, 0], LOG_MEL_MIN), atol=1e-6)


def test_the_number_of_windows() -> None:
    for n_frames, overlap, expected in (
        (1, 64, 1),
        (256, 64, 1),
        (257, 64, 2),
        (448, 64, 2),
        (449, 64, 3),
        (512, 0, 2),
    ):
        assert Synthesizer.count_windows(n_frames / 50, overlap) == expected


def test_what_a_window_sees(synthesizer: Synthesizer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Context: the 256 frames directly before the window, silence before the song. Known: its first frames."""
    contexts: list[torch.Tensor | None] = []
    states: list[torch.Tensor] = []
    remember, decode = CompiledNetwork.remember, CompiledNetwork.decode

    def remembered(self: CompiledNetwork, tokens: object, given: Sequence[torch.Tensor | None], rest: object) -> Memory:
        contexts.extend(given)
        return remember(self, tokens, given, rest)  # type: ignore[arg-type]

    def decoded(self: CompiledNetwork, x: torch.Tensor, film: torch.Tensor, memory: Memory) -> torch.Tensor:
        states.append(x)
        return decode(self, x, film, memory)

    monkeypatch.setattr(CompiledNetwork, "remember", remembered)
    monkeypatch.setattr(CompiledNetwork, "decode", decoded)
    mel = torch.from_numpy(synthesizer.spectrogram(NOTES, DURATION_S, replace(SAMPLING, sampler="ddim")))
    assert contexts[0] is None
    silence = torch.full((OVERLAP, 128), -1.0)
    for context, start in zip(contexts[1:], (216, 432, 648), strict=True):
        assert context is not None
        expected = torch.cat([silence, to_model_range(mel)])[start - 256 + OVERLAP : start + OVERLAP]
        torch.testing.assert_close(context[0], expected)
    # The last of three magenta steps begins at time 1/3, where log alpha^2/sigma^2 = -2 ln tan(pi / 6) almost exactly.
    noise = states[3][0, :OVERLAP]  # the second window's first state: alpha is 4.5e-5 there
    assert torch.allclose(
        states[5][0, :OVERLAP],
        0.75**0.5 * to_model_range(mel[216:256]) + 0.25**0.5 * noise,
        atol=1e-3,
    )


@pytest.mark.parametrize("n_finished", [1, 2, 3])
def test_a_resumed_song_is_the_uninterrupted_one(synthesizer: Synthesizer, n_finished: int) -> None:
    windows, _, audio = windows_of(synthesizer, SAMPLING)
    rest, _, again = windows_of(synthesizer, SAMPLING, windows[:n_finished])
    assert again.tobytes() == audio.tobytes()
    assert [window.mel.tobytes() for window in rest] == [window.mel.tobytes() for window in windows[n_finished:]]


def test_side_by_side_equals_alone(synthesizer: Synthesizer) -> None:
    """Songs begin and end at different times, so that first windows stand beside later ones."""
    songs = [Song(i, NOTES[i:], DURATION_S - 4 * i, seed=i) for i in range(4)]
    audio: dict[int, list[np.ndarray]] = {song.key: [] for song in songs}
    for piece in synthesizer.stream_many(songs, SAMPLING, batch=2):
        audio[piece.key].append(piece.audio)
    for song in songs:
        alone = synthesizer.render(song.notes, song.duration_s, replace(SAMPLING, seed=song.seed))
        np.testing.assert_allclose(np.concatenate(audio[song.key]), alone, atol=2e-3)


def test_progress_counts_the_windows_that_there_are(synthesizer: Synthesizer) -> None:
    seen: list[Progress] = []
    list(synthesizer.stream(NOTES, DURATION_S, SAMPLING, on_progress=seen.append))
    assert [(at.window, at.n_windows) for at in seen] == [(i, 4) for i in range(4) for _ in range(3)]


def test_known_frames_of_voices_with_templates_are_residuals() -> None:
    """What is put into the sampler's state comes out as the spectrogram that was known, whatever the notes say."""
    base = torch.rand(1, 256, 128) * 2 - 1
    memory = Memory([], [], None, None, base)
    known = from_model_range(torch.rand(1, OVERLAP, 128) * 2 - 1)
    sampled = torch.zeros(1, 256, 128)
    sampled[:, :OVERLAP] = _as_sampled(known, memory)
    torch.testing.assert_close(from_model_range(memory.spectrogram(sampled))[:, :OVERLAP], known, atol=1e-4, rtol=0)


@pytest.mark.parametrize("n_frames", [-1, 129])
def test_more_than_half_a_window_is_refused(n_frames: int) -> None:
    with pytest.raises(UsageError, match=f"overlap_frames {n_frames}: must be between 0 and 128"):
        replace(SAMPLING, overlap_frames=n_frames)
