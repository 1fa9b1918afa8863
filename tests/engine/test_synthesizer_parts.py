"""Parts of a synthesizer can be shared, swapped and left to their defaults."""

import gc
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from architectures import write_architecture_folder
from midi_files import midi_bytes, note
from random_voices import write_voice_folder
from step_vocoder import StepVocoder

import specdiff_cli
from specdiff_cli.constants import HOP_SAMPLES
from specdiff_cli.diffusion.samplers import SAMPLERS, ddim
from specdiff_cli.diffusion.sampling import AUTOREGRESSIVE_SAMPLING
from specdiff_cli.diffusion.schedules import magenta
from specdiff_cli.engine.synthesizer import Sampling, Synthesizer
from specdiff_cli.errors import MidiError, UsageError
from specdiff_cli.midi.notes import Note, read_midi
from specdiff_cli.weights.load import Voice, load_voice

CHORD = [Note(0.0, 1.0, pitch, 80, 0, False) for pitch in (60, 64, 67)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_voice_folder(tmp_path_factory.mktemp("voices") / "ours")


@pytest.fixture(scope="module")
def voice(folder: Path) -> Voice:
    return load_voice(str(folder))


@pytest.fixture(scope="module")
def synthesizer(voice: Voice) -> Synthesizer:
    return Synthesizer(voice, StepVocoder(), "cpu", "float32")


def test_a_voice_alone_is_enough(folder: Path) -> None:
    synthesizer = Synthesizer(load_voice(str(folder)))
    assert synthesizer.vocoder.name == "griffin-lim"  # what the folder says
    assert synthesizer.dtype == torch.float32  # the voice was not made for bfloat16
    assert synthesizer.sampling == Sampling(steps=2, sampler="ddim", schedule="magenta", guidance=1.0, seed=0)


def test_what_is_left_out_is_the_voices_own(synthesizer: Synthesizer) -> None:
    audio = synthesizer.render(CHORD)
    assert len(audio) == 2 * 16_000  # a second after the last note
    given = synthesizer.render(CHORD, 2.0, Sampling(2, "ddim", "magenta", 1.0, 0))
    assert audio.tobytes() == given.tobytes()


def test_files_songs_and_notes(synthesizer: Synthesizer, tmp_path: Path) -> None:
    """The voice plays the piano only: of files and songs, other instruments become pianos and drums are left out."""
    path = tmp_path / "song.mid"
    path.write_bytes(midi_bytes([*note(0, 480, 0, 60), *note(480, 960, 9, 38)]))
    song = read_midi(path)
    assert len(song.notes) == 2
    notes, changes = synthesizer.playable(song.notes)
    assert [item.pitch for item in notes] == [60]
    assert len(changes) == 1
    audio = synthesizer.render(path)
    assert audio.tobytes() == synthesizer.render(str(path)).tobytes() == synthesizer.render(song).tobytes()
    assert audio.tobytes() == synthesizer.render(notes).tobytes()
    path.write_bytes(midi_bytes(note(0, 480, 9, 38)))
    with pytest.raises(MidiError, match="the song holds nothing that the voice random plays"):
        synthesizer.render(path)


def test_a_network_is_compiled_once(voice: Voice, synthesizer: Synthesizer) -> None:
    other = Synthesizer(voice, "griffin-lim", "cpu", "float32")
    assert other.network is synthesizer.network
    third = other.with_vocoder(StepVocoder())
    assert third.network is synthesizer.network
    assert (other.vocoder.name, third.vocoder.name) == ("griffin-lim", "step")
    assert third.render(CHORD).tobytes() == synthesizer.render(CHORD).tobytes()
    with pytest.raises(UsageError, match="the voice random is in use as cpu float32; load it once more"):
        Synthesizer(voice, StepVocoder(), "cpu", "bfloat16")


@pytest.mark.parametrize("model", ["random", "tiny"])
def test_a_voice_is_freed_with_its_last_synthesizer(folder: Path, model: str) -> None:
    voice = load_voice(str(folder) if model == "random" else model)
    network = weakref.ref(voice.network)
    Synthesizer(voice, None if model == "tiny" else StepVocoder(), "cpu", "float32").render(CHORD, 0.5)
    del voice
    gc.collect()
    assert network() is None


def test_a_sampler_and_a_schedule_of_ones_own(synthesizer: Synthesizer) -> None:
    calls: list[int] = []

    def mine(denoiser, x, steps, noise, objective, callback):  # type: ignore[no-untyped-def]
        calls.append(len(steps))
        return ddim(denoiser, x, steps, noise, objective, callback)

    own = synthesizer.render(CHORD, 2.0, Sampling(3, mine, magenta))
    assert calls == [3]
    assert own.tobytes() == synthesizer.render(CHORD, 2.0, Sampling(3, "ddim", "magenta")).tobytes()


def test_unknown_names_and_impossible_numbers(synthesizer: Synthesizer, voice: Voice) -> None:
    for steps, sampler, schedule, message in (
        (2, "euler", "magenta", "sampler euler: is not one of " + ", ".join(SAMPLERS).replace("+", r"\+")),
        (2, "ddim", "linear", "schedule linear: is not one of magenta, discrete"),
        (1001, "ddim", "discrete", "steps 1001: the discrete schedule has at most 1000"),
        (0, "ddim", "magenta", "steps 0: must be between 1 and 10000"),
    ):
        with pytest.raises(UsageError, match=message):
            Sampling(steps, sampler, schedule)
    with pytest.raises(UsageError, match="sampler autoregressive: is not one of"):
        synthesizer.render(CHORD, 1.0, AUTOREGRESSIVE_SAMPLING)
    with pytest.raises(UsageError, match=r"guidance_interval 0\.5-0\.5: needs 0 <= LOW < HIGH <= 1"):
        Sampling(1, "ddim", "magenta", guidance_interval=(0.5, 0.5))
    with pytest.raises(UsageError, match=r"reuse_every 0: must be between 1 and 100 \(1 is off\)"):
        Sampling(1, "ddim", "magenta", reuse_every=0)
    with pytest.raises(UsageError, match="vocoder x: is not one of"):
        Synthesizer(voice, "x", "cpu", "float32")
    with pytest.raises(UsageError, match="device tpu: is not one of"):
        Synthesizer(voice, StepVocoder(), "tpu")


def test_spectrogram_and_vocode_are_the_halves_of_render(synthesizer: Synthesizer) -> None:
    mel = synthesizer.spectrogram(CHORD, 6.0)
    assert mel.shape == (300, 128)
    assert mel.dtype == np.float32
    assert synthesizer.vocode(mel).tobytes() == synthesizer.render(CHORD, 6.0).tobytes()
    double = mel.astype(np.float64)
    assert len(synthesizer.vocode(double[:7])) == 7 * HOP_SAMPLES  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="shape"):
        synthesizer.vocode(mel[:, :64])


def test_an_autoregressive_voice_has_nothing_to_sample(tmp_path: Path) -> None:
    folder = write_architecture_folder(tmp_path / "voice", "small-autoregressive")
    synthesizer = Synthesizer(load_voice(str(folder)), StepVocoder(), "cpu", "float32")
    sampling = synthesizer.sampling
    assert (sampling.steps, sampling.sampler, sampling.schedule) == (256, "autoregressive", "none")
    assert len(synthesizer.render(CHORD, 0.5)) == 8000
    why = "is autoregressive: it has no diffusion steps"
    for refused, message in (
        (replace(sampling, sampler="ddim"), f"{why}; leave out steps, sampler, schedule and preset"),
        (replace(sampling, steps=10), f"{why}; leave out"),
        (replace(sampling, guidance=2.0), f"guidance 2: the voice .* {why} to be guided"),
        (replace(sampling, reuse_every=2), f"reuse_every 2: the voice .* {why} that could reuse anything"),
        (replace(sampling, overlap_frames=8), f"overlap_frames 8: the voice .* {why} that could keep frames"),
    ):
        with pytest.raises(UsageError, match=message):
            synthesizer.render(CHORD, 0.5, refused)
    with pytest.raises(UsageError, match=f"{why} to be shown"):
        next(synthesizer.stream(CHORD, 0.5, on_step=print))


def test_public_names_are_there() -> None:
    for name in specdiff_cli.__all__:
        assert getattr(specdiff_cli, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Synthesiser'"):
        _ = specdiff_cli.Synthesiser
