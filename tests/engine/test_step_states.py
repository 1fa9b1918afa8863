"""What sampling looks like on its way, for whoever asks."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from random_voices import write_voice_folder
from step_vocoder import StepVocoder

from specdiff_cli.audio.mel import from_model_range
from specdiff_cli.engine.synthesizer import Sampling, Song, StepState, Synthesizer
from specdiff_cli.midi.notes import Note
from specdiff_cli.weights.load import load_voice

NOTES = [Note(i / 2, i / 2 + 0.6, 50 + i, 80, 0, False) for i in range(16)]
SAMPLING = Sampling(4, "ddim", "magenta", seed=3)


@pytest.fixture(scope="module")
def synthesizer(tmp_path_factory: pytest.TempPathFactory) -> Synthesizer:
    folder = write_voice_folder(tmp_path_factory.mktemp("voices") / "ours")
    return Synthesizer(load_voice(str(folder)), StepVocoder(), "cpu", "float32")


def states_of(synthesizer: Synthesizer, sampling: Sampling, duration_s: float = 8.0) -> list[StepState]:
    states: list[StepState] = []
    list(synthesizer.stream(NOTES, duration_s, sampling, on_step=states.append))
    return states


@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "dpm++2m"])
def test_every_step_is_shown_from_noise_to_the_result(synthesizer: Synthesizer, sampler: str) -> None:
    sampling = replace(SAMPLING, sampler=sampler)
    states = states_of(synthesizer, sampling)
    assert [(at.window, at.step, at.n_steps) for at in states] == [(w, i, 4) for w in (0, 1) for i in range(5)]
    for at in states:
        assert at.state.shape == at.estimate.shape == (256, 128)
        assert at.state.dtype == at.estimate.dtype == np.float32
    noise = torch.randn(1, 256, 128, generator=torch.Generator().manual_seed(3))
    np.testing.assert_array_equal(states[0].state, from_model_range(noise)[0].numpy())
    mel = synthesizer.spectrogram(NOTES, 8.0, sampling)
    np.testing.assert_array_equal(states[4].state, mel[:256])
    np.testing.assert_array_equal(states[4].estimate, mel[:256])
    np.testing.assert_array_equal(states[9].state[: 400 - 256], mel[256:])
    # The last step ends at the estimate of the state before it.
    np.testing.assert_array_equal(states[3].estimate, mel[:256])


def in_model_range(mel: np.ndarray) -> np.ndarray:
    return np.asarray((mel - np.log(1e-5)) / (4 - np.log(1e-5)) * 2 - 1)


def test_states_and_estimates_are_those_of_the_steps_between_them(synthesizer: Synthesizer) -> None:
    """DDIM by hand: the noise that a state holds beside its estimate is what the next state holds, too.

    The paper's schedule has alpha = cos(pi t / 2), up to its cut at the ends.
    """
    states = states_of(synthesizer, SAMPLING, 5.0)
    for at, after, time in zip(states[1:], states[2:4], (0.75, 0.5), strict=False):
        x, x0 = in_model_range(at.state), in_model_range(at.estimate)
        noise = (x - np.cos(np.pi / 2 * time) * x0) / np.sin(np.pi / 2 * time)
        expected = np.cos(np.pi / 2 * (time - 0.25)) * x0 + np.sin(np.pi / 2 * (time - 0.25)) * noise
        np.testing.assert_allclose(in_model_range(after.state), expected, atol=1e-3)


def test_looking_changes_nothing(synthesizer: Synthesizer) -> None:
    plain = synthesizer.render(NOTES, 8.0, SAMPLING)
    watched = np.concatenate(
        list(synthesizer.stream(NOTES, 8.0, SAMPLING, on_step=lambda at: (at.state, at.estimate)))  # type: ignore[arg-type]
    )
    assert watched.tobytes() == plain.tobytes()


def test_overlapped_windows_show_the_frames_that_are_known(synthesizer: Synthesizer) -> None:
    states = states_of(synthesizer, replace(SAMPLING, overlap_frames=32))
    result, last = states[4].state, states[-2]
    assert (last.window, last.step) == (1, 3)
    known = result[-32:].clip(np.log(1e-5), 4.0)
    noise = 8.0 * np.sin(np.pi / 8)  # more than half the feature range's 15.5 is a standard deviation of 1
    assert np.abs(last.state[:32] - known).mean() < noise
    np.testing.assert_array_equal(states[-1].state[:32], result[-32:])


def test_each_song_of_a_batch_is_shown_to_its_own_listener(synthesizer: Synthesizer) -> None:
    seen: dict[int, list[StepState]] = {0: [], 2: []}
    songs = [
        Song(0, NOTES, 4.0, 3, on_step=seen[0].append),
        Song(1, NOTES, 4.0, 4),
        Song(2, NOTES, 4.0, 5, on_step=seen[2].append),
    ]
    list(synthesizer.stream_many(songs, SAMPLING, batch=3))
    assert [at.step for at in seen[0]] == [at.step for at in seen[2]] == [0, 1, 2, 3, 4]
    for key, seed in ((0, 3), (2, 5)):
        alone = states_of(synthesizer, replace(SAMPLING, seed=seed), 4.0)
        for ours, theirs in zip(seen[key], alone, strict=True):
            np.testing.assert_allclose(ours.state, theirs.state, atol=2e-3)
            np.testing.assert_allclose(ours.estimate, theirs.estimate, atol=2e-3)
