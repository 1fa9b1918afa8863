"""``specdiff`` called within this process."""

import os
from typing import Any
from unittest.mock import patch

from typer.main import get_command
from typer.testing import CliRunner, Result

from specdiff_cli.cli.app import app

#: Built once: Typer's runner does so for every call, which takes longer than most calls themselves.
COMMAND: Any = get_command(app)


def specdiff(*words: str | os.PathLike[str], **how: Any) -> Result:
    """``specdiff WORDS …``; ``how`` is what the runner takes, such as ``input`` and ``env``."""
    with patch("typer.testing._get_command", lambda _: COMMAND):
        return CliRunner().invoke(app, list(map(str, words)), **how)


def only_line(result: Result) -> str:
    """The one line on standard error; there is nothing else, and no traceback anywhere."""
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert "Traceback" not in result.output
    return lines[0]
