"""Threads that wait sleep soon, unless the user says otherwise."""

import os
import subprocess
import sys

import pytest

from specdiff_cli.engine.waiting import BRIEFLY, CHOICES, wait_briefly


def test_both_libraries_are_told() -> None:
    environment = {"HOME": "/root"}
    wait_briefly(environment)
    assert environment == {"HOME": "/root", **BRIEFLY}


@pytest.mark.parametrize("name", CHOICES)
def test_the_users_choice_stays_alone(name: str) -> None:
    environment = {name: "active"}
    wait_briefly(environment)
    assert environment == {name: "active"}


def test_the_command_line_says_it_before_torch_is_loaded() -> None:
    script = (
        "import sys, os; sys.argv = ['specdiff', '--version']\n"
        "import specdiff_cli.__main__ as start\n"
        "try: start.main()\nexcept SystemExit: pass\n"
        "print('torch' in sys.modules, os.environ.get('GOMP_SPINCOUNT'))"
    )
    clean = {name: value for name, value in os.environ.items() if name not in CHOICES}
    result = subprocess.run([sys.executable, "-c", script], env=clean, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == f"False {BRIEFLY['GOMP_SPINCOUNT']}"
