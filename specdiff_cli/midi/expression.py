"""What a file asks of a channel while its notes sound: pitch, vibrato, loudness and place as functions of time."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Self

from specdiff_cli.midi import systems
from specdiff_cli.midi.device_parts import part_settings
from specdiff_cli.midi.levels import (
    CENTRE_PAN,
    DEFAULT_EXPRESSION,
    DEFAULT_VOLUME,
    EXPRESSION_CONTROLLER,
    PAN_CONTROLLER,
    PAN_STEPS,
    RESET_CONTROLLER,
    VOLUME_CONTROLLER,
)
from specdiff_cli.midi.parameters import (
    DEFAULT_BEND_RANGE_SEMITONES,
    DEFAULT_DEPTH_SEMITONES,
    PARAMETER_CONTROLLERS,
    Parameters,
)
from specdiff_cli.midi.timeline import Part, Timed, by_part

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MODULATION_CONTROLLER = 1
_MAX_BEND_UP, _MAX_BEND_DOWN = 8191, 8192
#: Messages to the whole device that are followed, times channels: 12 500 on 16 channels. Each counts on every channel,
#: and 2048 channels would be given more than memory holds.
MAX_SHARED_CHANGES = 200_000


@dataclass(frozen=True, slots=True)
class Curve:
    """A step function of time: ``values[i]`` holds from ``times_s[i]`` on, the first time being 0.0.

    Times are seconds from the start of the song, strictly rising; no two neighbouring values are equal.
    """

    times_s: tuple[float, ...]
    values: tuple[float, ...]

    @classmethod
    def constant(cls, value: float) -> Self:
        """The curve that never changes."""
        return cls((0.0,), (value,))

    @classmethod
    def from_changes(cls, initial: float, changes: Sequence[tuple[float, float]]) -> Self:
        """The curve of (seconds, value) changes in order of time; of several at one time the last one holds."""
        times_s, values = [0.0], [initial]
        for time_s, value in changes:
            if time_s <= times_s[-1]:
                values[-1] = value
            elif value != values[-1]:
                times_s.append(time_s)
                values.append(value)
            if len(values) > 1 and values[-1] == values[-2]:
                del times_s[-1], values[-1]
        return cls(tuple(times_s), tuple(values))

    @property
    def is_constant(self) -> bool:
        """Does it hold one value throughout?"""
        return len(self.values) == 1

    def at(self, time_s: float) -> float:
        """The value in force at a time; before 0 s the first one."""
        if len(self.values) == 1:
            return self.values[0]
        return self.values[max(0, bisect_right(self.times_s, time_s) - 1)]

    def sampled(self, times_s: "NDArray[np.float64]") -> "NDArray[np.float64]":
        """The values in force at times in seconds, in the shape given."""
        import numpy as np

        if len(self.values) == 1:
            return np.full(np.shape(times_s), self.values[0])
        index = np.searchsorted(self.times_s, times_s, side="right") - 1
        return np.asarray(self.values)[np.maximum(index, 0)]

    def changes_within(self, start_s: float, end_s: float) -> bool:
        """Does the value change behind ``start_s`` and before ``end_s``?"""
        if len(self.values) == 1:
            return False
        index = bisect_right(self.times_s, start_s)
        return index < len(self.times_s) and self.times_s[index] < end_s

    def times_at_least(self, least: float) -> list[float]:
        """The times at which it changes to a value of at least so much, in order."""
        return [time_s for time_s, value in zip(self.times_s, self.values, strict=True) if value >= least]

    def retimed(self, *, start_s: float = 0.0, speed: float = 1.0) -> Self:
        """The curve after time ``start_s`` has become 0 and all goes ``speed`` times as fast."""
        first = max(0, bisect_right(self.times_s, start_s) - 1)
        later = ((time_s - start_s) / speed for time_s in self.times_s[first + 1 :])
        return type(self)((0.0, *later), self.values[first:])

    def repeated(self, start_s: float, end_s: float) -> Self:
        """The curve up to ``end_s``, and from there on once more what it does from ``start_s`` to ``end_s``."""
        changes = [(time_s, value) for time_s, value in zip(self.times_s, self.values, strict=True) if time_s < end_s]
        again = [(time_s + end_s - start_s, value) for time_s, value in changes if time_s > start_s]
        return self.from_changes(self.values[0], [*changes, (end_s, self.at(start_s)), *again])


@dataclass(frozen=True, slots=True)
class ChannelExpression:
    """What a port and channel is asked for over time; by default what a file gets that asks for nothing.

    Attributes:
        pitch_semitones: added to every pitch: pitch bend by its range (RPN 0), fine and coarse tuning (RPN 1 and 2),
            and the device's master tuning. Drums have no use for it.
        modulation: depth of the vibrato, 1 being 50 cents: the modulation wheel (controller 1) at General MIDI 2's
            depth, which another depth range (RPN 5) scales, and the channel's pressure, as SoundFont 2 has it.
        gain: on amplitudes: volume and expression (controllers 7 and 11), each (value / 127) squared as General MIDI
            recommends (40 log10), relative to the defaults of 100 and 127; times the device's master volume.
        pan: -1 (left) to 1 (right), controller 10.
    """

    pitch_semitones: Curve = field(default_factory=lambda: Curve.constant(0.0))
    modulation: Curve = field(default_factory=lambda: Curve.constant(0.0))
    gain: Curve = field(default_factory=lambda: Curve.constant(1.0))
    pan: Curve = field(default_factory=lambda: Curve.constant(0.0))

    def retimed(self, *, start_s: float = 0.0, speed: float = 1.0) -> Self:
        """As :meth:`Curve.retimed`."""
        return type(self)(
            *(curve.retimed(start_s=start_s, speed=speed) for curve in (self.pitch_semitones, self.modulation)),
            *(curve.retimed(start_s=start_s, speed=speed) for curve in (self.gain, self.pan)),
        )

    def repeated(self, start_s: float, end_s: float) -> Self:
        """As :meth:`Curve.repeated`."""
        return type(self)(
            *(curve.repeated(start_s, end_s) for curve in (self.pitch_semitones, self.modulation)),
            *(curve.repeated(start_s, end_s) for curve in (self.gain, self.pan)),
        )


@dataclass(slots=True)
class _Channel:
    """The state of one port and channel, and the changes of its curves so far."""

    bend: float = 0.0  # -1 to 1
    shared_bend: float = 0.0  # of an MPE zone's manager
    shared_bend_range: float = DEFAULT_BEND_RANGE_SEMITONES
    volume: int = DEFAULT_VOLUME
    expression: int = DEFAULT_EXPRESSION
    wheel: int = 0
    pressure: int = 0
    key_shift: int = 0  # semitones, by GS or XG
    parameters: Parameters = field(default_factory=Parameters)
    pitch_semitones: list[tuple[float, float]] = field(default_factory=list)
    modulation: list[tuple[float, float]] = field(default_factory=list)
    gain: list[tuple[float, float]] = field(default_factory=list)
    pan: list[tuple[float, float]] = field(default_factory=list)

    def write(self, time_s: float, tuning: float, master: float) -> None:
        """Note down what all curves but the pan are from now on."""
        set_to = self.parameters
        pitch = self.bend * set_to.bend_range + self.shared_bend * self.shared_bend_range
        tuning += set_to.fine_tuning + set_to.coarse_tuning + self.key_shift
        self.pitch_semitones.append((time_s, pitch + tuning))
        depth = set_to.modulation_depth / DEFAULT_DEPTH_SEMITONES
        self.modulation.append((time_s, self.wheel / 127 * depth + self.pressure / 127))
        level = self.volume / DEFAULT_VOLUME * (self.expression / DEFAULT_EXPRESSION) * master
        self.gain.append((time_s, level * level))

    def curves(self) -> ChannelExpression:
        """All that was noted down, as functions of time."""
        return ChannelExpression(
            Curve.from_changes(0.0, self.pitch_semitones),
            Curve.from_changes(0.0, self.modulation),
            Curve.from_changes(1.0, self.gain),
            Curve.from_changes(0.0, self.pan),
        )

    def reset_controllers(self) -> None:
        """Controller 121: not volume, pan and what parameters are set to (RP-015)."""
        self.bend = self.shared_bend = 0.0
        self.wheel = self.pressure = 0
        self.expression = DEFAULT_EXPRESSION
        self.parameters.deselect()


class _Device(NamedTuple):
    """What the whole device is set to; tunings in semitones."""

    volume: float = 1.0
    fine_tuning: float = 0.0
    coarse_tuning: float = 0.0


class ExpressionReader:
    """Follows the messages of a file in order; ``n_clamped`` counts parameters set to values beyond any use."""

    def __init__(self, seconds: Callable[[float], float]) -> None:
        self._seconds = seconds
        self._channels: dict[Part, _Channel] = {}
        self._device = _Device()
        self._spoken_to: set[Part] = set()  # since the last reset of the device: it does nothing to the others
        self._n_shared = 0
        self._lost_clamps = 0  # counted by channels before a reset

    @property
    def n_clamped(self) -> int:
        return self._lost_clamps + sum(channel.parameters.n_clamped for channel in self._channels.values())

    def read(self, events: Sequence[Timed]) -> dict[Part, ChannelExpression]:
        """The expression of each part that a message speaks to or a note sounds on."""
        self._channels = {part: _Channel() for part in by_part(events)}
        for event in events:
            if event.message.type == "sysex":
                self._device_message(event)
            else:
                self._channel_message(event)
        return {part: channel.curves() for part, channel in self._channels.items()}

    def _write(self, channel: _Channel, tick: int) -> None:
        device = self._device
        channel.write(self._seconds(tick), device.fine_tuning + device.coarse_tuning, device.volume)

    def _device_message(self, event: Timed) -> None:
        data = event.message.data
        if systems.reset_system(data) is not None:
            for part in self._spoken_to:
                self._reset(self._channels[part], event.tick)
                self._write(self._channels[part], event.tick)
            self._spoken_to.clear()
            self._set_device(_Device(), event.tick)
        elif (volume := systems.master_volume(data)) is not None:
            self._set_device(self._device._replace(volume=volume), event.tick)
        elif (fine := systems.master_fine_tuning(data)) is not None:
            self._set_device(self._device._replace(fine_tuning=fine), event.tick)
        elif (coarse := systems.master_coarse_tuning(data)) is not None:
            self._set_device(self._device._replace(coarse_tuning=coarse), event.tick)
        else:
            self._part(event)

    def _set_device(self, device: _Device, tick: int) -> None:
        """What all channels share from now on."""
        if device == self._device or self._n_shared > MAX_SHARED_CHANGES:
            return
        self._device = device
        self._n_shared += len(self._channels)
        for channel in self._channels.values():
            self._write(channel, tick)

    def _part(self, event: Timed) -> None:
        """A message to one part, if it is one."""
        for setting in part_settings(event.message.data):
            channel = self._channels.get((event.port, setting.channel))
            if channel is None:
                continue
            if setting.key_shift is not None:
                channel.key_shift = setting.key_shift
            if setting.bend_range is not None:
                channel.parameters.bend_range = float(setting.bend_range)
            self._spoken_to.add((event.port, setting.channel))
            self._write(channel, event.tick)

    def _reset(self, channel: _Channel, tick: int) -> None:
        self._lost_clamps += channel.parameters.n_clamped
        channel.reset_controllers()
        channel.volume = DEFAULT_VOLUME
        channel.parameters = Parameters()
        channel.key_shift = 0
        if channel.pan:
            channel.pan.append((self._seconds(tick), 0.0))

    def _channel_message(self, event: Timed) -> None:
        message = event.message
        channel = self._channels[event.part]
        self._spoken_to.add(event.part)
        if message.type == "pitchwheel":
            bend = message.pitch / (_MAX_BEND_UP if message.pitch > 0 else _MAX_BEND_DOWN)
            if event.is_shared:
                channel.shared_bend = bend
            else:
                channel.bend = bend
        elif message.type == "aftertouch":
            channel.pressure = message.value
        elif message.type != "control_change" or not self._control(channel, message.control, message.value, event.tick):
            return
        self._write(channel, event.tick)

    def _control(self, channel: _Channel, number: int, value: int, tick: int) -> bool:
        """Take a controller; can it change a curve other than the pan?"""
        if number == VOLUME_CONTROLLER:
            channel.volume = value
        elif number == EXPRESSION_CONTROLLER:
            channel.expression = value
        elif number == MODULATION_CONTROLLER:
            channel.wheel = value
        elif number == RESET_CONTROLLER:
            channel.reset_controllers()
        elif number in PARAMETER_CONTROLLERS:
            return channel.parameters.control(number, value)
        else:
            if number == PAN_CONTROLLER:
                # 0 and 1 are both hard left, so that 64 is the centre (General MIDI 2, RP-024).
                channel.pan.append((self._seconds(tick), max(-1.0, (value - CENTRE_PAN) / PAN_STEPS)))
            return False
        return True
