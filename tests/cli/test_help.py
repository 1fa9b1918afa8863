"""Every command explains itself: what it does, examples, exit codes."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from command_line import specdiff

from specdiff_cli.cli.app import app
from specdiff_cli.errors import ExitCode


def commands(group: Any, *names: str) -> Iterator[tuple[str, ...]]:
    """The words that lead to each command, those of groups included that do something by themselves."""
    for name, command in group.commands.items():
        if not hasattr(command, "commands") or command.invoke_without_command:
            yield (*names, name)
        if hasattr(command, "commands"):
            yield from commands(command, *names, name)


ALL = list(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_every_help_has_examples_and_exit_codes(words: tuple[str, ...]) -> None:
    result = specdiff(*words, "--help", env={"COLUMNS": "120", "TERM": "dumb"})
    assert result.exit_code == 0
    assert re.search(rf"Examples?:\s+(\S.*\s+)?specdiff {' '.join(words)}\b", result.output)
    (codes,) = re.findall(r"Exit codes: (0 .*?)\.\s", result.output, re.S)
    named = {int(number) for number in re.findall(r"(?:^|,|and)\s*(\d+)\b", codes)}
    assert 0 in named
    assert named <= set(ExitCode)


def test_the_walk_finds_them_all() -> None:
    assert {("render",), ("inspect-wav",), ("train", "model"), ("models",), ("models", "show")} <= set(ALL)
