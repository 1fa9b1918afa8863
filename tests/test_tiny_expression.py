"""What players ask of notes that sound, measured on the bundled voice's own sound, filter and all."""

from dataclasses import replace

import numpy as np
import pytest
from steady_tones import cents, frequency_hz, level_db

from specdiff_cli.audio.partials.score import MODULATION_CENTS, MODULATION_HZ, pitch_hz
from specdiff_cli.engine.loading import load_synthesizer
from specdiff_cli.engine.synthesizer import Synthesizer
from specdiff_cli.midi.expression import ChannelExpression, Curve
from specdiff_cli.midi.notes import Note

RATE_HZ = 16_000
GUITAR, ORGAN, TRUMPET, SQUARE_LEAD = 24, 19, 56, 80


@pytest.fixture(scope="module")
def tiny() -> Synthesizer:
    return load_synthesizer("tiny", device="cpu", threads=1)


def heard(tiny: Synthesizer, note: Note, duration_s: float | None = None, **curves: Curve) -> np.ndarray:
    """(n,) float64 of a note that is asked for some expression."""
    expression = {(0, note.channel): ChannelExpression(**curves)}
    duration_s = note.end_s + 0.5 if duration_s is None else duration_s
    audio: np.ndarray = np.concatenate(list(tiny.stream([note], duration_s, expression=expression)))
    return audio.astype(np.float64)


def between(audio: np.ndarray, start_s: float, end_s: float) -> np.ndarray:
    return audio[round(start_s * RATE_HZ) : round(end_s * RATE_HZ)]


def pitches(audio: np.ndarray, pitch: int, low: float, high: float) -> np.ndarray:
    """(n,) semitones above ``pitch`` by the turning phase of what lies between two shares of its frequency."""
    hertz = np.fft.fftfreq(len(audio), 1 / RATE_HZ) / pitch_hz(pitch)
    turns = np.unwrap(np.angle(np.fft.ifft(np.fft.fft(audio) * ((hertz > low) & (hertz < high)))))
    found_hz = np.convolve(np.diff(turns) * RATE_HZ / (2 * np.pi), np.ones(320) / 320, "same")
    return np.asarray(12 * np.log2(found_hz / pitch_hz(pitch)))


@pytest.mark.parametrize("program", [SQUARE_LEAD, GUITAR])
@pytest.mark.parametrize("semitones", [-7.0, -2.0, 1.0])
def test_a_bent_note_keeps_its_level(tiny: Synthesizer, program: int, semitones: float) -> None:
    note = Note(0.1, 1.6, 62, 100, program, False)
    plain = heard(tiny, note)
    bent = heard(tiny, note, pitch_semitones=Curve.constant(semitones))
    assert level_db(between(bent, 0.3, 1.5)) == pytest.approx(level_db(between(plain, 0.3, 1.5)), abs=0.5)
    wanted_hz = pitch_hz(62) * 2 ** (semitones / 12)
    assert abs(cents(frequency_hz(between(bent, 0.3, 1.5), RATE_HZ, wanted_hz), wanted_hz)) < 5


def test_the_modulation_wheel_swings_by_50_cents(tiny: Synthesizer) -> None:
    audio = heard(tiny, Note(0.1, 2.1, 69, 100, GUITAR, False), modulation=Curve.constant(1.0))
    swing = pitches(audio, 69, 0.8, 1.2)[8_000:32_000]  # 1.5 s
    times_s = np.arange(8_000, 32_000) / RATE_HZ
    depth = 2 * abs(np.mean((swing - swing.mean()) * np.exp(-2j * np.pi * MODULATION_HZ * times_s)))
    of_a_triangle = 8 / np.pi**2 * MODULATION_CENTS / 100
    assert depth == pytest.approx(of_a_triangle, abs=0.05)


def test_portamento_glides(tiny: Synthesizer) -> None:
    audio = heard(tiny, Note(0.1, 2.1, 69, 100, TRUMPET, False, glide_from=64, glide_s=1.2))
    found = pitches(audio, 69, 0.65, 1.2)
    for time_s in (0.4, 0.7, 1.0):
        assert found[round(time_s * RATE_HZ)] == pytest.approx(-5 * (1 - (time_s - 0.1) / 1.2), abs=0.15)
    assert found[round(1.8 * RATE_HZ)] == pytest.approx(0.0, abs=0.05)


@pytest.mark.parametrize(
    ("note", "cut_s"),
    [(Note(0.1, 1.0, 60, 100, ORGAN, False), 1.0), (Note(0.1, 0.2, 49, 120, 0, True, 9), 0.8)],
    ids=["organ", "crash cymbal"],
)
def test_all_sound_off_ends_releases_and_cymbals(tiny: Synthesizer, note: Note, cut_s: float) -> None:
    audio = heard(tiny, replace(note, cut_s=cut_s), duration_s=2.5)
    assert level_db(between(audio, cut_s - 0.3, cut_s - 0.05)) > -50
    assert np.abs(between(audio, cut_s + 0.05, 2.5)).max() < 1e-3
    rings = heard(tiny, note, duration_s=2.5)
    assert np.abs(between(rings, cut_s + 0.05, 2.5)).max() > 1e-2


@pytest.mark.parametrize(("program", "within_db"), [(ORGAN, 3.0), (SQUARE_LEAD, 9.0)])
def test_a_voice_that_beats_slowly_does_not_die_away(tiny: Synthesizer, program: int, within_db: float) -> None:
    audio = heard(tiny, Note(0.1, 12.1, 60, 100, program, False))
    assert level_db(between(audio, 9.0, 12.0)) > level_db(between(audio, 1.0, 4.0)) - within_db


def test_a_piano_goes_on_dying_away(tiny: Synthesizer) -> None:
    audio = heard(tiny, Note(0.1, 9.1, 60, 100, 4, False))
    assert level_db(between(audio, 7.5, 9.0)) < level_db(between(audio, 3.0, 4.0)) - 10


@pytest.mark.parametrize(
    ("program", "pitch", "soundfont_cents"), [(8, 72, 0.6), (9, 60, 0.6), (9, 66, 0.9), (10, 60, -7.1)]
)
def test_bells_are_tuned_as_the_soundfonts(tiny: Synthesizer, program: int, pitch: int, soundfont_cents: float) -> None:
    """Cents from equal temperament, read off FluidSynth's own notes of MuseScore General by their spectra."""
    audio = heard(tiny, Note(0.1, 1.4, pitch, 100, program, False))
    wanted_hz = pitch_hz(pitch) * 2 ** (soundfont_cents / 1200)
    assert abs(cents(frequency_hz(between(audio, 0.2, 1.2), RATE_HZ, wanted_hz), wanted_hz)) < 5
