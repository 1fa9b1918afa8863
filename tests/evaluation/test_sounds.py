"""The table of single sounds: what it measures, on sounds whose level, attack and spectrum are known."""

import numpy as np
import pytest
from numpy.typing import NDArray

from specdiff_cli.evaluation.sounds import (
    LEAD_S,
    NEIGHBOURS,
    SLOT_S,
    Probe,
    attack_ms,
    compare_sounds,
    note_sounds,
    probes,
)

RATE_HZ = 16_000


def tone(
    delay_s: float = 0.0, attack_s: float = 0.0, amplitude: float = 0.5, frequency_hz: float = 1000.0
) -> NDArray[np.float32]:
    """One slot: a tone that begins at its onset or later, with a linear attack."""
    times_s = np.arange(round((LEAD_S + SLOT_S) * RATE_HZ)) / RATE_HZ - LEAD_S - delay_s
    envelope: NDArray[np.float64] = np.clip(times_s / attack_s if attack_s else times_s >= 0, 0, 1)
    return np.asarray(amplitude * envelope * np.sin(2 * np.pi * frequency_hz * times_s), dtype=np.float32)


def test_a_tones_level_attack_and_centroid() -> None:
    (sound,) = note_sounds(tone(delay_s=0.01, attack_s=0.04), 1)
    assert sound.level_db == pytest.approx(20 * np.log10(0.5 / np.sqrt(2)), abs=0.3)
    # 10 % to 50 % of the peak, in equal steps of decibels, are 25.7 % of it on average
    assert attack_ms([sound]) == pytest.approx(10 + 0.257 * 40, abs=2.5)
    assert sound.centroid_hz == pytest.approx(1000, abs=10)
    assert sound.before_db is not None and sound.before_db < -60


def test_what_sounds_before_the_note_is_seen() -> None:
    (sound,) = note_sounds(tone(delay_s=-0.01), 1)
    assert sound.before_db == pytest.approx(0, abs=0.5)
    assert attack_ms([sound]) == pytest.approx(-10, abs=4)


def test_silence_has_a_level_alone() -> None:
    (sound,) = note_sounds(np.zeros(100, np.float32), 1)
    assert sound.level_db == pytest.approx(-100)
    assert attack_ms([sound]) is sound.centroid_hz is sound.before_db is None


def test_an_attack_depends_neither_on_the_phases_of_partials_nor_on_a_decibel() -> None:
    rng = np.random.default_rng(7)
    onset = round(LEAD_S * RATE_HZ)
    times_s = np.arange(round((LEAD_S + SLOT_S) * RATE_HZ)) / RATE_HZ - LEAD_S

    def note(second_peak: float) -> NDArray[np.float32]:
        """A low note of eight partials that rises in 8 ms, and again at 150 ms."""
        waves = np.sin(2 * np.pi * (131 * np.arange(1, 9)[:, None] * times_s + rng.random((8, 1)))).sum(0)
        waves *= np.interp(times_s, [0, 0.008, 0.14, 0.16], [0, 0.5, 0.5, second_peak])
        assert np.abs(waves[:onset]).max() == 0
        return np.asarray(0.1 * waves, dtype=np.float32)

    attacks = np.array([[attack_ms(note_sounds(note(peak), 1)) for _ in range(4)] for peak in (0.95, 1.05)])
    assert np.ptp(attacks.astype(float), axis=1).max() < 2
    assert np.ptp(attacks.astype(float)) < 12  # half of the peak is reached at 8 ms, or at 140


def test_beats_are_averaged_over_neighbouring_keys() -> None:
    rng = np.random.default_rng(7)
    times_s = np.arange(round((LEAD_S + SLOT_S) * RATE_HZ)) / RATE_HZ - LEAD_S

    def beating() -> list[NDArray[np.float32]]:
        """Two voices 4 Hz apart on each of many keys, swelling for 0.2 s."""
        phases = rng.random((40, 2, 1))
        waves = np.sin(2 * np.pi * (np.array([[500.0], [504.0]]) * times_s + phases)).sum(1)
        return list((0.2 * np.clip(times_s / 0.2, 0, 1) * waves).astype(np.float32))

    ours, theirs = ([note_sounds(audio, 1)[0] for audio in beating()] for _ in range(2))
    alone = [attack_ms([a]) - attack_ms([b]) for a, b in zip(ours, theirs, strict=True)]  # type: ignore[operator]
    together = attack_ms(ours), attack_ms(theirs)
    assert np.abs(alone).max() > 20
    assert together[0] == pytest.approx(together[1], abs=5)


def test_rows_say_how_far_the_voice_is_from_its_teacher() -> None:
    probe = Probe("drum 38", 0, (38,), is_drum=True)
    (row,) = compare_sounds([probe], lambda _: tone(), lambda _: tone(delay_s=0.008, amplitude=0.25))
    assert row.drum_key == 38
    assert row.level_db == pytest.approx(-6.02, abs=0.1) and not row.is_level_met
    assert row.attack_ms is not None and row.teacher_attack_ms is not None
    assert row.attack_ms - row.teacher_attack_ms == pytest.approx(8, abs=0.5) and not row.is_attack_met
    (equal,) = compare_sounds([probe], lambda _: tone(), lambda _: tone())
    assert equal.is_level_met and equal.is_attack_met and equal.level_db == 0


def test_probes_are_every_program_and_key_once_and_read_back_as_written() -> None:
    items = probes()
    assert [item.program for item in items if not item.is_drum] == list(range(128))
    assert [item.pitches for item in items if item.is_drum] == [(key,) * 3 for key in range(35, 82)]
    song = items[19].song()
    pitches = [centre + step for centre in (48, 60, 72) for step in NEIGHBOURS]
    assert [(note.program, note.pitch, note.is_drum) for note in song.notes] == [(19, p, False) for p in pitches]
    assert [note.start_s for note in song.notes] == pytest.approx([0.5 + 3 * i for i in range(15)])
    assert items[-1].song().notes[0].is_drum
