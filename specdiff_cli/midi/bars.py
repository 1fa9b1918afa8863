"""Bars: where each begins, by a file's time signatures and tempo."""

from bisect import bisect_right
from dataclasses import dataclass, replace
from typing import Self

import mido

from specdiff_cli.midi.tempo import TempoMap

_DEFAULT_SIGNATURE = (4, 4)
# A note that reaches this far into a bar does not make it a bar of the song: players hold on a little.
_OVERHANG_S = 0.01
_MAX_DENOMINATOR = 128  # what is written in shorter notes is no meter but damage


def is_meter(numerator: int, denominator: int) -> bool:
    """Can music have this time signature?"""
    return numerator > 0 and 0 < denominator <= _MAX_DENOMINATOR


@dataclass(frozen=True, slots=True)
class Meter:
    """A time signature, from bar ``first_bar`` (counted from 1) on."""

    start_tick: int
    first_bar: int
    numerator: int
    denominator: int

    @property
    def name(self) -> str:
        """As it is written: 3/4."""
        return f"{self.numerator}/{self.denominator}"


@dataclass(frozen=True, slots=True)
class BarMap:
    """Bar numbers to seconds and back. Nothing is listed bar by bar: a file may claim billions of them."""

    tempo_map: TempoMap
    meters: tuple[Meter, ...]

    @classmethod
    def from_midi(cls, midi: mido.MidiFile, tempo_map: TempoMap) -> Self | None:
        """Read the time signatures of every track; None with SMPTE division, which knows no beats.

        A new time signature begins a bar, so a pickup written as a short bar counts as one.
        """
        if midi.ticks_per_beat < 0:
            return None
        changes: list[tuple[int, int, int]] = []
        for track in midi.tracks:
            tick = 0
            for message in track:
                tick += message.time
                if message.type == "time_signature" and is_meter(message.numerator, message.denominator):
                    changes.append((tick, message.numerator, message.denominator))
        changes.sort(key=lambda change: change[0])  # stable: at one tick a later track has the last word
        meters = [Meter(0, 1, *_DEFAULT_SIGNATURE)]
        for tick, numerator, denominator in changes:
            last = meters[-1]
            if (numerator, denominator) == (last.numerator, last.denominator):
                continue
            n_bars = -(-(tick - last.start_tick) * last.denominator // (4 * midi.ticks_per_beat * last.numerator))
            if n_bars == 0:
                meters.pop()
            meters.append(Meter(tick, last.first_bar + n_bars, numerator, denominator))
        return cls(tempo_map, tuple(meters))

    def start_s(self, bar: int) -> float:
        """When bar ``bar`` (from 1) begins; bars go on behind the last note."""
        meter = self.meters[bisect_right(self.meters, bar, key=lambda meter: meter.first_bar) - 1]
        return self.tempo_map.seconds(meter.start_tick + (bar - meter.first_bar) * self._ticks_per_bar(meter))

    def bar_at(self, time_s: float) -> int:
        """The bar that is under way at a time; 1 before the first."""
        tick = self.tempo_map.tick(time_s)
        index = bisect_right(self.meters, tick, key=lambda meter: meter.start_tick) - 1
        meter = self.meters[max(index, 0)]
        return max(1, meter.first_bar + int((tick - meter.start_tick) // self._ticks_per_bar(meter)))

    def count(self, end_s: float) -> int:
        """Bars of a song whose last note ends at ``end_s``."""
        return self.bar_at(max(0.0, end_s - _OVERHANG_S))

    def retimed(self, *, start_s: float = 0.0, speed: float = 1.0) -> Self:
        """The map after time ``start_s`` has become 0 and all goes ``speed`` times as fast. Bars keep their numbers."""
        return replace(self, tempo_map=self.tempo_map.retimed(start_s=start_s, speed=speed))

    def _ticks_per_bar(self, meter: Meter) -> float:
        return 4 * self.tempo_map.ticks_per_beat * meter.numerator / meter.denominator
