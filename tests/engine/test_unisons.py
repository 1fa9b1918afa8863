"""Notes that meet at one pitch: the power of the sum of their sounds, measured on sound made here."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from specdiff_cli.audio.mel import log_mel
from specdiff_cli.audio.partials.score import PlayedNote, Vibrato, pitch_hz
from specdiff_cli.constants import FRAMES_PER_SECOND
from specdiff_cli.engine.loading import load_synthesizer
from specdiff_cli.engine.timbres import SongNotes
from specdiff_cli.engine.unisons import MOST_NOTES, find_unisons
from specdiff_cli.midi.expression import ChannelExpression, Curve
from specdiff_cli.midi.notes import Note

TURNS = {2: (0.0, 0.25, 0.4), 3: (0.37, 0.7, 0.05), 4: (0.5, math.nan, math.nan), 5: (0.0, 0.25, 0.4)}
DETUNED = 1.001  # of instrument 5
AMPLITUDE = 0.1


class Voices:
    """Instruments of three equal partials: they begin with ``TURNS``, instrument 1 has no pitch, 6 has a vibrato."""

    def partials(self, note: PlayedNote) -> torch.Tensor:
        numbers = torch.arange(1, 4, dtype=torch.float64)
        return numbers[:0] if note.instrument == 1 else numbers * (DETUNED if note.instrument == 5 else 1.0)

    def phases(self, note: PlayedNote) -> torch.Tensor:
        return torch.tensor(TURNS.get(note.instrument, (math.nan,) * 3), dtype=torch.float64)

    def vibrato(self, note: PlayedNote) -> Vibrato | None:
        return Vibrato(5.0, 20.0, 0.0) if note.instrument == 6 else None


def note(instrument: int, start_s: float = 0.0, **more: object) -> PlayedNote:
    return replace(PlayedNote(start_s, 2.0, instrument, 69, 100, 69.0), **more)  # type: ignore[arg-type]


def found(*notes: PlayedNote):  # type: ignore[no-untyped-def]
    return find_unisons(notes, Voices())  # type: ignore[arg-type]


def mel_power(*instruments: int, seconds: float = 0.4) -> torch.Tensor:
    """(frames, 128) of the instruments' sounds together."""
    times_s = np.arange(round(seconds * 16_000)) / 16_000
    audio = np.zeros_like(times_s)
    for instrument in instruments:
        f0_hz = pitch_hz(69.0) * (DETUNED if instrument == 5 else 1.0)
        for k, turns in enumerate(TURNS[instrument], start=1):
            if not math.isnan(turns):
                audio += AMPLITUDE * np.cos(2 * np.pi * (k * f0_hz * times_s + turns))
    return (2 * log_mel(torch.from_numpy(audio).float())).exp()


@pytest.mark.parametrize("pair", [(2, 3), (2, 5)])
def test_the_power_of_a_unison_is_that_of_the_sum_of_its_sounds(pair: tuple[int, int]) -> None:
    (unison,) = found(note(pair[0]), note(pair[1]))
    frames = slice(2, 14)  # within the sound
    first, second, both = (mel_power(*which)[frames] for which in ((pair[0],), (pair[1],), pair))
    times_s = torch.arange(2, 14) / FRAMES_PER_SECOND + 0.02
    expected = (both - first - second) / (2 * (first * second).sqrt())
    bands = (first.mean(0) > 1e-2 * first.max()).nonzero()[:, 0]
    torch.testing.assert_close(unison.coherence(times_s)[:, bands], expected[:, bands], atol=0.12, rtol=0)


def test_a_note_that_begins_later_meets_the_one_before_as_far_as_that_has_turned() -> None:
    late_s = 0.0363
    (unison,) = found(note(2), note(5, start_s=late_s))
    times_s = np.arange(6400) / 16_000
    parts = np.zeros((2, len(times_s)))
    f0_hz = pitch_hz(69.0)
    for k, turns in enumerate(TURNS[2], start=1):
        parts[0] += AMPLITUDE * np.cos(2 * np.pi * (k * f0_hz * times_s + turns))
        parts[1] += AMPLITUDE * np.cos(2 * np.pi * (k * f0_hz * DETUNED * (times_s - late_s) + turns))
    frames = slice(2, 14)
    audio = torch.from_numpy(np.stack([*parts, parts.sum(0)])).float()
    first, second, both = (2 * log_mel(audio)).exp()[:, frames]
    expected = (both - first - second) / (2 * (first * second).sqrt())
    bands = (first.mean(0) > 1e-2 * first.max()).nonzero()[:, 0]
    middles_s = torch.arange(2, 14) / FRAMES_PER_SECOND + 0.02
    torch.testing.assert_close(unison.coherence(middles_s)[:, bands], expected[:, bands], atol=0.12, rtol=0)


def test_what_is_not_known_adds_up_as_powers_do() -> None:
    (unison,) = found(note(2), note(4))
    coherence = unison.coherence(torch.tensor([0.0]))[0]
    band_of = [int(mel_power(2).mean(0)[low:high].argmax()) + low for low, high in ((0, 24), (24, 44), (44, 128))]
    assert coherence[band_of[0]] == pytest.approx(-1.0, abs=0.05)
    assert coherence[band_of[2]].abs() < 0.05


@pytest.mark.parametrize(
    "other",
    [
        note(3, start_s=2.0),
        note(3, start_s=0.01, expression=ChannelExpression(modulation=Curve.constant(0.5))),
        note(3, key=81, pitch=81.0),
        note(3, tuning_semitones=0.5),
        note(3, expression=ChannelExpression(pitch_semitones=Curve.from_changes(0.0, [(1.0, 2.0)]))),
        note(3, glide_semitones=2.0, glide_s=0.1),
        note(1),
        note(6),
        note(7),
    ],
    ids=[
        "after its end",
        "later, with vibrato",
        "higher",
        "out of tune",
        "bent",
        "gliding",
        "without a pitch",
        "with a vibrato",
        "of unknown phases",
    ],
)
def test_notes_that_do_not_meet_are_left_alone(other: PlayedNote) -> None:
    assert found(note(2), other) == []


def bent(semitones: float) -> ChannelExpression:
    return ChannelExpression(
        pitch_semitones=Curve.from_changes(0.0, [(0.5, semitones)]), modulation=Curve.constant(0.5)
    )


def test_two_of_one_instrument_meet_that_move_alike() -> None:
    (unison,) = found(note(2, expression=bent(1.0)), note(2, expression=bent(1.0)))
    torch.testing.assert_close(unison.coherence(torch.tensor([0.1, 1.5])), torch.ones(2, 128), atol=1e-4, rtol=0)
    assert found(note(2, expression=bent(1.0)), note(2, expression=bent(0.5))) == []
    assert found(note(2, expression=bent(1.0)), note(2)) == []
    assert found(note(2, expression=bent(1.0)), note(3, expression=bent(1.0))) == []


def test_a_thousand_notes_at_once_are_no_million_pairs() -> None:
    notes = [note(2, gain=1.0 + k / 1000) for k in range(1000)]
    pairs = found(*notes)
    assert len(pairs) < MOST_NOTES * 1000
    of_last = [pair.first for pair in pairs if pair.second == 999]
    assert sorted(of_last) == [996, 997, 998]  # the loudest of those before


def test_the_same_note_twice_is_6_db_louder_and_two_that_cancel_are_weaker() -> None:
    frames = load_synthesizer("tiny", device="cpu").network

    def levels_db(*notes: Note) -> torch.Tensor:
        song = SongNotes.of(notes, frames)  # type: ignore[arg-type]
        return 20 / math.log(10) * song.log_mel(0, 50)[10:30]

    once = Note(0.1, 0.8, 61, 93, 46, False, channel=0)
    once_db = levels_db(once)
    band = int(once_db.mean(0).argmax())
    twice_db = levels_db(once, replace(once, channel=1))
    assert (twice_db - once_db)[:, band].mean() == pytest.approx(20 * math.log10(2), abs=0.1)
    # a harp and a celesta of the soundfont that the voice learned from: measured 8 dB below the sum of their powers
    celesta = replace(once, program=8, channel=1)
    as_powers_db = 10 * torch.log10(10 ** (levels_db(celesta) / 10) + 10 ** (once_db / 10))
    assert (levels_db(once, celesta) - as_powers_db)[:10, band].mean() < -4
