"""Numbers in sentences."""

import pytest

from specdiff_cli.wording import count, exact_clock


def test_nouns_are_counted() -> None:
    assert [count(number, "note") for number in (0, 1, 2)] == ["0 notes", "1 note", "2 notes"]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0:00.00"), (59.994, "0:59.99"), (59.996, "1:00.00"), (3599.999, "1:00:00.00"), (3661.5, "1:01:01.50")],
)
def test_a_clock_never_shows_sixty_seconds(seconds: float, shown: str) -> None:
    assert exact_clock(seconds) == shown
