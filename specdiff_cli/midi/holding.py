"""How long notes sound behind their keys: pedals, sostenuto, notes and sounds switched off."""

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field

SUSTAIN_CONTROLLER, SOSTENUTO_CONTROLLER, SOFT_CONTROLLER = 64, 66, 67
PEDAL_DOWN_FROM = 64
_MAX_HANDOVERS = 64  # from one pedal to the other within one note

#: A moment: (place among all messages of the file, tick). A place alone puts moments in order.
Moment = tuple[int, int]


@dataclass(slots=True)
class Pedal:
    """When a pedal goes down and up again, in order; the moves alternate."""

    downs: list[Moment] = field(default_factory=list)
    ups: list[Moment] = field(default_factory=list)

    @property
    def is_down(self) -> bool:
        return len(self.downs) > len(self.ups)

    def move(self, moment: Moment, *, is_down: bool) -> None:
        """Note down a move, if it is one."""
        if is_down != self.is_down:
            (self.downs if is_down else self.ups).append(moment)

    def released(self, moment: Moment, end: Moment) -> Moment:
        """When what is let go at a moment stops being held: at once, or when the pedal goes up; ``end``: never."""
        index = bisect_right(self.downs, moment) - 1
        if index < 0:
            return moment
        up = self.ups[index] if index < len(self.ups) else end
        return max(moment, up)

    def next_down(self, moment: Moment) -> int:
        """Index of the first time behind a moment that the pedal goes down."""
        return bisect_right(self.downs, moment)


@dataclass(slots=True)
class ChannelHold:
    """What acts on the notes of one port and channel behind their keys."""

    sustain: Pedal = field(default_factory=Pedal)
    sostenuto: Pedal = field(default_factory=Pedal)
    releases: list[Moment] = field(default_factory=list)  # all notes off
    cuts: list[Moment] = field(default_factory=list)  # all sound off

    def lift(self, moment: Moment) -> None:
        """Let both pedals go."""
        self.sustain.move(moment, is_down=False)
        self.sostenuto.move(moment, is_down=False)

    def cut(self, moment: Moment) -> None:
        """Silence everything, keys and pedals or not."""
        self.releases.append(moment)
        self.cuts.append(moment)

    def next_cut(self, moment: Moment) -> Moment | None:
        """When everything is silenced behind a moment, if ever."""
        index = bisect_left(self.cuts, moment)
        return self.cuts[index] if index < len(self.cuts) else None

    def key_up(self, down: Moment, up: Moment | None) -> Moment | None:
        """When the key of a note counts as released: with its note-off (``up``) or an earlier "all notes off"."""
        index = bisect_left(self.releases, down)
        if index < len(self.releases) and (up is None or self.releases[index] < up):
            return self.releases[index]
        return up

    def sounds_until(self, down: Moment, up: Moment, again: Moment | None, end: Moment) -> Moment:
        """When a note stops.

        Args:
            down: its key is pressed.
            up: its key is released.
            again: the same key is pressed next, if ever: whatever pedal holds the note, it ends then.
            end: the last moment of the file.
        """
        until = self._held(down, up, end)
        if again is not None and again < until:
            until = max(up, again)
        cut = self.next_cut(down)
        return until if cut is None else min(until, cut)

    def _held(self, down: Moment, up: Moment, end: Moment) -> Moment:
        until = up
        for _ in range(_MAX_HANDOVERS):
            held = self.sustain.released(until, end)
            # Sostenuto holds what sounds as it goes down, and only that.
            first = self.sostenuto.next_down(down)
            last = bisect_right(self.sostenuto.downs, held) - 1
            if last >= first:
                held = max(held, self.sostenuto.ups[last] if last < len(self.sostenuto.ups) else end)
            if held == until:
                break
            until = held
        return until
