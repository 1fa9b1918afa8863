"""A voice of note templates, from a folder to sound, with random weights."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from specdiff_cli.diffusion.sampling import TEMPLATES_SAMPLING
from specdiff_cli.engine.synthesizer import Sampling, Synthesizer
from specdiff_cli.engine.vocoders import load_vocoder
from specdiff_cli.errors import UsageError, WeightsError
from specdiff_cli.midi.expression import ChannelExpression, Curve
from specdiff_cli.midi.notes import Note
from specdiff_cli.model.note_function import NoteFunction, note_function_config
from specdiff_cli.weights.load import Voice, load_voice, load_voice_folder
from specdiff_cli.weights.voice_file import FEATURES, VocoderSpec, VoiceFile, write_voice_file

NOTES = [Note(0.1, 0.6, 60, 90, 97, False), Note(5.0, 6.0, 64, 60, 40, False), Note(0.5, 0.6, 38, 100, 0, True, 9)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from safetensors.torch import save_file

    made = tmp_path_factory.mktemp("voices") / "mine"
    made.mkdir()
    network = NoteFunction(note_function_config((0, 25)))
    network.initialise(torch.Generator().manual_seed(0))
    torch.nn.init.constant_(network.fade.bias, 40.0)
    save_file({name: tensor.half() for name, tensor in network.state_dict().items()}, made / "model.safetensors")
    write_voice_file(
        made / "voice.toml",
        VoiceFile(
            name="mine",
            description="random templates",
            license="Apache-2.0",
            model=network.config,
            sampling=TEMPLATES_SAMPLING,
            vocoder=VocoderSpec("partials"),
            programs=tuple(range(128)),
            plays_drums=True,
            prefers_bfloat16=False,
            features=FEATURES,
        ),
    )
    return made


@pytest.fixture
def voice(folder: Path) -> Voice:
    return load_voice_folder(folder)


def test_windows_add_up_to_what_the_whole_song_does(voice: Voice) -> None:
    synthesizer = Synthesizer(voice, device="cpu", dtype="float32")
    mel = synthesizer.spectrogram(NOTES, 7.0)
    assert mel.shape == (350, 128)
    alone = synthesizer.spectrogram(NOTES[1:2], 7.0)
    np.testing.assert_allclose(mel[260:], alone[260:], atol=1e-4)  # the others have faded
    assert mel[10].mean() > alone[10].mean()


def test_the_seed_changes_nothing_and_steps_are_refused(voice: Voice) -> None:
    synthesizer = Synthesizer(voice, device="cpu", dtype="float32")
    first = synthesizer.spectrogram(NOTES, 6.5, replace(synthesizer.sampling, seed=1))
    assert np.array_equal(first, synthesizer.spectrogram(NOTES, 6.5, replace(synthesizer.sampling, seed=2)))
    with pytest.raises(UsageError, match="the voice mine adds up note templates: it has no diffusion steps"):
        synthesizer.spectrogram(NOTES, 6.5, Sampling(4, "ddim", "magenta"))


def test_every_program_is_played_as_written(voice: Voice) -> None:
    notes, messages = Synthesizer(voice, device="cpu", dtype="float32").playable(NOTES)
    assert notes == NOTES
    assert messages == []


@pytest.mark.parametrize(("rate_hz", "n_channels"), [(16_000, 1), (44_100, 2)])
def test_its_notes_become_sound_at_any_of_the_rates(voice: Voice, rate_hz: int, n_channels: int) -> None:
    synthesizer = Synthesizer(voice, device="cpu", dtype="float32", sample_rate_hz=rate_hz, n_channels=n_channels)
    assert synthesizer.vocoder.name == "partials"
    assert (synthesizer.sample_rate_hz, synthesizer.n_channels) == (rate_hz, n_channels)
    pieces = list(synthesizer.stream(NOTES, 6.5))
    audio = np.concatenate(pieces)
    assert audio.shape == ((round(6.5 * rate_hz), 2) if n_channels == 2 else (round(6.5 * rate_hz),))
    assert audio.dtype == np.float32
    assert np.isfinite(audio).all()
    onset = round(0.1 * rate_hz)
    loud = np.abs(audio[onset : 3 * onset]).max()
    assert np.abs(audio[: onset - rate_hz // 50]).max() < 2e-3 * loud  # nothing is heard before the first note
    np.testing.assert_array_equal(audio, synthesizer.render(NOTES, 6.5))


def test_a_songs_expression_is_heard_and_that_of_other_channels_is_not(voice: Voice) -> None:
    synthesizer = Synthesizer(voice, device="cpu", dtype="float32")
    plain = synthesizer.render(NOTES[:1], 1.0)
    soft = ChannelExpression(gain=Curve.constant(0.1))

    def heard(part: tuple[int, int]) -> np.ndarray:
        return np.concatenate(list(synthesizer.stream(NOTES[:1], 1.0, expression={part: soft})))

    np.testing.assert_allclose(heard((0, 5)), plain, atol=1e-5)
    ratio = np.square(heard((0, 0))[3000:8000]).sum() / np.square(plain[3000:8000]).sum()
    assert 10 * np.log10(ratio) == pytest.approx(-20, abs=0.5)


def test_spectrograms_without_notes_go_through_the_other_vocoder(voice: Voice) -> None:
    synthesizer = Synthesizer(voice, device="cpu", dtype="float32")
    assert synthesizer.mel_vocoder.name == "griffin-lim"
    assert synthesizer.vocode(np.full((20, 128), -2.0, np.float32)).shape == (6400,)
    with pytest.raises(UsageError, match="partials: needs notes"):
        load_vocoder(voice, "partials")


def test_rates_without_tables_are_refused(voice: Voice) -> None:
    with pytest.raises(ValueError, match="is not one of 16000, 44100, 48000 Hz"):
        Synthesizer(voice, device="cpu", dtype="float32", sample_rate_hz=22_050)


def test_other_precisions_are_refused_in_a_line(voice: Voice) -> None:
    with pytest.raises(UsageError, match="dtype bfloat16: the voice mine computes in float32; leave it out"):
        Synthesizer(voice, device="cpu", dtype="bfloat16")


def test_sizes_of_another_version_are_refused(folder: Path, tmp_path: Path) -> None:
    text = (folder / "voice.toml").read_text().replace("d_ff = 1024", "d_ff = 1000")
    (tmp_path / "voice.toml").write_text(text)
    with pytest.raises(WeightsError, match="no network has these sizes"):
        load_voice_folder(tmp_path)
    (tmp_path / "voice.toml").write_text(text.replace("kits = [0, 25]", "kits = [0, 128]"))
    with pytest.raises(WeightsError, match="must be drum programs"):
        load_voice_folder(tmp_path)


def test_a_song_has_the_same_bytes_after_another_that_shares_its_notes() -> None:
    rising = [Note(0.3 * k, 0.3 * k + 0.8, 48 + 5 * k, 90, 0, False) for k in range(9)]
    falling = [Note(0.25 * k, 0.25 * k + 0.5, 88 - 5 * k, 90, program, False) for k in range(9) for program in (0, 24)]
    alone = [Synthesizer(load_voice("tiny")).render(notes, duration_s=4.0) for notes in (rising, falling)]
    synthesizer = Synthesizer(load_voice("tiny"))
    after = [synthesizer.render(notes, duration_s=4.0) for notes in (falling, rising)]
    np.testing.assert_array_equal(after[1], alone[0])
    np.testing.assert_array_equal(after[0], alone[1])
