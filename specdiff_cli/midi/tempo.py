"""Ticks to seconds."""

from bisect import bisect_right
from dataclasses import dataclass, replace

import mido

DEFAULT_BEATS_PER_MINUTE = 120.0


@dataclass(frozen=True, slots=True)
class TempoMap:
    """Piecewise-linear map from ticks to seconds, one segment per tempo.

    The products are taken in the reference reader's order (segment start + seconds per tick * ticks), so that times
    that fall on the edge of a 10 ms step round to the same side.
    """

    start_ticks: list[int]
    start_s: list[float]
    seconds_per_tick: list[float]
    ticks_per_beat: int
    tracks: list[int]  # indices of the tracks that hold tempo changes

    @classmethod
    def from_midi(cls, midi: mido.MidiFile) -> "TempoMap":
        """Read the tempo changes of every track; with SMPTE division there is a single, constant segment."""
        if midi.ticks_per_beat < 0:
            return cls([0], [0.0], [1.0 / ticks_per_second(midi.ticks_per_beat)], midi.ticks_per_beat, [])
        resolution = midi.ticks_per_beat
        changes: list[tuple[int, int]] = []  # (tick, microseconds per beat)
        tracks: list[int] = []
        for index, track in enumerate(midi.tracks):
            tick = 0
            n_before = len(changes)
            for message in track:
                tick += message.time
                # A tempo of 0 us per beat is damage: time would stand still.
                if message.type == "set_tempo" and message.tempo > 0:
                    changes.append((tick, message.tempo))
            if len(changes) > n_before:
                tracks.append(index)
        changes.sort(key=lambda change: change[0])  # stable: at one tick a later track has the last word
        ticks, starts_s = [0], [0.0]
        scales = [60.0 / (DEFAULT_BEATS_PER_MINUTE * resolution)]
        for tick, tempo in changes:
            scale = 60.0 / ((6e7 / tempo) * resolution)
            if tick == 0:
                scales[0] = scale
            elif scale != scales[-1]:
                starts_s.append(starts_s[-1] + scales[-1] * (tick - ticks[-1]))
                ticks.append(tick)
                scales.append(scale)
        return cls(ticks, starts_s, scales, resolution, tracks)

    def seconds(self, tick: float) -> float:
        """Time of a tick in seconds."""
        segment = bisect_right(self.start_ticks, tick) - 1
        return self.start_s[segment] + self.seconds_per_tick[segment] * (tick - self.start_ticks[segment])

    def tick(self, time_s: float) -> float:
        """The tick at a time; those between two ticks are fractions."""
        segment = max(0, bisect_right(self.start_s, time_s) - 1)
        return self.start_ticks[segment] + (time_s - self.start_s[segment]) / self.seconds_per_tick[segment]

    def retimed(self, *, start_s: float = 0.0, speed: float = 1.0) -> "TempoMap":
        """The map after time ``start_s`` has become 0 and all goes ``speed`` times as fast."""
        return replace(
            self,
            start_s=[(time_s - start_s) / speed for time_s in self.start_s],
            seconds_per_tick=[scale / speed for scale in self.seconds_per_tick],
        )

    def changes(self) -> list[tuple[float, float]]:
        """(seconds, beats per minute) of each segment; beats mean quarter notes. Empty with SMPTE division."""
        if self.ticks_per_beat < 0:
            return []
        return [
            (start_s, 60.0 / (scale * self.ticks_per_beat))
            for start_s, scale in zip(self.start_s, self.seconds_per_tick, strict=True)
        ]


def ticks_per_second(division: int) -> float:
    """Ticks per second of a negative (SMPTE) division word: high byte -frames/s, low byte ticks per frame."""
    frames_per_second = -(division >> 8)
    ticks_per_frame = division & 0xFF
    rate = 30_000 / 1001 if frames_per_second == 29 else float(frames_per_second)
    return rate * max(1, ticks_per_frame)
