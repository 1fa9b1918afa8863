"""A voice's notes for the vocoder that knows them: levels, places and pitches of what they add up to."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from specdiff_cli.audio.partials.score import pan_of_mono
from specdiff_cli.constants import FRAME_SAMPLES, SAMPLE_RATE_HZ
from specdiff_cli.engine.timbres import SongNotes
from specdiff_cli.midi.expression import ChannelExpression, Curve
from specdiff_cli.midi.notes import Note
from specdiff_cli.model.note_frames import NoteFrames

FRAME_S = FRAME_SAMPLES / SAMPLE_RATE_HZ
NOTE = Note(0.5, 1.5, 60, 90, 4, False, channel=3)


class Peaks(NoteFrames):
    """Every note is one steady peak, of the band that its key says, on a slope; loudness follows the velocity."""

    def __init__(self) -> None:
        self.kits, self.chokes, self.device = [0], (), torch.device("cpu")

    def fact(self, instrument: int, key: int, name: str) -> float:
        return 0.0

    def frames(self, notes, first_frame, n_frames):  # type: ignore[no-untyped-def]
        from specdiff_cli.model.note_frames import FrameRows

        found = [
            (row, frame)
            for row in range(len(notes))
            for frame in range(first_frame, first_frame + n_frames)
            if notes.onset_s[row] <= frame / 50 < notes.end_s[row]
        ]
        rows, frames = (torch.tensor([pair[k] for pair in found], dtype=torch.int64) for k in (0, 1))
        bands = torch.arange(144.0)
        key = torch.from_numpy(notes.key)[rows]
        spectra = 2.0 - 0.5 * (bands - key[:, None]).abs()
        return FrameRows(rows, frames, spectra + torch.from_numpy(notes.log_gain)[rows, None])


def middle(notes: list[Note], expression: dict[tuple[int, int], ChannelExpression] | None = None) -> torch.Tensor:
    """(128,) log-mel in the middle of the note."""
    song = SongNotes.of(notes, Peaks(), expression)
    return song.log_mel(0, 100)[50]


def test_volume_and_expression_are_squared_in_amplitude() -> None:
    plain = middle([NOTE])
    torch.testing.assert_close(middle([replace(NOTE, level=0.5)])[50:70], plain[50:70] + 2 * math.log(0.5))


def test_curves_stand_in_for_the_notes_own_level() -> None:
    swell = ChannelExpression(gain=Curve.from_changes(1.0, [(0.9, 0.25)]))
    found = middle([replace(NOTE, level=0.5)], {(0, 3): swell})
    torch.testing.assert_close(found[50:70], middle([NOTE])[50:70] + math.log(0.25))
    on_another_channel = middle([replace(NOTE, level=0.5)], {(0, 4): swell})
    torch.testing.assert_close(on_another_channel, middle([NOTE]))


@pytest.mark.parametrize("pan", [-1.0, 0.5])
def test_a_panned_note_is_weaker_in_mono(pan: float) -> None:
    found = middle([replace(NOTE, pan=pan)])
    torch.testing.assert_close(found[50:70], middle([NOTE])[50:70] + math.log(pan_of_mono(pan)))


def test_a_bent_notes_spectrum_moves_along() -> None:
    up = ChannelExpression(pitch_semitones=Curve.constant(12.0))
    plain, bent = middle([NOTE]), middle([NOTE], {(0, 3): up})
    centres_hz = 700 * (np.exp(np.arange(1, 129) * math.log1p(8000 / 700) / 129) - 1)
    was_hz, is_hz = centres_hz[int(plain.argmax())], centres_hz[int(bent.argmax())]
    assert is_hz / was_hz == pytest.approx(2.0, rel=0.03)
    drum = replace(NOTE, is_drum=True)
    torch.testing.assert_close(middle([drum], {(0, 3): up}), middle([drum]))


def test_silence_is_the_floor() -> None:
    assert torch.equal(SongNotes.of([], Peaks()).log_mel(0, 3), torch.full((3, 128), math.log(1e-5)))


def test_velocities_between_the_grids_are_told_apart_by_level() -> None:
    notes = [replace(NOTE, velocity=90), replace(NOTE, start_s=0.7, velocity=92)]
    song = SongNotes.of(notes, Peaks())
    assert [note.velocity for note in song.played] == [88, 92]
    assert song.played[0].gain == pytest.approx((90 / 88) ** 2)
    assert song.played[1].gain == 1.0
