import threading

import pytest

from specdiff_cli.errors import SpecdiffError
from specdiff_cli.serving import line as line_module
from specdiff_cli.serving.line import Line


def test_places_count_those_before_and_whoever_leaves_lets_others_move_up() -> None:
    line = Line(n_at_once=2)
    with line.join() as first, line.join() as second:
        third, fourth = line.join(), line.join()
        turns = [third.__enter__(), fourth.__enter__()]
        assert [first.place, second.place, *(turn.place for turn in turns)] == [0, 0, 1, 2]
        third.__exit__(None, None, None)
        assert turns[1].place == 1
    assert turns[1].place == 0
    fourth.__exit__(None, None, None)


def test_whoever_waits_is_woken_when_it_is_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_module, "POLL_S", 30.0)
    line = Line()
    began = threading.Event()

    def visit() -> None:
        with line.join() as turn:
            while turn.place:
                turn.wait()
            began.set()

    with line.join() as first:
        visitor = threading.Thread(target=visit)
        visitor.start()
        assert first.place == 0
        assert not began.wait(0.05)
    assert began.wait(10)
    visitor.join()


def test_a_line_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_module, "MAX_IN_LINE", 1)
    line = Line()
    with line.join():
        with pytest.raises(SpecdiffError, match="too many visitors"), line.join():
            pass
    with line.join() as turn:
        assert turn.place == 0
