"""What the vocoder is told about a song's notes, and where it reads how they sound."""

import math
from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from torch import Tensor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


N_LOOKS = 16  # at the ways of two pitches
# General MIDI 2's depth at full modulation, and SoundFont 2's rate where a font says nothing: a triangle wave that
# begins with each note.
MODULATION_CENTS, MODULATION_HZ = 50.0, 8.176


class Curve(Protocol):
    """A value over time, in seconds from the start of the song."""

    def sampled(self, times_s: "NDArray[np.float64]") -> "NDArray[np.float64]":
        """The values at times, in the shape given."""
        ...

    def changes_within(self, start_s: float, end_s: float) -> bool:
        """Does the value change behind ``start_s`` and before ``end_s``?"""
        ...


class Expression(Protocol):
    """What a channel is asked for while its notes sound."""

    @property
    def pitch_semitones(self) -> Curve:
        """Added to every pitch."""
        ...

    @property
    def modulation(self) -> Curve:
        """Depth of the vibrato, 0 to 1 (50 cents to either side)."""
        ...

    @property
    def gain(self) -> Curve:
        """On amplitudes."""
        ...

    @property
    def pan(self) -> Curve:
        """-1 (left) to 1 (right)."""
        ...


def value_at(curve: Curve, time_s: float) -> float:
    """A curve's value at one time."""
    import numpy as np

    return float(curve.sampled(np.array([time_s]))[0])


@dataclass(frozen=True, slots=True)
class PlayedNote:
    """One note of a song.

    ``instrument``, ``key`` and ``velocity`` name its sound (see :class:`Timbres`); ``pitch`` is where it lies, as MIDI
    counts, with fractions. ``gain`` multiplies amplitudes and ``pan`` is -1 to 1, both for the whole note;
    ``expression`` comes on top and stands in for the pan. ``is_choked``: another drum of its kit ends it. Its sound
    is moved by ``tuning_semitones``; it begins ``glide_semitones`` off, and comes there in ``glide_s`` at an even pace.
    From ``cut_s`` on nothing of it is heard.
    """

    start_s: float
    end_s: float
    instrument: int
    key: int
    velocity: int
    pitch: float
    gain: float = 1.0
    pan: float = 0.0
    expression: Expression | None = None
    is_choked: bool = False
    tuning_semitones: float = 0.0
    glide_semitones: float = 0.0
    glide_s: float = 0.0
    cut_s: float = math.inf

    def moves_within(self, start_s: float, end_s: float) -> bool:
        """Whether its pitch is asked to change between two times."""
        if self.glide_semitones != 0 and self.glide_s > 0:
            return True
        if self.expression is None:
            return False
        pitch, depth = self.expression.pitch_semitones, self.expression.modulation
        return any(curve.changes_within(start_s, end_s) for curve in (pitch, depth)) or value_at(depth, start_s) > 0

    def moves_like(self, other: "PlayedNote") -> bool:
        """Whether both pitches take the same way while this note is held, as far as a few looks can tell.

        Both begin together.
        """
        import numpy as np

        if (self.glide_semitones, self.glide_s) != (other.glide_semitones, other.glide_s):
            return False
        if self.expression is None or other.expression is None:
            return self.expression is other.expression
        times_s = np.linspace(self.start_s, self.end_s, N_LOOKS)
        ways = [
            (it.pitch_semitones.sampled(times_s), it.modulation.sampled(times_s))
            for it in (self.expression, other.expression)
        ]
        return np.allclose(ways[0], ways[1], rtol=0, atol=1e-6)

    def semitones_over(self, times_s: "NDArray[np.float64]") -> "NDArray[np.float64]":
        """How far its pitch is moved at times, in the shape given: all but the vibrato of its own."""
        import numpy as np

        semitones = np.full(np.shape(times_s), self.tuning_semitones)
        if self.expression is not None:
            semitones += self.expression.pitch_semitones.sampled(times_s)
            depth = self.expression.modulation.sampled(times_s)
            if depth.any():
                wave = np.sin(2 * math.pi * MODULATION_HZ * (times_s - self.start_s))
                semitones += depth * (MODULATION_CENTS / 100) * np.arcsin(wave) / (math.pi / 2)
        if self.glide_s > 0:
            semitones += self.glide_semitones * (1 - (times_s - self.start_s) / self.glide_s).clip(0, 1)
        return semitones

    def semitones_at(self, time_s: float) -> float:
        """How far its pitch is moved at a time, but for vibrato and gliding."""
        bend = 0.0 if self.expression is None else value_at(self.expression.pitch_semitones, time_s)
        return self.tuning_semitones + bend


@dataclass(frozen=True, slots=True)
class Vibrato:
    """A pitch that swings by itself: to either side by ``cents``, beginning ``delay_s`` after the onset."""

    rate_hz: float
    cents: float
    delay_s: float


class Timbres(Protocol):
    """How notes sound by themselves.

    Spectra are natural logarithms of 144 powers: squared mel values of the reference's 128 bands, then the power in
    16 bands of 750 Hz from 8 to 20 kHz, of frames that begin at given times.
    """

    def held(self, note: PlayedNote, until_s: float) -> tuple[Tensor, Tensor]:
        """Frames of a note that is held: (R,) float64 seconds since the onset at which they begin, (R, 144) float32.

        The seconds are on the CPU. The frames begin 40 ms before the onset and reach at least ``until_s``; longer ones
        begin with the same rows.
        """
        ...

    def released(self, note: PlayedNote) -> tuple[Tensor, Tensor, float]:
        """What the end of a note adds to that.

        Returns (P,) float64 seconds since the end at which frames begin, on the CPU; (P, 144) float32; and for how many
        seconds the note is heard after its end.
        """
        ...

    def ending(self, note: PlayedNote) -> Hashable:
        """Notes of one sound with equal answers are released alike."""
        ...

    def partials(self, note: PlayedNote) -> Tensor:
        """(K,) float64 on the CPU: frequencies of its partials in units of its pitch's; empty where it has no pitch."""
        ...

    def phases(self, note: PlayedNote) -> Tensor:
        """(N,) float64 on the CPU: turns that the cosines of the first of these have at the onset, NaN where any will
        do."""
        ...

    def rings(self, note: PlayedNote) -> bool:
        """Whether it may have other partials, as bells and drums have."""
        ...

    def tones(self, note: PlayedNote) -> Tensor:
        """(K,) of a note that rings, like its partials, rising; empty where they are not known, and are to be found in
        its spectrum."""
        ...

    def vibrato(self, note: PlayedNote) -> Vibrato | None:
        """How its pitch swings by itself."""
        ...


def pitch_hz(pitch: float) -> float:
    """Equal temperament, A4 = 69 = 440 Hz."""
    return 440.0 * math.pow(2.0, (pitch - 69.0) / 12.0)


def pan_of_mono(pan: float) -> float:
    """What is left of a panned sound in the mean of both channels: 1 at the centre, 3 dB less at the sides."""
    angle = math.pi / 4 * (1.0 + pan)
    return (math.cos(angle) + math.sin(angle)) / math.sqrt(2.0)
