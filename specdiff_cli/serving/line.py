"""The line that visitors stand in: what computes goes one after the other, in the order in which it was asked for."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition

from specdiff_cli.errors import SpecdiffError

MAX_IN_LINE = 24  # visitors; whoever waits holds a thread
POLL_S = 0.5


class Turn:
    """A place in line."""

    def __init__(self, line: "Line") -> None:
        self._line = line

    @property
    def place(self) -> int:
        """How many must end before this one begins; 0: it is its turn."""
        return self._line.place(self)

    def wait(self) -> None:
        """Until it is its turn, or a moment has passed."""
        self._line.wait(self, POLL_S)


class Line:
    """First come, first served."""

    def __init__(self, n_at_once: int = 1) -> None:
        """``n_at_once``: how many compute at one time."""
        self._n_at_once = n_at_once
        self._turns: list[Turn] = []  # those who compute, and behind them those who wait
        self._has_moved = Condition()

    @contextmanager
    def join(self) -> Iterator[Turn]:
        """Stand in line for the length of the block. Raises SpecdiffError where it is too long."""
        turn = Turn(self)
        with self._has_moved:
            if len(self._turns) >= MAX_IN_LINE:
                raise SpecdiffError("too many visitors are waiting; try again in a few minutes")
            self._turns.append(turn)
        try:
            yield turn
        finally:
            with self._has_moved:
                self._turns.remove(turn)
                self._has_moved.notify_all()

    def place(self, turn: Turn) -> int:
        """As :attr:`Turn.place`."""
        with self._has_moved:
            return self._place(turn)

    def wait(self, turn: Turn, timeout_s: float) -> None:
        """Until it is this one's turn, at most so long."""
        with self._has_moved:
            self._has_moved.wait_for(lambda: not self._place(turn), timeout_s)

    def _place(self, turn: Turn) -> int:
        return max(0, self._turns.index(turn) - self._n_at_once + 1)
