"""Every command's help: complete, plain, and readable on narrow screens."""

from typing import Any

import pytest
from command_line import COMMAND, specdiff
from test_golden import words_of

COMMANDS = sorted(words_of(COMMAND))


def _command(words: tuple[str, ...]) -> Any:
    command = COMMAND
    for word in words:
        command = command.commands[word]
    return command


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_is_complete_and_plain_at_60_columns(words: tuple[str, ...]) -> None:
    asked = "--help-all" if words == ("render",) else "--help"
    result = specdiff(*words, asked, env={"COLUMNS": "60"})
    assert result.exit_code == 0
    assert max(map(len, result.stdout.splitlines())) <= 60
    assert not [text for text in ("<", "│", "…") if text in result.stdout.replace("N,N,…", "")]
    shown = result.stdout.replace(",", " ").split()
    for param in _command(words).params:
        if param.param_type_name == "option" and not param.hidden:
            assert set(param.opts) | set(param.secondary_opts) <= set(shown), param.name


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_variables_of_options_stand_in_the_long_help_only(words: tuple[str, ...]) -> None:
    variables = {param.envvar for param in _command(words).params if getattr(param, "envvar", None)}
    short = specdiff(*words, "--help", env={"COLUMNS": "60"}).stdout
    assert not [name for name in variables if f"Variable: {name}" in short]
    assert (words == ("render",)) == bool(variables)
