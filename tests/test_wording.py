"""Numbers in sentences."""

import os
from collections.abc import Container

import pytest

from specdiff_cli.wording import count, exact_clock, plain_refusal


def test_nouns_are_counted() -> None:
    assert [count(number, "note") for number in (0, 1, 2)] == ["0 notes", "1 note", "2 notes"]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0:00.00"), (59.994, "0:59.99"), (59.996, "1:00.00"), (3599.999, "1:00:00.00"), (3661.5, "1:01:01.50")],
)
def test_a_clock_never_shows_sixty_seconds(seconds: float, shown: str) -> None:
    assert exact_clock(seconds) == shown


@pytest.mark.parametrize(
    ("theirs", "variables", "ours"),
    [
        (
            "Invalid value for '--steps' (env var: 'SPECDIFF_STEPS'): Input should be a valid integer, unable to parse "
            "string as an integer",
            (),
            "--steps: must be a whole number",
        ),
        (
            "Invalid value for '--voice' / '-m' (env var: 'SPECDIFF_MODEL'): unknown",
            ("SPECDIFF_MODEL",),
            "--voice (SPECDIFF_MODEL): unknown",
        ),
        (
            "Invalid value for '--port': Input should be greater than or equal to 1",
            os.environ,
            "--port: must be at least 1",
        ),
        ("Missing argument 'SONG'", (), "Missing argument 'SONG'"),
    ],
)
def test_a_parsers_refusal_in_plain_words(theirs: str, variables: Container[str], ours: str) -> None:
    assert plain_refusal(theirs, variables) == ours
