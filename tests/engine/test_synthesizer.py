import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from random_voices import REFERENCE_LIKE, WITHOUT_CONTEXT, write_diffusers_folder, write_voice_folder
from step_vocoder import StepVocoder

from specdiff_cli.audio.griffin_lim import GriffinLim
from specdiff_cli.audio.vocoder import LEAD_FRAMES
from specdiff_cli.constants import HOP_SAMPLES, LOG_MEL_MIN, WINDOW_FRAMES, WINDOW_S
from specdiff_cli.engine.denoising import DiffusionSampler
from specdiff_cli.engine.songs import ActiveSong, sample_all
from specdiff_cli.engine.synthesizer import Progress, Sampling, Synthesizer
from specdiff_cli.midi.notes import Note
from specdiff_cli.midi.windows import TokenWindow, tokenize
from specdiff_cli.model.compiled import CompiledNetwork, Memory
from specdiff_cli.weights.load import load_voice

CPU = torch.device("cpu")
TWO_STEPS = Sampling(steps=2, sampler="ddpm", schedule="discrete", seed=3)
GOLDEN = Path(__file__).parents[1] / "golden" / "diffusers_mel.json"


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Synthesizer:
    folder = write_voice_folder(tmp_path_factory.mktemp("voices") / "ours")
    return Synthesizer(load_voice(str(folder)), StepVocoder(), CPU, torch.float32)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Synthesizer:
    folder = write_diffusers_folder(tmp_path_factory.mktemp("voices") / "reference", REFERENCE_LIKE)
    return Synthesizer(load_voice(str(folder)), StepVocoder(), CPU, torch.float32)


def scale(duration_s: float) -> list[Note]:
    """A note every half second, each held over the next, on piano, with a bass drum on the beat."""
    notes = []
    for i in range(int(duration_s * 2)):
        notes.append(Note(i / 2, min(i / 2 + 0.7, duration_s), 48 + i % 24, 40 + i % 60, 0, False))
    notes.append(Note(0.0, 0.2, 36, 100, 0, True))
    return notes


def mel_of(
    synthesizer: Synthesizer, notes: list[Note], duration_s: float, sampling: Sampling = TWO_STEPS
) -> np.ndarray:
    return synthesizer.spectrogram(notes, duration_s, sampling)


def audio_of(synthesizer: Synthesizer, duration_s: float, sampling: Sampling = TWO_STEPS) -> np.ndarray:
    return np.concatenate(list(synthesizer.stream(scale(duration_s), duration_s, sampling)))


def test_the_length_is_the_duration_to_the_sample(ours: Synthesizer) -> None:
    for duration_s in (0.00001, 0.5, 5.12, 5.13, 11.3):
        assert len(audio_of(ours, duration_s)) == max(1, round(16_000 * duration_s))


def test_same_seed_same_bytes_other_seed_other_bytes(ours: Synthesizer) -> None:
    first = audio_of(ours, 6.0)
    assert first.tobytes() == audio_of(ours, 6.0).tobytes()
    assert first.tobytes() != audio_of(ours, 6.0, Sampling(2, "ddpm", "discrete", seed=4)).tobytes()


def test_the_spectrogram_is_handed_over_and_is_what_is_inverted(ours: Synthesizer) -> None:
    mels: list[np.ndarray] = []
    chunks = list(ours.stream(scale(7.0), 7.0, TWO_STEPS, on_mel=mels.append))
    mel = np.concatenate(mels)
    assert mel.shape == (350, 128)
    assert mel.dtype == np.float32
    assert [len(m) for m in mels] == [256, 94]
    heard = np.concatenate(chunks).reshape(-1, HOP_SAMPLES)[:, 0]
    np.testing.assert_allclose(heard, np.maximum(mel[:, 0], np.log(1e-5)), atol=1e-6)


def test_audio_arrives_while_later_windows_are_still_to_come(ours: Synthesizer) -> None:
    windows_done: list[int] = []
    stream = ours.stream(scale(20.0), 20.0, TWO_STEPS, on_progress=lambda at: windows_done.append(at.window))
    first = next(stream)
    assert len(first) > 0
    assert max(windows_done) == 0
    stream.close()


def test_progress_counts_every_step_of_every_window(ours: Synthesizer) -> None:
    seen: list[Progress] = []
    list(ours.stream(scale(6.0), 6.0, TWO_STEPS, on_progress=seen.append))
    assert [(p.window, p.step) for p in seen] == [(0, 1), (0, 2), (1, 1), (1, 2)]
    assert {(p.n_windows, p.n_steps) for p in seen} == {(2, 2)}


def test_the_previous_window_is_the_context_of_the_next(reference: Synthesizer) -> None:
    """Two songs that differ in their first window only: with a context the second windows differ, too."""
    song = [Note(5.5, 6.0, 60, 80, 0, False)]
    other = [Note(0.5, 1.0, 72, 80, 0, False), *song]
    mels = [mel_of(reference, notes, 8.0) for notes in (song, other)]
    assert np.abs(mels[0][256:] - mels[1][256:]).max() > 1e-3


def test_without_context_windows_are_independent(tmp_path: Path) -> None:
    voice = load_voice(str(write_diffusers_folder(tmp_path / "voice", WITHOUT_CONTEXT)))
    synthesizer = Synthesizer(voice, StepVocoder(), CPU, torch.float32)
    song = [Note(5.5, 6.0, 60, 80, 0, False)]
    other = [Note(0.5, 1.0, 72, 80, 0, False), *song]
    mels = [mel_of(synthesizer, notes, 8.0) for notes in (song, other)]
    assert np.abs(mels[0][:256] - mels[1][:256]).max() > 1e-3
    assert np.array_equal(mels[0][256:], mels[1][256:])


def test_guidance_zero_ignores_the_notes_and_two_does_not(ours: Synthesizer) -> None:
    def mel(notes: list[Note], guidance: float) -> np.ndarray:
        return mel_of(ours, notes, 4.0, Sampling(2, "ddim", "magenta", guidance, 0))

    quiet, loud = [Note(1.0, 2.0, 60, 20, 0, False)], [Note(1.0, 2.0, 72, 120, 0, False)]
    assert np.array_equal(mel(quiet, 0.0), mel(loud, 0.0))
    assert not np.array_equal(mel(quiet, 2.0), mel(loud, 2.0))


def test_guidance_is_applied_in_its_interval_alone(ours: Synthesizer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the times 1, 0.75, 0.5 and 0.25 two lie between 0.5 and 0.75: those steps evaluate twice the rows."""
    rows: list[int] = []
    decode = CompiledNetwork.decode

    def counted(self: CompiledNetwork, x: torch.Tensor, film: torch.Tensor, memory: Memory) -> torch.Tensor:
        rows.append(len(x))
        return decode(self, x, film, memory)

    monkeypatch.setattr(CompiledNetwork, "decode", counted)

    def mel(guidance: float, interval: tuple[float, float]) -> np.ndarray:
        rows.clear()
        return mel_of(ours, scale(4.0), 4.0, Sampling(4, "ddim", "magenta", guidance, 0, interval))

    everywhere = mel(2.0, (0.0, 1.0))
    assert rows == [2, 2, 2, 2]
    within = mel(2.0, (0.5, 0.75))
    assert rows == [1, 2, 2, 1]
    nowhere = mel(2.0, (0.01, 0.2))
    assert rows == [1, 1, 1, 1]
    assert np.array_equal(nowhere, mel(1.0, (0.0, 1.0)))
    assert not np.array_equal(within, everywhere)
    assert not np.array_equal(within, nowhere)


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_inner_features_are_reused_in_some_steps_alone(
    ours: Synthesizer, monkeypatch: pytest.MonkeyPatch, guidance: float
) -> None:
    asked: list[bool] = []
    decode = CompiledNetwork.decode

    def counted(self: CompiledNetwork, *given: object, reuses: bool = False) -> torch.Tensor:
        asked.append(reuses)
        return decode(self, *given, reuses=reuses)  # type: ignore[arg-type]

    monkeypatch.setattr(CompiledNetwork, "decode", counted)
    sampling = Sampling(steps=6, sampler="unipc", schedule="magenta", guidance=guidance)
    whole = mel_of(ours, scale(5.0), 5.0, sampling)
    assert asked == 6 * [False]
    asked.clear()
    reusing = mel_of(ours, scale(5.0), 5.0, replace(sampling, reuse_every=2))
    assert asked == [False, True, False, True, False, False]
    # These networks have no inner blocks: two blocks are the ends.
    np.testing.assert_allclose(reusing, whole, atol=1e-4)


def test_windows_are_pulled_one_at_a_time(ours: Synthesizer) -> None:
    """Memory cannot grow with the song if the next window is asked for only when the last one is done."""
    pulled: list[int] = []

    def windows() -> Iterator[TokenWindow]:
        for window in tokenize(scale(60.0), ours.config.vocabulary):
            pulled.append(window.index)
            yield window

    assert isinstance(ours.network, CompiledNetwork)
    sampled = sample_all([ActiveSong(0, windows(), 12, 3)], DiffusionSampler(ours.network, ours.config, TWO_STEPS))
    for count in (1, 2, 3):
        next(sampled)
        assert len(pulled) == count


@pytest.mark.parametrize("overlap_frames", [0, 64])
def test_griffin_lim_streams_without_a_seam(ours: Synthesizer, overlap_frames: int) -> None:
    """Streamed audio equals the inversion of the whole song, which silence precedes: no click, no seam."""
    synthesizer = Synthesizer(ours.voice, GriffinLim(n_iterations=4), CPU, torch.float32)
    mels: list[np.ndarray] = []
    sampling = replace(TWO_STEPS, overlap_frames=overlap_frames)
    streamed = np.concatenate(list(synthesizer.stream(scale(12.0), 12.0, sampling, on_mel=mels.append)))
    silence = np.full((LEAD_FRAMES, 128), LOG_MEL_MIN, np.float32)
    whole = GriffinLim(n_iterations=4).invert(torch.from_numpy(np.concatenate([silence, *mels])), 0).numpy()
    whole = whole[LEAD_FRAMES * HOP_SAMPLES :]
    np.testing.assert_allclose(streamed, whole[: len(streamed)], atol=1e-4)


def test_equals_the_diffusers_pipeline(reference: Synthesizer) -> None:
    """Golden values computed once by the Diffusers 0.31 pipeline on the same weights, song and seed (10 steps)."""
    golden = json.loads(GOLDEN.read_text())
    notes = [Note(*note) for note in golden["notes"]]
    sampling = Sampling(steps=10, sampler="ddpm", schedule="discrete", guidance=1.0, seed=0)
    mel = mel_of(reference, notes, 2 * WINDOW_S, sampling)
    assert mel.shape == (2 * WINDOW_FRAMES, 128)
    expected = np.array(golden["mel"], dtype=np.float32)
    stride_frames, stride_bands = golden["strides"]
    assert np.abs(mel[::stride_frames, ::stride_bands] - expected).mean() < 1e-3
