"""What the bundled voice promises: the notes that are written sound, when and as loud as they are written."""

import numpy as np
import pytest
import torch

from specdiff_cli.audio.mel import log_mel, mel_matrix
from specdiff_cli.constants import FFT_SAMPLES, FRAMES_PER_SECOND, SAMPLE_RATE_HZ
from specdiff_cli.engine.synthesizer import Sampling, Synthesizer
from specdiff_cli.engine.vocoders import load_vocoder
from specdiff_cli.midi.notes import Note
from specdiff_cli.weights.load import load_voice


@pytest.fixture(scope="module")
def tiny() -> Synthesizer:
    voice = load_voice("tiny")
    return Synthesizer(voice, load_vocoder(voice), torch.device("cpu"), torch.float32)


def render(tiny: Synthesizer, notes: list[Note], duration_s: float, seed: int = 0) -> np.ndarray:
    defaults = tiny.voice.sampling
    sampling = Sampling(defaults.steps, defaults.sampler, defaults.schedule, defaults.guidance, seed)
    return np.concatenate(list(tiny.stream(notes, duration_s, sampling)))


def piano(start_s: float, end_s: float, pitch: int, velocity: int = 90) -> Note:
    return Note(start_s, end_s, pitch, velocity, 0, False)


def magnitudes(audio: np.ndarray) -> np.ndarray:
    """Mel magnitudes (frames, 128)."""
    return np.asarray(np.exp(log_mel(torch.from_numpy(audio)).numpy()))


def band_of(pitch: int) -> int:
    """Mel band that hears a pitch best."""
    bin_of_pitch = round(440.0 * 2 ** ((pitch - 69) / 12) * FFT_SAMPLES / SAMPLE_RATE_HZ)
    return int(mel_matrix()[bin_of_pitch].argmax())


@pytest.mark.parametrize("pitch", [57, 64, 69, 76, 84])
def test_a_note_sounds_at_its_pitch(tiny: Synthesizer, pitch: int) -> None:
    mel = magnitudes(render(tiny, [piano(1.0, 2.5, pitch)], 4.0))
    spectrum = mel[60:110].mean(0)
    # The strongest band is the pitch's, or its octave's: a piano's second partial can be the louder one.
    assert min(abs(int(spectrum.argmax()) - band_of(pitch + octave)) for octave in (0, 12)) <= 2
    own = band_of(pitch)
    assert spectrum[own - 2 : own + 3].max() > 0.2 * spectrum.max()


def test_a_note_begins_when_it_is_written(tiny: Synthesizer) -> None:
    mel = magnitudes(render(tiny, [piano(1.5, 2.5, 72)], 4.0))
    level = mel[:, band_of(72) - 2 : band_of(72) + 3].sum(1)
    loud = np.flatnonzero(level > 0.3 * level.max())
    assert abs(loud[0] / FRAMES_PER_SECOND - 1.5) <= 0.06
    assert level[:70].max() < 0.1 * level.max()


def test_louder_velocity_is_louder(tiny: Synthesizer) -> None:
    loudness = [np.square(render(tiny, [piano(0.5, 1.5, 60, v)], 2.5)).mean() for v in (20, 70, 120)]
    assert loudness[0] < loudness[1] < loudness[2]
    assert loudness[2] > 4 * loudness[0]


def test_a_rest_is_quiet(tiny: Synthesizer) -> None:
    audio = render(tiny, [piano(0.5, 1.0, 60), piano(4.0, 4.5, 67)], 5.0)
    note, rest = audio[8_000:16_000], audio[40_000:60_000]
    assert np.square(rest).mean() < 0.01 * np.square(note).mean()


def test_no_click_where_windows_meet(tiny: Synthesizer) -> None:
    """A note held over the border at 5.12 s: the spectrum does not jump there more than around it."""
    mel = np.log(magnitudes(render(tiny, [piano(3.0, 8.0, 48, 100)], 9.0)) + 1e-3)
    change = np.abs(np.diff(mel[200:320], axis=0)).mean(1)  # 4 s to 6.4 s, in the middle of the note
    at_border = change[256 - 200 - 2 : 256 - 200 + 1].max()
    assert at_border < 3 * np.percentile(change, 90)


def test_nothing_clips_at_full_velocity(tiny: Synthesizer) -> None:
    chord = [piano(0.2, 2.0, pitch, 127) for pitch in (36, 48, 52, 55, 60, 64, 67, 72)]
    assert np.abs(render(tiny, chord, 3.0)).max() < 1.0
