"""What a MIDI file asks for while notes sound, measured on the sound: pitch by a spectrum's peak, level by power."""

import io
import math
from collections.abc import Callable
from typing import Any

import mido
import numpy as np
import pytest
import torch
from steady_tones import Tones, cents, frequency_hz, level_db

from specdiff_cli.audio.partials.notes_to_sound import HOPS, NotesToSound
from specdiff_cli.engine.timbres import SongNotes
from specdiff_cli.midi.notes import parse_midi
from specdiff_cli.model.note_frames import NoteFrames
from specdiff_cli.model.note_function import NoteFunction, note_function_config

RATE_HZ = 16_000
A4_HZ = 440.0
Message = tuple[float, str, dict[str, Any]]  # seconds, kind, fields
Heard = Callable[..., np.ndarray]


@pytest.fixture(scope="module")
def heard() -> Heard:
    frames = NoteFrames(NoteFunction(note_function_config((0,))))

    def render(*messages: Message, duration_s: float = 3.0) -> np.ndarray:
        """(n,) of steady tones that obey messages; a tone of A4 from 0.1 to 2.6 s is always asked for."""
        song = parse_midi(file_of([(0.1, *NOTE_ON), (2.6, *NOTE_OFF), *messages]), "test.mid")
        notes = SongNotes.of(song.notes, frames, song.expression).played
        synthesis = NotesToSound(notes, Tones(), rate_hz=RATE_HZ, n_channels=1, seed=1, device=torch.device("cpu"))
        audio: np.ndarray = synthesis.render(round(duration_s * RATE_HZ / HOPS[RATE_HZ])).sum(0)[0].numpy()
        assert np.isfinite(audio).all()
        return audio.astype(np.float64)

    return render


NOTE_ON, NOTE_OFF = ("note_on", {"note": 69, "velocity": 100}), ("note_off", {"note": 69})


def file_of(messages: list[Message]) -> bytes:
    track, last = mido.MidiTrack(), 0
    for time_s, kind, values in sorted(messages, key=lambda message: message[0]):
        tick = round(time_s * 960)
        track.append(mido.Message(kind, time=tick - last, **values))
        last = tick
    file = io.BytesIO()
    mido.MidiFile(tracks=[track], ticks_per_beat=480).save(file=file)
    return file.getvalue()


def control(time_s: float, number: int, value: int) -> Message:
    return time_s, "control_change", {"control": number, "value": value}


def parameter(number: int, coarse: int, fine: int = 0) -> list[Message]:
    return [control(0.0, 101, 0), control(0.0, 100, number), control(0.0, 6, coarse), control(0.0, 38, fine)]


def between(audio: np.ndarray, start_s: float, end_s: float) -> np.ndarray:
    return audio[round(start_s * RATE_HZ) : round(end_s * RATE_HZ)]


def cents_off(piece: np.ndarray, semitones: float) -> float:
    expected_hz = A4_HZ * 2 ** (semitones / 12)
    return cents(frequency_hz(piece, RATE_HZ, expected_hz), expected_hz)


def bend(time_s: float, pitch: int) -> Message:
    return time_s, "pitchwheel", {"pitch": pitch}


def test_a_bend_goes_as_far_as_its_range(heard: Heard) -> None:
    audio = heard(bend(1.2, 4096))
    assert abs(cents_off(between(audio, 0.3, 1.1), 0.0)) < 5
    assert abs(cents_off(between(audio, 1.3, 2.5), 1.0)) < 5  # half of two semitones
    assert abs(cents_off(between(heard(*parameter(0, 12), bend(1.2, -8192)), 1.3, 2.5), -12.0)) < 5


def test_fine_and_coarse_tuning_are_heard(heard: Heard) -> None:
    assert abs(cents_off(between(heard(*parameter(1, 0x50)), 0.3, 2.5), 0.25)) < 5  # (0x50 - 0x40) / 0x40 of a semitone
    assert abs(cents_off(between(heard(*parameter(2, 64 - 5)), 0.3, 2.5), -5.0)) < 5


def test_the_modulation_wheel_is_vibrato(heard: Heard) -> None:
    plain, swinging = (between(heard(control(0.0, 1, value)), 0.3, 2.5) for value in (0, 127))
    spectrum = np.fft.fft(swinging)
    hertz = np.fft.fftfreq(len(swinging), 1 / RATE_HZ)
    turns = np.unwrap(np.angle(np.fft.ifft(spectrum * ((hertz > 300) & (hertz < 650)))))
    found_hz = np.convolve(np.diff(turns)[3200:-3200] * RATE_HZ / (2 * np.pi), np.ones(160) / 160, "valid")
    swing = 1200 * np.log2(found_hz / A4_HZ)
    assert (swing.max(), swing.min()) == (pytest.approx(50, abs=5), pytest.approx(-50, abs=5))
    assert abs(cents_off(plain, 0.0)) < 1


@pytest.mark.parametrize(("number", "usual"), [(7, 100), (11, 127)], ids=["volume", "expression"])
def test_volume_and_expression_change_a_note_that_sounds(heard: Heard, number: int, usual: int) -> None:
    audio = heard(control(1.2, number, 50))
    change_db = level_db(between(audio, 1.3, 2.5)) - level_db(between(audio, 0.3, 1.1))
    assert change_db == pytest.approx(40 * math.log10(50 / usual), abs=0.5)


def test_sostenuto_holds_the_notes_it_found(heard: Heard) -> None:
    other = [(1.0, "note_on", {"note": 57, "velocity": 100}), (1.1, "note_off", {"note": 57})]
    audio = heard((0.2, *NOTE_OFF), control(0.15, 66, 127), control(2.0, 66, 0), *other)
    assert abs(cents_off(between(audio, 1.2, 1.95), 0.0)) < 5
    assert level_db(between(audio, 1.2, 1.95)) == pytest.approx(level_db(between(audio, 0.3, 0.95)), abs=0.5)
    assert np.abs(between(audio, 2.1, 2.5)).max() == 0.0


@pytest.mark.parametrize(("value", "holds"), [(0, False), (1, False), (63, False), (64, True), (127, True)])
def test_a_half_pedal_holds_from_64_on(heard: Heard, value: int, holds: bool) -> None:
    audio = heard(control(0.0, 64, value), (0.8, *NOTE_OFF), control(2.2, 64, 0))
    held, after = between(audio, 1.0, 2.0), between(audio, 2.3, 2.9)
    if holds:  # not softer than a key that is held: soundfonts know no half
        assert level_db(held) == pytest.approx(level_db(between(audio, 0.2, 0.7)), abs=0.5)
    else:
        assert np.abs(held).max() == 0.0
    assert np.abs(after).max() == 0.0


def test_pedalling_again_catches_keys_that_are_down_and_nothing_that_was_let_go(heard: Heard) -> None:
    second = [(1.0, "note_on", {"note": 81, "velocity": 100}), (1.6, "note_off", {"note": 81})]
    flutter = [control(1.1 + 0.02 * k, 64, 63 + k % 2) for k in range(12)]  # down at last
    audio = heard((0.3, *NOTE_OFF), control(0.2, 64, 64), control(0.6, 64, 63), *second, *flutter, control(2.2, 64, 40))
    first = level_db(between(audio, 0.4, 0.55))
    assert level_db(between(audio, 0.15, 0.28)) == pytest.approx(first, abs=0.5)
    assert np.abs(between(audio, 0.65, 0.98)).max() == 0.0  # and the pedal that comes down later brings nothing back
    assert level_db(between(audio, 1.7, 2.15)) == pytest.approx(first, abs=0.5)
    assert abs(cents_off(between(audio, 1.7, 2.15), 12.0)) < 5
    assert np.abs(between(audio, 2.25, 2.9)).max() == 0.0


def test_a_scale_is_tuned_key_by_key(heard: Heard) -> None:
    tuned = [0x40 + 30 * (pitch_class == 9) for pitch_class in range(12)]  # every A 30 cents higher
    dump = (0.0, "sysex", {"data": [0x7E, 0x7F, 0x08, 0x08, 0x03, 0x7F, 0x7F, *tuned]})
    assert abs(cents_off(between(heard(dump), 0.3, 2.5), 0.3)) < 5


def test_the_masters_tuning_and_volume_are_heard(heard: Heard) -> None:
    tuning = (0.0, "sysex", {"data": [0x7F, 0x7F, 0x04, 0x04, 0x00, 64 + 3]})  # three semitones
    assert abs(cents_off(between(heard(tuning), 0.3, 2.5), 3.0)) < 5
    volume = (1.2, "sysex", {"data": [0x7F, 0x7F, 0x04, 0x01, 0x00, 0x40]})
    audio = heard(volume)
    change_db = level_db(between(audio, 1.3, 2.5)) - level_db(between(audio, 0.3, 1.1))
    assert change_db == pytest.approx(40 * math.log10(0x40 / 0x7F), abs=0.5)


def test_the_soft_pedal_softens_what_is_struck_while_it_is_down(heard: Heard) -> None:
    plain, soft, half, late = (
        level_db(between(heard(*pedal), 0.3, 2.5))
        for pedal in ((), (control(0.0, 67, 127),), (control(0.0, 67, 64),), (control(1.0, 67, 127),))
    )
    assert soft - plain == pytest.approx(-3.0, abs=0.5)
    assert -3.0 < half - plain <= 0.0
    assert late == pytest.approx(plain, abs=0.05)


def test_portamento_glides_from_the_note_that_it_is_told(heard: Heard) -> None:
    audio = heard(control(0.0, 65, 127), control(0.0, 5, 64), control(0.05, 84, 64))  # from E4, five semitones below
    early = between(audio, 0.1, 0.16)
    spectrum = np.abs(np.fft.rfft(early * np.hanning(len(early)), 1 << 16))
    peak_hz = float(np.argmax(spectrum[: 600 * (1 << 16) // RATE_HZ])) * RATE_HZ / (1 << 16)
    assert 315 < peak_hz < 430
    assert abs(cents_off(between(audio, 1.8, 2.5), 0.0)) < 5


def test_absurd_requests_give_finite_sound(heard: Heard) -> None:
    absurd = [*parameter(0, 127, 127), bend(0.5, 8191), bend(1.0, -8192), *parameter(2, 127), *parameter(1, 127, 127)]
    audio = heard(*absurd, control(0.0, 5, 127), control(0.0, 65, 127), control(0.0, 84, 0))
    assert np.abs(audio).max() < 4


def test_notes_by_the_thousand_sound_together(heard: Heard) -> None:
    crowd: list[Message] = []
    for k in range(2000):
        note = 21 + k % 88
        crowd += [(0.5 + k / 4000, "note_on", {"note": note, "velocity": 100})]
        crowd += [(0.502 + k / 4000, "note_off", {"note": note})]
    audio = heard(*crowd, duration_s=1.5)
    assert level_db(between(audio, 0.6, 0.9)) > level_db(between(audio, 0.2, 0.4))
