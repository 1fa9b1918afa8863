"""All architectures of the reference render; the autoregressive one decodes frame by frame."""

from pathlib import Path
from threading import Event

import numpy as np
import pytest
import soundfile
import torch
from architectures import ARCHITECTURES, write_architecture_folder
from command_line import specdiff
from midi_files import midi_bytes, note
from step_vocoder import StepVocoder

from specdiff_cli.engine.ahead import Stopped
from specdiff_cli.engine.autoregression import FRAMES_PER_REPORT, AutoregressiveSampler
from specdiff_cli.engine.songs import ActiveSong
from specdiff_cli.engine.synthesizer import FinishedWindow, Progress, Sampling, Song, Synthesizer
from specdiff_cli.midi.notes import Note
from specdiff_cli.midi.windows import tokenize
from specdiff_cli.model.autoregressive_compiled import CompiledAutoregressive
from specdiff_cli.weights.load import load_voice

CPU = torch.device("cpu")


def synthesizer_of(folder: Path) -> Synthesizer:
    return Synthesizer(load_voice(str(folder)), StepVocoder(), CPU, torch.float32)


@pytest.fixture(scope="module")
def autoregressive(tmp_path_factory: pytest.TempPathFactory) -> Synthesizer:
    return synthesizer_of(write_architecture_folder(tmp_path_factory.mktemp("voices") / "frames"))


def scale(duration_s: float, lowest: int = 48) -> list[Note]:
    return [Note(i / 3, i / 3 + 0.5, lowest + i % 24, 80, 0, False) for i in range(int(duration_s * 3))]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_renders_its_first_and_its_later_windows(tmp_path: Path, name: str) -> None:
    """Two songs that differ in the first of three windows: later windows do, where the model has a context."""
    synthesizer = synthesizer_of(write_architecture_folder(tmp_path / name, name))
    audio, mels = [], []
    for extra in ([], [Note(0.5, 1.0, 90, 80, 0, False)]):
        windows: list[np.ndarray] = []
        notes = sorted([*scale(12.0), *extra], key=lambda note: note.start_s)
        chunks = list(synthesizer.stream(notes, 12.0, on_mel=windows.append))
        audio.append(np.concatenate(chunks))
        mels.append(windows)
    assert [len(chunk) for chunk in audio] == [192_000, 192_000]
    assert [window.shape for window in mels[0]] == [(256, 128), (256, 128), (88, 128)]
    assert all(np.isfinite(window).all() and window.std() > 0.01 for window in mels[0])
    assert not np.array_equal(mels[0][0], mels[0][1])
    differs = [not np.array_equal(one, other) for one, other in zip(*mels, strict=True)]
    has_context = ARCHITECTURES[name].has_context
    assert differs == [True, has_context, has_context]


def test_the_seed_changes_nothing(autoregressive: Synthesizer) -> None:
    renders = [
        autoregressive.render(scale(6.0), 6.0, Sampling(256, "autoregressive", "none", 1.0, seed)) for seed in (1, 2)
    ]
    assert renders[0].tobytes() == renders[1].tobytes()


def test_songs_side_by_side_sound_as_they_do_alone(autoregressive: Synthesizer) -> None:
    songs = [Song(0, scale(7.0), 7.0), Song(1, scale(2.0, 60), 2.0), Song(2, scale(5.5, 30), 5.5)]
    parts: dict[int, list[np.ndarray]] = {song.key: [] for song in songs}
    for piece in autoregressive.stream_many(songs, batch=2):
        parts[piece.key].append(piece.audio)
    for song in songs:
        alone = autoregressive.render(song.notes, song.duration_s)
        np.testing.assert_allclose(np.concatenate(parts[song.key]), alone, atol=5e-3)


def test_a_resumed_render_has_the_bytes_of_a_whole_one(autoregressive: Synthesizer) -> None:
    kept: list[FinishedWindow] = []
    whole = np.concatenate(list(autoregressive.stream(scale(12.0), 12.0, on_window=kept.append)))
    assert len(kept) == 3
    again: list[FinishedWindow] = []
    resumed = list(autoregressive.stream(scale(12.0), 12.0, finished=kept[:2], on_window=again.append))
    assert np.concatenate(resumed).tobytes() == whole.tobytes()
    assert [window.noise_state for window in again] == [kept[2].noise_state]


def test_progress_counts_the_frames_of_every_window(autoregressive: Synthesizer) -> None:
    seen: list[Progress] = []
    list(autoregressive.stream(scale(6.0), 6.0, on_progress=seen.append))
    steps = list(range(FRAMES_PER_REPORT, 257, FRAMES_PER_REPORT))
    assert [(at.window, at.step) for at in seen] == [(window, step) for window in (0, 1) for step in steps]
    assert {(at.n_windows, at.n_steps) for at in seen} == {(2, 256)}


def test_stopping_ends_a_window_between_frames(autoregressive: Synthesizer) -> None:
    stop, seen = Event(), []

    def on_progress(at: Progress) -> None:
        seen.append(at.step)
        if at.step >= 3 * FRAMES_PER_REPORT:
            stop.set()

    network = autoregressive.network
    assert isinstance(network, CompiledAutoregressive)
    song = ActiveSong(
        "song", tokenize(scale(5.0), autoregressive.config.vocabulary, total_s=5.0), 1, 0, on_progress=on_progress
    )
    assert song.has_window()
    with pytest.raises(Stopped), torch.inference_mode():
        AutoregressiveSampler(network, stop).sample([song])
    assert seen == [FRAMES_PER_REPORT, 2 * FRAMES_PER_REPORT, 3 * FRAMES_PER_REPORT]


def test_render_takes_a_folder_with_such_a_voice(tmp_path: Path) -> None:
    voice = write_architecture_folder(tmp_path / "voice")
    song = tmp_path / "song.mid"
    song.write_bytes(midi_bytes([*note(0, 480, 0, 60), *note(480, 960, 0, 64)]))
    output = tmp_path / "song.wav"
    arguments = ["render", str(song), "--model", str(voice), "--output", str(output)]
    result = specdiff(*arguments)
    assert result.exit_code == 0, result.output
    assert "frame by frame" in result.stderr
    audio, rate_hz = soundfile.read(output)
    assert rate_hz == 16_000
    assert len(audio) >= 16_000
    assert np.abs(audio).max() > 0.001
    refused = specdiff(*arguments, "--overwrite", "--steps", "10")
    assert refused.exit_code == 2
    assert "autoregressive" in refused.stderr
