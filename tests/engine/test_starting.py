"""The program begins and ends without searching for garbage; what was begun before goes on."""

import gc
import subprocess
import sys

import pytest

from specdiff_cli.engine.starting import importing


def test_the_collector_rests_while_modules_are_imported() -> None:
    assert gc.isenabled()
    with importing():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    try:
        with importing():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_it_works_again_after_a_failure() -> None:
    with pytest.raises(ImportError), importing():
        raise ImportError("no such module")
    assert gc.isenabled()


ENDS = """
import atexit, gc
from specdiff_cli.engine.starting import end_quickly, load_torch
atexit.register(lambda: print("begun", gc.get_freeze_count() > 10_000))  # runs after those that are registered later
end_quickly()
load_torch()
import sys
print("torch" in sys.modules, gc.isenabled())
"""


def test_all_that_is_left_at_the_end_is_left_alone() -> None:
    result = subprocess.run([sys.executable, "-c", ENDS], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["True", "True", "begun", "True"]
